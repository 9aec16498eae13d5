"""How values cross from one side of a twin to the other.

1. What comes out is looked at: an object whose class has a twin comes as that twin, whatever the annotation says.
   Containers are looked into where the annotation says what is in them, and made anew only if something changed.
2. What goes in is looked at where the annotation leaves open whether it is a twin.
3. An object without a twin that sync code could do nothing with, since it is an async iterator or context manager, gets
   a twin for the occasion.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from weakref import ref

from .._dual import DualContextManager, DualCoroutine, DualGenerator, DualIterator, enter_wholly, run_by
from .._kinds import is_async_fn, is_async_gen_fn, type_of
from .._raised import hide_ours
from .objects import AsyncSide, Quarters, Twin, is_a, taken, twin_of
from .shapes import Shape, awaited, derives, returned
from .surface import has_async_members, members

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .._core import Bridge

    # Takes the twin from which a value comes, and the value.
    Give = Callable[[Any, Any], Any]
    Take = Callable[[Any], Any]

_CONTAINERS: Final = (list, tuple, set, frozenset, deque)
_UNSEEN: Final = object()
_USES: Final = ("__aenter__", "__aiter__", "__anext__")
"""What async code has an object for, besides awaiting it."""
_SERVE_SYNC_CODE: Final[frozenset[type]] = frozenset({Twin, DualCoroutine, DualIterator, DualContextManager})


class View(Protocol):
    """How values look from one side."""

    def give(self, owner: Any, value: Any) -> Any:
        """What this side gets for a value of which nothing is known but what it is (by 1)."""

    def wrap(self, kind: str, inner: Give | None, owner: Any, value: Any) -> Any:
        """What it gets for an async "generator", "iterator" or "manager" whose items `inner` converts."""


class Family:
    """The twins of one bridge: which class has which. It is the view of sync code."""

    def __init__(
        self,
        bridge: Bridge,
        made: Callable[[type], type[Twin]],
        adapted: Callable[[Twin, str, Any], Any],
        aio: Callable[[Twin], Any],
    ) -> None:
        self.bridge = bridge
        self.twins: dict[type, type[Twin]] = {}
        """The twin of each class that somebody asked for."""
        self.mirrors: dict[type, type] = {}
        """Those, and the twins of their bases."""
        self.related: set[str] = set()
        """The packages whose classes get a twin when an object of them comes out."""
        self.unasked: set[type] = set()
        """The classes that got one so."""
        self.made = made
        self.adapted = adapted
        self.aio = aio
        self._version = 0
        # What is done with objects of a class: of those that last as long as the family, and of others.
        self._lasting: dict[type, Give | None] = {}
        self._actions: dict[ref[type], Give | None] = {}
        self._resets: list[Callable[[], None]] = []
        self._home: Quarters | None = None

    def home(self, bridge: Bridge) -> Quarters:
        """Where an object lives that is made by this thread through `bridge`."""
        # The same bridge may come as the one that stays home, which shares its variables.
        if vars(bridge) is not vars(self.bridge) or bridge.scope != "process":
            return Quarters(bridge)
        if self._home is None:
            self._home = Quarters(bridge)
        return self._home

    def on_new_twin(self, reset: Callable[[], None]) -> None:
        """Has `reset` called whenever a class gets a twin."""
        self._resets.append(reset)

    def relate(self, packages: Iterable[str]) -> None:
        """Has objects of async classes of these packages come as twins."""
        before = len(self.related)
        self.related.update([packages] if isinstance(packages, str) else packages)
        if len(self.related) > before:
            self._look_again()

    def add(self, cls: type, twin: type[Twin], *, is_asked: bool = True) -> None:
        (self.unasked.discard if is_asked else self.unasked.add)(cls)
        self.twins[cls] = twin
        self._look_again()

    def _look_again(self) -> None:
        self._version += 1
        self._actions.clear()
        self._lasting.clear()
        for reset in self._resets:
            reset()

    def give(self, owner: Any, value: Any) -> Any:
        cls = type_of(value)
        action = self._lasting.get(cls, _UNSEEN)
        if action is _UNSEEN:
            action = self._actions.get(ref(cls), _UNSEEN)
            if action is _UNSEEN:
                action = self._action_for(cls, value)
        return value if action is None else cast("Give", action)(owner, value)

    def wrap(self, kind: str, inner: Give | None, owner: Any, value: Any) -> Any:
        make = {"generator": as_generator, "iterator": as_iterator, "manager": as_manager}[kind]
        return make(inner or _as_it_is, owner, value)

    def give_called(self, owner: Any, value: Any) -> Any:
        """What sync code gets for what a sync method returned, which was called in the calling thread."""
        if self.is_awaited(value):
            value = owner._twin_home.bridge.run(value)
        return self.give(owner, value)

    def is_awaited(self, value: Any) -> bool:
        """Whether sync code gets what awaiting the result of a sync method gives, instead of a twin that can be run."""
        return self.is_for_awaiting(value) or (
            inspect.isawaitable(value)
            and not self._is_asked(type_of(value))
            and _gives_as_much(type_of(value))
        )

    def is_for_awaiting(self, value: Any) -> bool:
        """Whether it is a coroutine, a future, or something else that is awaited and has no other use."""
        cls = type_of(value)
        if not inspect.isawaitable(value) or self._is_asked(cls):
            return False
        return _is_begun(value) or not any(hasattr(cls, name) for name in _USES)

    def _is_asked(self, cls: type) -> bool:
        """Whether objects of this class come as they are, or as a twin that somebody asked for."""
        return not _SERVE_SYNC_CODE.isdisjoint(cls.__mro__) or any(
            base in self.twins and base not in self.unasked for base in cls.__mro__
        )

    def may_have_twin(self, cls: type) -> bool:
        """Whether an object that is annotated as of this class may have one."""
        if getattr(cls, "_is_protocol", False):
            return True  # not all of them can be asked
        try:
            return any(known in cls.__mro__ or issubclass(known, cls) for known in self.twins)
        except TypeError:  # neither can what derives from one
            return True

    def _action_for(self, cls: type, value: Any) -> Give | None:
        version = self._version
        action = self._new_action(cls, value)
        if version != self._version:
            return action  # a class has got a twin meanwhile, perhaps this one
        if cls in self.twins or not _is_of_python(cls):
            self._lasting[cls] = action
        else:
            self._actions[ref(cls, self._forget)] = action
        return action

    def _forget(self, gone: ref[type]) -> None:
        self._actions.pop(gone, None)

    def _new_action(self, cls: type, value: Any) -> Give | None:
        for base in cls.__mro__:
            if (twin := self.twins.get(base)) is not None:
                return as_twin(twin)
        if not _SERVE_SYNC_CODE.isdisjoint(cls.__mro__):
            return None
        if cls == types.AsyncGeneratorType:
            return functools.partial(as_generator, None)
        if cls.__module__ == "contextlib" and hasattr(cls, "__aenter__"):
            return functools.partial(as_manager, None)
        if _is_begun(value):
            return None  # it is awaited
        if hasattr(cls, "__aiter__") and not _is_of_python(cls):
            return functools.partial(as_iterator, None)
        if any(hasattr(cls, name) for name in _USES) or (
            self._is_related(cls) and (self._leads_to_async(cls, set()) or _has_async_attributes(value))
        ):
            return as_twin(self.made(cls))
        return None

    def _is_related(self, cls: type) -> bool:
        return cls.__module__.partition(".")[0] in self.related

    def _leads_to_async(self, cls: type, seen: set[type]) -> bool:
        """Whether a class has something async, or attributes of classes of related packages that have."""
        if has_async_members(cls):
            return True
        seen.add(cls)
        found = members(cls).values()
        shapes = [returned(member) for member in found if not member.is_method or member.name == "__call__"]
        classes = {shape.type for shape in shapes if shape.kind == "class"} - seen
        return any(self._is_related(each) and self._leads_to_async(each, seen) for each in classes)


async def called(owner: Any, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a sync method, on the loop. What it returns is awaited, if that is what it is good for."""
    result = fn(*args, **kwargs)
    return await result if owner._twin_family.is_awaited(result) else result


