"""How async code's use of an object on another loop ends (`in_async="home"`): cancelled, too late, closed, forked."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import syncline
from child import FORKS, eventually, run_script
from neutral import cleanup, make_bridge_of, sleep, sleep_forever, turn
from remote_code import Anywhere, Cleaning, until

homes = pytest.mark.parametrize("kind", ["process", "caller", "trio"])
ahead = pytest.mark.parametrize("prefetch", [0, 2])


class Waiting:
    """A generator and a manager that wait for ever, and say when they wait and when they have cleaned up."""

    def __init__(self) -> None:
        self.waits = threading.Event()
        self.log: list[str] = []

    async def wait(self) -> None:
        try:
            self.waits.set()
            await sleep_forever()
        finally:
            await cleanup(0.02)
            self.log.append("cleaned up")

    async def items(self) -> AsyncIterator[int]:
        yield 1
        await self.wait()

    async def between(self) -> AsyncIterator[int]:
        try:
            for number in range(1, 10):
                yield number
        finally:
            await cleanup(0.02)
            self.log.append("cleaned up")

    async def enters(self) -> AsyncIterator[int]:
        await self.wait()
        yield 1

    async def leaves(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await self.wait()


@asynccontextmanager
async def cancelled_when(condition: Callable[[], object]) -> AsyncIterator[None]:
    """The block is cancelled, and ends by that, as soon as that is so."""
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await until(condition)
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            yield
    assert scope.cancelled_caught


@ahead
@homes
def test_a_cancelled_step_ends_the_generator_before_its_caller_goes_on(
    anywhere: Anywhere, kind: str, prefetch: int
) -> None:
    """After its cleanup; then nothing comes any more."""
    waiting = Waiting()
    with make_bridge_of(kind, in_async="home") as bridge:

        async def main() -> None:
            items = bridge.iterate(waiting.items(), prefetch=prefetch)
            assert await anext(items) == 1
            async with cancelled_when(waiting.waits.is_set):
                await anext(items)
            assert waiting.log == ["cleaned up"]
            assert [item async for item in items] == []

        anywhere(main)


@ahead
@homes
def test_a_cancelled_step_leaves_no_error_to_be_logged(
    kind: str, prefetch: int, caplog: pytest.LogCaptureFixture
) -> None:
    """At whatever moment: on trio what fetches ahead may end with its session, and the last step has nothing to do."""

    async def items() -> AsyncIterator[int]:
        for number in range(3):
            await sleep(0.002)
            yield number

    with make_bridge_of(kind, in_async="home") as bridge:

        async def main() -> None:
            for moment in range(16):
                with anyio.move_on_after(moment * 0.0004):
                    async for _ in bridge.iterate(items(), prefetch=prefetch):
                        pass
                await until(lambda: bridge.stats()["active"] == 0)

        asyncio.run(main())
    assert [record.getMessage() for record in caplog.records] == []


@ahead
@homes
def test_a_cancellation_between_two_steps_closes_the_generator(
    anywhere: Anywhere, kind: str, prefetch: int
) -> None:
    """On its loop, when the `async for` has let go of it."""
    waiting = Waiting()
    with make_bridge_of(kind, in_async="home") as bridge:

        async def main() -> None:
            begun = threading.Event()
            async with cancelled_when(begun.is_set):
                async for _ in bridge.iterate(waiting.between(), prefetch=prefetch):
                    begun.set()
                    await sleep_forever()
            await until(lambda: waiting.log)

        anywhere(main)
        assert waiting.log == ["cleaned up"]


@homes
@pytest.mark.parametrize("where", ["enters", "leaves"])
def test_a_timeout_around_an_async_with_ends_its_steps(anywhere: Anywhere, kind: str, where: str) -> None:
    """The one that enters, and the one that leaves; TimeoutError comes after the cleanup."""
    waiting = Waiting()
    with make_bridge_of(kind, in_async="home") as bridge:

        async def main() -> None:
            manager = bridge.contextmanager(getattr(waiting, where))()
            with anyio.fail_after(math.inf) as scope:

                async def begin() -> None:
                    # The order forced here: the deadline is over once the step that waits has begun.
                    await until(waiting.waits.is_set)
                    scope.deadline = anyio.current_time()

                async with anyio.create_task_group() as group:
                    group.start_soon(begin)
                    async with manager:
                        assert where == "leaves"

        with pytest.raises(TimeoutError):
            anywhere(main)
        assert waiting.log == ["cleaned up"]


def test_a_manager_that_is_entered_too_late_is_left(anywhere: Anywhere) -> None:
    """Its caller has gone on after `cleanup_timeout`, and could not leave it."""
    log: list[str] = []
    with syncline.Bridge(in_async="home", cleanup_timeout=0.01) as bridge:
        go_on = bridge.call(asyncio.Event)

        enters = threading.Event()

        class Late:
            async def __aenter__(self) -> None:
                try:
                    enters.set()
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await go_on.wait()
                log.append("entered")

            async def __aexit__(self, *exc_info: object) -> None:
                log.append("left")

        async def main() -> None:
            manager = bridge.enter(Late())
            async with cancelled_when(enters.is_set):
                await manager.__aenter__()
            assert log == []
            bridge.call(go_on.set)
            await until(lambda: len(log) == 2)

        anywhere(main)
    assert log == ["entered", "left"]


def test_a_step_that_refuses_to_end_is_left_behind(
    run_async: Anywhere, caplog: pytest.LogCaptureFixture
) -> None:
    """The use is over then, and the generator is closed when that step has ended after all."""
    log: list[str] = []
    with syncline.Bridge(in_async="home", cleanup_timeout=0.01) as bridge:
        go_on = bridge.call(asyncio.Event)

        begun = threading.Event()

        async def refuses() -> AsyncIterator[int]:
            try:
                try:
                    begun.set()
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await go_on.wait()
                yield 1
            finally:
                log.append("closed")

        async def main() -> None:
            items = bridge.iterate(refuses())
            async with cancelled_when(begun.is_set):
                await anext(items)
            assert [item async for item in items] == []
            bridge.call(go_on.set)
            await until(lambda: log)

        run_async(main)
    assert "has not ended 0.01 s after it was cancelled" in caplog.text


@ahead
@homes
def test_closing_the_bridge_ends_each_step(anywhere: Anywhere, kind: str, prefetch: int) -> None:
    """The task learns that the bridge was closed, after the cleanup; and so does the next step."""
    waiting = Waiting()
    bridge = make_bridge_of(kind, in_async="home")

    async def main() -> None:
        async def close() -> None:
            await until(waiting.waits.is_set)
            await syncline.to_thread(bridge.close)

        items, others = bridge.iterate(waiting.items(), prefetch=prefetch), bridge.iterate(waiting.between())
        assert await anext(items) == await anext(others) == 1
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            with pytest.raises(syncline.RunnerClosedError):
                await anext(items)
        with pytest.raises(syncline.RunnerClosedError):
            await anext(others)
        with pytest.raises(syncline.RunnerClosedError):
            await bridge.enter(waiting.leaves).__aenter__()  # type: ignore[call-overload]

    anywhere(main)
    bridge.close()
    assert waiting.log == ["cleaned up"] * 2


def test_closing_the_bridge_leaves_a_manager() -> None:
    """Its `__aexit__` has run on its loop; the `async with` is told."""
    waiting = Waiting()
    bridge = syncline.Bridge(in_async="home")

    async def main() -> None:
        async with bridge.contextmanager(waiting.between)():
            await syncline.to_thread(bridge.close)
            assert waiting.log == ["cleaned up"]

    with pytest.raises(syncline.RunnerClosedError):
        asyncio.run(main())


@ahead
@pytest.mark.usefixtures("leaks_nothing")
def test_a_loop_that_ends_leaves_nothing_behind(prefetch: int) -> None:
    """The `async for` was in the middle when its loop was closed: the generator is closed on its own."""
    waiting = Waiting()
    with syncline.Bridge(in_async="home") as bridge:

        async def use() -> None:
            async for _ in bridge.iterate(waiting.items(), prefetch=prefetch):
                pass

        loop = asyncio.new_event_loop()
        task = loop.create_task(use())

        async def begun() -> None:
            await until(waiting.waits.is_set)

        loop.run_until_complete(begun())
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task
        gc.collect()
        assert eventually(lambda: waiting.log == ["cleaned up"])


def test_each_use_counts_as_ended(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """In `stats()`."""
    bridge, waiting = make_bridge(in_async="home"), Waiting()

    async def main() -> None:
        assert len([item async for item in bridge.iterate(waiting.between())]) == 9
        assert len([item async for item in bridge.iterate(waiting.between(), prefetch=5)]) == 9
        async with bridge.contextmanager(one)():
            pass
        cleaning = Cleaning(0)
        async with cancelled_when(cleaning.waits.is_set):
            await bridge.coroutine(cleaning.__call__)()
        assert cleaning.is_clean

    async def one() -> AsyncIterator[int]:
        await turn()
        yield 1

    asyncio.run(main())
    assert eventually(lambda: bridge.stats()["active"] == 0)


def test_ctrl_c_ends_it_as_any_await() -> None:
    """asyncio cancels the main task: the generator cleans up on its loop, and KeyboardInterrupt comes out."""
    script = """
        import asyncio, os, signal, syncline

        bridge = syncline.Bridge(in_async="home")

        async def items():
            try:
                yield 1
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                print("clean", flush=True)

        async def main():
            async for _ in bridge.iterate(items()):
                pass

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        """
    done = run_script(script)
    done.assert_clean()
    assert done.lines == ["clean", "interrupted"]


def test_a_forked_child_can_not_go_on_with_its_parents() -> None:
    """It says so, and begins anew; the parent goes on."""
    script = """
        import asyncio, os, syncline

        bridge = syncline.Bridge(in_async="home")

        async def count():
            for number in range(3):
                await asyncio.sleep(0)
                yield number

        async def main(begun):
            return [number async for number in begun]

        async def first(begun):
            return await anext(begun)

        begun = bridge.iterate(count())
        ahead = bridge.iterate(count(), prefetch=1)
        assert asyncio.run(first(begun)) == asyncio.run(first(ahead)) == 0
        child = os.fork()
        if not child:
            for old in begun, ahead:
                try:
                    asyncio.run(main(old))
                except syncline.RunnerClosedError as error:
                    assert "forked" in str(error), error
                else:
                    os._exit(1)
            assert asyncio.run(main(bridge.iterate(count()))) == [0, 1, 2]
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert asyncio.run(main(begun)) == asyncio.run(main(ahead)) == [1, 2]
        """
    run_script(script, flags=FORKS).assert_clean()


def test_at_exit_what_is_open_is_closed() -> None:
    """A generator in the middle, and a manager that a daemon thread's loop holds."""
    script = """
        import asyncio, syncline, threading

        bridge, begun = syncline.Bridge(in_async="home"), threading.Event()

        async def items():
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                print("closed", flush=True)

        async def main():
            held = bridge.iterate(items())
            await anext(held)
            async with bridge.contextmanager(items)():
                begun.set()
                await asyncio.Event().wait()

        threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
        begun.wait()
        """
    done = run_script(script)
    done.assert_clean()
    assert done.lines == ["closed", "closed"]


@ahead
def test_a_ring_of_references_through_it_is_collected(prefetch: int) -> None:
    """The generator's frame refers to the iterator, as a method of what holds it does."""
    closed = threading.Event()
    with syncline.Bridge(in_async="home") as bridge:

        class Holder:
            def __init__(self) -> None:
                self.items: Any = bridge.iterate(self.count(), prefetch=prefetch)

            async def count(self) -> AsyncIterator[int]:
                try:
                    while True:
                        yield 1
                finally:
                    closed.set()

        async def main() -> None:
            assert await anext(Holder().items) == 1

        asyncio.run(main())

        def collected() -> bool:
            gc.collect()
            return closed.is_set()

        if prefetch == 0:  # a producer keeps what it fetches from, until the bridge is closed
            assert eventually(collected)
    assert closed.is_set()
