"""`syncline.compat.nest_asyncio`: asyncio's own functions nest, in tasks of asyncio's and uvloop's loops."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import types
from collections.abc import AsyncGenerator
from typing import Any

import pytest

import syncline
from nest_code import FACTORIES, WAYS, here, hosts, run_on, turns, unapplied, ways

__all__ = ["unapplied"]

pytestmark = pytest.mark.usefixtures("unapplied")


@hosts
@ways
def test_a_nested_call_runs_in_the_running_loop_while_others_go_on(host: str, way: str) -> None:
    """In a task of its own, in the same thread; the caller's task is the current one again afterwards."""

    async def main() -> None:
        opened = asyncio.Event()
        outer, place = asyncio.current_task(), here()

        async def inner() -> str:
            await opened.wait()
            assert asyncio.current_task() is not outer
            assert here() == place
            return "result"

        asyncio.get_running_loop().call_soon(opened.set)
        threads = set(threading.enumerate())
        assert WAYS[way](inner()) == "result"
        assert asyncio.current_task() is outer
        assert here() == place
        assert set(threading.enumerate()) <= threads
        await turns()

    run_on(host, main)


@hosts
def test_calls_nest_in_each_other(host: str) -> None:
    """Each level waits for the one below, a hundred deep."""

    async def level(depth: int) -> int:
        await turns()
        return 0 if depth == 0 else 1 + asyncio.run(level(depth - 1))

    async def main() -> int:
        return asyncio.run(level(100)) + await level(1)

    assert run_on(host, main) == 101


@hosts
def test_siblings_return_when_each_is_done(host: str) -> None:
    """The call that came first, and is done first, doesn't wait for the one that came later (torture 14)."""

    async def main() -> list[str]:
        order: list[str] = []
        gates = {"first": asyncio.Event(), "second": asyncio.Event()}

        async def calls(name: str) -> None:
            asyncio.run(gates[name].wait())  # type: ignore[arg-type]
            order.append(name)

        tasks = [asyncio.create_task(calls(name)) for name in gates]
        await turns(3)
        for name, task in zip(gates, tasks, strict=True):
            gates[name].set()
            await task
        return order

    assert run_on(host, main) == ["first", "second"]


@hosts
def test_run_until_complete_takes_futures_tasks_and_awaitables(host: str) -> None:
    """As outside of a loop; what is done already returns at once, and foreign futures are refused."""

    class Custom:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return "custom"

    @types.coroutine
    def of_generator() -> Any:
        yield from asyncio.sleep(0).__await__()
        return "generator"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, "future")
        assert loop.run_until_complete(future) == "future"
        assert loop.run_until_complete(future) == "future"
        assert loop.run_until_complete(asyncio.create_task(turns(2))) == 2
        assert loop.run_until_complete(asyncio.gather(turns(1), turns(2))) == [1, 2]
        assert loop.run_until_complete(Custom()) == "custom"  # type: ignore[type-var]
        assert loop.run_until_complete(of_generator()) == asyncio.run(of_generator()) == "generator"
        with pytest.raises(TypeError, match="awaitable is required"):
            loop.run_until_complete(1)  # type: ignore[arg-type]
        assert asyncio.run(asyncio.gather(turns(1), turns(2))) == [1, 2]  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="coroutine was expected"):
            asyncio.run(1)  # type: ignore[arg-type]
        other = asyncio.new_event_loop()
        with pytest.raises(ValueError, match="different loop"):
            loop.run_until_complete(other.create_future())
        other.close()

    run_on(host, main)


@hosts
@ways
def test_errors_arrive_as_the_same_object(host: str, way: str) -> None:
    """SystemExit and KeyboardInterrupt, too, which would end the loop's run: it goes on."""

    async def fails(error: BaseException) -> None:
        await turns()
        raise error

    async def main() -> None:
        for error in (ValueError("mine"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()):
            with pytest.raises(type(error)) as caught:
                WAYS[way](fails(error))
            if not isinstance(error, asyncio.CancelledError):
                assert caught.value is error
            await turns()

    run_on(host, main)


@hosts
@ways
def test_a_timeout_around_the_call_ends_it(host: str, way: str) -> None:
    """asyncio.timeout cancels what runs in the call, whose cleanup runs; the next await is not cancelled."""

    async def main() -> list[str]:
        seen: list[str] = []

        async def inner() -> None:
            try:
                limit.reschedule(0)  # now that it has begun
                await asyncio.Event().wait()
            finally:
                await turns()
                seen.append("cleaned up")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:  # noqa: ASYNC100 -- the call awaits
                WAYS[way](inner())
        await turns()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return seen

    assert run_on(host, main) == ["cleaned up"]


@hosts
def test_a_timeout_within_the_call_works(host: str) -> None:
    """wait_for and timeout in the coroutine, which nest_asyncio broke on Python 3.14 (torture 17)."""

    async def limited() -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(asyncio.Event().wait(), 0.01))
        with pytest.raises(TimeoutError):
            asyncio.run(limited())

    run_on(host, main)


