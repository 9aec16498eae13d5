"""The objects of twins: each belongs to one async object, and knows where that lives.

1. An async object has one twin at a time, which keeps it alive. Nothing but its users keeps the twin.
2. The async object is reached by `_twin_object` only. Names that begin with `_twin_` are ours, in a class where all
   other names are those of the async class.
"""

from __future__ import annotations

import _weakref
import copy
import sys
import threading
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast
from weakref import KeyedRef

from .. import _core, _kinds
from .._mistakes import living_on
from .._raised import add_note, hide_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from .._core import Bridge


class Quarters:
    """Where async objects live: a bridge, and of one whose threads have loops of their own, the thread.

    Calls through `bridge` stay on its loops, also those of the default bridge, which roams otherwise.
    """

    __slots__ = ("_thread", "bridge", "run")

    def __init__(self, bridge: Bridge) -> None:
        # Checked again, as the default bridge can be given options after it has made twins.
        if (mistake := living_on(vars(bridge)["_options"])) is not None:
            raise TypeError(mistake)
        self.bridge = bridge = staying_home(bridge)
        self._thread: threading.Thread | None = None
        self.run: Callable[..., Any] = bridge._run_synced
        if bridge.scope != "process":
            self._thread = threading.current_thread()
            self.run = self._run_in_its_thread

    def _run_in_its_thread(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.check()
        return self.bridge._run_synced(fn, *args, **kwargs)

    def check(self) -> None:
        """Raises RuntimeError in a thread whose calls would go to another loop."""
        here = threading.current_thread()
        if self._thread is not None and self._thread is not here:
            raise RuntimeError(
                f'in scope "{self.bridge.scope}" an object lives on the loop of the thread that made it, '
                f"{self._thread.name!r}, and was called in {here.name!r}; call it there, or make it with a bridge of "
                'scope "process"'
            )

    def check_async(self) -> None:
        """The same for async code, whose calls nobody's thread waits for."""
        self.check()
        if self.bridge.scope == "caller" and not self.bridge._drives_here():
            raise RuntimeError(
                'in scope "caller" an object lives on the loop of its thread, which turns only while sync code waits '
                'there: async code of another loop can\'t reach it; make it with a bridge of scope "process"'
            )

    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Calls a sync function on the loop. Unlike `Bridge.call` it takes one that returns something to await."""
        return self.run(known_as(_called, fn), fn, args, kwargs)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Starts an async function of ours there."""
        from .._futures import SubmittedFuture

        self.check_async()
        if self.bridge.scope == "caller":  # whose `submit` is for another loop
            import asyncio

            task: Any = asyncio.ensure_future(fn(*args, **kwargs))
            return task  # type: ignore[no-any-return]
        future: SubmittedFuture[Any] = SubmittedFuture()
        # Not by `bridge._submit`, which SynclineInstrumentor replaces.
        future.bind(_core.Bridge._submit(self.bridge, future, fn, args, kwargs or None))
        return future

    def drop(self, held: list[Any]) -> None:
        """Has the loop empty the list: what the objects in it do when they go may need the loop."""
        if sys.is_finalizing():  # what there is to import may be half gone by then
            held.clear()
            return
        try:
            self.submit(_emptied, held)
        except (ImportError, RuntimeError):  # there is no loop any more, or the interpreter ends
            held.clear()


def staying_home(bridge: Bridge) -> Bridge:
    """The same bridge, but that it does not roam."""
    if not vars(bridge)["_options"].get("roams"):
        return bridge
    new: Any = _core.Bridge.__new__
    home: Bridge = new(type(bridge), _home_of=bridge)
    home.__dict__ = vars(bridge)
    return home


def known_as(ours: Any, of: Any) -> Any:
    """An async function of ours, under the name of what it calls: whoever looks at calls and tasks looks for that."""
    of = _kinds.named(of)
    name: str = of.__qualname__
    made = FunctionType(ours.__code__, ours.__globals__, name, ours.__defaults__, ours.__closure__)
    made.__qualname__ = name
    made.__module__ = getattr(of, "__module__", None) or ours.__module__
    return made


async def _called(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


async def _emptied(held: list[Any]) -> None:
    held.clear()


class Twin:
    """What all twins are."""

    __slots__ = ("__weakref__", "_twin_entered", "_twin_home", "_twin_object", "_twin_run")

    _twin_class: ClassVar[type]
    """The async class."""
    _twin_family: ClassVar[Kin]
    _twin_bridge: ClassVar[Bridge]
    """Where objects that are made by calling the class live."""
    _twin_recipe: ClassVar[tuple[Any, ...]]
    """What the class was made with, for pickling where it can't be found by its name."""
    _twin_lost: ClassVar[Mapping[str, str]] = {}
    """Names of the async class that the twin has others for."""
    _twin_object: Any
    _twin_home: Quarters
    _twin_run: Callable[..., Any]
    _twin_entered: tuple[Any, ...]

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        kind: Any = cls
        if isinstance(leaves := vars(cls).get("__exit__"), FunctionType):
            kind.__exit__ = _core.Leaving(leaves, _entered_by, _leave_again)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        make(self, args, kwargs)

    @property
    def aio(self) -> Any:
        """The async side: the same object for async code, on whatever loop that runs. Its calls run where the object
        lives."""
        return self._twin_family.aio(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_twin_"):
            raise AttributeError(
                f"{name}: this {type(self).__name__} is not made yet; call super().__init__(...) first"
            )
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # looked up in the class; what asks an object for it tries what it is
        if (new := self._twin_lost.get(name)) is not None:
            raise AttributeError(f"{type(self).__name__} has {new!r} in the place of {name!r}")
        try:
            found = getattr(self._twin_object, name)
        except AttributeError as error:
            if "run" in dir(type(self)) and hasattr(_kinds.type_of(self._twin_object), "__await__"):
                add_note(
                    error, f"what run() gives, the result of awaiting this {type(self).__name__}, may have it"
                )
            raise
        return self._twin_family.adapted(self, name, found)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_of_the_twin(name):
            object.__setattr__(self, name, value)
        else:
            setattr(self._twin_object, name, taken(value))

    def __delattr__(self, name: str) -> None:
        if self._is_of_the_twin(name):
            object.__delattr__(self, name)
        else:
            delattr(self._twin_object, name)

    def _is_of_the_twin(self, name: str) -> bool:
        """Whether an attribute is kept here: what the class defines, or a subclass has and the async object has not."""
        for base in type(self).__mro__:
            if name in vars(base):
                return hasattr(_kinds.type_of(vars(base)[name]), "__set__") or not hasattr(
                    self._twin_object, name
                )
        return hasattr(self, "__dict__") and not (
            hasattr(self, "_twin_object") and hasattr(self._twin_object, name)
        )

    def __dir__(self) -> list[str]:
        names = {*object.__dir__(self), *dir(self._twin_object)} - self._twin_lost.keys()
        return sorted(name for name in names if not name.startswith("_twin_"))

    def __repr__(self) -> str:
        of = getattr(self, "_twin_object", None)
        if of is None or not has_own(_kinds.type_of(of), "__repr__"):
            return object.__repr__(self)
        # A dataclass, for one, begins with its name.
        text, name = repr(of), type(of).__qualname__
        return type(self).__qualname__ + text[len(name) :] if text.startswith(name) else text

    def __copy__(self) -> Any:
        return self._again(copy.copy(self._twin_object), copy.copy)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._again(copy.deepcopy(self._twin_object, memo), lambda state: copy.deepcopy(state, memo))

    def _again(self, of: Any, copied: Callable[[Any], Any]) -> Any:
        made = twin_of(of, type(self), self._twin_home)
        if hasattr(self, "__dict__"):
            vars(made).update(copied(vars(self)))
        return made

    def __getstate__(self) -> Any:
        """What a subclass has of its own."""
        state: Any = object.__getstate__(self)
        if type(state) is not tuple:
            return state
        own, slots = cast("tuple[Any, dict[str, Any]]", state)
        slots = {name: value for name, value in slots.items() if not name.startswith("_twin_")}
        return (own, slots) if slots else own

    def __reduce_ex__(self, protocol: Any) -> Any:
        kind = type(self)
        is_found = named(kind) is kind or "_twin_recipe" not in vars(kind)
        return _restored, (kind if is_found else kind._twin_recipe, self._twin_object), self.__getstate__()


_entered_by = Twin.__dict__["_twin_entered"].__get__
set_entered = Twin.__dict__["_twin_entered"].__set__


def _leave_again(twin: Twin, error: BaseException) -> None:
    """Leaves what was entered last, if that was not left. May be called again."""
    entered = getattr(twin, "_twin_entered", ())
    if entered and isinstance(entered[-1], _core.ManagerBase):
        entered[-1]._leave_again(error)
        set_entered(twin, entered[:-1])


class Kin(Protocol):
    """What a twin knows of its family."""

    def add(self, cls: type, twin: type[Twin]) -> None: ...
    def home(self, bridge: Bridge) -> Quarters: ...
    def aio(self, twin: Twin) -> Any: ...
    def adapted(self, twin: Twin, name: str, value: Any) -> Any: ...


def make(twin: Twin, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Makes the twin's async object, on the loop."""
    kind = type(twin)
    home = kind._twin_family.home(kind._twin_bridge)
    try:
        of = home.call(kind._twin_class, *args, **kwargs)
    except BaseException as error:
        hide_ours(error)
        raise
    bound(twin, of, home)


def taken(value: Any) -> Any:
    """What goes to the async side for a value: the object of a twin or of its async side, or the value itself."""
    return value._twin_object if isinstance(value, (Twin, AsyncSide)) else value


class AsyncSide:
    """What all async sides of twins are."""

    __slots__ = ("_twin",)

    _twin: Twin

    def __init__(self, twin: Twin) -> None:
        object.__setattr__(self, "_twin", twin)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._twin_object, name, taken(value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncSide) and self._twin == other._twin

    def __hash__(self) -> int:
        return hash(self._twin)

    def __dir__(self) -> list[str]:
        return dir(self._twin_object)

    def __repr__(self) -> str:
        return f"<async side of {self._twin!r}>"

    @property
    def _twin_object(self) -> Any:
        return self._twin._twin_object

    @property
    def _twin_home(self) -> Quarters:
        return self._twin._twin_home


def is_a(value: object, classes: type | tuple[type, ...]) -> bool:
    """As isinstance, without a type that checkers go on with."""
    return isinstance(value, classes)


def has_own(cls: type, name: str) -> bool:
    """Whether a class has a special method that is not the one of all objects."""
    return getattr(cls, name) is not getattr(object, name)


def named(kind: type) -> Any:
    """What is found by the name of a class, where pickle looks."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found


def _restored(kind: Any, of: Any) -> Twin:
    if not isinstance(kind, type):
        make_again, *given = kind
        kind = make_again(*given)
    made: type[Twin] = kind
    return twin_of(of, made, made._twin_family.home(made._twin_bridge))


_twins: dict[int, KeyedRef[int, Twin]] = {}
# What the standard library's own weak dictionaries use: removes an entry whose reference is dead, in one step.
_remove_dead: Any = vars(_weakref)["_remove_dead_weakref"]
_set_object = Twin.__dict__["_twin_object"].__set__
_set_home = Twin.__dict__["_twin_home"].__set__
_set_run = Twin.__dict__["_twin_run"].__set__


def _forget(reference: KeyedRef[int, Twin]) -> None:
    _remove_dead(_twins, reference.key)


def bound(twin: Twin, of: Any, home: Quarters) -> Twin:
    """Gives a new twin its async object; returns the twin that this object has (by 1)."""
    _set_object(twin, of)
    _set_home(twin, home)
    _set_run(twin, home.run)
    # The key can't be another object's meanwhile: the twin keeps this one.
    key = id(of)
    reference = KeyedRef(twin, _forget, key)
    # Each step is one that no other thread can come into.
    while True:
        held = _twins.setdefault(key, reference)
        known = held()
        if known is not None:
            return known
        _remove_dead(_twins, key)


def twin_of(of: Any, make: type[Twin], home: Quarters) -> Twin:
    """The twin of an async object: the one that it has, or a new one."""
    held = _twins.get(id(of))
    known = None if held is None else held()
    return bound(object.__new__(make), of, home) if known is None else known
