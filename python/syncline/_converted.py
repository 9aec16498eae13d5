"""What `synced` and `sync_compatible` make of an async function, as far as it is the same: a function that knows the
original, binds as methods do, and pickles by reference."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ._bridge import Bridge

P = ParamSpec("P")
A = TypeVar("A")


def inside(fn: Any) -> Any:
    """The function itself: below `@staticmethod` or `@classmethod` it is inside."""
    return getattr(fn, "__func__", fn)


class Converted(Generic[P, A]):
    """Stands for an async function from P to A. `.aio` is that function, bound as this is."""

    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str

    def __init__(self, bridge: Bridge, fn: Callable[P, A]) -> None:
        self._bridge = bridge
        self._fn = fn
        functools.update_wrapper(cast("Any", self), inside(fn))

    @property
    def aio(self) -> Callable[P, A]:
        """The async function itself."""
        return self._fn

    def _bound(self, instance: Any, owner: type | None) -> Self:
        """What `__get__` returns; each kind says itself of which type that is."""
        bind: Any = getattr(self._fn, "__get__", None)
        if bind is None:
            return self
        bound: Any = bind(instance, owner)
        if bound is self._fn:
            return self
        # For each access to a method: what was found out about the function holds for the bound one.
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, _fn=bound, __wrapped__=bound)
        return made

    def __reduce__(self) -> str:
        # By reference: the name under which the module or class holds this very object.
        return self.__qualname__