@hosts
def test_a_task_group_within_and_around_a_call_works(host: str) -> None:
    """Its children run; where one fails, the others and the call are cancelled."""

    async def fails() -> None:
        await turns(2)
        raise ValueError("child")

    async def main() -> list[str]:
        seen: list[str] = []

        async def waits() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        async def within() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(waits())
                group.create_task(fails())

        async def around() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                asyncio.run(waits())

        with pytest.raises(ExceptionGroup):
            asyncio.run(within())
        with pytest.raises(ExceptionGroup):
            await around()
        await turns()
        return seen

    assert run_on(host, main) == ["cancelled", "cancelled"]


@hosts
@ways
def test_cancelling_the_caller_cancels_the_call_once(host: str, way: str) -> None:
    """The task that waits in the call ends as cancelled, after its cleanup, which may await (torture 16)."""

    async def main() -> list[str]:
        seen: list[str] = []

        async def inner() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await turns(2)
                seen.append("inner")

        async def outer() -> None:
            try:
                WAYS[way](inner())
            finally:
                await turns(2)
                seen.append("outer")

        for made in (asyncio.create_task(outer()), asyncio.ensure_future(outer())):
            await turns(3)
            made.cancel("why")
            with pytest.raises(asyncio.CancelledError):
                await made
            assert made.cancelled()
        return seen

    assert run_on(host, main) == ["inner", "outer"] * 2


@hosts
@ways
def test_contextvars_are_those_of_a_new_task(host: str, way: str) -> None:
    """The coroutine sees the caller's, and its changes stay in it, as with asyncio's own functions."""
    variable = contextvars.ContextVar[str]("variable")

    async def inner() -> str:
        seen = variable.get()
        variable.set("inner")
        await turns()
        assert variable.get() == "inner"
        return seen

    async def main() -> None:
        variable.set("outer")
        assert WAYS[way](inner()) == "outer"
        assert variable.get() == "outer"
        variable.set("after")
        await turns()
        assert variable.get() == "after"

    run_on(host, main)


@hosts
def test_runner_run_takes_a_context(host: str) -> None:
    """Its changes are there afterwards, also where it is the context of the caller."""
    variable = contextvars.ContextVar[str]("variable", default="none")

    async def sets() -> None:
        await turns()
        variable.set("set")

    async def main() -> None:
        context = contextvars.copy_context()
        with asyncio.Runner() as runner:
            runner.run(sets(), context=context)
        assert context[variable] == "set"
        assert variable.get() == "none"

    run_on(host, main)


@hosts
def test_tasks_that_share_a_context_run_during_a_call(host: str) -> None:
    """As ipykernel's cells do; asyncio refuses to run two at once in one context."""

    async def main() -> None:
        loop, context = asyncio.get_running_loop(), contextvars.copy_context()

        async def outer() -> int:
            inner = loop.create_task(turns(2), context=context)
            asyncio.run(turns(5))
            assert inner.done()
            return inner.result()

        assert await loop.create_task(outer(), context=context) == 2

    run_on(host, main)


