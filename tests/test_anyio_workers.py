"""anyio's worker threads call back by from_thread, and ours by anyio's."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import httpx
import pytest

import syncline
from neutral import CANCELLED
from recipe_servers import free_port, serving
from worker_code import double

Run = Callable[[Callable[[], Any]], Any]
MakeBridge = Callable[..., syncline.Bridge]
LIMIT = 20
here = threading.get_ident


async def thread_of_loop() -> int:
    await anyio.lowlevel.checkpoint()
    return here()


def test_a_worker_of_anyios_reaches_its_loop(anywhere: Run, make_bridge: MakeBridge) -> None:
    """By from_thread and by a bridge that joins the sender; errors are the same object."""
    bridge = make_bridge(in_worker="sender")
    error = LookupError("gone")

    async def fails() -> None:
        raise error

    def work() -> None:
        assert here() != thread
        assert syncline.from_thread(thread_of_loop) == thread
        assert syncline.from_thread(double, 2, plus=1) == 5
        assert bridge.run_sync(thread_of_loop) == thread
        with pytest.raises(LookupError) as caught:
            syncline.from_thread(fails)
        assert caught.value is error
        syncline.check_cancelled()

    async def main() -> None:
        nonlocal thread
        thread = here()
        for _ in range(3):
            await anyio.to_thread.run_sync(work)

    thread = 0
    anywhere(main)


def test_a_cancelled_worker_of_anyios_ends_its_call(anywhere: Run) -> None:
    """The coroutine is cancelled and cleans up; the worker sees the cancellation of its library."""
    ended: list[str] = []
    runs = threading.Event()

    async def waits() -> None:
        runs.set()
        try:
            await anyio.sleep(LIMIT)
        finally:
            ended.append("coroutine")

    def work() -> None:
        try:
            syncline.from_thread(waits)
        except BaseException as error:
            ended.append("worker" if isinstance(error, CANCELLED) else repr(error))
            with pytest.raises(CANCELLED):
                syncline.check_cancelled()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, work)
            while not runs.is_set():
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()

    anywhere(main)
    assert ended == ["coroutine", "worker"]


def test_a_thread_that_no_loop_has_sent_is_told(make_bridge: MakeBridge) -> None:
    """A plain one; and one that the program has marked as a worker, for a bridge that joins the sender."""
    with pytest.raises(RuntimeError, match="no worker thread of syncline's or anyio's"):
        syncline.from_thread(thread_of_loop)
    bridge = make_bridge(in_worker="sender")
    with pytest.raises(RuntimeError, match='in_worker="own" here'):
        syncline.call_with_mark(bridge.run_sync, thread_of_loop)
    assert bridge.run_sync(thread_of_loop) != here()


def test_anyios_from_thread_works_in_our_workers(run_async: Run) -> None:
    """Its `run`, `run_sync` and `check_cancelled`, in to_thread and in a worker of one's own."""

    def work() -> None:
        assert anyio.from_thread.run(thread_of_loop) == thread
        assert anyio.from_thread.run_sync(here) == thread
        anyio.from_thread.check_cancelled()

    async def main() -> None:
        nonlocal thread
        thread = here()
        await syncline.to_thread(work)
        async with anyio.create_task_group():
            await syncline.to_thread(work)
        async with syncline.Worker() as worker:
            await worker.to_thread(work)

    thread = 0
    run_async(main)


def test_anyios_check_cancelled_sees_the_scopes_of_our_workers_task(run_async: Run) -> None:
    """As in a worker of anyio's."""
    runs, seen = threading.Event(), threading.Event()

    def asks_until_it_is() -> None:
        while True:
            anyio.from_thread.check_cancelled()

    def work() -> None:
        runs.set()
        with pytest.raises(asyncio.CancelledError):
            asks_until_it_is()
        seen.set()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(syncline.to_thread, work)
            while not runs.is_set():
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()

    run_async(main)
    assert seen.wait(LIMIT)


def test_nothing_is_left_in_a_worker_for_its_next_call() -> None:
    """Whether the loop is gone, or trio's worker comes after asyncio's."""
    asyncio.run(syncline.to_thread(anyio.from_thread.check_cancelled))
    with syncline.Bridge(backend="trio") as bridge:

        async def main() -> None:
            with pytest.raises(anyio.NoEventLoopError):
                await syncline.to_thread(anyio.from_thread.run, thread_of_loop)

        bridge.run_sync(main)


APP = """
import asyncio, threading
import fastapi
import syncline

app = fastapi.FastAPI()
bridge = syncline.Bridge(in_worker="sender")


async def where():
    await asyncio.sleep(0)
    return [threading.get_ident(), id(asyncio.get_running_loop())]


@app.get("/loop")
async def of_loop():
    return await where()


@app.get("/sync")
def endpoint():
    return [syncline.from_thread(where), bridge.run_sync(where), threading.get_ident()]
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_sync_endpoint_reaches_the_servers_loop(tmp_path: Path, loop: str) -> None:
    """FastAPI runs it in a worker of anyio's; under uvicorn."""
    (tmp_path / "app.py").write_text(APP)
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "app:app", f"--port={port}", f"--loop={loop}"]
    with serving(tmp_path, *command, port=port) as url:
        of_loop = httpx.get(f"{url}/loop", timeout=20).json()
        for _ in range(5):
            from_thread, joined, thread = httpx.get(f"{url}/sync", timeout=20).json()
            assert from_thread == joined == of_loop
            assert thread != of_loop[0]
