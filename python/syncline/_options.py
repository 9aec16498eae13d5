"""What `Bridge(...)` and `configure(...)` take."""

from __future__ import annotations

NAMES = frozenset(
    (
        *("scope", "nested", "context", "loop_factory", "name", "cleanup_timeout", "stall_after", "backend"),
        *("in_worker", "roams", "loop", "in_loop", "in_async", "timed", "visible", "_home_of"),
    )
)
"""All that the core's constructor takes."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, TypedDict

    class BridgeOptions(TypedDict, total=False):
        """The options of a bridge, as keywords; `Bridge` says what each means."""

        scope: Literal["process", "thread", "caller"]
        nested: Literal["switch", "thread", "error"] | None
        context: Literal["share", "copy"]
        loop_factory: Callable[[], Any] | None
        name: str | None
        cleanup_timeout: float
        stall_after: float | None
        backend: Literal["asyncio", "trio"]
        in_worker: Literal["own", "sender"]
        roams: bool
        loop: Any
        in_loop: Literal["block", "warn", "error"]
        in_async: Literal["task", "home"]
        timed: bool
        visible: bool | None
else:  # importing typing would cost more than the rest of `import syncline`
    BridgeOptions = dict
