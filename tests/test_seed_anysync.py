"""What AnySync's documents say in words holds for `syncline.compat.anysync`; its examples have a file of their own.

Each docstring gives the sentence in short. Its users' tests rely on some things that it doesn't say: those tests say
"AnySync itself".
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import sniffio
import trio

from child import run_script
from places import ONE_BY_ONE, in_asyncio, in_thread, in_trio, in_uvloop, on_our_loop, side_by_side
from syncline.compat import anysync

variable: ContextVar[int] = ContextVar("variable", default=0)

Inside = Callable[[Callable[[], Any]], Any]


@pytest.fixture(params=["plain", "asyncio", "uvloop", "trio", "our own loop", "in the background"])
def inside(request: pytest.FixtureRequest) -> Inside:
    """Runs sync code in each place where it may use AnySync."""

    @anysync.coroutine
    async def in_the_background(body: Callable[[], Any]) -> Any:
        return body()

    runs: dict[str, Inside] = {
        "plain": lambda body: body(),
        "asyncio": in_asyncio,
        "uvloop": in_uvloop,
        "trio": in_trio,
        "our own loop": on_our_loop,
        "in the background": lambda body: in_asyncio(lambda: in_the_background(body).run()),
    }
    return runs[request.param]


@anysync.coroutine
async def this_thread() -> threading.Thread:
    return threading.current_thread()


@anysync.coroutine
async def through(body: Callable[[], Any]) -> Any:
    return body()


@anysync.iterator
async def count() -> AsyncIterator[int]:
    yield 1
    yield 2


@anysync.generator
async def echo() -> AsyncGenerator[int, int]:
    value = yield 1
    yield value


@anysync.contextmanager
async def forty_two() -> AsyncIterator[int]:
    yield 42


# Usage


def test_async_functions_can_be_called_in_a_synchronous_manner(inside: Inside) -> None:
    """ "The primary use case": `run()` of what the decorated function returns."""

    @anysync.anysync
    async def add(a: int, *, b: int) -> int:
        return a + b

    assert inside(lambda: add(1, b=2).run()) == 3


def test_iterators_detect_how_they_are_used(inside: Inside) -> None:
    """ "In this case you don't need to call run()": for `for`, `next`, `send`, and their async twins."""

    def body() -> list[int]:
        generator = echo()
        return [*count(), next(count()), next(generator), generator.send(42)]

    async def main() -> list[int]:
        generator = echo()
        values = [value async for value in count()]
        return [*values, await anext(count()), await anext(generator), await generator.asend(42)]

    assert inside(body) == asyncio.run(main()) == [1, 2, 1, 1, 42]


def test_async_context_managers_can_be_used(inside: Inside) -> None:
    """ "You can even use AnySync on your async context managers": decorated or subclassed, in both worlds."""

    class Manager(anysync.AnySyncContextManager[int]):
        async def __aenter__(self) -> int:
            return 42

        async def __aexit__(self, *_exc_info: object) -> None:
            pass

    def body() -> list[int]:
        with forty_two() as x, Manager() as y:
            return [x, y]

    async def main() -> list[int]:
        async with forty_two() as x, Manager() as y:
            return [x, y]

    assert inside(body) == asyncio.run(main()) == [42, 42]


def test_other_async_libraries_work() -> None:
    """ "Works with other async libraries like trio via anyio": all of it is awaited there, or used by its sync code."""

    @anysync.coroutine
    async def checkpoint() -> int:
        await trio.lowlevel.checkpoint()
        return 42

    @anysync.coroutine
    async def anywhere() -> str:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.lowlevel.checkpoint)
        return sniffio.current_async_library()

    async def main() -> None:
        assert await checkpoint() == 42
        assert (await anywhere(), anywhere().run()) == ("trio", "asyncio")
        assert [value async for value in count()] == [1, 2]
        async with forty_two() as value:
            assert value == 42
        assert through(lambda: 42).run() == 42
        assert list(count()) == [1, 2]

    trio.run(main)
    assert asyncio.run(anywhere()) == anywhere().run() == "asyncio"


def test_a_coroutine_is_one_for_the_libraries_it_works_with() -> None:
    """AnySync's objects are coroutines: asyncio and anyio take them. What they wrap is `coro`."""

    async def original() -> int:
        await asyncio.sleep(0)
        return 42

    f = anysync.coroutine(original)

    async def main() -> list[int]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(f())
        return [
            task.result(),
            *await asyncio.gather(f(), asyncio.shield(f())),
            await asyncio.wait_for(f(), 20),
        ]

    assert asyncio.run(main()) == [42] * 4
    assert asyncio.run(f()) == anyio.run(f) == 42
    coroutine = original()
    wrapped = anysync.wrap_coroutine(coroutine)
    assert wrapped.coro is coroutine
    assert isinstance(wrapped, Coroutine)
    wrapped.close()
    with pytest.raises(RuntimeError):
        wrapped.run()


