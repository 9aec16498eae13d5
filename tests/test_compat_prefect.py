"""`syncline.compat.prefect` does what Prefect's documents say of `prefect.utilities.asyncutils`."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trio
import uvloop

import syncline
from child import eventually, run_script
from syncline.compat import prefect

R = TypeVar("R")
Run = Callable[[Callable[[], Coroutine[Any, Any, R]]], R]
Place = tuple[asyncio.AbstractEventLoop, threading.Thread]
current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="unset")


async def add(a: int, b: int, c: int = 3) -> int:
    await anyio.lowlevel.checkpoint()
    return a + b + c


async def where() -> Place:
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), threading.current_thread()


async def change() -> str:
    before = current.get()
    current.set("changed")
    return before


def run_sync_place() -> Place:
    """The "run sync" loop and its thread."""
    return prefect.run_coro_as_sync(where())


@pytest.fixture(params=["asyncio", "uvloop", "trio", "our own loop"])
def run_anywhere(request: pytest.FixtureRequest) -> Run[Any]:
    """As `run_async`, and trio."""
    return {
        "asyncio": lambda main: asyncio.run(main()),
        "uvloop": lambda main: uvloop.run(main()),
        "trio": trio.run,
        "our own loop": syncline.run_sync,
    }[request.param]


# The surface


def test_every_documented_name_is_there() -> None:
    """A changed import is enough, whatever is imported."""
    documented = {
        *("GatherIncomplete", "GatherTaskGroup", "LazySemaphore", "add_event_loop_shutdown_callback"),
        *("asyncnullcontext", "call_with_mark", "create_gather_task_group", "create_task", "gather"),
        *("get_thread_limiter", "in_async_main_thread", "in_async_worker_thread", "is_async_fn"),
        *("is_async_gen_fn", "mark_as_worker_thread", "run_async_from_worker_thread"),
        *("run_async_in_new_loop", "run_coro_as_sync", "run_sync_in_worker_thread", "sync"),
        "sync_compatible",
    }
    assert set(prefect.__all__) == documented
    assert all(hasattr(prefect, name) for name in documented)


def test_arguments_have_prefects_names() -> None:
    """Where they can be given by name."""
    assert list(inspect.signature(prefect.run_coro_as_sync).parameters) == [
        *("coroutine", "force_new_thread", "wait_for_result")
    ]
    for fn, names in {
        prefect.create_task: ["coroutine"],
        prefect.sync_compatible: ["async_fn"],
        prefect.add_event_loop_shutdown_callback: ["coroutine_fn"],
        prefect.LazySemaphore: ["initial_value_func"],
        prefect.GatherTaskGroup: ["task_group"],
        prefect.gather: ["calls"],
    }.items():
        assert list(inspect.signature(fn).parameters) == names


# run_coro_as_sync


def test_calls_share_one_loop_on_a_thread_of_its_own(run_anywhere: Run[Any]) -> None:
    """From sync code, from inside loops (also trio's, case 11) and from other threads."""
    place = run_sync_place()

    async def main() -> Place:
        return run_sync_place()

    assert place[1] is not threading.current_thread()
    assert run_sync_place() == place
    assert run_anywhere(main) == place


def test_nested_calls_run_off_that_thread() -> None:
    """At any depth, each with its caller's context; nobody waits for itself."""
    loop, thread = run_sync_place()

    async def level(depth: int) -> list[Place]:
        inner = prefect.run_coro_as_sync(level(depth - 1)) if depth else []
        return [*inner, await where()]

    *nested, outermost = prefect.run_coro_as_sync(level(3))
    assert outermost == (loop, thread)
    assert len(nested) == 3
    assert all(other is not loop and running is not thread for other, running in nested)


@pytest.mark.parametrize("force_new_thread", [False, True])
def test_contexts_are_copies(force_new_thread: bool) -> None:
    """The coroutine sees its caller's values, and keeps its own changes."""

    def body() -> tuple[str, str]:
        current.set("mine")
        return prefect.run_coro_as_sync(change(), force_new_thread=force_new_thread), current.get()

    assert contextvars.copy_context().run(body) == ("mine", "mine")


def test_a_new_thread_can_be_forced(leaks_nothing: None) -> None:
    """Each call on a loop of its own, which is gone afterwards."""
    place = run_sync_place()
    first = prefect.run_coro_as_sync(where(), force_new_thread=True)
    second = prefect.run_coro_as_sync(where(), force_new_thread=True)
    assert len({place[0], first[0], second[0]}) == 3
    assert first[1] not in (place[1], threading.current_thread())
    assert first[0].is_closed()


@pytest.mark.parametrize("force_new_thread", [False, True])
def test_nobody_has_to_wait_for_the_result(force_new_thread: bool) -> None:
    """Then None comes at once, and the coroutine runs to its end."""
    may_go_on, done = threading.Event(), threading.Event()

    async def slow() -> None:
        while not may_go_on.is_set():
            await asyncio.sleep(0)
        done.set()

    result = prefect.run_coro_as_sync(slow(), force_new_thread=force_new_thread, wait_for_result=False)
    assert result is None
    assert not done.is_set()
    may_go_on.set()
    assert done.wait(20)


@pytest.mark.parametrize("force_new_thread", [False, True])
def test_an_error_that_nobody_waits_for_is_logged(
    force_new_thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """By the logger "syncline"."""

    async def fails() -> None:
        raise ValueError("nobody waits")

    with caplog.at_level(logging.ERROR, "syncline"):
        prefect.run_coro_as_sync(fails(), force_new_thread=force_new_thread, wait_for_result=False)
        assert eventually(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "nobody waits"


@pytest.mark.parametrize("wait_for_result", [True, False])
def test_a_function_in_the_place_of_a_coroutine_is_refused(wait_for_result: bool) -> None:
    """At once."""
    with pytest.raises(TypeError):
        prefect.run_coro_as_sync(where, wait_for_result=wait_for_result)


def test_system_exit_does_not_end_the_loop() -> None:
    """It reaches the caller, and the next call works (case 48)."""

    async def leaves() -> None:
        raise SystemExit(3)

    place = run_sync_place()
    with pytest.raises(SystemExit):
        prefect.run_coro_as_sync(leaves())
    assert run_sync_place() == place


def test_calls_work_inside_tasks(run_anywhere: Run[Any]) -> None:
    """In gather, and in a group in a group (case 5)."""

    async def calls() -> int:
        return prefect.run_coro_as_sync(add(1, 2))

    async def main() -> list[int]:
        return await prefect.gather(calls, calls)

    assert run_anywhere(main) == [6, 6]


def test_calls_work_while_a_cancel_is_handled(run_async: Run[Any]) -> None:
    """In `except CancelledError` (case 57)."""

    async def main() -> int:
        waits = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        waits.cancel()
        try:
            await waits
        except asyncio.CancelledError:
            return prefect.run_coro_as_sync(add(1, 2))
        raise AssertionError

    assert run_async(main) == 6


# sync, run_async_in_new_loop


def test_sync_runs_on_a_new_loop_where_there_is_none() -> None:
    """In this thread; the loop is closed afterwards, and the context is a copy."""
    loop, thread = prefect.sync(where)
    assert thread is threading.current_thread()
    assert loop.is_closed()
    assert prefect.sync(add, 1, b=2) == prefect.run_async_in_new_loop(add, 1, b=2) == 6
    before = current.get()
    assert prefect.sync(change) == prefect.run_async_in_new_loop(change) == before == current.get()


def test_sync_in_a_loop_warns_and_works(run_anywhere: Run[Any]) -> None:
    """On another thread's loop."""

    async def main() -> None:
        with pytest.warns(UserWarning, match="should `await`") as caught:
            loop, thread = prefect.sync(where)
        assert caught[0].filename == __file__
        assert thread is not threading.current_thread()
        assert loop.is_closed()

    run_anywhere(main)


def test_sync_in_a_worker_thread_uses_the_loop_that_sent_it(run_async: Run[Any]) -> None:
    """And so does run_async_from_worker_thread."""

    async def main() -> None:
        here = (asyncio.get_running_loop(), threading.current_thread())
        assert await prefect.run_sync_in_worker_thread(prefect.sync, where) == here
        assert await prefect.run_sync_in_worker_thread(prefect.run_async_from_worker_thread, where) == here

    run_async(main)


def test_a_new_loop_is_refused_inside_a_loop(run_anywhere: Run[Any]) -> None:
    """As in Prefect, with what to do instead; no coroutine is made."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"Already running.*syncline\.run_in_new_loop"):
            prefect.run_async_in_new_loop(add, 1, 2)

    run_anywhere(main)


# Worker threads


def test_a_sync_function_runs_in_a_worker_thread(run_anywhere: Run[Any]) -> None:
    """With arguments by position and by name; its own errors come back, and the context is a copy."""

    def work(a: int, *, b: int) -> tuple[int, threading.Thread, str]:
        before = current.get()
        current.set("changed")
        return a + b, threading.current_thread(), before

    def fails() -> None:
        raise ValueError("mine")

    async def main() -> None:
        current.set("mine")
        total, thread, before = await prefect.run_sync_in_worker_thread(work, 1, b=2)
        assert (total, before, current.get()) == (3, "mine", "mine")
        assert thread is not threading.current_thread()
        with pytest.raises(ValueError, match="mine"):
            await prefect.run_sync_in_worker_thread(fails)

    contextvars.copy_context().run(run_anywhere, main)


def test_threads_know_what_they_are(run_anywhere: Run[Any]) -> None:
    """A worker, the loop's own thread, or neither."""

    def answers() -> tuple[bool, bool]:
        return prefect.in_async_main_thread(), prefect.in_async_worker_thread()

    async def main() -> None:
        assert answers() == (True, False)
        assert await prefect.run_sync_in_worker_thread(answers) == (False, True)
        assert prefect.call_with_mark(answers) == (False, True)
        assert answers() == (True, False)

    run_anywhere(main)
    assert answers() == (False, False)
    marked: list[Any] = []

    def marks() -> None:
        prefect.mark_as_worker_thread()
        marked.append(answers())

    thread = threading.Thread(target=marks)
    thread.start()
    thread.join(20)
    assert marked == [(False, True)]


def test_anyios_worker_threads_serve_as_well() -> None:
    """Code that mixes Prefect's functions with anyio's own."""

    async def main() -> None:
        here = (asyncio.get_running_loop(), threading.current_thread())
        call = functools.partial(prefect.run_async_from_worker_thread, where)
        assert await anyio.to_thread.run_sync(call) == here
        call = functools.partial(prefect.call_with_mark, functools.partial(prefect.sync, where))
        assert await anyio.to_thread.run_sync(call) == here

    anyio.run(main)


def test_a_thread_that_nobody_sent_is_told_so() -> None:
    """run_async_from_worker_thread has no loop to go to."""
    with pytest.raises(RuntimeError):
        prefect.run_async_from_worker_thread(where)


def test_the_limiter_is_for_250_threads() -> None:
    """As Prefect's, and the same each time."""
    assert prefect.get_thread_limiter().total_tokens == 250
    assert prefect.get_thread_limiter() is prefect.get_thread_limiter()


# sync_compatible


def make_compatible() -> Any:
    """A function that has not warned yet."""

    @prefect.sync_compatible
    async def load(x: int = 1) -> int:
        await anyio.lowlevel.checkpoint()
        return x

    return load


class Block:
    @prefect.sync_compatible
    async def load(self, x: int) -> int:
        return x

    @classmethod
    @prefect.sync_compatible
    async def name(cls) -> str:
        return cls.__name__

    @staticmethod
    @prefect.sync_compatible
    async def static(x: int) -> int:
        return x


def test_sync_compatible_serves_both_worlds(run_anywhere: Run[Any]) -> None:
    """The result in sync code, the coroutine in a loop, either where it is forced, and methods of each kind."""
    load = make_compatible()
    assert (load(2), load(3, _sync=True), Block().load(4)) == (2, 3, 4)
    assert (Block.name(), Block().name(), Block.static(5)) == ("Block", "Block", 5)

    async def main() -> None:
        assert await load(2) == 2
        assert load(3, _sync=True) == 3
        assert await load(4, _sync=False) == await load.aio(4) == 4
        assert (await Block().load(5), await Block.name(), await Block.static(6)) == (5, "Block", 6)
        async with anyio.create_task_group() as group:
            group.start_soon(load, 1)

    run_anywhere(main)


def test_sync_compatible_runs_on_the_shared_loop() -> None:
    """So that clients made in one call can be used in the next one."""
    place = prefect.sync_compatible(where)
    assert place() == place(_sync=True) == run_sync_place()


def test_sync_compatible_in_a_worker_uses_the_loop_that_sent_it(run_async: Run[Any]) -> None:
    """As documented."""

    async def main() -> None:
        here = (asyncio.get_running_loop(), threading.current_thread())
        assert await prefect.run_sync_in_worker_thread(prefect.sync_compatible(where)) == here

    run_async(main)


def test_sync_compatible_warns_a_sync_function_in_a_loop() -> None:
    """Once (case 91)."""
    load = make_compatible()

    def helper() -> Any:
        return load(3)

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match=r"load\(\) was called by the sync function .*helper"):
            assert await helper() == 3
        assert await helper() == 3

    asyncio.run(main())


def test_sync_compatible_is_a_plain_function() -> None:
    """With the original in `.aio`, and the errors that Prefect raises for others."""
    load = make_compatible()
    assert inspect.isfunction(load)
    assert load.__name__ == "load"
    assert prefect.is_async_fn(load)
    assert prefect.sync_compatible(add).aio is add

    async def numbers() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ValueError, match=r"Async generators cannot yet.*syncline\.iterator for 'numbers'"):
        prefect.sync_compatible(numbers)
    with pytest.raises(TypeError, match="must be async"):
        prefect.sync_compatible(make_compatible.__call__)


# Tasks


def test_a_task_is_asyncios(run_async: Run[Any]) -> None:
    """And can be awaited."""

    async def main() -> int:
        task = prefect.create_task(add(1, 2))
        assert isinstance(task, asyncio.Task)
        return await task

    assert run_async(main) == 6


def test_groups_have_uuids_for_keys(run_anywhere: Run[Any]) -> None:
    """As Prefect's; an unknown one is a KeyError, a missing result GatherIncomplete."""

    async def main() -> None:
        async with prefect.create_gather_task_group() as group:
            assert isinstance(group, prefect.GatherTaskGroup)
            key = group.start_soon(add, 1, 2)
            assert isinstance(key, uuid.UUID)
            with pytest.raises(prefect.GatherIncomplete):
                group.get_result(key)
            with pytest.raises(RuntimeError, match="start"):
                await group.start(add)
        assert group.get_result(key) == 6
        with pytest.raises(KeyError):
            group.get_result(uuid.uuid4())

    run_anywhere(main)


def test_gather_always_raises_a_group(run_anywhere: Run[Any]) -> None:
    """Also for one error, as Prefect's does; results come in order."""

    async def fails() -> None:
        raise ValueError

    async def main() -> None:
        calls = [functools.partial(add, number, 0) for number in range(3)]
        assert await prefect.gather(*calls) == [3, 4, 5]
        with pytest.raises(ExceptionGroup):
            await prefect.gather(fails)

    run_anywhere(main)


def test_a_shutdown_callback_is_awaited_when_the_loop_ends() -> None:
    """At the end of asyncio.run, of uvloop's, and of a bridge; nothing is kept afterwards."""
    steps = []

    async def callback() -> None:
        await asyncio.sleep(0)
        steps.append("called")

    async def main() -> None:
        await prefect.add_event_loop_shutdown_callback(callback)
        steps.append("registered")

    asyncio.run(main())
    uvloop.run(main())
    with syncline.Bridge() as bridge:
        bridge.run_sync(main)
    syncline.run_in_new_loop(main)
    assert steps == ["registered", "called"] * 4
    assert not prefect._at_shutdown


def test_a_loop_that_is_only_closed_calls_nothing() -> None:
    """As in Prefect: it never shuts its async generators down."""
    finished = run_script(
        """
        import asyncio
        from syncline.compat import prefect

        async def callback():
            print("called")

        loop = asyncio.new_event_loop()
        loop.run_until_complete(prefect.add_event_loop_shutdown_callback(callback))
        loop.close()
        """
    )
    finished.assert_clean()
    assert finished.out == ""


def test_a_lazy_semaphore_asks_for_its_value_when_it_is_entered(run_async: Run[Any]) -> None:
    """Once; it holds back whoever is too many, and lets go in the case of an error."""

    async def main() -> None:
        asked = []

        def value() -> int:
            asked.append(1)
            return 1

        lazy = prefect.LazySemaphore(value)
        assert asked == []
        async with lazy as semaphore:
            assert isinstance(semaphore, asyncio.Semaphore)
            assert semaphore.locked()
        with pytest.raises(KeyError):
            async with lazy:
                raise KeyError
        assert not semaphore.locked()
        assert asked == [1]

    run_async(main)


def test_the_null_context_gives_its_value(run_anywhere: Run[Any]) -> None:
    """And takes whatever else it is given."""

    async def main() -> None:
        async with prefect.asyncnullcontext() as nothing:
            assert nothing is None
        async with prefect.asyncnullcontext(5, "more", other=1) as value:
            assert value == 5
        with pytest.raises(ValueError, match="mine"):
            async with prefect.asyncnullcontext():
                raise ValueError("mine")

    run_anywhere(main)
