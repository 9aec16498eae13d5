"""What `enter` makes of a function: an async context manager that is made where it is entered."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ._kinds import is_async_manager, name_of, type_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


def is_function(given: Any) -> bool:
    """Whether `enter` is to call this, and not to enter it."""
    return callable(given) and not (is_async_manager(given) or hasattr(type_of(given), "__enter__"))


def mistake(fn: Any) -> str | None:
    """What is wrong with giving `enter` this and arguments."""
    return (
        None if callable(fn) else f"enter() got arguments for a function, and {type_of(fn).__name__} is none"
    )


class Made:
    """The manager that the function returns, or that what it returns gives when awaited."""

    _manager: Any

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call = fn, args, kwargs
        self.__name__ = name_of(fn)

    async def __aenter__(self) -> Any:
        fn, args, kwargs = self._call
        made = fn(*args, **kwargs)
        if not is_async_manager(made) and inspect.isawaitable(made):
            made = await made
        if not is_async_manager(made):
            kind = type_of(made).__name__
            raise TypeError(
                f"enter() got {self.__name__!r}, which was called and returned {kind}, no async context manager; for "
                f"other objects: call({self.__name__}, ...) or run_sync({self.__name__}, ...)"
            )
        entered = await type_of(made).__aenter__(made)
        self._manager = made
        return entered

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        left: bool | None = await type_of(self._manager).__aexit__(
            self._manager, exc_type, exc_value, traceback
        )
        return left
