"""What can go wrong on a trio bridge's loop: it is blocked, or waits for itself; who does it is named."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import trio
import trio.testing

import syncline
from child import eventually
from syncline import _trio
from test_switch_watchdog import Reports, reports
from waiting import in_time

__all__ = ["reports"]

pytestmark = pytest.mark.timeout(60)


def test_a_stall_report_shows_who_blocks_and_who_is_parked(reports: Reports) -> None:
    """The blocking code, the caller, and sync code of a nursery's tasks that is parked in nested calls."""
    with syncline.Bridge(backend="trio", name="watched", nested="switch", stall_after=0.1) as bridge:

        def is_parked(event: trio.Event) -> None:
            bridge.run_sync(event.wait)

        async def parks(event: trio.Event) -> None:
            is_parked(event)

        def blocks_the_run() -> None:
            assert reports.came.wait(30)

        async def main() -> None:
            event = trio.Event()
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(parks, event)
                await trio.testing.wait_all_tasks_blocked()
                blocks_the_run()
                event.set()

        def waits_for_main() -> None:
            bridge.run_sync(main)

        waits_for_main()
    text = reports.texts[0]
    assert "the loop 'watched" in text.splitlines()[0]
    assert "in blocks_the_run" in text
    assert "in waits_for_main" in text
    assert "3 stacks of the same thread, parked in a nested call:\n" in text
    assert text.count("in is_parked\n") == 1


@pytest.mark.parametrize("in_child", [False, True])
def test_a_lock_that_a_parked_task_holds_is_a_deadlock(in_child: bool) -> None:
    """Another task of the same run takes it and blocks the loop: DeadlockError for who waits, naming both (case 73)."""
    lock = threading.Lock()
    with syncline.Bridge(backend="trio", nested="switch", cleanup_timeout=1.0) as bridge:

        def holds_the_lock(event: trio.Event) -> None:
            with lock:
                bridge.run_sync(event.wait)

        async def holds(event: trio.Event) -> None:
            holds_the_lock(event)

        def takes_the_lock() -> None:
            # Not for good, or the run could not end.
            if lock.acquire():
                lock.release()

        async def takes() -> None:
            takes_the_lock()

        async def main() -> None:
            event = trio.Event()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(holds, event)
                await trio.testing.wait_all_tasks_blocked()
                if in_child:
                    nursery.start_soon(takes)
                else:
                    takes_the_lock()

        with pytest.raises(syncline.DeadlockError) as caught, in_time():
            bridge.run_sync(main)
        assert "takes_the_lock" in str(caught.value)
        lock.release()


@pytest.mark.parametrize("in_child", [False, True])
def test_a_future_of_its_own_loop_is_a_deadlock(in_child: bool) -> None:
    """Sync code on the loop's thread waits for what only that loop can bring: told at once (case 15)."""
    with syncline.Bridge(backend="trio", name="knot") as bridge:

        async def answer() -> int:
            await trio.lowlevel.checkpoint()
            return 42

        futures: list[Future[int]] = []

        async def asks() -> None:
            futures.append(bridge.submit(answer))
            with pytest.raises(syncline.DeadlockError, match="knot"):
                futures[-1].result()

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(asks)

        with in_time():
            bridge.run_sync(main if in_child else asks)
        assert futures[0].result(20) == 42


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
def test_a_circle_of_bridges_of_both_kinds_never_hangs(inner: Any) -> None:
    """Each call goes as deep as it has to (cases 6, 15)."""
    with (
        syncline.Bridge(backend="trio", name="a") as a,
        syncline.Bridge(backend=inner, name="b") as b,
    ):

        async def ping(left: int) -> int:
            other = b if left % 2 else a
            return 1 + (other.run_sync(ping, left - 1) if left else 0)

        assert a.run_sync(ping, 6) == 7
        assert b.run_sync(ping, 7) == 8


def test_errors_that_nobody_sees_are_logged_and_the_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Of a call whose caller has gone, with a nursery or without; a cancellation is no error (case 61)."""
    with syncline.Bridge(backend="trio", cleanup_timeout=0.05) as bridge:
        release = threading.Event()

        async def fails_late() -> None:
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    while not release.is_set():
                        await trio.sleep(0.001)
                raise ValueError("too late")

        async def in_a_nursery() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails_late)

        async def answer() -> int:
            return 42

        with caplog.at_level(logging.ERROR, "syncline"):
            for fn in (fails_late, in_a_nursery):
                with pytest.raises(TimeoutError):
                    bridge.run(fn(), timeout=0.01)
            release.set()
            assert eventually(lambda: caplog.text.count("ValueError: too late") == 2)
        assert "Cancelled" not in [
            type(record.exc_info[1]).__name__ for record in caplog.records if record.exc_info
        ]
        assert bridge.run_sync(answer) == 42


def test_a_run_that_ends_by_itself_while_it_is_closed_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Closing cancels the call, and with that the run may be over before it is told: nothing is logged.

    Which of the two comes first is left to chance; one time in twenty it is the end.
    """

    def work(bridge: syncline.Bridge, begun: threading.Event) -> None:
        async def forever() -> None:
            begun.set()
            await trio.sleep_forever()

        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(forever)

    for turn in range(200):
        bridge, begun = (
            syncline.Bridge(scope="thread" if turn % 2 else "process", backend="trio"),
            threading.Event(),
        )
        thread = threading.Thread(target=work, args=(bridge, begun))
        thread.start()
        begun.wait()
        bridge.close()
        thread.join()
    assert not caplog.records


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_run_that_fails_inside_of_trio_is_replaced(scope: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Its calls raise RunnerClosedError, and the next one has a new run."""

    async def fails() -> None:
        raise ValueError

    async def fails_in_a_task_of_the_run() -> None:
        trio.lowlevel.spawn_system_task(fails)
        await trio.sleep_forever()

    async def answer() -> int:
        await trio.lowlevel.checkpoint()
        return 42

    with syncline.Bridge(scope=scope, backend="trio") as bridge:
        for _ in range(10):
            with pytest.raises((syncline.RunnerClosedError, trio.Cancelled)):
                bridge.run_sync(fails_in_a_task_of_the_run)
            # The run may be on its way to its end.
            assert eventually(lambda: answered(lambda: bridge.run_sync(answer)) == 42)
    assert "the loop died" in caplog.text


def answered(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (syncline.RunnerClosedError, trio.Cancelled):
        return None


def test_a_run_whose_socket_trio_has_closed_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """So trio leaves a run that it has ended by an error of its own: its token doesn't say that it is over."""
    loop = _trio.TrioLoop(1.0, switches=False)
    runs = threading.Event()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    loop.call_soon_threadsafe(runs.set)
    assert runs.wait(10)

    def tell(*_: object, **__: object) -> None:
        raise OSError(9, "Bad file descriptor")

    with monkeypatch.context() as patched:
        patched.setattr(_trio, "tell_trio", tell)
        assert loop.is_closed()
        with pytest.raises(trio.RunFinishedError):
            loop.call_soon_threadsafe(runs.set)
    assert not loop.is_closed()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    assert loop.is_closed()
