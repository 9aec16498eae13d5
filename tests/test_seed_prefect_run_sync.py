"""What Prefect's documents say of `run_coro_as_sync`, and what its users' tests ask of `get_run_sync_loop`, holds.

Each docstring gives the sentence in short. What test_compat_prefect.py has is not repeated.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine
from queue import Queue
from typing import Any

import anyio
import anyio.to_thread
import pytest

from child import run_script
from places import ONE_BY_ONE, in_asyncio, in_thread, side_by_side
from prefect_code import Place, Run, add, run_sync_place, where
from syncline.compat import prefect


def test_the_run_sync_loop_is_started_when_it_is_needed() -> None:
    """ "Running in its own thread and is started the first time it is needed"."""
    finished = run_script(
        """
        import asyncio, threading
        from syncline.compat.prefect import get_run_sync_loop, in_run_sync_loop, run_coro_as_sync

        async def is_there():
            return in_run_sync_loop()

        print(threading.active_count(), in_run_sync_loop(), threading.active_count())
        print(run_coro_as_sync(is_there()), threading.active_count())
        print(get_run_sync_loop().running, run_coro_as_sync(is_there()), threading.active_count())
        """
    )
    finished.assert_clean()
    assert finished.lines == ["1 False 1", "True 2", "True True 2"]


def test_get_run_sync_loop_gives_the_thread_and_the_loop(run_async: Run[Any]) -> None:
    """Prefect's users' tests compare them with where coroutines run; the same object, wherever it is asked for."""
    known = prefect.get_run_sync_loop()
    assert (known.thread, known.loop) == run_sync_place()[::-1]
    assert known._loop is known.loop
    assert (known.name, known.running) == (known.thread.name, True)

    async def ask() -> list[Any]:
        nested = prefect.run_coro_as_sync(ask_once())
        return [prefect.get_run_sync_loop(), nested, await asyncio.to_thread(prefect.get_run_sync_loop)]

    async def ask_once() -> Any:
        return prefect.get_run_sync_loop()

    async def main() -> list[Any]:
        return [*await ask(), *prefect.run_coro_as_sync(ask())]

    answers = run_async(main)
    assert len(answers) == 6
    assert all(answer is known for answer in answers)


def test_a_run_sync_loop_that_was_stopped_is_followed_by_another() -> None:
    """ "Creates a new one if there is not one available", as Prefect's own function says."""
    finished = run_script(
        """
        import asyncio
        from syncline.compat.prefect import get_run_sync_loop, run_coro_as_sync

        async def where():
            return get_run_sync_loop(), asyncio.get_running_loop()

        first = get_run_sync_loop()
        first.loop.call_soon_threadsafe(first.loop.stop)
        first.thread.join(20)
        second, running = run_coro_as_sync(where())
        print(first.running, second is get_run_sync_loop(), second.loop is running, second.loop is first.loop)
        """
    )
    finished.assert_clean()
    assert finished.lines == ["False True True False"]


def test_a_forked_child_has_a_run_sync_loop_of_its_own() -> None:
    """Its parent's has no thread there."""
    finished = run_script(
        """
        import asyncio, os
        from syncline.compat.prefect import get_run_sync_loop, run_coro_as_sync

        async def where():
            return asyncio.get_running_loop()

        parents = get_run_sync_loop()
        if child := os.fork():
            os.waitpid(child, 0)
        else:
            mine = get_run_sync_loop()
            print(mine.thread.is_alive(), mine is parents, run_coro_as_sync(where()) is mine.loop, flush=True)
            os._exit(0)
        """,
        flags=("-W", "ignore::DeprecationWarning"),  # of a fork beside threads
    )
    finished.assert_clean()
    assert finished.lines == ["True False True"]


def test_objects_are_shared_among_all_coroutines_of_the_loop() -> None:
    """ "This allows us to share objects like async httpx clients": what is bound to a loop, in calls of all threads."""

    async def make() -> tuple[asyncio.Lock, asyncio.Task[None]]:
        lock = asyncio.Lock()
        await lock.acquire()

        async def use() -> None:
            async with lock:
                pass

        task = prefect.create_task(use())
        await asyncio.sleep(0)  # now the lock is bound to the loop
        return lock, task

    async def finish(lock: asyncio.Lock, task: asyncio.Task[None]) -> bool:
        lock.release()
        await task
        return lock.locked()

    lock, task = prefect.run_coro_as_sync(make())
    assert in_thread(lambda: in_asyncio(lambda: prefect.run_coro_as_sync(finish(lock, task)))) is False


def test_a_nested_call_runs_in_a_new_thread(leaks_nothing: None) -> None:
    """ "From within the run_sync loop, it will run the coroutine in a new thread", and so do calls from there."""
    place = run_sync_place()

    async def level(depth: int) -> list[Place]:
        inner = (
            [*prefect.run_coro_as_sync(level(depth - 1)), *prefect.run_coro_as_sync(level(0))]
            if depth
            else []
        )
        return [*inner, await where()]

    *nested, outermost = prefect.run_coro_as_sync(level(2))
    assert outermost == place
    assert len({thread for _, thread in [*nested, outermost]}) == len(nested) + 1 == 5
    assert not any(thread.is_alive() for _, thread in nested)
    assert all(loop.is_closed() for loop, _ in nested)


