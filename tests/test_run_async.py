"""`await bridge.run_async(fn)`: a task of one loop awaits a coroutine on another, without a thread in between."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio

import syncline
from neutral import turn
from places import own_loop, own_thread
from remote_code import Anywhere, Cleaning, answer, until

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def test_it_runs_on_the_bridges_loop_and_returns(anywhere: Anywhere, each_bridge: syncline.Bridge) -> None:
    """Whichever library runs on either side; and its thread is not the task's."""

    async def main() -> tuple[list[int], threading.Thread]:
        results = [await each_bridge.run_async(answer, number) for number in range(4)]
        return results, await each_bridge.run_async(own_thread)

    results, thread = anywhere(main)
    assert results == [42] * 4
    assert thread is not threading.current_thread()


def test_what_sync_code_made_there_async_code_uses(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """A client of the bridge's loop serves both: the loop is the same for both."""
    bridge = make_bridge()
    home, queue = bridge.run_sync(own_loop), bridge.call(asyncio.Queue)

    async def main() -> tuple[Any, Any]:
        await bridge.run_async(queue.put, "put")
        return await bridge.run_async(own_loop), await bridge.run_async(queue.get)

    assert asyncio.run(main()) == (home, "put")


def test_the_awaiting_loop_goes_on_and_no_thread_is_started(anywhere: Anywhere) -> None:
    """What it waits for is let go by another task of the same loop."""

    async def main() -> int:
        event = syncline.call(asyncio.Event)
        threads = set(threading.enumerate())
        async with anyio.create_task_group() as group:
            group.start_soon(syncline.run_async, event.wait)
            await turn()
            started = set(threading.enumerate()) - threads
            syncline.call(event.set)
        return len(started)

    syncline.call(int)  # the default bridge has its thread by then
    assert anywhere(main) == 0


@pytest.mark.usefixtures("leaks_nothing")
def test_many_at_once(anywhere: Anywhere, each_bridge: syncline.Bridge) -> None:
    """Each task gets its own result, and nothing is left behind."""

    async def echo(number: int) -> int:
        await turn()
        return number

    async def main() -> list[int]:
        results: list[int] = []

        async def one(number: int) -> None:
            results.append(await each_bridge.run_async(echo, number))

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(one, number)
        return results

    assert sorted(anywhere(main)) == list(range(100))


def test_errors_are_the_same_objects(anywhere: Anywhere, each_bridge: syncline.Bridge) -> None:
    """With the frames of the coroutine in their traceback; `SystemExit` and the like leave both loops alive."""
    raised = [KeyError("known"), SystemExit(3), KeyboardInterrupt(), ExceptionGroup("some", [OSError(1)])]

    async def fail(error: BaseException) -> None:
        await turn()
        raise error

    async def main() -> None:
        for error in raised:
            with pytest.raises(type(error)) as caught:
                await each_bridge.run_async(fail, error)
            assert caught.value is error
            assert "fail" in [entry.name for entry in caught.traceback]
        assert await each_bridge.run_async(answer) == 42

    anywhere(main)


def test_context_variables_flow_both_ways(anywhere: Anywhere, each_bridge: syncline.Bridge) -> None:
    """Each task sees what its own calls change."""

    async def change(to: str) -> str:
        before = variable.get()
        variable.set(to)
        await turn()
        return before

    async def main() -> None:
        async def one(number: int) -> None:
            variable.set(f"task {number}")
            assert await each_bridge.run_async(change, f"changed {number}") == f"task {number}"
            assert variable.get() == f"changed {number}"

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(one, number)
        assert variable.get() == "unset"

    anywhere(main)


def test_a_copied_context_keeps_changes_to_itself(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """From another loop, and from the bridge's own."""
    bridge = make_bridge(context="copy")

    async def change() -> None:
        variable.set("lost")

    async def main() -> str:
        await bridge.run_async(change)
        return variable.get()

    assert (asyncio.run(main()), bridge.run_sync(main)) == ("unset", "unset")


def test_on_the_bridges_own_loop_it_is_awaited_in_the_task(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """So the coroutine shares its task's timeouts and context."""
    bridge = make_bridge()

    async def current() -> asyncio.Task[Any] | None:
        await turn()
        return asyncio.current_task()

    async def main() -> bool:
        return await bridge.run_async(current) is asyncio.current_task()

    assert bridge.run_sync(main)


def test_a_cancelled_task_cancels_it_and_waits_for_its_cleanup(
    anywhere: Anywhere, each_bridge: syncline.Bridge
) -> None:
    """As if it were awaited directly."""
    cleaning = Cleaning()

    async def main() -> bool:
        async with anyio.create_task_group() as group:
            group.start_soon(each_bridge.run_async, cleaning)
            await cleaning.began()
            group.cancel_scope.cancel()
        return cleaning.is_clean

    assert anywhere(main)


def test_a_cancellation_is_the_tasks_own(run_async: Anywhere) -> None:
    """With its message, and seen by `cancelling()`."""
    cleaning = Cleaning()

    async def main() -> tuple[Any, ...]:
        task = asyncio.ensure_future(syncline.run_async(cleaning))
        await cleaning.began()
        task.cancel("for a reason")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        return caught.value.args

    assert run_async(main) == ("for a reason",)


def test_a_second_cancellation_does_not_break_off_the_cleanup(
    run_async: Anywhere, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """The test cancels when the coroutine has begun, and again while, told once, it waits for `go_on`."""
    begun, told, go_on = threading.Event(), threading.Event(), threading.Event()
    bridge = make_bridge()
    result: list[str] = []

    async def stubborn() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            told.set()
            await until(go_on.is_set)
            result.append("clean")

    async def main() -> None:
        task = asyncio.ensure_future(bridge.run_async(stubborn))
        await until(begun.is_set)
        task.cancel()
        await until(told.is_set)
        task.cancel()
        await turn()
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_async(main)
    assert result == ["clean"]


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_what_it_does_in_spite_of_being_cancelled_is_not_lost(anywhere: Anywhere, ending: str) -> None:
    """As where it is awaited directly: a value is returned, an error raised."""
    waits = threading.Event()

    async def refuse() -> str:
        try:
            waits.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ending == "raises":
                raise LookupError("instead") from None
        return "value"

    async def main() -> object:
        found: list[object] = []
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                await until(waits.is_set)
                scope.cancel()

            async with anyio.create_task_group() as group:
                group.start_soon(cancel)
                try:
                    found.append(await syncline.run_async(refuse))
                except LookupError as error:
                    found.append(str(error))
        return found

    assert anywhere(main) == (["value"] if ending == "returns" else ["instead"])


@pytest.mark.parametrize("ending", ["returns", "raises"])
def test_a_cancellation_that_comes_as_it_ends_is_not_lost(
    run_async: Anywhere, each_bridge: syncline.Bridge, ending: str
) -> None:
    """As where a task is cancelled whose future is done already: the task is cancelled, as nobody else was."""
    # Interleaving: the task is cancelled, and has told its call so, while the call makes its last step.
    begun, is_told = threading.Event(), threading.Event()

    async def last_step() -> str:
        begun.set()
        is_told.wait(10)
        if ending == "raises":
            raise LookupError("ended by itself")
        return "value"

    async def main() -> None:
        task = asyncio.create_task(each_bridge.run_async(last_step))
        await until(begun.is_set)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        is_told.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert isinstance(caught.value.__context__, LookupError) == (ending == "raises")

    run_async(main)


def test_a_timeout_around_it_ends_it(anywhere: Anywhere, each_bridge: syncline.Bridge) -> None:
    """After its cleanup."""
    cleaning = Cleaning()

    async def main() -> None:
        with anyio.fail_after(0.05):
            await each_bridge.run_async(cleaning)

    with pytest.raises(TimeoutError):
        anywhere(main)
    assert cleaning.is_clean


def test_stats_count_it_once(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """However it ends."""
    bridge = make_bridge()

    async def fail() -> None:
        raise KeyError

    async def main() -> None:
        await bridge.run_async(answer)
        with pytest.raises(KeyError):
            await bridge.run_async(fail)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await bridge.run_async(Cleaning(0))

    asyncio.run(main())
    stats = bridge.stats()
    assert (stats["calls"], stats["active"]) == (3, 0)


def test_bridges_await_each_other_without_a_deadlock(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """No thread waits, so a circle of loops is none of threads."""
    one, two = make_bridge(), make_bridge()

    async def down(depth: int) -> int:
        return depth if depth == 0 else 1 + await (one if depth % 2 else two).run_async(down, depth - 1)

    assert one.run_sync(down, 10) == 10
    assert one.run(down(10), timeout=20) == 10


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_libraries_meet(backend: str, make_bridge: Callable[..., syncline.Bridge]) -> None:
    """asyncio code awaits trio code, and the other way round; each sees its own library run."""
    bridge = make_bridge(scope="trio" if backend == "trio" else "process")

    async def library() -> str:
        if backend == "trio":
            await trio.lowlevel.checkpoint()
        else:
            await asyncio.sleep(0)
        return "trio" if trio.lowlevel.in_trio_task() else "asyncio"

    async def main() -> str:
        return await bridge.run_async(library)

    assert (asyncio.run(main()), trio.run(main)) == (backend, backend)


def test_it_is_a_coroutine_function() -> None:
    """So task groups, `gather` and `wait_for` take it, and one that is never awaited begins nothing."""

    async def main() -> list[int]:
        never = syncline.run_async(pytest.fail, "begun")
        never.close()
        made: list[Awaitable[int]] = [syncline.run_async(answer) for _ in range(3)]
        return await asyncio.wait_for(asyncio.gather(*made), 20)

    assert asyncio.run(main()) == [42] * 3


@pytest.mark.parametrize("scope", ["process", "caller"])
def test_the_first_one_does_not_block_the_loop_that_awaits(
    anywhere: Anywhere, make_bridge: Callable[..., syncline.Bridge], scope: str
) -> None:
    """The bridge's own loop is still being started (case 33): only another task of this one lets that end."""
    is_let_go = threading.Event()

    def factory() -> asyncio.AbstractEventLoop:
        assert is_let_go.wait(30)
        return asyncio.new_event_loop()

    bridge = make_bridge(scope=scope, loop_factory=factory)
    results = []

    async def first() -> None:
        results.append(await bridge.run_async(answer, 1))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(first)
            group.start_soon(first)
            await turn()
            assert not results
            is_let_go.set()

    anywhere(main)
    assert results == [42, 42]


def test_a_first_one_that_is_cancelled_ends_before_the_loop_is_there(
    anywhere: Anywhere, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """The loop is started all the same, for the next one."""
    is_let_go = threading.Event()

    def factory() -> asyncio.AbstractEventLoop:
        assert is_let_go.wait(30)
        return asyncio.new_event_loop()

    bridge = make_bridge(loop_factory=factory)

    async def main() -> int:
        with anyio.move_on_after(0.01):
            await bridge.run_async(answer, 1)
        is_let_go.set()
        return await bridge.run_async(answer, 1)

    assert anywhere(main) == 42


def test_an_error_of_the_loop_factory_arrives_in_the_task(
    anywhere: Anywhere, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """As in sync code, each time."""

    def factory() -> asyncio.AbstractEventLoop:
        raise LookupError("no loop")

    bridge = make_bridge(loop_factory=factory)

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(LookupError, match="no loop"):
                await bridge.run_async(answer, 1)

    anywhere(main)
