"""create_task: a task that nobody else keeps is neither lost nor silent."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
import trio

import syncline
from syncline import _groups

R = TypeVar("R")
Run = Callable[[Callable[[], Coroutine[Any, Any, R]]], R]


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def test_a_task_can_be_awaited(run_async: Run[Any]) -> None:
    """It is asyncio's own, with the name it was given, and is forgotten when it is done."""

    async def main() -> None:
        task = syncline.create_task(answer(), name="the answer")
        assert isinstance(task, asyncio.Task)
        assert task.get_name() == "the answer"
        assert task in _groups._running
        assert await task == 42
        await asyncio.sleep(0)
        assert task not in _groups._running

    run_async(main)


def test_a_task_is_kept_until_it_is_done(run_async: Run[Any]) -> None:
    """Though it waits for something that only the task itself refers to, and the garbage collector runs."""

    async def main() -> None:
        seen: list[weakref.ref[asyncio.Future[None]]] = []
        ends: list[str] = []

        async def waits() -> None:
            future = asyncio.get_running_loop().create_future()
            seen.append(weakref.ref(future))
            await future
            ends.append("done")

        syncline.create_task(waits())
        await asyncio.sleep(0)
        gc.collect()
        future = seen[0]()
        assert future is not None
        future.set_result(None)
        del future
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ends == ["done"]
        gc.collect()
        assert seen[0]() is None

    run_async(main)


@pytest.mark.parametrize("logger", ["asyncio", "syncline"])
def test_an_error_that_nobody_sees_is_logged(logger: str, caplog: pytest.LogCaptureFixture) -> None:
    """As soon as the task is done, by the loop it ran on: "syncline" for our own."""
    records = []

    async def main() -> None:
        async def fails() -> None:
            raise ValueError("nobody looks")

        syncline.create_task(fails())
        while not caplog.records:
            await asyncio.sleep(0)
        records.extend(caplog.records)

    if logger == "asyncio":
        asyncio.run(main())
    else:
        syncline.run_sync(main)
    (record,) = records
    assert (record.name, record.levelno) == (logger, logging.ERROR)
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "nobody looks"


def test_an_error_that_is_awaited_is_not_logged(
    run_async: Run[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It reaches whoever awaits the task."""

    async def main() -> None:
        async def fails() -> None:
            raise ValueError("somebody looks")

        with pytest.raises(ValueError, match="somebody looks"):
            await syncline.create_task(fails())

    run_async(main)
    gc.collect()
    assert caplog.records == []


def test_cancelling_it_stops_it(run_async: Run[Any]) -> None:
    """Its cleanup runs (case 53)."""

    async def main() -> None:
        steps = []

        async def slow() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                steps.append("cleaned up")

        task = syncline.create_task(slow())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert steps == ["cleaned up"]

    run_async(main)


def test_without_a_loop_the_error_says_what_to_do() -> None:
    """In sync code and in trio; the coroutine is closed."""

    async def main() -> None:
        refused()

    def refused() -> None:
        coro = answer()
        with pytest.raises(RuntimeError, match=r"syncline\.submit.*in trio use create_gather_task_group"):
            syncline.create_task(coro)
        assert coro.cr_frame is None

    refused()
    trio.run(main)


@pytest.mark.parametrize("how", ["create_task", "gather", "wait_for", "shield"])
def test_sync_code_in_a_task_may_call_the_bridge(run_async: Run[Any], how: str) -> None:
    """Inside create_task, gather, wait_for and shield (case 5)."""

    async def main() -> Any:
        async def calls() -> int:
            return syncline.run_sync(answer) + syncline.run_in_new_loop(answer)

        if how == "create_task":
            return await syncline.create_task(calls())
        if how == "gather":
            return (await syncline.gather(calls))[0]
        if how == "wait_for":
            return await asyncio.wait_for(calls(), 30)
        return await asyncio.shield(calls())

    assert run_async(main) == 84
