"""`Bridge(in_loop=...)`: a call that would block somebody's running loop is warned of, or refused."""

# ruff: noqa: PLW0108 -- the line of the lambda is shown

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

import syncline
from child import run_script
from places import in_asyncio, in_thread, in_trio, in_uvloop, on_our_loop
from waiting import Gate

strict = syncline.Bridge(in_loop="error", name="strict")


async def load(key: str, *, retries: int = 1) -> str:
    return key * retries


async def items() -> AsyncIterator[int]:
    yield 1


@asynccontextmanager
async def session() -> AsyncIterator[int]:
    yield 1


synced_load = strict.synced(load)


async def directly() -> None:
    print(strict.run_sync(load, "key", retries=2).upper())


async def with_a_limit() -> None:
    strict.run(load("key"), timeout=5)


async def without_one() -> None:
    strict.run(load("key"))


async def by_synced() -> None:
    synced_load("key")


async def in_a_loop() -> None:
    for _ in strict.iterate(items()):
        pass


async def in_a_block() -> None:
    with strict.enter(session):
        pass


async def in_a_helper() -> None:
    helper()


def helper() -> str:
    return strict.run_sync(load, "key")


LINES = {
    directly: "write instead:\n    print((await load('key', retries=2)).upper())",
    with_a_limit: "write instead:\n    await asyncio.wait_for(load('key'), 5)",
    without_one: "write instead:\n    await load('key')",
    by_synced: "write instead:\n    await synced_load.aio('key')",
    in_a_loop: "write instead:\n    async for _ in items():",
    in_a_block: "write instead:\n    async with session():",
    in_a_helper: "make helper() async, and write there:\n    return await load('key')\nor let its caller do "
    "`await syncline.run_nestable(helper, ...)`",
}


@pytest.mark.parametrize("main", LINES)
def test_the_line_is_shown_as_it_should_be(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """With the call awaited; in a sync function with what its caller can do."""
    with pytest.raises(
        RuntimeError, match="'strict' blocks the event loop that runs in this thread"
    ) as caught:
        asyncio.run(main())
    assert LINES[main] in str(caught.value)


@pytest.mark.parametrize("run", [in_asyncio, in_uvloop, in_trio])
def test_it_is_refused_on_every_loop_that_is_not_a_bridges(run: Callable[[Callable[[], str]], str]) -> None:
    """And nothing of the function has run; the coroutine that was given is closed."""
    with pytest.raises(RuntimeError, match="blocks the event loop"):
        run(helper)
    with pytest.raises(RuntimeError, match="blocks the event loop"):
        run(lambda: strict.run(load("key")))


@pytest.mark.parametrize("run", [in_thread, on_our_loop, lambda work: work()])
def test_where_no_loop_is_blocked_it_is_an_ordinary_call(run: Callable[[Callable[[], str]], str]) -> None:
    """In a thread; and on loops of bridges, whose tasks are parked."""
    assert run(helper) == "key"


def test_a_task_that_opted_in_is_parked() -> None:
    """So its loop is not blocked, and there is nothing to say."""
    assert asyncio.run(syncline.run_nestable(helper)) == "key"


def test_warnings_come_once_a_line() -> None:
    """Whatever filters say; a second line warns again."""
    bridge = syncline.Bridge(in_loop="warn")

    async def main() -> None:
        for _ in range(3):
            bridge.run_sync(load, "one")
        bridge.run_sync(load, "two")

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        asyncio.run(main())
        asyncio.run(main())
    texts = [str(warning.message) for warning in seen]
    assert [text.rpartition("    ")[2] for text in texts] == ["await load('one')", "await load('two')"]
    assert {warning.filename for warning in seen} == {__file__}


def test_warnings_that_are_errors_refuse_each_call() -> None:
    """As this test run has it."""
    bridge = syncline.Bridge(in_loop="warn")

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeWarning, match="blocks the event loop"):
                bridge.run_sync(load, "key")

    asyncio.run(main())


class Client:
    """For a twin."""

    async def get(self) -> str:
        return "got"


