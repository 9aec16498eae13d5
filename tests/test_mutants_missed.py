"""What no other test noticed when it was taken out of the code: see mutants.py."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

import syncline
from child import run_script


def test_an_error_that_comes_after_its_caller_has_gone_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A call whose caller gave up, as cleanup took too long, raises: nobody else would ever hear of that."""
    begun, released, logged = threading.Event(), threading.Event(), threading.Event()
    logger = logging.getLogger("syncline")
    error = ValueError("too late")

    async def stubborn() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            # The caller goes on meanwhile: it holds what this waits for.
            while not released.is_set():
                await asyncio.sleep(0.001)
            raise error from None

    def hears(record: logging.LogRecord) -> bool:
        if "stopped waiting" in record.getMessage() and record.exc_info and record.exc_info[1] is error:
            logged.set()
        return True

    logger.addFilter(hears)
    try:
        with syncline.Bridge(cleanup_timeout=0.01) as bridge:
            limit = 0.01
            while not begun.is_set():  # on a busy machine the time is over before it begins
                with caplog.at_level("ERROR"), pytest.raises(TimeoutError):
                    bridge.run(stubborn(), timeout=limit)
                limit *= 2
            released.set()
            assert logged.wait(60)
    finally:
        logger.removeFilter(hears)


def test_a_cancelled_step_leaves_no_cancellation_to_the_next() -> None:
    """Ctrl-C cancels one step of a generator; the task that makes the next one counts no cancellation."""
    end = run_script(
        """
        import asyncio, os, signal, syncline

        async def steps():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                yield "of nobody"
            while True:
                yield asyncio.current_task().cancelling()

        bridge = syncline.Bridge()
        it = bridge.iterate(steps())
        try:
            print(next(it))
        except KeyboardInterrupt:
            print("interrupted")
        print(next(it))
        it.close()
        bridge.close()
        """
    )
    end.assert_clean()
    assert end.lines == ["interrupted", "0"]


def test_a_signal_handlers_call_is_not_nested_in_a_task_that_blocks_its_loop() -> None:
    """While a task that must not switch waits for another thread, with its loop, a handler's call runs on a loop that
    moves."""
    run_script(
        """
        import asyncio, os, signal, threading, syncline

        handled = threading.Event()
        seen = []

        async def where():
            await asyncio.sleep(0)
            return threading.current_thread() is threading.main_thread()

        def handle(*_):
            seen.append(syncline.run_sync(where))
            handled.set()

        async def work():
            # The main thread sleeps in its wait for this call, or is about to: either way it runs the handler there.
            os.kill(os.getpid(), signal.SIGUSR1)
            while not handled.is_set():
                await asyncio.sleep(0.001)

        async def main():
            assert syncline.run_sync(where)
            with syncline.no_switch():
                blocking.run_sync(work)
            return True

        signal.signal(signal.SIGUSR1, handle)
        blocking = syncline.Bridge()
        assert asyncio.run(syncline.nestable(main)())
        blocking.close()
        assert seen == [False], seen
        """
    ).assert_clean()
