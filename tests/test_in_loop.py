"""`Bridge(in_loop=...)`: a call that would block somebody's running loop is warned of, or refused."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

import syncline
from child import run_script
from places import in_asyncio, in_thread, in_trio, in_uvloop, on_our_loop

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
    assert done.lines == ["await the async function instead"]


def test_an_unknown_word_is_named() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match='in_loop must be one of "block", "warn", "error", not "no"'):
        syncline.Bridge(in_loop="no")  # type: ignore[arg-type]
