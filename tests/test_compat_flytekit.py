"""flytekit's names on syncline: its documented behaviour, and the examples of its documents."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from typing import Any

import pytest

from syncline.compat.flytekit import _AsyncLoopManager, _selector_policy, _TaskRunner, loop_manager, run_sync


async def where() -> tuple[int, str]:
    return id(asyncio.get_running_loop()), threading.current_thread().name


def in_thread(function: Any, name: str | None = None) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()), name=name)
    thread.start()
    thread.join(20)
    return results[0]


def test_the_example_of_the_module() -> None:
    """Seed 000: keyword arguments, a result."""

    async def async_add(a: int, b: int) -> int:
        return a + b

    assert run_sync(async_add, a=10, b=12) == 22


def test_the_example_of_run_sync() -> None:
    """Seed 002, first example: a sync function needs an async API."""
    manager = _AsyncLoopManager()

    async def fetch_data(url: str) -> str:
        await asyncio.sleep(0.01)
        return f"Data from {url}"

    def process_request(url: str) -> str:
        return manager.run_sync(fetch_data, url)

    assert process_request("https://example.com/api/data") == "Data from https://example.com/api/data"


def test_the_example_of_synced() -> None:
    """Seed 002, second example: the decorated coroutine function awaits another one."""
    manager = _AsyncLoopManager()

    async def send_notification(message: str, recipient: str) -> bool:
        await asyncio.sleep(0.01)
        return bool(message and recipient)

    @manager.synced
    async def send_notification_sync(message: str, recipient: str) -> bool:
        """Synchronous wrapper for send_notification."""
        return await send_notification(message, recipient)

    assert send_notification_sync("Event: login", "user_alice") is True
    assert send_notification_sync.__doc__ == "Synchronous wrapper for send_notification."


def test_each_thread_has_its_own_loop_on_a_daemon_thread() -> None:
    """The loops' threads are daemons; two threads never share one."""

    async def thread() -> threading.Thread:
        return threading.current_thread()

    mine = run_sync(thread)
    assert mine.daemon
    assert mine is not threading.current_thread()
    assert run_sync(thread) is mine
    assert in_thread(lambda: run_sync(thread)) is not mine


def test_the_keys_of_the_map_carry_thread_name_and_pid() -> None:
    """As flytekit makes them."""
    manager = _AsyncLoopManager()
    in_map = in_thread(lambda: (manager.run_sync(where), list(manager._runner_map))[1], name="worker-7")
    assert in_map == [f"worker-7PID:{os.getpid()}"]


def test_threads_that_share_a_name_are_independent() -> None:
    """Two living threads of one name have two loops (case 63). The barrier keeps both alive."""
    manager = _AsyncLoopManager()
    barrier = threading.Barrier(2)
    found: list[int] = []

    def call() -> None:
        found.append(manager.run_sync(where)[0])
        barrier.wait(10)

    threads = [threading.Thread(target=call, name="twin") for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(found)) == 2


def test_ended_threads_give_their_runners_back() -> None:
    """200 threads, one after the other, leave no thread and no entry (case 62)."""
    manager = _AsyncLoopManager()
    before = threading.active_count()
    for _ in range(200):
        in_thread(lambda: manager.run_sync(where))
    assert manager._runner_map == {}
    assert threading.active_count() <= before


def test_nested_calls_work_and_keep_their_threads() -> None:
    """Five levels deep, twice, with the same threads; only the outermost has an entry."""
    manager = _AsyncLoopManager()

    async def level(n: int) -> list[str]:
        name = threading.current_thread().name
        return [name, *(manager.run_sync(level, n - 1) if n else [])]

    first = manager.run_sync(level, 4)
    assert len(set(first)) == 5
    assert manager.run_sync(level, 4) == first
    assert len(manager._runner_map) == 1


def test_unhandled_errors_are_logged_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """A task that nobody awaits fails."""

    async def fail() -> None:
        raise ValueError("background")

    async def begin() -> None:
        await asyncio.wait([asyncio.ensure_future(fail())])

    with caplog.at_level(logging.ERROR):
        run_sync(begin)
        run_sync(where)
    assert "background" in caplog.text


def test_get_exc_handler_logs(caplog: pytest.LogCaptureFixture) -> None:
    """It has asyncio's signature."""
    loop = asyncio.new_event_loop()
    _TaskRunner().get_exc_handler()(loop, {"message": "odd", "exception": ValueError("handled")})
    loop.close()
    assert "odd" in caplog.text
    assert "handled" in caplog.text


def test_a_runner_runs_and_closes() -> None:
    """_TaskRunner by itself."""
    runner = _TaskRunner()
    assert runner.run(where())[0]
    runner._close()
    coroutine = where()
    with pytest.raises(RuntimeError, match="closed"):
        runner.run(coroutine)


def test_errors_arrive_and_a_coroutine_object_is_refused() -> None:
    """With the call that is right."""

    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        loop_manager.run_sync(fail)
    with pytest.raises(TypeError, match=r"run_sync\(f, \.\.\.\)"):
        loop_manager.run_sync(fail())  # type: ignore[arg-type]


def test_more_than_500_runners_are_worth_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """501 entries, without starting as many threads: a runner starts its thread at its first run."""
    manager = _AsyncLoopManager()
    for n in range(501):
        manager._runner_map[f"thread-{n}"] = _TaskRunner()
    assert not caplog.records
    in_thread(lambda: manager.run_sync(where))
    assert "more than 500 runners" in caplog.text


def test_no_policy_is_touched() -> None:
    """flytekit's helper swaps the event loop policy; ours is empty."""
    policy = asyncio.get_event_loop_policy()
    with _selector_policy():
        assert asyncio.get_event_loop_policy() is policy
        run_sync(where)
    assert asyncio.get_event_loop_policy() is policy


def test_exit_is_clean_with_a_task_pending() -> None:
    """Its `finally` runs, which flytekit's does not (case 84)."""
    script = """
import asyncio
from syncline.compat.flytekit import run_sync
async def forever():
    try:
        await asyncio.sleep(3600)
    finally:
        print("cleaned up")
async def begin():
    global task
    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
run_sync(begin)
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "cleaned up\n", "")