def test_each_step_is_looked_at() -> None:
    """Also of what was begun where no loop runs; it is refused as a whole, and goes on elsewhere."""
    gate = Gate()
    with syncline.Bridge(in_loop="error") as bridge:
        iterator = iter(bridge.iterate(ClosedItems()))
        ahead = iter(bridge.iterate(items(), prefetch=1))
        generator = bridge.generator(items)()
        manager = bridge.enter(session)
        client = bridge.blocking(Client)()
        group = bridge.group()
        entered = group.__enter__()
        started = entered.start(asyncio.Event().wait)
        results = bridge.map(load, ["a", "b"], limit=1)
        assert manager.__enter__() == 1
        assert next(iterator) == next(generator) == next(ahead) == 1
        assert next(results) == "a"

        async def main() -> None:
            future = bridge.submit(gate.wait)
            gate.await_entered()
            steps: dict[Callable[[], object], str] = {
                lambda: next(iterator): "await anext(iterator)",
                lambda: generator.send(None): "await generator.asend(None)",
                lambda: generator.close(): "await generator.aclose()",
                lambda: manager.__exit__(None, None, None): "await manager.__aexit__(None, None, None)",
                lambda: client.get(): "await client.get.aio()",
                lambda: group.__exit__(None, None, None): "await group.__aexit__(None, None, None)",
                lambda: future.result(): "await asyncio.wrap_future(future)",
                lambda: future.result(timeout=5): "await asyncio.wait_for(asyncio.wrap_future(future), 5)",
                lambda: future.exception(5): "",
                lambda: started.result(): "",
                lambda: bridge.call(str, 1): "await asyncio.to_thread(bridge.call, str, 1)",
                lambda: bridge.coroutine(load)("key").run(): "await bridge.coroutine(load)('key')",
                lambda: bridge.close(): "await asyncio.to_thread(bridge.close)",
            }
            for step, line in steps.items():
                with pytest.raises(RuntimeError, match="blocks the event loop") as caught:
                    step()
                assert line in str(caught.value)
            gate.let_through()
            assert await asyncio.wrap_future(future) == "through"
            assert future.result() == future.result(timeout=0) == "through"  # which do not wait

        asyncio.run(main())
        assert [*iterator, *generator, *ahead, *results] == ["b"]
        assert manager.__exit__(None, None, None) is False
        assert client.get() == "got"
        started.cancel()
        assert group.__exit__(None, None, None) is True
        assert bridge.run_sync(load, "key") == "key"


class ClosedItems:
    """An iterator of no generator, which one error of its own would end."""

    def __init__(self) -> None:
        self.left = [1]

    def __aiter__(self) -> ClosedItems:
        return self

    async def __anext__(self) -> int:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop()


async def over_a_map() -> None:
    for _ in strict.map(load, ["key"], limit=3):
        pass


async def in_a_group() -> None:
    with strict.group() as group:
        group.start(load, "key")


async def over_a_name() -> None:
    made = strict.iterate(items())
    for _ in made:
        pass


BLOCKS = {
    over_a_map: "write instead:\n    async for _ in strict.amap(load, ['key'], limit=3):",
    in_a_group: "write instead:\n    async with strict.group() as group:",
    over_a_name: "write instead:\n    async for _ in made:",
}


@pytest.mark.parametrize("main", BLOCKS)
def test_blocks_are_shown_as_async_ones(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """By what has made the object: `map` has `amap`."""
    with pytest.raises(RuntimeError, match="blocks the event loop") as caught:
        asyncio.run(main())
    assert BLOCKS[main] in str(caught.value)


def test_what_is_dropped_waits_for_nothing() -> None:
    """The loop is not blocked by a step that nobody has written; the generator is closed all the same."""
    bridge = syncline.Bridge(in_loop="warn")
    closed = threading.Event()

    async def rows() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.set()

    async def main() -> None:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            for _ in bridge.iterate(rows()):
                break
            gc.collect()
        assert len(seen) == 1
        await asyncio.to_thread(closed.wait)

    asyncio.run(main())
    bridge.close()


def test_a_bridge_without_loops_is_closed_anywhere() -> None:
    """There is nothing to wait for; nor where it is onto the very loop."""

    async def main() -> None:
        with syncline.Bridge(in_loop="error"):
            pass
        with syncline.Bridge(loop=asyncio.get_running_loop(), in_loop="error") as onto:
            assert await onto.run_async(load, "key") == "key"

    asyncio.run(main())


def test_code_without_a_source_gets_plain_advice() -> None:
    """As in `exec`, or in an interpreter."""
    script = """
        import asyncio, syncline
        bridge = syncline.Bridge(in_loop="error")
        names = {"bridge": bridge, "asyncio": asyncio}
        exec("async def main(): bridge.run_sync(asyncio.sleep, 0)", names)
        try:
            asyncio.run(names["main"]())
        except RuntimeError as error:
            print(str(error).rpartition("; ")[2])
    """
    done = run_script(script)
    done.assert_clean()
    assert done.lines == ["await the async function instead, or use `async for` and `async with`"]


def test_an_unknown_word_is_named() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match='in_loop must be one of "block", "warn", "error", not "no"'):
        syncline.Bridge(in_loop="no")  # type: ignore[arg-type]
