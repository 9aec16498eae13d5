"""Nested calls of asyncio's functions in stacks that can't switch: tasks made too early or past the loop, callbacks."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

import syncline
from nest_code import WAYS, here, run_on, turns, unapplied, ways
from syncline import _turning
from syncline.compat import nest_asyncio

__all__ = ["unapplied"]

pytestmark = pytest.mark.usefixtures("unapplied")


def plain(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that the loop knows nothing of until it runs, as aiohttp's server makes them."""
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop())


def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """In a task that switches, on asyncio's loop; nothing is left of the loop afterwards."""
    try:
        return run_on("asyncio", main)
    finally:
        assert not _turning._loops


@ways
def test_a_callback_makes_nested_calls(way: str) -> None:
    """The loop goes on while a call_soon callback waits, and no task is the current one in it."""

    async def main() -> int:
        loop, place = asyncio.get_running_loop(), here()
        done, opened = loop.create_future(), asyncio.Event()

        async def inner() -> int:
            await opened.wait()
            return await turns(3)

        def callback() -> None:
            assert asyncio.current_task() is None
            result = WAYS[way](inner())
            assert asyncio.current_task() is None
            assert here() == place
            done.set_result(result)

        loop.call_soon(callback)
        await turns(2)
        assert not done.done()
        opened.set()
        return await done  # type: ignore[no-any-return]

    assert run(main) == 3


def test_callbacks_and_tasks_wait_at_the_same_time() -> None:
    """In all orders: each goes on when its own call is done, whoever came first."""

    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        order: list[str] = []
        gates = {name: asyncio.Event() for name in ("early", "callback", "switching", "late")}
        ends = {name: loop.create_future() for name in gates}

        def call(name: str) -> None:
            asyncio.run(gates[name].wait())  # type: ignore[arg-type]
            order.append(name)
            ends[name].set_result(None)

        async def calls(name: str) -> None:
            call(name)

        kept = [plain(calls("early")), asyncio.create_task(calls("switching"))]
        loop.call_soon(call, "callback")
        kept.append(plain(calls("late")))
        await turns(5)
        for name in ("callback", "late", "early", "switching"):
            gates[name].set()
            await ends[name]
        await asyncio.gather(*kept)
        return order

    assert run(main) == ["callback", "late", "early", "switching"]


def test_a_thousand_stacks_wait_at_once() -> None:
    """They lie beside each other, not on top of each other: neither the C stack nor recursion ends them."""

    async def main() -> int:
        gate = asyncio.Event()

        async def calls(number: int) -> int:
            asyncio.run(gate.wait())  # type: ignore[arg-type]
            return number

        tasks = [plain(calls(number)) for number in range(1000)]
        await turns(3)
        gate.set()
        return sum(await asyncio.gather(*tasks))

    assert run(main) == sum(range(1000))


def test_calls_nest_in_each_other_in_plain_tasks() -> None:
    """Each level is a task that was made past the loop, and waits for the one below."""

    async def level(depth: int) -> int:
        await turns()
        return 0 if depth == 0 else 1 + asyncio.get_running_loop().run_until_complete(plain(level(depth - 1)))

    async def main() -> int:
        return await plain(level(50))

    assert run(main) == 50


