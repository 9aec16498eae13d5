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
    from typing import Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

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
    C_contra = TypeVar("C_contra", contravariant=True)
    M_co = TypeVar("M_co", covariant=True)

    class OfClass(Protocol[C_contra, P, M_co]):
        """The function of a class method.

        mypy and pyright take `@classmethod` off before they apply `@synced`. What tells it from a method is its
        first parameter: the type, and the name, by which generic functions are none.
        """

        def __call__(self, cls: type[C_contra], *args: P.args, **kwargs: P.kwargs) -> M_co: ...

    class SyncedOfClass(Generic[P, R, A]):
        """A sync class method. Bound, it goes from P to R, and the async one that it is made of from P to A."""

        def __call__(self, cls: type[Any], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

        @property
        def aio(self) -> Callable[Concatenate[type[Any], P], A]:
            """The async function itself."""
            ...

        def __get__(self, instance: object, owner: type | None = None, /) -> Synced[P, R, A]: ...

    class Synced(Generic[P, R, A]):
        """A sync function from P to R, made of an async one from P to A."""

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...

        @property
        def aio(self) -> Callable[P, A]:
            """The async function itself, bound as this is."""
            ...

        # mypy and pyright take `@staticmethod` off a function before they apply `@synced`, so that these types
        # can't tell static methods from methods.
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
