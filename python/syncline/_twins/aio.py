"""The async side of a twin, for async code on any loop: its calls run where the object lives.

1. What it gives is what the async class gives, except that objects with twins come as their async sides.
2. How a call gets to the object's loop is said in `_there` alone.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Coroutine
from contextlib import AbstractAsyncContextManager
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from .._converted import standing_for
from .._dual import DualContextManager, DualIterator
from .._kinds import type_of
from .._raised import hide_ours
from .methods import Converting, called_as
from .objects import AsyncSide, Twin, known_as, taken
from .one_task import OneTask
from .surface import METHODS, Member, kind_of, members

if TYPE_CHECKING:
    from collections.abc import Callable

    from .converting import Family, Give
    from .objects import Quarters


async def _there(home: Quarters, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The result of an async function that runs on the object's loop (by 2)."""
    home.check_async()
    return await home.bridge._run_async(fn, args, kwargs or None)


class Sides:
    """How values look from async code."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self._kinds: dict[type, type[AsyncSide]] = {}

    def of(self, twin: Twin) -> AsyncSide:
        """The async side of a twin."""
        cls = type_of(twin._twin_object)
        kind = self._kinds.get(cls)
        if kind is None:
            kind = self._kinds[cls] = self._made(cls)
        return kind(twin)

    def give(self, owner: Any, value: Any) -> Any:
        given = self.family.give(owner, value)
        if isinstance(given, Twin):
            return self.of(given)
        if isinstance(given, (DualIterator, DualContextManager)) and given is not value:
            return self.wrap(
                "manager" if isinstance(given, DualContextManager) else "iterator", None, owner, value
            )
        return value

    def wrap(self, kind: str, inner: Give | None, owner: Any, value: Any) -> Any:
        return (Entered if kind == "manager" else Items)(
            owner._twin_home, value, lambda found: (inner or self.give)(owner, found)
        )

    def _made(self, cls: type) -> type[AsyncSide]:
        def attribute(side: AsyncSide, name: str) -> Any:
            return self.attribute(side, name)

        async def enter(side: AsyncSide) -> Any:
            try:
                return self.give(side, await _enter(side))
            except BaseException as error:
                hide_ours(error)
                raise

        body: dict[str, Any] = {
            "__slots__": (),
            "_twin_family": self.family,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
            "__getattr__": attribute,
        }
        for name, member in members(cls).items():
            if name == "__aenter__":
                body[name] = enter
            elif name == "__aexit__":
                body[name] = _leave
            elif member.kind in METHODS and member.binding == "instance":
                body[name] = self._method(member)
        return type(cls.__name__, (AsyncSide,), body)

    def _method(self, member: Member) -> Any:
        def iterate(side: AsyncSide) -> Any:
            return self.give(side, side._twin_object.__aiter__())

        def wait(side: AsyncSide) -> Any:
            of = side._twin_object
            return self._waiting(side, known_as(_awaited, of), of, None).__await__()

        if member.name == "__aiter__" and member.kind == "method":
            return iterate
        if member.name == "__await__":
            return wait
        converting = Converting(member, self.family, self)
        kind = "begun" if called_as(member) != member.kind else member.kind
        body = self._body(kind, attrgetter(member.name), converting, is_direct=member.name.startswith("__"))
        return standing_for(member.function, body)

    def _body(self, kind: str, find: Callable[[Any], Any], converting: Converting, *, is_direct: bool) -> Any:
        # Taken into the closures, as in methods.py.
        there, is_awaited, pending, begin = _there, self.family.is_for_awaiting, self._pending, self._begun

        async def coroutine(side: AsyncSide, *args: Any, **kwargs: Any) -> Any:
            if converting.take is not None:
                args, kwargs = converting.take(args, kwargs)
            result = await there(side._twin_home, find(side._twin_object), *args, **kwargs)
            return result if converting.give is None else converting.give(side, result)

        def method(side: AsyncSide, *args: Any, **kwargs: Any) -> Any:
            if converting.take is not None:
                args, kwargs = converting.take(args, kwargs)
            call = find(side._twin_object)
            result = call(*args, **kwargs) if is_direct else side._twin_home.call(call, *args, **kwargs)
            if is_awaited(result):
                return pending(side, call, result, converting.give)
            return result if converting.give is None else converting.give(side, result)

        def begun(side: AsyncSide, *args: Any, **kwargs: Any) -> Any:
            if converting.take is not None:
                args, kwargs = converting.take(args, kwargs)
            return begin(side, find(side._twin_object), args, kwargs, converting.give)

        def wrapped(side: AsyncSide, *args: Any, **kwargs: Any) -> Any:
            if converting.take is not None:
                args, kwargs = converting.take(args, kwargs)
            result = find(side._twin_object)(*args, **kwargs)
            if kind == "generator" and not hasattr(result, "__aiter__"):
                return pending(side, result, result, None) if is_awaited(result) else self.give(side, result)
            return self.wrap("manager" if kind == "manager" else "iterator", converting.give, side, result)

        return {"coroutine": coroutine, "method": method, "begun": begun}.get(kind, wrapped)

    def _begun(self, side: AsyncSide, fn: Any, args: Any, kwargs: Any, give: Give | None) -> Any:
        """What async code gets for the call of a sync function around an async one, which is made on the loop."""
        call = functools.partial(fn, *args, **kwargs)
        waiting = self._waiting(side, known_as(_called, fn), call, give)
        return Pending(waiting, self.wrap("manager", None, side, Later(call)))

    def _pending(self, side: AsyncSide, of: Any, result: Any, give: Give | None) -> Any:
        """What it gets for the result of a sync function that is to be awaited, and perhaps can be entered instead."""
        waiting = self._waiting(side, known_as(_awaited, of), result, give)
        if not hasattr(result, "__aenter__"):
            return waiting
        return Pending(waiting, self.wrap("manager", None, side, result))

    async def _waiting(self, side: AsyncSide, fn: Callable[..., Any], of: Any, give: Give | None) -> Any:
        return (give or self.give)(side, await _there(side._twin_home, fn, of))

    def attribute(self, side: AsyncSide, name: str) -> Any:
        """What a class knows nothing of, and what is no method."""
        value = getattr(side._twin_object, name)
        given = self.give(side, value)
        if given is not value or isinstance(value, type):
            return given
        if inspect.isawaitable(value):
            return self._pending(side, value, value, None)
        kind = kind_of(value) if callable(value) else "attribute"
        if kind == "attribute" or (
            kind == "method" and getattr(value, "__self__", None) is not side._twin_object
        ):
            return value
        member = Member(name, name, kind, "static", type_of(side._twin_object), value, value)
        body = self._body(kind, lambda _: value, Converting(member, self.family, self), is_direct=False)
        made = functools.partial(body, side)
        functools.update_wrapper(made, value)
        return made


async def _enter(side: AsyncSide) -> Any:
    """Enters the object, once more."""
    entered = Entered(side._twin_home, side._twin_object, lambda value: value)
    value = await entered.__aenter__()
    side._twin._twin_entered = (*getattr(side._twin, "_twin_entered", ()), entered)
    return value


def _leave(side: AsyncSide, *exc_info: object) -> Any:
    entered = getattr(side._twin, "_twin_entered", ())
    if not entered:
        raise RuntimeError(f"this {type(side).__name__} is not entered; use it in an `async with` statement")
    side._twin._twin_entered = entered[:-1]
    return entered[-1].__aexit__(*exc_info)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def _called(call: Callable[[], Any]) -> Any:
    result = call()
    return await result if inspect.isawaitable(result) else result


class Pending(Coroutine[Any, Any, Any], AbstractAsyncContextManager[Any]):
    """What can be awaited or entered, such as a request of aiohttp's client."""

    def __init__(self, waiting: Coroutine[Any, Any, Any], manager: Entered) -> None:
        self._waiting, self._manager = waiting, manager

    def __await__(self) -> Any:
        return self._waiting.__await__()

    def send(self, value: Any) -> Any:
        return self._waiting.send(value)

    def throw(self, *args: Any) -> Any:
        return self._waiting.throw(*args)

    def close(self) -> None:
        self._waiting.close()

    def __aenter__(self) -> Any:
        self._waiting.close()
        return self._manager.__aenter__()

    def __aexit__(self, *exc_info: object) -> Any:
        return self._manager.__aexit__(*exc_info)