def test_a_plain_task_that_is_cancelled_in_a_call_is_cancelled_once() -> None:
    """The call ends, cleanup may await, and `cancelling` and `uncancel` count as they do elsewhere."""

    async def main() -> list[object]:
        seen: list[object] = []

        async def outer() -> None:
            me = asyncio.current_task()
            assert me is not None
            try:
                asyncio.run(asyncio.Event().wait())  # type: ignore[arg-type]
            except asyncio.CancelledError as error:
                seen.extend([error.args, me.cancelling()])
                seen.extend([me.uncancel(), me.cancelling()])
            await turns(2)
            try:
                asyncio.run(asyncio.Event().wait())  # type: ignore[arg-type]
            finally:
                seen.append(me.cancelling())
                await turns(2)

        task = plain(outer())
        await turns(3)
        task.cancel()
        await turns(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    assert run(main) == [(), 1, 0, 0, 1]


def test_a_plain_task_that_is_cancelled_when_its_call_is_done_takes_it_at_its_next_await() -> None:
    """As a task that is cancelled while its own code runs. The order that is forced: done, cancelled, goes on."""

    async def main() -> list[str]:
        loop, future, seen = asyncio.get_running_loop(), asyncio.Future[str](), list[str]()

        async def outer() -> None:
            seen.append(loop.run_until_complete(future))
            try:
                await turns()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        task = plain(outer())
        await turns()

        def end() -> None:
            future.set_result("result")
            assert task.cancel()

        loop.call_soon(end)
        with pytest.raises(asyncio.CancelledError):
            await task
        return seen

    assert run(main) == ["result", "cancelled"]


def test_what_a_callback_raises_ends_the_latest_call_that_waits() -> None:
    """SystemExit and KeyboardInterrupt of callbacks, which end a loop's run, reach code that waits in it."""

    async def main() -> list[str]:
        loop, seen = asyncio.get_running_loop(), list[str]()

        def interrupt() -> None:
            raise KeyboardInterrupt

        async def waits(name: str) -> None:
            try:
                asyncio.run(asyncio.Event().wait())  # type: ignore[arg-type]
            except KeyboardInterrupt:
                seen.append(name)

        first, second = plain(waits("first")), plain(waits("second"))
        await turns(3)
        for task in (second, first):
            loop.call_soon(interrupt)
            await task
        return seen

    assert run(main) == ["second", "first"]


def test_a_loop_that_is_stopped_ends_the_calls_in_it() -> None:
    """All that wait raise RuntimeError, as run_until_complete does outside; the loop may run again."""
    nest_asyncio.apply()
    loop = asyncio.new_event_loop()
    raised: list[str] = []

    async def waits(name: str) -> None:
        try:
            loop.run_until_complete(asyncio.Event().wait())
        except RuntimeError as error:
            raised.append(f"{name}: {error}")

    first, second = (asyncio.Task(waits(name), loop=loop) for name in ("first", "second"))
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    stopped = "Event loop stopped before Future completed."
    assert sorted(raised) == [f"first: {stopped}", f"second: {stopped}"]
    assert not _turning._loops
    loop.run_until_complete(asyncio.gather(first, second))
    loop.close()


def test_a_stack_that_waits_when_its_loop_ends_is_unwound() -> None:
    """The end of asyncio.run's program stops the loop, which its call is told; what it ran is cancelled."""
    seen: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await turns(2)
            seen.append("cleaned up")

    async def waits() -> None:
        try:
            asyncio.run(inner())
        except RuntimeError as error:
            seen.append(str(error))

    async def main() -> None:
        seen.append("begun")
        kept.append(plain(waits()))
        await turns(3)

    kept: list[asyncio.Task[Any]] = []
    run(main)
    assert kept[0].done()
    assert seen == ["begun", "Event loop stopped before Future completed.", "cleaned up"]


def test_an_eager_plain_task_waits_in_the_middle_of_another_ones_step() -> None:
    """As aiohttp starts its handlers: the task around it goes on when the call is done."""
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("Python 3.12 has eager tasks first")

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()

        async def calls(count: int) -> int:
            return asyncio.run(turns(count))

        async def starts(count: int) -> int:
            await turns()
            eager: asyncio.Task[int] = asyncio.Task(calls(count), loop=loop, eager_start=True)
            assert asyncio.run(turns()) == 1
            return await eager

        switching = [asyncio.create_task(starts(count)) for count in range(4)]
        return [
            *await asyncio.gather(*switching),
            *await asyncio.gather(*(plain(starts(n)) for n in range(4))),
        ]

    assert run(main) == [0, 1, 2, 3, 0, 1, 2, 3]


def test_many_calls_in_one_step_stay_as_quick_as_the_first() -> None:
    """What is ready in the loop does not pile up from call to call."""

    async def main() -> None:
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]

        async def calls() -> None:
            counts = []
            for _ in range(100):
                assert asyncio.run(turns(2)) == 2
                counts.append(len(ready))
            assert max(counts) < 20

        others = [asyncio.create_task(turns(500)) for _ in range(5)]
        await asyncio.gather(plain(calls()), plain(calls()))
        await asyncio.gather(*others)

    run(main)


def test_nothing_is_kept_of_a_call() -> None:
    """Neither its result nor its stack, once it is done."""

    class Thing:
        pass

    refs: list[weakref.ref[Thing]] = []

    async def main() -> None:
        async def makes() -> Thing:
            await turns()
            return Thing()

        async def calls() -> None:
            thing = asyncio.run(makes())
            refs.append(weakref.ref(thing))

        for _ in range(20):
            await plain(calls())
        gc.collect()
        assert all(ref() is None for ref in refs)

    run(main)
    assert len(refs) == 20


def test_other_threads_wake_a_loop_that_is_turned() -> None:
    """call_soon_threadsafe, as ever."""

    async def main() -> str:
        loop = asyncio.get_running_loop()

        async def calls() -> str:
            future = loop.create_future()
            thread = threading.Thread(
                target=loop.call_soon_threadsafe, args=(future.set_result, "from there")
            )
            thread.start()
            result: str = loop.run_until_complete(future)
            thread.join()
            return result

        return await plain(calls())

    assert run(main) == "from there"


def test_on_uvloop_such_stacks_are_told_what_to_do() -> None:
    """A clear error before anything runs, and below a nestable function it works."""
    nest_asyncio.apply()
    coroutines: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        told = loop.create_future()

        async def calls() -> int:
            coroutines.append(turns())
            return asyncio.run(coroutines[-1])

        with pytest.raises(RuntimeError, match=r"made before apply\(\), or past its loop.*uvloop.*nestable"):
            await plain(calls())

        def callback() -> None:
            try:
                loop.run_until_complete(turns())
            except RuntimeError as error:
                told.set_result(str(error))

        loop.call_soon(callback)
        assert "no task runs here" in await told
        assert await plain(syncline.nestable(calls)()) == 1

    uvloop.run(main())
    assert coroutines[0].cr_frame is None
