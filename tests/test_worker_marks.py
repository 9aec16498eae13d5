"""Where am I: in_worker_thread(), in_event_loop(), and the marks that others set."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio.to_thread

import syncline
from places import in_thread

Run = Callable[[Callable[[], Any]], Any]


def here() -> tuple[bool, bool]:
    """Whether this is a worker thread, and whether a loop runs in it."""
    return syncline.in_worker_thread(), syncline.in_event_loop()


def test_each_place_is_told_apart(anywhere: Run) -> None:
    """A plain thread is neither, a loop's thread is one, a worker the other; a worker may run a loop, too."""

    async def on_loop() -> tuple[bool, bool]:
        return here()

    def in_worker() -> list[tuple[bool, bool]]:
        return [here(), syncline.from_thread(on_loop), asyncio.run(on_loop())]

    async def main() -> None:
        assert here() == (False, True)
        assert await syncline.to_thread(in_worker) == [(True, False), (False, True), (True, True)]

    assert here() == (False, False)
    anywhere(main)
    assert in_thread(here) == (False, False)


def test_a_mark_lasts_as_long_as_the_call() -> None:
    """call_with_mark(fn) marks the thread while fn runs, also where that raises; marks inside are taken back too."""

    def fail() -> None:
        assert syncline.in_worker_thread()
        raise LookupError

    assert syncline.call_with_mark(here) == (True, False)
    assert not syncline.in_worker_thread()
    assert syncline.call_with_mark(lambda: syncline.call_with_mark(here) and here()) == (True, False)
    try:
        syncline.call_with_mark(fail)
    except LookupError:
        assert not syncline.in_worker_thread()
    syncline.call_with_mark(syncline.mark_as_worker_thread)
    assert not syncline.in_worker_thread()


def test_a_mark_on_a_thread_stays_with_it() -> None:
    """mark_as_worker_thread() marks the calling thread, and no other, until that ends."""

    def mark() -> tuple[bool, bool]:
        syncline.mark_as_worker_thread()
        return here()

    assert in_thread(mark) == (True, False)
    assert here() == (False, False)
    assert in_thread(here) == (False, False)


def test_marks_do_not_leak_to_a_thread_that_others_use_again() -> None:
    """A thread of anyio's that made a marked call is no worker in its next one (case 68)."""
    idents = set()

    def marked() -> tuple[bool, bool]:
        idents.add(threading.get_ident())
        return syncline.call_with_mark(here)

    def unmarked() -> tuple[bool, bool]:
        idents.add(threading.get_ident())
        return here()

    async def main() -> None:
        assert await anyio.to_thread.run_sync(marked) == (True, False)
        assert await anyio.to_thread.run_sync(unmarked) == (False, False)

    asyncio.run(main())
    assert len(idents) == 1


def test_a_worker_that_another_loop_uses_again_goes_back_to_that_one() -> None:
    """Whose worker a thread is belongs to the call, not to the thread (case 68)."""
    workers = set()

    async def loop_thread() -> int:
        return threading.get_ident()

    def ask() -> int:
        workers.add(threading.get_ident())
        return syncline.from_thread(loop_thread)

    async def main() -> None:
        assert await syncline.to_thread(ask) == threading.get_ident()

    asyncio.run(main())
    syncline.run_sync(main)
    in_thread(lambda: asyncio.run(main()))
    assert len(workers) == 1


def test_arguments_and_result_pass_through() -> None:
    """call_with_mark(fn, ...) calls fn with what follows and returns what it returns."""
    assert syncline.call_with_mark(divmod, 7, 2) == (3, 1)
    assert syncline.call_with_mark(dict, a=1) == {"a": 1}
