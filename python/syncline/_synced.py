"""What `synced` makes of an async function: a sync one that knows the original."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from ._dual import DualGenerator

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._bridge import Bridge

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
S = TypeVar("S")
# Of the method that `__get__` binds: the class's own variables stand for the bound function there.
MP = ParamSpec("MP")
MR = TypeVar("MR")
MA = TypeVar("MA")


class Synced(Generic[P, R, A]):
    """A sync function from P to R, made of an async one from P to A. `.aio` is the async one, bound as this is."""

    __wrapped__: Callable[..., Any]
    __name__: str
    __qualname__: str

    def __init__(self, bridge: Bridge, fn: Callable[P, A]) -> None:
        self._bridge = bridge
        self._fn = fn
        # Below `@staticmethod` or `@classmethod` the function is inside.
        inner: Any = getattr(fn, "__func__", fn)
        if not callable(inner):
            raise TypeError(f"synced() takes an async function, not {type(fn).__name__}")
        self._is_generator = inspect.isasyncgenfunction(inspect.unwrap(inner))
        functools.update_wrapper(cast("Any", self), inner)

    @property
    def aio(self) -> Callable[P, A]:
        """The async function itself."""
        return self._fn

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._is_generator:
            made: DualGenerator[Any, Any] = DualGenerator(cast("Any", self._fn(*args, **kwargs)))
            made.bridge = self._bridge
            return cast("R", made)
        return cast("R", self._bridge.run_sync(cast("Callable[P, Any]", self._fn), *args, **kwargs))

    # mypy and pyright take `@staticmethod` and `@classmethod` off a function before they apply `@synced`, so that these
    # types can't tell static and class methods from methods. More overloads, told apart by the first parameter, don't
    # help: mypy doesn't compare it with the instance, and pyright makes Any of a coroutine's result.
    @overload
    def __get__(self, instance: None, owner: type, /) -> Synced[P, R, A]: ...
    @overload
    def __get__(
        self: Synced[Concatenate[S, MP], MR, MA], instance: S, owner: type | None = None, /
    ) -> Synced[MP, MR, MA]: ...
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        bind: Any = getattr(self._fn, "__get__", None)
        if bind is None:
            return self
        bound: Any = bind(instance, owner)
        if bound is self._fn:
            return cast("Any", self)
        # For each access to a method: what was found out about the function holds for the bound one.
        made = cast("Synced[..., Any, Any]", object.__new__(Synced))
        made.__dict__.update(self.__dict__, _fn=bound, __wrapped__=bound)
        return made

    def __reduce__(self) -> str:
        # By reference: the name under which the module or class holds this very object.
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<synced {self._fn!r}>"
