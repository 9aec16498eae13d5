"""What Prefect's documents of `prefect.utilities.asyncutils` say in words holds for `syncline.compat.prefect`.

Each docstring gives the sentence in short. What test_compat_prefect*.py has is not repeated; `run_coro_as_sync` has a
file of its own. Where Prefect does otherwise than it documents, the docstring says so.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from child import run_script
from prefect_code import Place, Run, add, change, current, run_sync_place, where
from syncline.compat import prefect

# is_async_fn, is_async_gen_fn


async def coroutine_function() -> None: ...


async def async_generator() -> AsyncIterator[int]:
    yield 1


def sync_function() -> None: ...


def sync_generator() -> Iterator[int]:
    yield 1


def wrapped_by_sync_code(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def inner(*args: Any) -> Any:
        return fn(*args)

    return inner


KINDS: dict[str, tuple[Callable[..., Any], bool, bool]] = {
    "coroutine function": (coroutine_function, True, False),
    "async generator": (async_generator, False, True),
    "sync function": (sync_function, False, False),
    "sync generator": (sync_generator, False, False),
    "lambda": (lambda: True, False, False),
    "wrapped coroutine function": (wrapped_by_sync_code(coroutine_function), True, False),
    "wrapped async generator": (wrapped_by_sync_code(async_generator), False, True),
    "async context manager": (asynccontextmanager(async_generator), False, True),
    "context manager": (contextmanager(sync_generator), False, False),
    "partial": (functools.partial(add, 1), True, False),
    "sync_compatible": (prefect.sync_compatible(add), True, False),
}


@pytest.mark.parametrize(("fn", "is_async", "is_generator"), KINDS.values(), ids=KINDS.keys())
def test_functions_are_told_apart(fn: Callable[..., Any], is_async: bool, is_generator: bool) -> None:
    """ "Returns True if a function returns a coroutine" and "is an async generator", through wrappers."""
    assert prefect.is_async_fn(fn) is prefect.is_async_fn(func=fn) is is_async
    assert prefect.is_async_gen_fn(fn) is prefect.is_async_gen_fn(func=fn) is is_generator


# create_task


def test_a_task_that_nobody_keeps_completes() -> None:
    """ "Will ensure that tasks aren't garbage collected before they complete", and not be kept thereafter."""

    async def main() -> weakref.ref[asyncio.Task[int]]:
        done = asyncio.Event()

        async def wait() -> int:
            # The only reference to this future is this frame, which only the task has.
            future = asyncio.get_running_loop().create_future()
            reference = weakref.ref(future)
            asyncio.get_running_loop().call_later(0.001, lambda: reference() and reference().set_result(None))
            await future
            done.set()
            return 1

        task = weakref.ref(prefect.create_task(wait()))
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.wait_for(done.wait(), 20)
        await asyncio.sleep(0)
        return task

    task = asyncio.run(main())
    gc.collect()
    assert task() is None


# Worker threads


def test_an_async_function_runs_in_the_main_threads_loop(run_async: Run[Any]) -> None:
    """ "In the main thread's event loop, blocking the worker thread until completion"."""
    steps: list[str] = []

    async def slow(may_end: asyncio.Event) -> Place:
        steps.append("begun")
        await may_end.wait()
        steps.append("done")
        return await where()

    def work(may_end: asyncio.Event) -> Place:
        place = prefect.run_async_from_worker_thread(slow, may_end)
        steps.append("returned")
        return place

    async def main() -> None:
        may_end = asyncio.Event()
        task = asyncio.create_task(prefect.run_sync_in_worker_thread(work, may_end))
        while not steps:
            await asyncio.sleep(0)
        assert steps == ["begun"]
        may_end.set()
        assert await task == await where()

    run_async(main)
    assert steps == ["begun", "done", "returned"]


def change_from(call: str) -> tuple[str, str]:
    """Calls `change` from a worker thread: what it saw, and what the worker sees afterwards."""
    current.set("worker")
    if call == "sync_compatible":
        return prefect.sync_compatible(change)(), current.get()
    fn = {"sync": prefect.sync, "from worker": prefect.run_async_from_worker_thread}[call]
    return fn(change), current.get()


@pytest.mark.parametrize("call", ["from worker", "sync", "sync_compatible"])
@pytest.mark.parametrize(
    "worker", [prefect.run_sync_in_worker_thread, anyio.to_thread.run_sync], ids=["ours", "anyio"]
)
def test_what_a_workers_coroutine_changes_stays_in_it(run_async: Run[Any], call: str, worker: Any) -> None:
    """Prefect's context variables don't come back from a loop, whichever function sends a coroutine there."""
    sees = run_async(lambda: worker(change_from, call))
    assert sees == ("worker", "worker")


def test_anyio_takes_the_limiter(run_async: Run[Any]) -> None:
    """Prefect's is anyio's own; ours limits anyio's threads, too."""
    limiter = prefect.get_thread_limiter()

    async def main() -> float:
        return await anyio.to_thread.run_sync(lambda: limiter.borrowed_tokens, limiter=limiter)  # type: ignore[arg-type]

    before = limiter.borrowed_tokens
    assert run_async(main) == before + 1
    assert limiter.borrowed_tokens == before


def test_a_call_may_be_given_by_name() -> None:
    """The arguments of call_with_mark have Prefect's names."""
    assert prefect.call_with_mark(call=prefect.in_async_worker_thread) is True


# sync_compatible


