"""await to_thread(fn, ...): sync functions in worker threads, on any loop."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import child
import syncline
from child import eventually

Run = Callable[[Callable[[], Any]], Any]
number: contextvars.ContextVar[int] = contextvars.ContextVar("number")
LIMIT = 20
CALLS = 300


def test_a_function_runs_in_a_worker_thread_with_its_arguments(anywhere: Run) -> None:
    """Arguments go in, the result comes back, and the loop's thread is another one."""

    def function(*args: object, **kwargs: object) -> object:
        return args, kwargs, threading.current_thread()

    async def main() -> None:
        args, kwargs, thread = await syncline.to_thread(function, 1, fn=2, limiter=3, args=4)
        assert (args, kwargs) == ((1,), {"fn": 2, "limiter": 3, "args": 4})
        assert thread is not threading.current_thread()
        assert thread in threading.enumerate()
        assert thread.daemon

    anywhere(main)


def test_an_error_is_the_same_object_with_the_frames_of_its_user(anywhere: Run) -> None:
    """What the function raises is raised by the await, and no frame of the thread's own is in between."""
    error = LookupError("gone")

    def function() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(LookupError) as caught:
            await syncline.to_thread(function)
        assert caught.value is error
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        assert names == ["main", "to_thread", "function"]

    anywhere(main)


def test_stop_iteration_becomes_a_runtime_error(anywhere: Run) -> None:
    """StopIteration can't pass through a coroutine: RuntimeError, not a hang (case 40)."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration") as caught:
            await syncline.to_thread(next, iter(()))
        assert isinstance(caught.value.__cause__, StopIteration)

    anywhere(main)


def test_values_of_all_kinds_come_back(anywhere: Run) -> None:
    """Tuples, exceptions and None are results like any other."""

    async def main() -> None:
        for value in [(), (1, 2), None, ValueError("a value"), StopIteration(3), [1]]:
            assert await syncline.to_thread(lambda value=value: value) is value

    anywhere(main)


def test_other_tasks_have_a_turn_even_if_the_result_is_there_at_once(anywhere: Run) -> None:
    """Where a worker answers within microseconds the loop's thread takes the result then and there, and still gives
    every task its turn: an await that never suspends would starve them, and timeouts with them."""
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(1)
            await anyio.lowlevel.checkpoint()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(other)
            await anyio.lowlevel.checkpoint()
            for _ in range(CALLS):
                before = len(turns)
                await syncline.to_thread(int)
                # trio shuffles who is ready at the same time.
                await syncline.to_thread(int)
                assert len(turns) > before
            with anyio.move_on_after(0.01) as scope:
                while True:
                    await syncline.to_thread(int)
            assert scope.cancelled_caught
            group.cancel_scope.cancel()

    anywhere(main)


def test_context_variables_go_in_and_come_back(anywhere: Run) -> None:
    """The function sees the task's variables, and the task what the function set, also where that raises; other
    tasks don't."""

    def function(fails: bool) -> None:
        number.set(number.get() + 1)
        if fails:
            raise LookupError

    async def task(start: int) -> None:
        number.set(start)
        for step in range(5):
            await syncline.to_thread(function, False)
            with pytest.raises(LookupError):
                await syncline.to_thread(function, True)
            assert number.get() == start + 2 * (step + 1)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for start in range(0, 1000, 100):
                group.start_soon(task, start)

    anywhere(main)


def test_calls_run_in_parallel(anywhere: Run) -> None:
    """Independent calls wait for each other in as many threads, which is possible in parallel only (case 67)."""
    barrier = threading.Barrier(20)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(syncline.to_thread, barrier.wait, LIMIT)

    anywhere(main)


def test_a_call_that_blocks_holds_up_no_other(anywhere: Run) -> None:
    """Of many calls made in one turn, all come to their end though every second one blocks until those are over."""
    done, release = threading.Semaphore(0), threading.Event()

    def quick() -> None:
        done.release()

    def last() -> None:
        for _ in range(20):
            assert done.acquire(timeout=LIMIT)
        release.set()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(syncline.to_thread, release.wait, LIMIT)
                group.start_soon(syncline.to_thread, quick)
            group.start_soon(syncline.to_thread, last)

    anywhere(main)
    assert release.is_set()


def test_threads_are_used_again_newest_first(anywhere: Run) -> None:
    """One call after the other is made by one and the same thread."""

    async def main() -> None:
        first = await syncline.to_thread(threading.get_ident)
        assert {await syncline.to_thread(threading.get_ident) for _ in range(50)} == {first}

    anywhere(main)