# How it works


def test_a_coroutine_runs_in_the_calling_thread_where_no_loop_runs() -> None:
    """ "Works by detecting the presence of a running event loop": there is none, so nothing is started."""
    assert this_thread().run() is threading.current_thread()
    thread, caller = in_thread(lambda: (this_thread().run(), threading.current_thread()))
    assert thread is caller


def test_inside_a_loop_a_separate_thread_runs_it() -> None:
    """ "If one already exists, then AnySync uses a separate thread": one global thread, over and over again."""
    places: list[Inside] = [in_asyncio, in_uvloop, in_trio]
    threads = {place(lambda: this_thread().run()) for place in places for _ in range(2)}
    threads.add(in_thread(lambda: in_asyncio(lambda: this_thread().run())))
    (background,) = threads
    assert background is not threading.main_thread()
    assert background.daemon


def test_the_background_thread_is_created_when_it_is_needed() -> None:
    """ "A single global background thread that's created only when it's needed": by neither import nor plain calls."""
    finished = run_script(
        """
        import asyncio, threading
        from syncline.compat import anysync

        @anysync.coroutine
        async def f():
            return threading.active_count()

        async def main():
            return f().run(), f().run()

        print(threading.active_count(), f().run(), *asyncio.run(main()))
        """
    )
    finished.assert_clean()
    assert finished.out == "1 1 2 2\n"


def test_calls_in_the_background_start_a_new_thread_each_time(leaks_nothing: None) -> None:
    """ "In an async context [of its own], AnySync will create a new thread each time"; they end with their calls."""
    in_asyncio(lambda: this_thread().run())
    seen: list[list[threading.Thread]] = []

    def deeper() -> None:
        nested = [this_thread().run(), this_thread().run(), through(lambda: this_thread().run()).run()]
        assert not any(thread.is_alive() for thread in nested)
        seen.append([threading.current_thread(), *nested])

    in_asyncio(lambda: through(deeper).run())
    in_asyncio(lambda: through(deeper).run())
    (background, *first), (same, *second) = seen
    assert background is same
    assert len({background, *first, *second}) == 7


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_call_blocks_the_loop_that_makes_it(depth: int) -> None:
    """ "AnySync uses a separate thread to run the coroutine", and waits for it: no other task has a turn meanwhile."""

    def at(depth: int) -> Any:
        if depth:
            return through(lambda: at(depth - 1)).run()
        return anysync.run(side_by_side(lambda fn: anysync.run(fn())))

    assert at(depth) == in_asyncio(lambda: at(depth)) == ONE_BY_ONE


def test_a_thread_that_background_code_waits_for_may_make_calls() -> None:
    """AnySync itself waits for ever here: the thread's loop asks the background loop, which waits for that thread."""

    async def main() -> threading.Thread:
        return this_thread().run()

    @anysync.coroutine
    async def waits() -> threading.Thread:
        # Interleaving: the background loop's thread is blocked by the join of a thread that needs a loop.
        context = contextvars.copy_context()
        thread: threading.Thread = in_thread(lambda: context.run(asyncio.run, main()))
        return thread

    thread = in_asyncio(lambda: through(lambda: waits().run()).run())
    assert thread is not in_asyncio(lambda: this_thread().run())


@pytest.mark.parametrize("place", ["plain", "in a loop"])
def test_iterators_and_managers_live_in_the_background(place: str) -> None:
    """AnySync itself has them there always; so what a manager started goes on while the `with` body blocks."""

    @anysync.contextmanager
    async def serving() -> AsyncIterator[tuple[threading.Event, threading.Thread]]:
        served = threading.Event()

        async def serve() -> None:
            await asyncio.sleep(0)
            served.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(serve())
            yield served, threading.current_thread()

    @anysync.iterator
    async def threads() -> AsyncIterator[threading.Thread]:
        yield threading.current_thread()

    def body() -> None:
        with serving() as (served, thread):
            assert served.wait(20)
            assert [*threads(), next(threads())] == [thread, thread]
        assert thread is in_thread(lambda: in_asyncio(lambda: this_thread().run()))

    if place == "plain":
        body()
    else:
        in_asyncio(body)


def test_a_manager_may_be_left_in_another_thread() -> None:
    """AnySync itself allows it, since the background thread enters and leaves it."""
    manager = forty_two()
    assert in_thread(manager.__enter__) == 42
    assert not manager.__exit__(None, None, None)


def test_a_manager_that_only_says_how_it_is_left_gives_itself(inside: Inside) -> None:
    """AnySync's class is one of contextlib's, whose `__aenter__` does that; `__exit__` needs no arguments."""

    class Closing(anysync.AnySyncContextManager[Any]):
        left: Any = None

        async def __aexit__(self, *exc_info: object) -> None:
            self.left = exc_info

    def body() -> None:
        with Closing() as manager:
            assert isinstance(manager, Closing)
        by_hand = Closing()
        assert by_hand.__enter__() is by_hand
        by_hand.__exit__()
        assert manager.left == by_hand.left == (None, None, None)

    inside(body)