def test_where_a_loop_runs_the_coroutine_is_returned(anywhere: Run[Any]) -> None:
    """ "If in a thread with a running event loop, we will return the coroutine for the caller to await": the note's
    example."""

    async def my_async_function(arg1: int, arg2: int) -> int:
        return arg1 + arg2

    async def main() -> int:
        result: Coroutine[Any, Any, int] = prefect.sync_compatible(my_async_function)(1, 2)
        assert inspect.iscoroutine(result)
        return await result

    assert anywhere(main) == 3


@pytest.mark.parametrize(
    "worker", [prefect.run_sync_in_worker_thread, anyio.to_thread.run_sync], ids=["ours", "anyio"]
)
def test_in_a_worker_thread_the_loop_that_sent_it_is_used(run_async: Run[Any], worker: Any) -> None:
    """ "If in a blocking worker thread with access to an event loop in another thread, we will submit the async method
    to the event loop". (Prefect itself uses the "run sync" loop.)"""

    async def main() -> None:
        here = await where()
        assert await worker(prefect.sync_compatible(where)) == here
        forced = await worker(functools.partial(prefect.sync_compatible(where), _sync=True))
        assert forced != here

    run_async(main)


def test_without_a_loop_a_loop_is_made() -> None:
    """ "If we cannot find an event loop, we will create a new one": Prefect itself makes one for all such calls."""
    finished = run_script(
        """
        import asyncio, threading
        from syncline.compat.prefect import get_run_sync_loop, sync_compatible

        @sync_compatible
        async def where():
            return asyncio.get_running_loop(), threading.current_thread()

        loop, thread = where()
        assert (thread, loop) == (get_run_sync_loop().thread, get_run_sync_loop().loop)
        assert where() == where(_sync=True) == (loop, thread)
        """
    )
    finished.assert_clean()


def test_a_nested_sync_compatible_call_does_not_deadlock() -> None:
    """Forced to be sync on the "run sync" loop, it runs in a new thread, as run_coro_as_sync does."""
    place = prefect.sync_compatible(where)

    async def outer() -> tuple[Place, Place]:
        return place(_sync=True), await where()

    nested, own = prefect.run_coro_as_sync(outer())
    assert own == run_sync_place()
    assert nested[1] is not own[1]


# sync


def test_sync_blocks_until_completion(anywhere: Run[Any]) -> None:
    """ "In an asynchronous context, we will run the code in a separate loop instead of failing but a warning will be
    displayed"; elsewhere there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prefect.sync(add, 1, b=2) == 6

    async def main() -> int:
        with pytest.warns(UserWarning, match="you should `await` the async function directly instead"):
            return prefect.sync(add, 1, b=2)

    assert anywhere(main) == 6


# Groups


def test_a_group_is_a_task_group_of_anyios(anywhere: Run[Any]) -> None:
    """ "This class extends the TaskGroup interface to allow simple gathering", however it was made."""

    def is_complete(group: prefect.GatherTaskGroup, key: Any) -> bool:
        try:
            group.get_result(key)
        except prefect.GatherIncomplete:
            return False
        return True

    async def main() -> None:
        for group in (prefect.create_gather_task_group(), prefect.GatherTaskGroup(anyio.create_task_group())):
            assert isinstance(group, anyio.abc.TaskGroup)
            async with group:
                keys = [group.start_soon(add, 1, number) for number in range(2)]
                group.start_soon(anyio.sleep, 3600)
                while not all(is_complete(group, key) for key in keys):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert [group.get_result(key) for key in keys] == [4, 5]

    anywhere(main)


def test_the_class_of_groups_extends_anyios_before_there_is_a_group() -> None:
    """ "This class extends the TaskGroup interface": for `issubclass`, and for type adapters that ask it."""
    finished = run_script(
        """
        from syncline.compat.prefect import GatherTaskGroup
        from anyio.abc import TaskGroup

        print(issubclass(GatherTaskGroup, TaskGroup))
        """
    )
    finished.assert_clean()
    assert finished.lines == ["True"]


def test_results_before_completion_are_refused(anywhere: Run[Any]) -> None:
    """GatherIncomplete is "used to indicate retrieving gather results before completion", in Prefect's words."""

    async def fails() -> None:
        raise ValueError

    async def main() -> None:
        group = prefect.create_gather_task_group()
        try:
            async with group:
                key = group.start_soon(fails)
                with pytest.raises(
                    prefect.GatherIncomplete, match=r"^Task is not complete\. Results should not"
                ):
                    group.get_result(key)
        except* ValueError:
            pass
        with pytest.raises(prefect.GatherIncomplete, match=r"^Task is not complete\."):
            group.get_result(key)
        with pytest.raises(RuntimeError, match=r"^`GatherTaskGroup` does not support `start`"):
            await group.start(add, 1, 2)

    anywhere(main)


def test_results_may_break_equality_checks(anywhere: Run[Any]) -> None:
    """Prefect's users' results are data frames, which can't be compared."""

    class Incomparable:
        def __eq__(self, other: object) -> bool:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    async def make() -> Incomparable:
        return Incomparable()

    async def main() -> list[Incomparable]:
        return await prefect.gather(make, make)

    assert [type(result) for result in anywhere(main)] == [Incomparable, Incomparable]


def test_group_tasks_have_copies_of_the_context(anywhere: Run[Any]) -> None:
    """What one of them changes neither the others see nor who started them."""

    async def main() -> list[str]:
        current.set("mine")
        return [*await prefect.gather(change, change), current.get()]

    assert contextvars.copy_context().run(anywhere, main) == ["mine", "mine", "mine"]