def _is_begun(value: Any) -> bool:
    """Whether it is a coroutine, a future, a task, or what takes the place of one."""
    return isinstance(value, Coroutine) or hasattr(type_of(value), "_asyncio_future_blocking")


def is_awaited_only(cls: type) -> bool:
    """Whether sync code gets what awaiting an object of a class gives, though it can be iterated over or entered."""
    return _gives_as_much(cls) or hasattr(cls, "_asyncio_future_blocking") or issubclass(cls, Coroutine)


def _gives_as_much(cls: type) -> bool:
    """Whether awaiting an object gives another one that can be iterated over or entered as well."""
    result = awaited(cls).type
    if not isinstance(result, type) or derives(cls, result):
        return False
    return all(hasattr(result, name) for name in _USES if hasattr(cls, name))


def _is_of_python(cls: type) -> bool:
    return bool(cls.__flags__ & 1 << 9)  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or as good as that


def _has_async_attributes(value: Any) -> bool:
    """Whether an object has got async functions as attributes when it was made."""
    held = getattr(value, "__dict__", {})
    return any(callable(each) and (is_async_fn(each) or is_async_gen_fn(each)) for each in [*held.values()])


def as_twin(twin: type[Twin]) -> Give:
    def give(owner: Any, value: Any) -> Any:
        return twin_of(value, twin, owner._twin_home)

    return give


