"""What `enter` makes of a function: an async context manager that is made where it is entered."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class Made:
    """The manager that the function returns, or that what it returns gives when awaited."""

    _manager: Any

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call = fn, args, kwargs
        self.__name__ = getattr(fn, "__name__", type(fn).__name__)

    async def __aenter__(self) -> Any:
        fn, args, kwargs = self._call
        made = fn(*args, **kwargs)
        if not hasattr(type(made), "__aenter__") and inspect.isawaitable(made):
            made = await made
        if not hasattr(type(made), "__aenter__"):
            raise TypeError(
                f"enter() got {self.__name__!r}, which was called and returned {type(made).__name__}, no async context "
                f"manager; for other objects: call({self.__name__}, ...) or run_sync({self.__name__}, ...)"
            )
        entered = await type(made).__aenter__(made)
        self._manager = made
        return entered

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        left: bool | None = await type(self._manager).__aexit__(self._manager, exc_type, exc_value, traceback)
        return left
