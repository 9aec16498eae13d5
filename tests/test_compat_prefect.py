"""`syncline.compat.prefect` does what Prefect's documents say of `prefect.utilities.asyncutils`."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from typing import Any

import pytest

from child import eventually
from prefect_code import Place, Run, add, change, current, run_sync_place, where
from syncline.compat import prefect

# The surface


def test_every_documented_name_is_there() -> None:
    """A changed import is enough, whatever is imported."""
    documented = {
        *("GatherIncomplete", "GatherTaskGroup", "LazySemaphore", "add_event_loop_shutdown_callback"),
        *("asyncnullcontext", "call_with_mark", "create_gather_task_group", "create_task", "gather"),
        *("get_thread_limiter", "in_async_main_thread", "in_async_worker_thread", "is_async_fn"),
        *("is_async_gen_fn", "mark_as_worker_thread", "run_async_from_worker_thread"),
        *("run_async_in_new_loop", "run_coro_as_sync", "run_sync_in_worker_thread", "sync"),
        "sync_compatible",
        # Not documented, but its users' tests ask for them, in prefect._internal.concurrency.threads.
        *("EventLoopThread", "get_run_sync_loop", "in_run_sync_loop"),
    }
    assert set(prefect.__all__) == documented
    assert all(hasattr(prefect, name) for name in documented)


def test_arguments_have_prefects_names() -> None:
    """Where they can be given by name."""
    assert list(inspect.signature(prefect.run_coro_as_sync).parameters) == [
        *("coroutine", "force_new_thread", "wait_for_result")
    ]
    for fn, names in {
        prefect.create_task: ["coroutine"],
        prefect.sync_compatible: ["async_fn"],
        prefect.add_event_loop_shutdown_callback: ["coroutine_fn"],
        prefect.LazySemaphore: ["initial_value_func"],
        prefect.GatherTaskGroup: ["task_group"],
        prefect.gather: ["calls"],
        prefect.is_async_fn: ["func"],
        prefect.is_async_gen_fn: ["func"],
        prefect.call_with_mark: ["call"],
    }.items():
        assert list(inspect.signature(fn).parameters) == names


# run_coro_as_sync


def test_calls_share_one_loop_on_a_thread_of_its_own(anywhere: Run[Any]) -> None:
    """From sync code, from inside loops (also trio's, case 11) and from other threads."""
    place = run_sync_place()

    async def main() -> Place:
        return run_sync_place()

    assert place[1] is not threading.current_thread()
    assert run_sync_place() == place
    assert anywhere(main) == place


@pytest.mark.parametrize("force_new_thread", [False, True])
def test_contexts_are_copies(force_new_thread: bool) -> None:
    """The coroutine sees its caller's values, and keeps its own changes."""

    def body() -> tuple[str, str]:
        current.set("mine")
        return prefect.run_coro_as_sync(change(), force_new_thread=force_new_thread), current.get()

    assert contextvars.copy_context().run(body) == ("mine", "mine")


def test_a_new_thread_can_be_forced(leaks_nothing: None) -> None:
    """Each call on a loop of its own, which is gone afterwards."""
    place = run_sync_place()
    first = prefect.run_coro_as_sync(where(), force_new_thread=True)
    second = prefect.run_coro_as_sync(where(), force_new_thread=True)
    assert len({place[0], first[0], second[0]}) == 3
    assert first[1] not in (place[1], threading.current_thread())
    assert first[0].is_closed()


@pytest.mark.parametrize("force_new_thread", [False, True])
def test_nobody_has_to_wait_for_the_result(force_new_thread: bool) -> None:
    """Then None comes at once, and the coroutine runs to its end."""
    may_go_on, done = threading.Event(), threading.Event()

    async def slow() -> None:
        while not may_go_on.is_set():
            await asyncio.sleep(0)
        done.set()

    result = prefect.run_coro_as_sync(slow(), force_new_thread=force_new_thread, wait_for_result=False)
    assert result is None
    assert not done.is_set()
    may_go_on.set()
    assert done.wait(20)


@pytest.mark.parametrize("force_new_thread", [False, True])
def test_an_error_that_nobody_waits_for_is_logged(
    force_new_thread: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """By the logger "syncline"."""

    async def fails() -> None:
        raise ValueError("nobody waits")

    with caplog.at_level(logging.ERROR, "syncline"):
        prefect.run_coro_as_sync(fails(), force_new_thread=force_new_thread, wait_for_result=False)
        assert eventually(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "nobody waits"


@pytest.mark.parametrize("wait_for_result", [True, False])
def test_a_function_in_the_place_of_a_coroutine_is_refused(wait_for_result: bool) -> None:
    """At once."""
    with pytest.raises(TypeError):
        prefect.run_coro_as_sync(where, wait_for_result=wait_for_result)


def test_system_exit_does_not_end_the_loop() -> None:
    """It reaches the caller, and the next call works (case 48)."""

    async def leaves() -> None:
        raise SystemExit(3)

    place = run_sync_place()
    with pytest.raises(SystemExit):
        prefect.run_coro_as_sync(leaves())
    assert run_sync_place() == place


def test_calls_work_inside_tasks(anywhere: Run[Any]) -> None:
    """In gather, and in a group in a group (case 5)."""

    async def calls() -> int:
        return prefect.run_coro_as_sync(add(1, 2))

    async def main() -> list[int]:
        return await prefect.gather(calls, calls)

    assert anywhere(main) == [6, 6]


def test_calls_work_while_a_cancel_is_handled(run_async: Run[Any]) -> None:
    """In `except CancelledError` (case 57)."""

    async def main() -> int:
        waits = asyncio.create_task(asyncio.Event().wait())
        await asyncio.sleep(0)
        waits.cancel()
        try:
            await waits
        except asyncio.CancelledError:
            return prefect.run_coro_as_sync(add(1, 2))
        raise AssertionError

    assert run_async(main) == 6


# sync, run_async_in_new_loop


def test_sync_runs_on_a_new_loop_where_there_is_none() -> None:
    """In this thread; the loop is closed afterwards, and the context is a copy."""
    loop, thread = prefect.sync(where)
    assert thread is threading.current_thread()
    assert loop.is_closed()
    assert prefect.sync(add, 1, b=2) == prefect.run_async_in_new_loop(add, 1, b=2) == 6
    before = current.get()
    assert prefect.sync(change) == prefect.run_async_in_new_loop(change) == before == current.get()


def test_sync_in_a_loop_warns_and_works(anywhere: Run[Any]) -> None:
    """On another thread's loop."""

    async def main() -> None:
        with pytest.warns(UserWarning, match="should `await`") as caught:
            loop, thread = prefect.sync(where)
        assert caught[0].filename == __file__
        assert thread is not threading.current_thread()
        assert loop.is_closed()

    anywhere(main)


def test_sync_in_a_worker_thread_uses_the_loop_that_sent_it(run_async: Run[Any]) -> None:
    """And so does run_async_from_worker_thread."""

    async def main() -> None:
        here = (asyncio.get_running_loop(), threading.current_thread())
        assert await prefect.run_sync_in_worker_thread(prefect.sync, where) == here
        assert await prefect.run_sync_in_worker_thread(prefect.run_async_from_worker_thread, where) == here

    run_async(main)


def test_a_new_loop_is_refused_inside_a_loop(anywhere: Run[Any]) -> None:
    """As in Prefect, with what to do instead; no coroutine is made."""

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"Already running.*syncline\.run_in_new_loop"):
            prefect.run_async_in_new_loop(add, 1, 2)

    anywhere(main)