class TwinGenerator(DualGenerator[Any, Any]):
    """An async generator that a twin's method returned; its items come as they do from methods."""

    _twin_items: tuple[Any, Give]

    def __next__(self) -> Any:
        owner, give = self._twin_items
        return give(owner, super().__next__())

    def send(self, value: Any) -> Any:
        owner, give = self._twin_items
        return give(owner, super().send(taken(value)))

    def throw(self, *args: Any) -> Any:
        owner, give = self._twin_items
        return give(owner, super().throw(*args))


class TwinIterator(DualIterator[Any]):
    """The same of an async iterator."""

    _twin_items: tuple[Any, Give]

    def __next__(self) -> Any:
        owner, give = self._twin_items
        return give(owner, super().__next__())


class TwinManager(DualContextManager[Any]):
    """The same of an async context manager: what entering it gives."""

    _twin_items: tuple[Any, Give]

    def __enter__(self) -> Any:
        owner, give = self._twin_items
        try:
            return enter_wholly(self, super().__enter__, functools.partial(give, owner))
        except BaseException as error:
            hide_ours(error)
            raise


def as_generator(items: Give | None, owner: Any, value: Any) -> Any:
    """What sync code gets for an async generator."""
    if not hasattr(value, "asend"):
        return as_iterator(items, owner, value)
    made = run_by(owner._twin_home.bridge, TwinGenerator(value))
    made._twin_items = owner, items or owner._twin_family.give
    return made


def as_iterator(items: Give | None, owner: Any, value: Any) -> Any:
    """What sync code gets for another async iterable."""
    made = run_by(owner._twin_home.bridge, TwinIterator(value))
    made._twin_items = owner, items or owner._twin_family.give
    return made


def as_manager(entered: Give | None, owner: Any, value: Any) -> Any:
    """What sync code gets for an async context manager."""
    made = run_by(owner._twin_home.bridge, TwinManager(value))
    made._twin_items = owner, entered or owner._twin_family.give
    return made


def _as_it_is(owner: Any, value: Any) -> Any:
    return value


def giver(shape: Shape, family: View) -> Give | None:
    """What makes of a value of this shape what sync code gets; None where that is the value itself."""
    if shape.is_plain:
        return None
    match shape.kind:
        case "union":
            return _of_union(shape, family)
        case "list":
            return _of_list(giver(shape.of[0], family), family)
        case "tuple":
            return _of_tuple([giver(part, family) for part in shape.of], family)
        case "mapping":
            return _of_mapping(giver(shape.of[0], family), giver(shape.of[1], family), family)
        case "generator" | "iterator" | "manager":
            return _of_async(shape.kind, giver(shape.of[0], family), family)
        case _:
            return family.give


def _of_async(kind: str, inner: Give | None, family: View) -> Give:
    def give(owner: Any, value: Any) -> Any:
        given = family.give(owner, value)
        # An iterator with a twin comes as that. One without is made here, by what is known of its items.
        return given if isinstance(given, (Twin, AsyncSide)) else family.wrap(kind, inner, owner, value)

    return give


