"""The worker threads of `syncline.compat.prefect`."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from prefect_code import Run, current, where
from syncline.compat import prefect


def test_a_sync_function_runs_in_a_worker_thread(anywhere: Run[Any]) -> None:
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

    contextvars.copy_context().run(anywhere, main)


def test_threads_know_what_they_are(anywhere: Run[Any]) -> None:
    """A worker, the loop's own thread, or neither."""

    def answers() -> tuple[bool, bool]:
        return prefect.in_async_main_thread(), prefect.in_async_worker_thread()

    async def main() -> None:
        assert answers() == (True, False)
        assert await prefect.run_sync_in_worker_thread(answers) == (False, True)
        assert prefect.call_with_mark(answers) == (False, True)
        assert answers() == (True, False)

    anywhere(main)
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
