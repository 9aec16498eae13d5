"""The error for items whose worker has died. Imports nothing heavy."""

from __future__ import annotations

from ._core import SynclineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHOWN = 10


class WorkerDiedError(SynclineError, RuntimeError):
    """A worker of an executor died, such as one that ran out of memory, while it ran some items of a `map`.

    `items` are those that may have been the reason: what the dead worker ran, or, where the executor doesn't say which
    one that was, all that were begun.
    """

    items: list[Any]

    def __init__(self, items: list[Any], advice: str = "") -> None:
        self.items = items
        self._advice = advice
        super().__init__(items, advice)

    def __str__(self) -> str:
        shown = ", ".join(repr(item) for item in self.items[:_SHOWN])
        more = f", and {len(self.items) - _SHOWN} more" if len(self.items) > _SHOWN else ""
        return f"a worker died while these items were run: {shown}{more}{self._advice}"
