"""What the twins are made of that `python -m syncline twin` writes. `import syncline` does not import it.

A written twin is one of those that `syncline.blocking` makes, as far as others can see: they go in and come out of each
other's methods, and an async object has one twin at a time. But what it offers stands in its source, and nothing else.
"""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from ._default import default_bridge
from ._dual import DualGenerator, run_by
from ._kinds import type_of
from ._twins import converting, making, methods, objects

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType
    from typing import ParamSpec, Self

    from ._bridge import Bridge

    G = TypeVar("G")
    P = ParamSpec("P")
    S = TypeVar("S")
    Y = TypeVar("Y")

    class _Held:
        """Nothing that type checkers should know: that has a `__getattr__`."""

else:
    _Held = objects.Twin

A_co = TypeVar("A_co", covariant=True)

Y_co = TypeVar("Y_co", covariant=True)

__all__ = [
    "OMITTED",
    "Opened",
    "Twin",
    "entered",
    "generated",
    "given",
    "inside",
    "iterated",
    "perhaps",
    "read_once",
]

OMITTED: Any = object()
"""The default of a parameter whose own default can't be written: the async class uses its own."""


class Opened(Protocol[Y_co]):
    """What a method gives whose result async code awaits or enters, as it likes: a connection of a pool, for one.

    `run(timeout=None)` gives what awaiting it gives, and `with` what entering it gives.
    """

    def run(self, timeout: float | None = None) -> Y_co:
        """Awaits it. timeout: in seconds."""
        ...

    def __enter__(self) -> Y_co: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None: ...


class _BridgeOf:
    """The bridge of a twin, where its async object lives; of a class, that of the objects that it makes."""

    def __get__(self, twin: Any, owner: type[Any]) -> Bridge:
        home: objects.Quarters
        if twin is None:
            home = owner._twin_family.home(owner._twin_bridge)
        else:
            home = twin._twin_home
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
        kind: Any = type(self)
        home: objects.Quarters = kind._twin_family.home(kind._twin_bridge)
        objects.bound(cast("Any", self), home.call(make, *args, **given(**kwargs)), home)

    @classmethod
    def _of(cls, aio: object, bridge: Bridge) -> Self:
        """The twin of an async object that lives there: the same each time."""
        kind: Any = cls
        classes = type_of(aio).__mro__
        known: Any = next((twin for base in classes if (twin := kind._twin_family.twins.get(base))), cls)
        # A subclass may have a twin of its own, and so may what only has the methods of a protocol.
        if issubclass(known, cls) or kind._twin_class not in classes:
            kind = known
        found: Any = objects.twin_of(aio, kind, kind._twin_family.home(bridge))
        made: Self = found
        return made

    def _find(self, name: str) -> Any:
        """An attribute that the async class makes in its `__getattr__`; an async function as a sync one."""
        return cast("Any", objects.Twin).__getattr__(self, name)

    def _give(self, value: Any) -> Any:
        """What sync code gets for an object of which nothing is said: its twin, if its class has one."""
        me: Any = self
        return me._twin_family.give(me, value)

    @classmethod
    def _give_of_class(cls, value: Any) -> Any:
        """The same for what a class or static method gives."""
        kind: Any = cls
        family: converting.Family = kind._twin_family
        owner = types.SimpleNamespace(_twin_home=family.home(kind._twin_bridge), _twin_family=family)
        return family.give(owner, value)

    @overload
    def _enter(self, manager: AbstractAsyncContextManager[Y, Any]) -> Y: ...
    @overload
    def _enter(self, manager: AbstractAsyncContextManager[Y, Any], give: Callable[[Y], G]) -> G: ...
    def _enter(self, manager: Any, give: Callable[[Any], Any] | None = None) -> Any:
        """Enters the async object. give: what sync code gets for what that gives."""
        return methods.enter(cast("Any", self), manager, give)

    def _leave(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        """Leaves it as often as it was entered."""
        suppressed: bool | None = methods.leave(cast("Any", self), exc_type, exc_value, traceback)
        return suppressed

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
@overload
def generated(bridge: Bridge, agen: AsyncIterator[Y], give: Callable[[Y], G]) -> Generator[G, Any, None]: ...
@overload
def generated(bridge: Bridge, agen: AsyncIterator[Y], give: None) -> Generator[Y, Any, None]: ...
def generated(bridge: Bridge, agen: Any, give: Any = OMITTED) -> Generator[Any, Any, None]:
    """A sync generator of an async one: with `send`, `throw` and `close`.

    give: what sync code gets for an item, or None where that is the item itself. Twins that are sent go in as their
    async objects then.
    """
    if give is OMITTED:
        return run_by(bridge, DualGenerator(agen))
    made = run_by(bridge, converting.TwinGenerator(agen))
    made._twin_items = give, _given
    return made


def _given(give: Callable[[Any], Any] | None, item: Any) -> Any:
    return item if give is None else give(item)


def iterated(bridge: Bridge, aiterable: AsyncIterable[Y], give: Callable[[Y], G]) -> Iterator[G]:
    """A sync iterator of an async iterable. give: what sync code gets for an item."""
    made = run_by(bridge, converting.TwinIterator(aiterable))
    made._twin_items = give, _given
    return made


def entered(
    bridge: Bridge, acm: AbstractAsyncContextManager[Y, Any], give: Callable[[Y], G]
) -> AbstractContextManager[G, bool | None]:
    """A sync context manager of an async one. give: what sync code gets for what entering it gives."""
    made = run_by(bridge, converting.TwinManager(acm))
    made._twin_items = give, _given
    return made


def inside(value: Any) -> Any:
    """The async object of a twin; another value as it is."""
    return objects.taken(value)


def given(**arguments: Any) -> dict[str, Any]:
    """The arguments without those that were left out."""
    return {name: value for name, value in arguments.items() if value is not OMITTED}


async def perhaps(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Calls a function, and awaits what it returns if that can be awaited."""
    result = fn(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def read_once(of: Any, name: str) -> Any:
    """Awaits what a cached property holds, as often as it is read."""
    return await methods._read_once(of, name)