def test_a_cancelled_await_abandons_the_call(anywhere: Run, caplog: pytest.LogCaptureFixture) -> None:
    """The await ends at once, the function goes on, its result is dropped; nothing is logged (cases 55, 56)."""
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def function() -> None:
        begun.set()
        assert release.wait(LIMIT)
        ended.set()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(syncline.to_thread, function)
            await syncline.to_thread(begun.wait, LIMIT)
            group.cancel_scope.cancel()
        assert not ended.is_set()
        release.set()
        with anyio.fail_after(LIMIT):
            await syncline.to_thread(ended.wait, LIMIT)
        await syncline.to_thread(int)

    anywhere(main)
    assert ended.is_set()
    assert not caplog.records


def test_a_late_error_is_logged(anywhere: Run, caplog: pytest.LogCaptureFixture) -> None:
    """What a function raises after its await was cancelled goes to the logger "syncline", once."""
    begun, release = threading.Event(), threading.Event()

    def function() -> None:
        begun.set()
        assert release.wait(LIMIT)
        raise LookupError("too late")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(syncline.to_thread, function)
            await syncline.to_thread(begun.wait, LIMIT)
            group.cancel_scope.cancel()
        release.set()

    with caplog.at_level(logging.ERROR, "syncline"):
        anywhere(main)
        assert eventually(lambda: bool(caplog.records))
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["too late"]


def test_a_cancelled_task_begins_nothing(anywhere: Run) -> None:
    """Where the scope is cancelled before the call, the function isn't called."""
    called = threading.Event()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.lowlevel.checkpoint_if_cancelled()
            await syncline.to_thread(called.set)
        await syncline.to_thread(int)

    anywhere(main)
    assert not called.is_set()


