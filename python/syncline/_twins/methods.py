"""The functions that a twin has in the place of the async class's methods, made once for each method.

1. What a method's annotations say is looked at in its first call, when the names in them are defined, and again when
   a class has got a twin since. After that a call does nothing that its annotations don't ask for.
2. The method is looked up on the object in each call: that may be of a subclass.
3. `standing_for` gives a function the globals of the async one: what it needs of this module it takes into its closure.
4. A sync method runs on the loop, as it does in async code: it may make tasks, and nothing that it touches changes
   meanwhile. Special methods, generators and what the user names run where they are called.
"""

from __future__ import annotations

import functools
import inspect
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from .._converted import standing_for
from .._dual import DualContextManager, enter_wholly, run_by
from .._kinds import type_of
from .._raised import hide_ours
from .converting import called, giver, taker
from .objects import Twin, known_as, set_entered, taken
from .shapes import Shape, parameters, returned
from .surface import Member, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from .converting import Family, Give, View
    from .objects import Quarters

    Taking = Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]


class Converting:
    """What a method does with its arguments and its result (by 1)."""

    __slots__ = ("_family", "_member", "_view", "give", "take")

    # Each call gives its arguments to `take`, if there is one, and then its result to `give`, if there is one. A look
    # at annotations that is due hides behind `take`.

    def __init__(self, member: Member, family: Family, view: View | None = None) -> None:
        self._member, self._family, self._view = member, family, view or family
        self.take: Taking | None = self._first_take
        self.give: Give | None = None
        family.on_new_twin(self._reset)

    @property
    def function(self) -> Any:
        """The function that the method is made of."""
        return self._member.function

    def _reset(self) -> None:
        self.take = self._first_take

    def out(self, owner: Any, value: Any) -> Any:
        """What sync code gets for a value that no call gave."""
        if self.take is not None:
            self.take((), {})
        return value if self.give is None else self.give(owner, value)

    def _first_take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.give = giver(outcome(self._member), self._view)
        self.take = taking(parameters(self._member), self._family)
        return (args, kwargs) if self.take is None else self.take(args, kwargs)


def outcome(member: Member) -> Shape:
    """The shape of what the annotation of an async method says: of what is awaited, of an item, of what is entered."""
    shape = returned(member)
    is_async = inspect.iscoroutinefunction(inspect.unwrap(member.function))
    is_of_items = shape.kind in ("generator", "iterator")
    if (
        member.kind == "coroutine"
        and is_of_items
        and inspect.isasyncgenfunction(inspect.unwrap(member.function))
    ):
        return Shape("list", shape.of[:1])  # which a decorator has made of the items
    if member.kind == "coroutine" and not is_async:
        return shape.of[0] if shape.kind == "awaitable" else Shape("unknown")
    if member.kind in ("generator", "iterable", "manager"):
        return shape.of[0] if shape.kind in ("generator", "iterator", "manager") else Shape("unknown")
    return shape