@hosts
def test_a_call_that_waits_for_its_own_task_is_refused(host: str) -> None:
    """DeadlockError at once, also over several calls and gather, instead of a wait for ever (torture 15)."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        me = asyncio.current_task()
        assert me is not None
        with pytest.raises(syncline.DeadlockError, match="made in"):
            loop.run_until_complete(me)

        async def waits_for(task: asyncio.Task[Any]) -> None:
            await turns()
            loop.run_until_complete(asyncio.gather(task))

        with pytest.raises(syncline.DeadlockError, match="made in"):
            asyncio.run(waits_for(me))

    run_on(host, main)


@hosts
def test_nested_run_forever_ends_by_stop(host: str) -> None:
    """The loop's own run goes on, and a call that comes later is stopped first."""

    async def main() -> list[str]:
        loop, order = asyncio.get_running_loop(), list[str]()

        async def runs(name: str) -> None:
            loop.run_forever()
            order.append(name)

        tasks = [asyncio.create_task(runs(name)) for name in ("first", "second")]
        await turns(3)
        for task in reversed(tasks):
            loop.stop()
            await task
        return order

    assert run_on(host, main) == ["second", "first"]


@hosts
def test_a_run_ends_although_run_forever_is_nested_in_it(host: str) -> None:
    """Its end stops the loop, and not the call of run_forever, whose task is cancelled like any other."""

    async def runs() -> None:
        asyncio.get_running_loop().run_forever()

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(runs())
        await turns(3)
        return task

    assert run_on(host, main).cancelled()


@hosts
def test_what_a_nested_run_leaves_goes_on(host: str) -> None:
    """Its background tasks are the running loop's, and its async generators are closed by that."""

    async def main() -> list[str]:
        seen: list[str] = []
        done = asyncio.Event()

        async def background() -> None:
            await turns(3)
            done.set()

        async def generator() -> AsyncGenerator[int]:
            try:
                yield 1
            finally:
                await turns()
                seen.append("closed")

        kept: list[object] = []

        async def inner() -> None:
            kept.append(asyncio.create_task(background()))
            await anext(generator())

        asyncio.run(inner())
        await done.wait()
        gc.collect()
        await turns(5)
        return seen

    assert run_on(host, main) == ["closed"]


@hosts
def test_debug_and_loop_factory_leave_the_running_loop_alone(host: str) -> None:
    """The call runs in the loop that is there, whose debug mode stays what it is."""

    async def main() -> None:
        async def inner() -> bool:
            return asyncio.get_running_loop().get_debug()

        before = asyncio.get_running_loop().get_debug()
        assert asyncio.run(inner(), debug=not before) == before
        with asyncio.Runner(debug=not before, loop_factory=FACTORIES["asyncio"]) as runner:
            assert runner.get_loop() is asyncio.get_running_loop()
            assert runner.run(inner()) == before

    run_on(host, main)


@hosts
def test_another_loop_runs_in_place_while_the_running_one_waits(host: str) -> None:
    """A loop made by hand, and a Runner that has one, are run as they are; nested calls in them work, too."""
    idle = asyncio.Runner()
    loop_of_runner = idle.get_loop()

    async def main() -> None:
        outer, running = asyncio.current_task(), asyncio.get_running_loop()

        async def inner() -> asyncio.AbstractEventLoop:
            assert await turns() == asyncio.run(turns())
            return asyncio.get_running_loop()

        for factory in FACTORIES.values():
            own = factory()
            assert own.run_until_complete(inner()) is own
            own.run_until_complete(own.shutdown_asyncgens())
            own.call_soon(own.stop)
            own.run_forever()
            own.close()
        assert idle.run(inner()) is loop_of_runner
        assert (asyncio.current_task(), asyncio.get_running_loop()) == (outer, running)
        assert asyncio.run(turns()) == 1

    run_on(host, main)
    idle.close()


@hosts
def test_a_loop_of_another_thread_is_refused(host: str) -> None:
    """The error says how to reach it, inside of a loop and outside."""
    other = asyncio.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()

    async def main() -> None:
        coroutine = turns()
        with pytest.raises(RuntimeError, match="run_coroutine_threadsafe"):
            other.run_until_complete(coroutine)
        coroutine.close()

    run_on(host, main)
    with pytest.raises(RuntimeError, match="run_coroutine_threadsafe"):
        other.run_until_complete(other.create_future())
    other.call_soon_threadsafe(other.stop)
    thread.join()
    other.close()


def test_no_switch_forbids_nested_calls(recwarn: pytest.WarningsRecorder) -> None:
    """RuntimeError, nothing runs, and no coroutine is left un-awaited."""

    async def main() -> None:
        with syncline.no_switch(), pytest.raises(RuntimeError, match="no_switch"):
            asyncio.run(turns())
        await turns(3)
        gc.collect()

    run_on("asyncio", main)
    assert not recwarn.list
