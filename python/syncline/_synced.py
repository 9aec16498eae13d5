"""What `synced` makes of an async function: a sync one that knows the original."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from ._generators import drive

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from . import _core

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


class Synced(Generic[P, R]):
    """A sync function made of an async one. `.aio` is the async one, bound as this is."""

    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str

    def __init__(self, bridge: _core.Bridge, fn: Callable[..., Any]) -> None:
        self._bridge = bridge
        self._fn = fn
        if isinstance(fn, staticmethod | classmethod):
            inner = cast("Callable[..., Any]", fn.__func__)
        else:
            inner = fn
        if not callable(inner):
            raise TypeError(f"synced() takes an async function, not {type(fn).__name__}")
        self._is_generator = inspect.isasyncgenfunction(inspect.unwrap(inner))
        functools.update_wrapper(self, inner)

    @property
    def aio(self) -> Callable[P, Any]:
        """The async function itself."""
        return self._fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._is_generator:
            agen: AsyncGenerator[Any, Any] = self._fn(*args, **kwargs)
            return cast("R", drive(self._bridge, agen))
        return cast("R", self._bridge.run_sync(cast("Callable[P, Awaitable[R]]", self._fn), *args, **kwargs))

    @overload
    def __get__(self, instance: None, owner: type, /) -> Synced[P, R]: ...
    @overload
    def __get__(self: Synced[Concatenate[S, P], R], instance: S, owner: type | None = None, /) -> Synced[P, R]: ...
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        bind = getattr(self._fn, "__get__", None)
        if bind is None:
            return self
        bound = bind(instance, owner)
        return self if bound is self._fn else Synced(self._bridge, bound)

    def __reduce__(self) -> str:
        # By reference: the name under which the module or class holds this very object.
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<synced {self._fn!r}>"