# Interacting with contextvars


def test_what_a_coroutine_sets_stays_in_it(inside: Inside) -> None:
    """ "Wrapped coroutines will not propagate changes to contextvars from async to synchronous contexts"."""

    @anysync.coroutine
    async def change() -> list[int]:
        before = variable.get()
        variable.set(42)
        await asyncio.sleep(0)
        return [before, variable.get()]

    def body() -> list[int]:
        variable.set(1)
        return [*change().run(), *change().run(), variable.get()]

    assert contextvars.copy_context().run(inside, body) == [1, 42, 1, 42, 1]


def test_what_a_manager_sets_its_exit_sees_and_nobody_else(inside: Inside) -> None:
    """ "Or context managers": enter and exit share a context, tokens included, and the `with` body has its own."""

    @anysync.contextmanager
    async def change() -> AsyncIterator[int]:
        token = variable.set(variable.get() + 41)
        try:
            yield variable.get()
        finally:
            assert variable.get() == 42
            variable.reset(token)
            assert variable.get() == 1

    class Change(anysync.AnySyncContextManager[int]):
        async def __aenter__(self) -> int:
            self.token = variable.set(42)
            return variable.get()

        async def __aexit__(self, *_exc_info: object) -> None:
            assert variable.get() == 42
            variable.reset(self.token)

    def body() -> None:
        variable.set(1)
        for manager in (change(), Change()):
            with manager as value:
                assert value == 42
                assert variable.get() == 1
                variable.set(1)
            assert variable.get() == 1

    contextvars.copy_context().run(inside, body)


@pytest.mark.parametrize("how", ["for", "next", "send"])
def test_what_a_generator_sets_its_later_steps_see_and_nobody_else(inside: Inside, how: str) -> None:
    """Generators too. AnySync itself gives the steps of a `for` one context, ours those of `next` and `send`, too."""

    @anysync.generator
    async def change() -> AsyncGenerator[int, None]:
        for _ in range(3):
            variable.set(variable.get() + 1)
            yield variable.get()

    def body() -> list[int]:
        variable.set(1)
        values = []
        generator = change()
        if how == "for":
            for value in generator:
                values += [value, variable.get()]
        else:
            for _ in range(3):
                values += [next(generator) if how == "next" else generator.send(None), variable.get()]
            generator.close()
        return values

    assert contextvars.copy_context().run(inside, body) == [2, 1, 3, 1, 4, 1]


# What AnySync's users' tests rely on


class Subclassed(anysync.AnySyncContextManager[None]):
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_exc_info: object) -> None:
        pass


class Plain:
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_exc_info: object) -> None:
        pass


class Failing(Subclassed):
    async def __aenter__(self) -> None:
        raise ValueError("mine")


managers = pytest.mark.parametrize(
    "make",
    [forty_two, Subclassed, lambda: anysync.wrap_async_context_manager(Plain())],
    ids=["decorated", "subclassed", "wrapped"],
)
REUSED = r"^Cannot reuse async context manager when executed synchronously"


@managers
def test_a_manager_is_good_for_one_with(inside: Inside, make: Callable[[], Any]) -> None:
    """AnySync itself refuses a second one, in these words, also while the first one lasts."""

    def body() -> None:
        manager = make()
        with manager, pytest.raises(RuntimeError, match=REUSED), manager:
            raise AssertionError
        with pytest.raises(RuntimeError, match=REUSED), manager:
            raise AssertionError

    inside(body)


def test_a_manager_that_could_not_be_entered_is_used_up() -> None:
    """As one that could."""
    manager = Failing()
    with pytest.raises(ValueError, match="mine"), manager:
        raise AssertionError
    with pytest.raises(RuntimeError, match=REUSED), manager:
        raise AssertionError


def test_async_code_may_reuse_a_manager_that_can_be_reused() -> None:
    """AnySync itself counts sync uses only."""

    async def main() -> None:
        manager = Subclassed()
        for _ in range(2):
            async with manager:
                pass

    asyncio.run(main())


def test_errors_of_managers_and_generators_are_propagated(inside: Inside) -> None:
    """On entering, on leaving, from the body through the manager, and thrown into a generator."""

    @anysync.contextmanager
    async def fails(where: str) -> AsyncIterator[None]:
        if where == "enter":
            raise ValueError(where)
        yield
        if where == "exit":
            raise ValueError(where)

    def body() -> None:
        for where in ("enter", "exit"):
            with pytest.raises(ValueError, match=where), fails(where):
                pass
        with pytest.raises(ValueError, match="body"), fails("nowhere"):
            raise ValueError("body")
        generator = echo()
        with pytest.raises(ZeroDivisionError):
            generator.throw(ZeroDivisionError)
        with pytest.raises(StopIteration):
            next(generator)

    inside(body)