def _of_union(shape: Shape, family: View) -> Give:
    containers = [
        (part.type, giver(part, family)) for part in shape.of if part.kind in ("list", "tuple", "mapping")
    ]
    if not containers:
        return family.give

    def give(owner: Any, value: Any) -> Any:
        for kind, inner in containers:
            if inner is not None and isinstance(value, kind):
                return inner(owner, value)
        return family.give(owner, value)

    return give


def _of_list(items: Give | None, family: View) -> Give:
    def give(owner: Any, value: Any) -> Any:
        if items is None:
            return family.give(owner, value)
        if is_a(value, _CONTAINERS):
            made = [items(owner, item) for item in value]
            return _remade(value, made) if any(map(_differ, made, value)) else value
        if hasattr(value, "__next__"):
            return map(functools.partial(items, owner), value)
        return family.give(owner, value)

    return give


def _of_tuple(items: Sequence[Give | None], family: View) -> Give:
    def give(owner: Any, value: Any) -> Any:
        if not is_a(value, tuple) or len(value) != len(items):
            return family.give(owner, value)
        made = [
            item if convert is None else convert(owner, item)
            for convert, item in zip(items, value, strict=True)
        ]
        return _remade(value, made) if any(map(_differ, made, value)) else value

    return give


def _of_mapping(keys: Give | None, values: Give | None, family: View) -> Give:
    def give(owner: Any, value: Any) -> Any:
        if not is_a(value, dict):
            return family.give(owner, value)
        made = {
            key if keys is None else keys(owner, key): held if values is None else values(owner, held)
            for key, held in value.items()
        }
        if not any(map(_differ, made, value)) and not any(map(_differ, made.values(), value.values())):
            return value
        return _remade(value, made)

    return give


def _differ(one: Any, other: Any) -> bool:
    return one is not other


def _remade(container: Any, items: Any) -> Any:
    """A container like that one with other items; subclasses that can't be made so become what they derive from."""
    kind: Any = type_of(container)
    if hasattr(kind, "_make"):  # a named tuple
        return kind._make(items)
    if hasattr(container, "default_factory"):
        return kind(container.default_factory, items)
    if isinstance(container, deque):
        return kind(items, container.maxlen)
    return kind(items)


def taker(shape: Shape, family: Family) -> Take | None:
    """What makes of an argument of this shape what the async side gets; None where that is the same (by 2)."""
    if shape.is_plain or shape.kind == "callable":
        return None
    if shape.kind == "class":
        return taken if shape.type is None or family.may_have_twin(shape.type) else None
    inner = [taker(part, family) for part in shape.of]
    if shape.kind == "union":
        return _take_union(shape, inner)
    if shape.kind in ("list", "tuple", "mapping"):
        if all(part is None for part in inner):
            return None
        return _take_mapping(inner) if shape.kind == "mapping" else _take_list(shape, inner)
    return taken


def _take_union(shape: Shape, inner: list[Take | None]) -> Take | None:
    known = [take for take in inner if take is not None]
    if all(take is taken for take in known):
        return taken if known else None
    by_kind = [
        (part.type, take) for part, take in zip(shape.of, inner, strict=True) if take not in (None, taken)
    ]

    def take(value: Any) -> Any:
        for kind, part in by_kind:
            if part is not None and isinstance(value, kind):
                return part(value)
        return taken(value)

    return take


def _take_list(shape: Shape, inner: list[Take | None]) -> Take:
    def take(value: Any) -> Any:
        if not is_a(value, _CONTAINERS):
            return taken(value)
        takes: Iterable[Any] = inner * len(value) if shape.kind == "list" else inner
        made = [item if each is None else each(item) for each, item in zip(takes, value, strict=False)]
        return _remade(value, made) if len(made) == len(value) and any(map(_differ, made, value)) else value

    return take


def _take_mapping(inner: list[Take | None]) -> Take:
    keys, values = (taken if each is None else each for each in inner)

    def take(value: Any) -> Any:
        if not is_a(value, dict):
            return taken(value)
        made = {keys(key): values(held) for key, held in value.items()}
        is_same = not any(map(_differ, made, value)) and not any(map(_differ, made.values(), value.values()))
        return value if is_same else _remade(value, made)

    return take
