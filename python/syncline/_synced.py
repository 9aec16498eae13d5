"""What `synced` makes of an async function: a sync one that knows the original."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from ._converted import placed, standing_for
from ._dual import DualGenerator, run_by
from ._kinds import inside

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Concatenate, Generic, ParamSpec, TypeVar, overload

    from ._core import Bridge

    P = ParamSpec("P")
    R = TypeVar("R")
    A = TypeVar("A")
    S = TypeVar("S")
    # What a method takes besides its first parameter, and what it returns. `__get__` needs variables of its
    # own for these, as it says of which type `self` has to be.
    MP = ParamSpec("MP")
    MR = TypeVar("MR")
    MA = TypeVar("MA")

    class Synced(Generic[P, R, A]):
        """A sync function from P to R, made of an async one from P to A."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

        @property
        def aio(self) -> Callable[P, A]:
            """The async function itself, bound as this is."""
            ...

        # mypy and pyright take `@staticmethod` and `@classmethod` off a function before they apply `@synced`,
        # so that these types can't tell static and class methods from methods. More overloads here, told
        # apart by the first parameter, don't help: mypy doesn't compare it with the instance, and pyright
        # makes Any of a coroutine's result. Overloads of `synced` for what takes a class first would catch
        # generic functions, and bind their type variable to it.
        @overload
        def __get__(self, instance: None, owner: type, /) -> Synced[P, R, A]: ...
        @overload
        def __get__(
            self: Synced[Concatenate[S, MP], MR, MA], instance: S, owner: type | None = None, /
        ) -> Synced[MP, MR, MA]: ...
        def __get__(self, instance: Any, owner: type | None = None, /) -> Any: ...


def synced(bridge: Bridge, fn: Any) -> Any:
    """See `Bridge.synced`."""
    inner = inside(fn)
    if not inspect.isasyncgenfunction(inspect.unwrap(inner)):
        run = bridge._run_synced

        def call(*args: Any, **kwargs: Any) -> Any:
            return run(inner, *args, **kwargs)

        return placed(bridge, "synced", fn, standing_for(inner, call))
    drive = functools.partial(_driven, bridge)

    def iterate(*args: Any, **kwargs: Any) -> Any:
        return drive(inner(*args, **kwargs))

    function: Any = standing_for(inner, iterate)

    # A call returns a DualGenerator, as a native generator could not be closed on its loop when it is
    # dropped. Tools that inspect the function, as FastAPI does, find a native generator function below
    # `__wrapped__`.
    def generator(*args: Any, **kwargs: Any) -> Any:
        made: Generator[Any, Any, Any] = function(*args, **kwargs)
        return (yield from made)

    function.__wrapped__ = standing_for(inner, generator)
    return placed(bridge, "synced", fn, function)


def _driven(bridge: Bridge, agen: AsyncGenerator[Any, Any]) -> DualGenerator[Any, Any]:
    return run_by(bridge, DualGenerator(agen))