@pytest.mark.parametrize(
    "run",
    [
        prefect.run_coro_as_sync,
        lambda coroutine: prefect.run_coro_as_sync(coroutine, force_new_thread=True),
        lambda coroutine: prefect.run_async_in_new_loop(lambda: coroutine),
        lambda coroutine: prefect.sync(lambda: coroutine),
        lambda coroutine: prefect.run_coro_as_sync(through(lambda: prefect.run_coro_as_sync(coroutine))),
    ],
    ids=["run sync", "new thread", "new loop", "sync", "nested"],
)
def test_a_call_blocks_the_loop_that_makes_it(run: Callable[[Any], Any]) -> None:
    """ "As if it were a synchronous function": no other task of that loop takes a turn meanwhile."""

    def nested(fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        prefect.run_coro_as_sync(fn())

    assert run(side_by_side(nested)) == ONE_BY_ONE


async def through(body: Callable[[], Any]) -> Any:
    return body()


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize(
    "worker", [asyncio.to_thread, anyio.to_thread.run_sync, prefect.run_sync_in_worker_thread]
)
def test_a_call_in_a_worker_thread_of_a_nested_one_does_not_deadlock(
    depth: int, worker: Callable[..., Coroutine[Any, Any, Any]]
) -> None:
    """ "Because otherwise a deadlock would occur": the "run sync" loop waits for the nested call, so for the worker."""

    async def level(depth: int) -> int:
        if depth:
            return prefect.run_coro_as_sync(level(depth - 1))
        result: int = await worker(lambda: prefect.run_coro_as_sync(add(1, 2)))
        return result

    assert prefect.run_coro_as_sync(level(depth)) == 6


@pytest.mark.parametrize("place", ["plain", "loop", "worker", "run sync loop", "new thread"])
def test_a_forced_call_always_has_a_new_thread(place: str, leaks_nothing: None) -> None:
    """ "If True, the coroutine will always be run in a new thread. Defaults to False", as the wait for it to True."""
    run_sync_place()

    def body() -> None:
        here = threading.current_thread()
        threads = [prefect.run_coro_as_sync(where(), force_new_thread=True)[1] for _ in range(2)]
        assert len({*threads, here, prefect.get_run_sync_loop().thread}) == (
            3 if place == "run sync loop" else 4
        )

    async def in_a_task() -> None:
        body()

    async def in_a_worker() -> None:
        await prefect.run_sync_in_worker_thread(body)

    runs: dict[str, Callable[[], Any]] = {
        "plain": body,
        "loop": lambda: asyncio.run(in_a_task()),
        "worker": lambda: asyncio.run(in_a_worker()),
        "run sync loop": lambda: prefect.run_coro_as_sync(in_a_task()),
        "new thread": lambda: prefect.run_coro_as_sync(in_a_task(), force_new_thread=True),
    }
    runs[place]()
    parameters = inspect.signature(prefect.run_coro_as_sync).parameters
    assert (parameters["force_new_thread"].default, parameters["wait_for_result"].default) == (False, True)


def test_background_tasks_of_the_loop_may_call(run_async: Run[Any]) -> None:
    """Tasks that others put on the "run sync" loop count as within it, too."""

    async def calls() -> tuple[Place, Place, Place]:
        return prefect.run_coro_as_sync(where()), prefect.run_coro_as_sync(where()), await where()

    future = asyncio.run_coroutine_threadsafe(calls(), prefect.get_run_sync_loop().loop)
    first, second, own = future.result(20)
    assert own == run_sync_place()
    assert len({first[1], second[1], own[1]}) == 3
    assert first[0].is_closed()
    assert not first[1].is_alive()


@pytest.mark.parametrize("force_new_thread", [False, True])
def test_what_nobody_waits_for_calls_from_its_worker_threads_in_new_threads(force_new_thread: bool) -> None:
    """As what is waited for: Prefect marks what such a coroutine calls, wherever it runs."""
    seen: Queue[Place] = Queue()

    async def calls() -> None:
        seen.put(await asyncio.to_thread(run_sync_place))

    prefect.run_coro_as_sync(calls(), force_new_thread=force_new_thread, wait_for_result=False)
    assert seen.get(timeout=20)[1] is not prefect.get_run_sync_loop().thread


@pytest.mark.parametrize("is_nested", [False, True])
def test_without_waiting_the_coroutine_is_submitted_to_the_loop(is_nested: bool) -> None:
    """ "Will submit the coroutine to the 'run sync' event loop and return immediately", also from within that."""
    place = run_sync_place()
    ran, seen = threading.Event(), []

    async def record() -> None:
        seen.append(await where())
        ran.set()

    async def submit() -> None:
        prefect.run_coro_as_sync(record(), wait_for_result=False)

    if is_nested:
        prefect.run_coro_as_sync(submit())
    else:
        asyncio.run(submit())
    assert ran.wait(20)
    assert seen == [place]


def test_the_result_is_returned_only_if_it_is_waited_for() -> None:
    """ "The result of the coroutine if wait_for_result is True, otherwise None", with and without a new thread."""
    for force_new_thread in (False, True):
        assert (
            prefect.run_coro_as_sync(add(1, 2), force_new_thread=force_new_thread, wait_for_result=True) == 6
        )
        assert (
            prefect.run_coro_as_sync(add(1, 2), force_new_thread=force_new_thread, wait_for_result=False)
            is None
        )