def test_wait_for_returns_in_time_and_leaves_no_log(run_async: Run, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio.wait_for() ends at its timeout though the function goes on (case 56), and cancelling() is balanced
    (case 54)."""
    release, ended = threading.Event(), threading.Event()

    def function() -> None:
        assert release.wait(LIMIT)
        ended.set()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(syncline.to_thread(function), 0.01)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        release.set()
        await syncline.to_thread(ended.wait, LIMIT)

    run_async(main)
    gc.collect()
    assert not caplog.records


def test_a_cancel_that_meets_the_result_wins(run_async: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A task that is cancelled when its result has come, and before it saw it, is cancelled (case 52)."""
    ended = threading.Event()

    async def main() -> None:
        task = asyncio.create_task(syncline.to_thread(ended.set))
        await asyncio.sleep(0)
        assert ended.wait(LIMIT)  # the loop does not turn meanwhile: the result lies in its box
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_async(main)
    assert not caplog.records


@pytest.mark.parametrize("can_watch", [True, False], ids=["watches a descriptor", "does not"])
def test_results_of_one_batch_wake_the_loop_once(can_watch: bool) -> None:
    """A hundred results that lie there when the loop comes round are seen to in one callback; on a loop that can't
    watch descriptors (as Windows' Proactor) that is one call_soon_threadsafe()."""
    woken: list[object] = []

    class Loop(asyncio.SelectorEventLoop):
        def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
            if not can_watch:
                raise NotImplementedError
            super().add_reader(fd, lambda: (woken.append(fd), callback(*args)))

        def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
            woken.append(callback)
            return super().call_soon_threadsafe(callback, *args, context=context)

    async def main() -> None:
        called, begins = threading.Semaphore(0), threading.Event()

        def call() -> None:
            assert begins.wait(LIMIT)
            called.release()

        # One thread, and none of the calls ends before all have begun to wait: no result is there in passing.
        limiter = syncline.ThreadLimiter(1)
        calls = [asyncio.create_task(limiter.to_thread(call)) for _ in range(100)]
        await asyncio.sleep(0)
        begins.set()
        for _ in range(100):  # the loop is blocked until all have ended
            assert called.acquire(timeout=LIMIT)
        await asyncio.gather(*calls)

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
    # The last worker may hand its result over just after it was counted.
    assert 1 <= len(woken) <= 2


def test_an_idle_worker_keeps_nothing_alive(anywhere: Run) -> None:
    """Arguments, result and context variables of a call are freed though the thread lives on (case 79)."""

    class Thing:
        pass

    kept: contextvars.ContextVar[Thing] = contextvars.ContextVar("kept")

    async def call() -> list[weakref.ref[Thing]]:
        argument, variable = Thing(), Thing()
        token = kept.set(variable)
        result = await syncline.to_thread(lambda thing: [thing, Thing()], argument)
        kept.reset(token)
        return [weakref.ref(thing) for thing in (argument, variable, result[1])]

    async def main() -> None:
        references = await call()
        # The worker lets go of the call before it takes the next one.
        await syncline.to_thread(int)
        gc.collect()
        assert [reference() for reference in references] == [None, None, None]

    anywhere(main)


def test_an_idle_worker_forgets_what_a_nested_call_changed(anywhere: Run) -> None:
    """Variables that run_sync() in a worker brought back are freed, too (case 79)."""

    class Thing:
        pass

    kept: contextvars.ContextVar[Thing | None] = contextvars.ContextVar("kept")
    references: list[weakref.ref[Thing]] = []

    async def set_it() -> None:
        thing = Thing()
        references.append(weakref.ref(thing))
        kept.set(thing)

    def function() -> None:
        syncline.run_sync(set_it)
        assert kept.get() is references[0]()

    async def main() -> None:
        await syncline.to_thread(function)
        assert kept.get() is references[0]()
        kept.set(None)
        await syncline.to_thread(int)
        gc.collect()
        assert references[0]() is None

    anywhere(main)


def test_a_call_outside_of_any_loop_says_what_to_do() -> None:
    """A coroutine that somebody steps by hand has no loop to come back to."""
    coroutine = syncline.to_thread(int)
    with pytest.raises(RuntimeError, match="where asyncio or trio runs"):
        coroutine.send(None)


def test_a_loop_that_closes_meanwhile_is_not_called(caplog: pytest.LogCaptureFixture) -> None:
    """The function ends after its loop was closed: the result is dropped, an error logged, and later loops work."""
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def function() -> None:
        begun.set()
        assert release.wait(LIMIT)
        ended.set()
        raise LookupError("nobody there")

    async def main() -> None:
        task = asyncio.create_task(syncline.to_thread(function))
        await asyncio.sleep(0)
        assert begun.wait(LIMIT)
        assert not task.done()

    with caplog.at_level(logging.ERROR, "syncline"):
        asyncio.run(main())
        release.set()
        assert ended.wait(LIMIT)
        assert eventually(lambda: bool(caplog.records))
    assert asyncio.run(syncline.to_thread(abs, -1)) == 1


def test_many_loops_in_many_threads_share_the_workers() -> None:
    """Results go to the loop that asked for them."""
    found: list[list[int]] = []

    def in_thread(start: int) -> None:
        async def main() -> None:
            found.append(
                await asyncio.gather(*(syncline.to_thread(abs, -n) for n in range(start, start + 200)))
            )

        asyncio.run(main())

    threads = [threading.Thread(target=in_thread, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(found) == [list(range(1000 * n, 1000 * n + 200)) for n in range(8)]


def test_no_descriptor_is_left_of_a_loop(leaks_nothing: None) -> None:
    """What a loop was watched with goes with it. (The fixture counts; idle workers are there before.)"""

    async def main() -> None:
        await asyncio.gather(*(syncline.to_thread(int) for _ in range(3)))

    for _ in range(20):
        asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs one core only")
@pytest.mark.parametrize(
    "loop", ["asyncio.run(main())", "syncline.run_sync(main)"], ids=["asyncio's", "ours"]
)
def test_on_one_core_the_loop_makes_way_for_the_worker(loop: str) -> None:
    """The two threads take turns: each goes to sleep once a call. A worker that is woken while the loop's thread has
    the interpreter goes to sleep again at once. While a function blocks, the loop goes on."""
    script = f"""
    import asyncio, os, resource, threading, time
    import syncline
    os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})

    async def sleeps():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
        for _ in range(20):
            await syncline.to_thread(int)
        return (resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before) / 20

    async def main():
        await sleeps()
        until = time.monotonic() + {LIMIT}
        while (fewest := min([await sleeps() for _ in range(200)])) >= 2.5 and time.monotonic() < until:
            pass
        print(fewest)
        ends = threading.Event()
        blocked = asyncio.create_task(syncline.to_thread(ends.wait, {LIMIT}))
        for _ in range(3):
            await asyncio.sleep(0)
        ends.set()
        print(await blocked)

    {loop}
    """
    ended = child.run_script(script)
    ended.assert_clean()
    sleeps, went_on = ended.lines
    # Where it does not, 3.5 to 4. Where others take the core away it does not for a while, hence the many samples, and
    # more of them on a busy machine.
    assert float(sleeps) < 2.5
    assert went_on == "True"