class Later:
    """An async context manager that a function makes where it is entered."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    async def __aenter__(self) -> Any:
        self._made = self._make()
        return await self._made.__aenter__()

    async def __aexit__(self, *exc_info: object) -> Any:
        return await self._made.__aexit__(*exc_info)


class Items(AsyncGenerator[Any, Any]):
    """An async iterator of the object's loop, for async code on another one: one task makes all its steps."""

    def __init__(self, home: Quarters, of: Any, give: Callable[[Any], Any]) -> None:
        self._give = give
        self._steps = of if hasattr(of, "__anext__") else of.__aiter__()
        # It must not lead back here: who drops this one ends the task.
        self._task = OneTask(home, functools.partial(_close, self._steps))
        self._is_over = False

    async def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        if self._is_over:
            raise StopAsyncIteration
        try:
            return self._give(await self._task.do(step, *args))
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as error:
            hide_ours(error)
            raise

    def _end(self) -> None:
        self._is_over = True
        self._task.end()

    def __anext__(self) -> Coroutine[Any, Any, Any]:
        return self._step(self._steps.__anext__)

    def asend(self, value: Any) -> Coroutine[Any, Any, Any]:
        return self._step(self._steps.asend, taken(value))

    def athrow(self, *args: Any) -> Coroutine[Any, Any, Any]:
        return self._step(self._steps.athrow, *args)

    async def aclose(self) -> None:
        if self._is_over or not hasattr(self._steps, "aclose"):
            return
        self._is_over = True
        try:
            await self._task.do(self._steps.aclose, is_last=True)
        except BaseException as error:
            hide_ours(error)
            raise

    def __del__(self) -> None:
        if hasattr(self, "_is_over") and not self._is_over:
            self._end()


async def _close(steps: Any, *_exc_info: object) -> None:
    if hasattr(steps, "aclose"):
        await steps.aclose()


class Entered(AbstractAsyncContextManager[Any]):
    """An async context manager of the object's loop, for async code on another one: one task enters and leaves."""

    def __init__(self, home: Quarters, of: Any, give: Callable[[Any], Any]) -> None:
        self._of, self._give = of, give
        self._task = OneTask(home)

    async def __aenter__(self) -> Any:
        try:
            return self._give(await self._task.do(known_as(Entered._enter, self._of.__aenter__), self))
        except BaseException as error:
            hide_ours(error)
            raise

    async def _enter(self) -> Any:
        entered = await self._of.__aenter__()
        self._task.give_up = self._of.__aexit__
        return entered

    async def __aexit__(self, *exc_info: object) -> Any:
        # Its frame keeps this object, which would end the task as it is freed.
        try:
            return await self._task.do(self._of.__aexit__, *exc_info, is_last=True)
        except BaseException as error:
            hide_ours(error)
            raise

    def __del__(self) -> None:
        # Nobody can leave it any more. In async code, too, an object that is dropped is not left.
        if hasattr(self, "_task"):
            self._task.give_up = None
            self._task.end()