def taking(shapes: dict[str, Shape], family: Family) -> Taking | None:
    """What makes the async method's arguments of the sync one's; None where those are the same."""
    takers = {name: taker(shape, family) for name, shape in shapes.items()}
    known = [take for take in takers.values() if take is not None]
    if not known:
        return None
    if all(take is taken for take in known):
        return _take_each
    in_order = [take or taken for take in takers.values()]

    def take_as_annotated(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ordered = tuple(
            (in_order[at] if at < len(in_order) else taken)(value) for at, value in enumerate(args)
        )
        return ordered, {name: (takers.get(name) or taken)(value) for name, value in kwargs.items()}

    return take_as_annotated


def _take_each(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = {name: taken(value) for name, value in kwargs.items()} if kwargs else kwargs
    return tuple([taken(value) for value in args]), named


def method(member: Member, family: Family, *, is_direct: bool) -> Any:
    """The function for a member that is a method of an object."""
    name = member.name
    if name in _PROTOCOLS and not (name == "__aiter__" and member.kind == "generator"):
        return _PROTOCOLS[name](member, family)
    is_special = name.startswith("__") and name != "__call__"
    is_direct = is_direct or is_special or inspect.isgeneratorfunction(inspect.unwrap(member.function))
    find = attrgetter(name)
    return standing_for(
        member.function, _body(called_as(member), is_direct, find, Converting(member, family), family)
    )


def called_as(member: Member) -> str:
    """The kind of body for a method. A sync function around an async one may return something else than that."""
    is_wrapped = member.kind == "coroutine" and not inspect.iscoroutinefunction(member.function)
    return "method" if is_wrapped else member.kind


def _body(
    kind: str, is_direct: bool, find: Callable[[Any], Any], converting: Converting, family: Family
) -> Any:
    made_by_us, run = Twin, known_as(called, converting.function) if kind == "method" else None

    def coroutine(self: Twin, *args: Any, **kwargs: Any) -> Any:
        take = converting.take
        if take is not None:
            args, kwargs = take(args, kwargs)
        result = self._twin_run(find(self._twin_object), *args, **kwargs)
        give = converting.give
        return result if give is None else give(self, result)

    def direct(self: Twin, *args: Any, **kwargs: Any) -> Any:
        if converting.take is not None:
            args, kwargs = converting.take(args, kwargs)
        return family.give_called(self, find(self._twin_object)(*args, **kwargs))

    def on_the_loop(self: Twin, *args: Any, **kwargs: Any) -> Any:
        if converting.take is not None:
            args, kwargs = converting.take(args, kwargs)
        result = self._twin_run(run, self, find(self._twin_object), args, kwargs)
        return result if converting.give is None else converting.give(self, result)

    def generator(self: Twin, *args: Any, **kwargs: Any) -> Any:
        if converting.take is not None:
            args, kwargs = converting.take(args, kwargs)
        result = find(self._twin_object)(*args, **kwargs)
        if not hasattr(result, "__aiter__"):  # a sync function around an async generator function made it
            return family.give_called(self, result)
        return family.wrap("generator", converting.give, self, result)

    def iterable(self: Twin, *args: Any, **kwargs: Any) -> Any:
        if converting.take is not None:
            args, kwargs = converting.take(args, kwargs)
        result = self._twin_home.call(find(self._twin_object), *args, **kwargs)
        given = family.give(self, result)
        return (
            given
            if isinstance(given, made_by_us)
            else family.wrap("generator", converting.give, self, result)
        )

    def manager(self: Twin, *args: Any, **kwargs: Any) -> Any:
        if converting.take is not None:
            args, kwargs = converting.take(args, kwargs)
        result = find(self._twin_object)(*args, **kwargs)
        given = family.give(self, result)
        return (
            given if isinstance(given, made_by_us) else family.wrap("manager", converting.give, self, result)
        )

    if kind == "method":
        return direct if is_direct else on_the_loop
    return {"coroutine": coroutine, "generator": generator, "iterable": iterable, "manager": manager}[kind]


def _entering(member: Member, family: Family) -> Any:
    converting, enter_by = Converting(member, family), enter

    def enter_twin(self: Twin) -> Any:
        return enter_by(self, self._twin_object, lambda entered: converting.out(self, entered))

    return standing_for(member.function, enter_twin)


def enter(
    twin: Twin, manager: AbstractAsyncContextManager[Any], give: Callable[[Any], Any] | None = None
) -> Any:
    """Enters the manager where the twin's object lives, for `leave`; returns what `give` makes of what that gives."""
    twin._twin_home.check()
    entering = run_by(twin._twin_home.bridge, DualContextManager(manager))
    entering._give_up_when_dropped()

    def note(entered: Any) -> Any:
        given = entered if give is None else give(entered)
        set_entered(twin, (*getattr(twin, "_twin_entered", ()), entering))
        return given

    try:
        return enter_wholly(entering, entering.__enter__, note)
    except BaseException as error:
        hide_ours(error)
        set_entered(twin, tuple(each for each in getattr(twin, "_twin_entered", ()) if each is not entering))
        raise


def _leaving(member: Member, family: Family) -> Any:
    leave_by = leave

    def leave_twin(self: Twin, *exc_info: Any) -> Any:
        return leave_by(self, *exc_info)

    return standing_for(member.function, leave_twin)


def leave(twin: Twin, *exc_info: Any) -> Any:
    """Leaves it as often as it was entered."""
    entered = getattr(twin, "_twin_entered", ())
    if not entered:
        raise RuntimeError(f"this {type(twin).__name__} is not entered; use it in a `with` statement")
    entering = entered[-1]
    try:
        set_entered(twin, entered[:-1])
        return entering.__exit__(*exc_info)
    except BaseException as error:  # which a signal handler may have raised before one or the other
        set_entered(twin, entered[:-1])
        entering._leave_again(error)
        raise


def _iterating(member: Member, family: Family) -> Any:
    converting, made_by_us = Converting(member, family), Twin

    def iterate(self: Twin) -> Any:
        result = self._twin_object.__aiter__()
        given = family.give(self, result)
        if converting.take is not None:
            converting.take((), {})
        return (
            given if isinstance(given, made_by_us) else family.wrap("iterator", converting.give, self, result)
        )

    return standing_for(member.function, iterate)


def _stepping(member: Member, family: Family) -> Any:
    converting = Converting(member, family)

    def step(self: Twin) -> Any:
        try:
            return converting.out(self, self._twin_run(self._twin_object.__anext__))
        except StopAsyncIteration as end:
            reason = end
        raise StopIteration(*reason.args)

    return standing_for(member.function, step)


def _awaiting(member: Member, family: Family) -> Any:
    def run(self: Twin, timeout: float | None = None) -> Any:
        """Awaits it, for at most `timeout` seconds; returns what that gives."""
        self._twin_home.check()
        return family.give(self, self._twin_home.bridge.run(self._twin_object, timeout=timeout))

    return run


_PROTOCOLS: dict[str, Callable[[Member, Family], Any]] = {
    "__aenter__": _entering,
    "__aexit__": _leaving,
    "__aiter__": _iterating,
    "__anext__": _stepping,
    "__await__": _awaiting,
}


class Owner:
    """Stands for the twin where a method of the class is called: its "object" is the async class."""

    __slots__ = ("_twin_family", "_twin_home", "_twin_object", "_twin_run")

    def __init__(self, of: type, family: Family, home: Quarters) -> None:
        self._twin_object, self._twin_family, self._twin_home, self._twin_run = of, family, home, home.run


def class_method(member: Member, family: Family, *, is_direct: bool) -> Any:
    """The same for a class method."""
    body = _body(called_as(member), is_direct, attrgetter(member.name), Converting(member, family), family)
    owner = Owner

    def call(cls: type[Twin], *args: Any, **kwargs: Any) -> Any:
        return body(owner(cls._twin_class, family, family.home(cls._twin_bridge)), *args, **kwargs)

    return classmethod(standing_for(member.function, call))


def static_method(cls: type, member: Member, family: Family, *, is_direct: bool) -> Any:
    """The same for a static method."""
    body = _body(called_as(member), is_direct, attrgetter(member.name), Converting(member, family), family)
    owner = Owner

    def call(*args: Any, **kwargs: Any) -> Any:
        return body(owner(cls, family, family.home(family.bridge)), *args, **kwargs)

    return staticmethod(standing_for(member.function, call))


def readable(member: Member, family: Family) -> property:
    """The property for one of the async class, whatever kind of property that is."""
    name, kind = member.name, member.kind
    converting = Converting(member, family)
    read = {"async property": _read, "async cached property": _read_once}.get(kind)
    if read is not None:
        read = known_as(read, member.function)

    def value(self: Twin) -> Any:
        if read is not None:
            return self._twin_run(read, self._twin_object, name)
        found = getattr(self._twin_object, name)
        # One that is async, though nothing said so.
        return self._twin_home.bridge.run(found) if inspect.iscoroutine(found) else found

    def get(self: Twin) -> Any:
        try:
            return converting.out(self, value(self))
        except BaseException as error:
            hide_ours(error)
            raise

    def set_(self: Twin, new: Any) -> None:
        setattr(self._twin_object, name, taken(new))

    def delete(self: Twin) -> None:
        delattr(self._twin_object, name)

    get.__name__ = get.__qualname__ = member.sync_name
    of = member.value
    is_plain = isinstance(of, property)
    return property(
        get,
        None if is_plain and of.fset is None else set_,
        None if is_plain and of.fdel is None else delete,
        of.__doc__ if is_plain or member.function is None else member.function.__doc__,
    )


async def _read(of: Any, name: str) -> Any:
    return await getattr(of, name)


async def _read_once(of: Any, name: str) -> Any:
    """What a cached property gives holds one coroutine, which can be awaited once: a task takes its place."""
    found = getattr(of, name)
    if inspect.iscoroutine(found):
        import asyncio

        vars(of)[name] = found = asyncio.ensure_future(found)
    return await found


class Attribute:
    """A slot or a value of the async class, or a name that it annotates."""

    def __init__(self, member: Member, family: Family) -> None:
        self._name, self._owner = member.name, member.owner
        self._converting = Converting(member, family)

    def __get__(self, twin: Twin | None, owner: type | None = None) -> Any:
        if twin is None:
            return getattr(self._owner, self._name)
        return self._converting.out(twin, getattr(twin._twin_object, self._name))

    def __set__(self, twin: Twin, value: Any) -> None:
        setattr(twin._twin_object, self._name, taken(value))

    def __delete__(self, twin: Twin) -> None:
        delattr(twin._twin_object, self._name)


def adapted(family: Family, owner: Twin, name: str, value: Any) -> Any:
    """What sync code gets for an attribute of which the class knows nothing: a method, or an async function, as a sync
    function."""
    given = family.give(owner, value)
    if given is not value or isinstance(value, type) or not callable(value):
        return given
    kind = kind_of(value)
    if kind == "method" and getattr(value, "__self__", None) is not owner._twin_object:
        return value
    member = Member(name, name, kind, "static", type_of(owner._twin_object), value, value)
    made: Any = functools.partial(
        _body(called_as(member), False, lambda _: value, Converting(member, family), family), owner
    )
    functools.update_wrapper(made, value)
    del made.__wrapped__  # tools would take it for async
    return made
