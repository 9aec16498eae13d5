"""What `synced` makes of an async function: a sync one that knows the original."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from ._bridge import run_by
from ._converted import Converted, inside
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


class Synced(Converted[P, A], Generic[P, R, A]):
    """A sync function from P to R, made of an async one from P to A. `.aio` is the async one, bound as this is."""

    def __init__(self, bridge: Bridge, fn: Callable[P, A]) -> None:
        inner = inside(fn)
        if not callable(inner):
            raise TypeError(f"synced() takes an async function, not {type(fn).__name__}")
        self._is_generator = inspect.isasyncgenfunction(inspect.unwrap(inner))
        super().__init__(bridge, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if self._is_generator:
            made: DualGenerator[Any, Any] = DualGenerator(cast("Any", self._fn(*args, **kwargs)))
            return cast("R", run_by(self._bridge, made))
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
        return self._bound(instance, owner)

    def __repr__(self) -> str:
        return f"<synced {self._fn!r}>"
