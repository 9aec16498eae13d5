"""What the twins are made of that `python -m syncline twin` writes. `import syncline` does not import it.

A written twin is one of those that `syncline.blocking` makes, as far as others can see: they go in and come out of each
other's methods, and an async object has one twin at a time. But what it offers stands in its source, and nothing else.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

from ._default import default_bridge
from ._dual import DualContextManager, DualGenerator, run_by
from ._twins import making, methods, objects

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType
    from typing import ParamSpec, Self

    from ._bridge import Bridge

    P = ParamSpec("P")
    S = TypeVar("S")
    Y = TypeVar("Y")

    class _Held:
        """Nothing that type checkers should know: that has a `__getattr__`."""

else:
    _Held = objects.Twin

A_co = TypeVar("A_co", covariant=True)

__all__ = ["OMITTED", "Twin", "generated", "perhaps", "read_once"]

OMITTED: Any = object()
"""The default of a parameter whose own default can't be written: the async class uses its own."""


class _BridgeOf:
    """The bridge of a twin, where its async object lives; of a class, that of the objects that it makes."""

    def __get__(self, twin: Any, owner: type[Any]) -> Bridge:
        if twin is None:
            bridge: Bridge = owner._twin_bridge
            return bridge
        home: objects.Quarters = twin._twin_home
        if home._thread is not None:
            home.check()
        return cast("Bridge", home.bridge)


class Twin(_Held, Generic[A_co]):
    """A blocking twin: an async object, and the bridge on whose loop it lives.

    of: the async class. bridge: where objects live that are made by calling the class, by default the default bridge.
    Both are named in the class statement.

    An async object has one twin at a time. Twins are equal if their async objects are, and are copied and pickled as
    these are.
    """

    if TYPE_CHECKING:

        @property
        def aio(self) -> A_co:
            """The async side: the same object for async code, on whatever loop that runs."""
            ...

        @property
        def _aio(self) -> A_co:
            """The async object."""
            ...
    else:
        _aio = objects.Twin.__dict__["_twin_object"]

    _bridge = _BridgeOf()

    def __init_subclass__(cls, *, of: type | None = None, bridge: Bridge | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        kind: Any = cls
        if bridge is not None or "_twin_bridge" not in dir(cls):
            kind._twin_bridge = bridge or default_bridge()
        if of is not None:
            kind._twin_class = of
            if hasattr(of, "__del__"):
                kind.__del__ = making._dropped
        if of is not None or bridge is not None:
            kind._twin_family = making.family_of(kind._twin_bridge)
            kind._twin_family.add(kind._twin_class, kind)

    def _make(self, make: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Makes the async object, on the loop where it is going to live."""
        for name in [name for name, value in kwargs.items() if value is OMITTED]:
            del kwargs[name]
        kind: Any = type(self)
        home: objects.Quarters = kind._twin_family.home(kind._twin_bridge)
        objects.bound(cast("Any", self), home.call(make, *args, **kwargs), home)

    @classmethod
    def _of(cls, aio: object, bridge: Bridge) -> Self:
        """The twin of an async object that lives there: the same each time."""
        kind: Any = cls
        found: Any = objects.twin_of(aio, kind, kind._twin_family.home(bridge))
        made: Self = found
        return made

    def _enter(self, manager: AbstractAsyncContextManager[Y, Any]) -> Y:
        """Enters the async object."""
        twin: Any = self
        entering = run_by(self._bridge, DualContextManager(manager))
        entered = entering.__enter__()
        twin._twin_entered = (*getattr(twin, "_twin_entered", ()), entering)
        return entered

    def _leave(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Leaves it as often as it was entered."""
        twin: Any = self
        entered: tuple[DualContextManager[Any], ...] = getattr(twin, "_twin_entered", ())
        if not entered:
            raise RuntimeError(f"this {type(self).__name__} is not entered; use it in a `with` statement")
        twin._twin_entered = entered[:-1]
        return entered[-1].__exit__(exc_type, exc_value, traceback)

    def _next(self, aiterator: AsyncIterator[Y]) -> Y:
        """The next item of the async object."""
        try:
            return self._bridge.run_sync(aiterator.__anext__)
        except StopAsyncIteration as end:
            reason = end.args
        raise StopIteration(*reason)

    def __eq__(self, other: object) -> bool:
        here: Any = self._aio
        equal: bool = here == objects.taken(other)
        return equal

    def __hash__(self) -> int:
        return hash(self._aio)

    if not TYPE_CHECKING:
        __setattr__ = object.__setattr__
        __delattr__ = object.__delattr__
        __dir__ = object.__dir__

        def __getattr__(self, name: str) -> Any:
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name[0] != "_" and hasattr(getattr(self, "_twin_object", None), name):
                text += "; its async object has, so write the twin again: python -m syncline twin"
            raise AttributeError(text, name=name, obj=self)


@overload
def generated(bridge: Bridge, agen: AsyncGenerator[Y, S]) -> Generator[Y, S, None]: ...
@overload
def generated(bridge: Bridge, agen: AsyncIterator[Y]) -> Generator[Y, None, None]: ...
def generated(bridge: Bridge, agen: Any) -> Generator[Any, Any, None]:
    """A sync generator of an async one: with `send`, `throw` and `close`."""
    return run_by(bridge, DualGenerator(agen))


async def perhaps(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Calls a function, and awaits what it returns if that can be awaited."""
    result = fn(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def read_once(of: Any, name: str) -> Any:
    """Awaits what a cached property holds, as often as it is read."""
    return await methods._read_once(of, name)
