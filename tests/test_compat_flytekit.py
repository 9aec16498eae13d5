"""`syncline.compat.flytekit` does what flytekit's documents say of `flytekit.utils.asyn`, and never hangs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from unittest import mock

import pytest

import syncline
from flytekit_code import async_add, key_of, manager
from places import in_thread, own_loop, own_thread
from syncline.compat import flytekit
from syncline.compat.flytekit import _AsyncLoopManager, _selector_policy, _TaskRunner, loop_manager, run_sync

__all__ = ["manager"]

T = TypeVar("T")
LOGGER = "syncline.compat.flytekit"
pytestmark = pytest.mark.timeout(30)
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def runner() -> Iterator[_TaskRunner]:
    """A runner of the test's own, closed at the end."""
    runner = _TaskRunner()
    yield runner
    runner._close()


# The surface


@pytest.mark.parametrize(
    "name",
    [
        *("Any", "ParamSpec", "TypeVar", "P", "T", "contextmanager", "logger", "loop_manager"),
        *("run_sync", "_selector_policy", "_AsyncLoopManager", "_TaskRunner"),
    ],
)
def test_every_documented_name_is_there(name: str) -> None:
    """A changed import is enough, whatever is imported."""
    assert hasattr(flytekit, name)


def test_the_signatures_are_flytekits() -> None:
    """Parameters have the same names and can be given by them."""

    def parameters(fn: Callable[..., Any]) -> list[str]:
        return list(inspect.signature(fn).parameters)

    assert parameters(run_sync) == parameters(loop_manager.run_sync) == ["coro_func", "args", "kwargs"]
    assert parameters(loop_manager.synced) == ["coro_func"]
    assert parameters(_TaskRunner) == parameters(_AsyncLoopManager) == []
    assert parameters(_TaskRunner().run) == ["coro"]
    assert parameters(_TaskRunner().get_exc_handler) == parameters(_TaskRunner()._close) == []
    assert isinstance(loop_manager, _AsyncLoopManager)


def test_run_sync_passes_arguments_and_returns_the_result() -> None:
    """The example of the module's own documentation."""
    assert run_sync(async_add, a=10, b=12) == 22
    assert run_sync(async_add, 10, 12) == loop_manager.run_sync(async_add, 10, b=12) == 22


def test_run_sync_takes_any_function_that_returns_an_awaitable(manager: _AsyncLoopManager) -> None:
    """As in flytekit it is called in the calling thread, be it a partial, a lambda or a plain function."""
    called: list[threading.Thread] = []

    def plain(a: int) -> Any:
        called.append(threading.current_thread())
        return async_add(a, 1)

    assert manager.run_sync(plain, 1) == 2
    assert called == [threading.current_thread()]
    assert manager.run_sync(functools.partial(async_add, 1), 2) == 3
    assert manager.run_sync(lambda: async_add(2, 2)) == 4


def test_synced_makes_a_sync_function_that_looks_like_the_original(manager: _AsyncLoopManager) -> None:
    """Name, docstring and signature are kept, and the result is returned."""
    add = manager.synced(async_add)
    assert add(1, b=2) == 3
    assert (add.__name__, add.__doc__) == ("async_add", async_add.__doc__)
    assert inspect.signature(add) == inspect.signature(async_add)
    assert not inspect.iscoroutinefunction(add)


def test_synced_makes_methods(manager: _AsyncLoopManager) -> None:
    """Both ways in which flytekit itself uses it: as a decorator, and beside the async method."""

    class Store:
        def __init__(self, data: str) -> None:
            self.data = data

        async def async_get(self) -> str:
            await asyncio.sleep(0)
            return self.data

        get = manager.synced(async_get)

        @manager.synced
        async def put(self, data: str) -> None:
            self.data = data

    store = Store("old")
    store.put("new")
    assert store.get() == "new"


def test_the_selector_policy_leaves_the_policy_alone() -> None:
    """It is as it was during and after, and nothing deprecated is used."""

    def policy() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return asyncio.get_event_loop_policy()

    before = policy()
    with _selector_policy():
        loop = asyncio.new_event_loop()
        loop.close()
        assert os.name == "nt" or policy() is before
    assert isinstance(loop, asyncio.SelectorEventLoop)
    assert policy() is before


# Errors


def test_an_error_arrives_as_the_same_object(manager: _AsyncLoopManager) -> None:
    """Through both ways to call, and from an error in the call itself."""
    error = ValueError("from inside")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise error

    for call in (manager.synced(fail), lambda: manager.run_sync(fail)):
        with pytest.raises(ValueError, match="from inside") as caught:
            call()
        assert caught.value is error
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        manager.run_sync(async_add, 1)  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_a_base_exception_reaches_the_caller_and_the_loop_lives_on(
    manager: _AsyncLoopManager, kind: type[BaseException]
) -> None:
    """In flytekit the first two end the loop, and the next call hangs (cases 48, 49)."""

    async def fail() -> None:
        raise kind

    loop = manager.run_sync(own_loop)
    with pytest.raises(kind):
        manager.run_sync(fail)
    assert manager.run_sync(own_loop) is loop


def test_wrong_use_is_explained(manager: _AsyncLoopManager) -> None:
    """A sync function and an async generator function are no async functions."""

    def load() -> int:
        return 1

    async def numbers() -> Any:
        yield 1

    with pytest.raises(TypeError, match=r"got the sync function 'load'; call it directly: load\(\.\.\.\)"):
        manager.run_sync(load)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="async generator function 'numbers'"):
        manager.run_sync(numbers)


def test_unhandled_errors_are_logged_and_the_loop_lives_on(
    manager: _AsyncLoopManager, caplog: pytest.LogCaptureFixture
) -> None:
    """A callback's, and a task's that nobody awaits: with the runner's name and the traceback."""

    async def fail_later() -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: 1 / 0)
        _task = asyncio.create_task(fail())  # noqa: RUF006
        return loop

    async def fail() -> None:
        raise ValueError("nobody awaits me")

    loop = manager.run_sync(fail_later)
    assert manager.run_sync(own_loop) is loop
    gc.collect()
    records = [record for record in caplog.records if record.name == LOGGER]
    assert [record.levelno for record in records] == [logging.ERROR, logging.ERROR]
    assert all("Taskrunner for MainThread : loop-runner caught exception in" in r.message for r in records)
    kinds = [record.exc_info[0] for record in records if record.exc_info]
    assert kinds == [ZeroDivisionError, ValueError]


def test_get_exc_handler_decides_what_happens_to_unhandled_errors(runner: _TaskRunner) -> None:
    """It is asked for the handler before the first coroutine runs, so that it can be replaced."""
    handler = mock.Mock()

    async def fail_later() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

    with mock.patch.object(_TaskRunner, "get_exc_handler", return_value=handler):
        runner.run(fail_later())
    (loop, context), _ = handler.call_args
    assert runner.run(own_loop()) is loop
    assert isinstance(context["exception"], ZeroDivisionError)


def test_the_handler_of_an_unstarted_runner_can_be_called(caplog: pytest.LogCaptureFixture) -> None:
    """It logs, and says that there is no thread."""
    loop = mock.Mock(spec=asyncio.AbstractEventLoop)
    _TaskRunner().get_exc_handler()(loop, {"message": "it broke"})
    assert "Taskrunner for no thread caught exception" in caplog.text
    assert "it broke" in caplog.text


def test_a_coroutine_whose_runner_can_not_start_is_closed(runner: _TaskRunner) -> None:
    """No "never awaited" (which would fail this test)."""
    coroutine = async_add(1, 2)
    with (
        mock.patch.object(_TaskRunner, "get_exc_handler", side_effect=OSError("no start")),
        pytest.raises(OSError, match="no start"),
    ):
        runner.run(coroutine)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED
    assert runner.run(async_add(1, 2)) == 3


# Runners of threads


def test_a_runner_is_a_daemon_thread_named_after_its_caller(manager: _AsyncLoopManager) -> None:
    """So threading.enumerate() tells whom a loop serves, and no loop holds up the exit."""
    thread = in_thread(lambda: manager.run_sync(own_thread), name="boss")
    assert thread.name == "boss : loop-runner"
    assert thread.daemon


def test_the_runner_map_has_thread_name_and_pid_as_key(manager: _AsyncLoopManager) -> None:
    """One runner for each thread, the same in each of its calls."""
    assert manager._runner_map == {}
    loops = {manager.run_sync(own_loop) for _ in range(3)}
    assert list(manager._runner_map) == [key_of("MainThread")]
    assert isinstance(manager._runner_map[key_of("MainThread")], _TaskRunner)

    def other() -> None:
        loops.update(manager.run_sync(own_loop) for _ in range(3))
        assert list(manager._runner_map) == [key_of("MainThread"), key_of("other")]

    in_thread(other, name="other")
    assert len(loops) == 2


def test_what_one_call_made_the_next_call_uses(manager: _AsyncLoopManager) -> None:
    """A queue stays usable and a background task advances between the calls of a thread (cases 25, 26)."""
    filled = threading.Event()

    async def start() -> tuple[asyncio.Queue[str], asyncio.Task[None]]:
        queue = asyncio.Queue[str]()

        async def background() -> None:
            await asyncio.sleep(0.001)
            await queue.put("by the background task")
            filled.set()

        return queue, asyncio.create_task(background())

    queue, task = manager.run_sync(start)
    assert filled.wait(10)  # no call is in flight meanwhile
    assert manager.run_sync(queue.get) == "by the background task"
    assert manager.run_sync(lambda: task) is None


# Nesting


@pytest.mark.parametrize("depth", [5, 50])
def test_nested_calls_work(manager: _AsyncLoopManager, depth: int) -> None:
    """By run_sync and synced in turn, and the second time on the same threads (cases 3, 4)."""
    threads: set[threading.Thread] = set()

    async def down(level: int) -> int:
        await asyncio.sleep(0)
        threads.add(threading.current_thread())
        return sync_down(level - 1) + 1 if level else 0

    def sync_down(level: int) -> int:
        return manager.run_sync(down, level) if level % 2 else manager.synced(down)(level)

    assert sync_down(depth) == depth
    assert sync_down(depth) == depth
    assert len(threads) == depth + 1
    names = ["MainThread" + " : loop-runner" * level for level in range(depth + 1)]
    assert sorted(manager._runner_map) == sorted(map(key_of, names))


def test_a_call_inside_a_running_loop_works(manager: _AsyncLoopManager) -> None:
    """asyncio.run and a sync helper that calls run_sync (case 1)."""

    def helper() -> asyncio.AbstractEventLoop:
        return manager.run_sync(own_loop)

    async def main() -> None:
        assert helper() is not asyncio.get_running_loop()
        assert helper() is manager.run_sync(own_loop)

    asyncio.run(main())


def test_a_call_from_an_executor_thread_of_the_loop_works(manager: _AsyncLoopManager) -> None:
    """run_sync -> run_in_executor -> run_sync."""

    async def outer() -> int:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, manager.run_sync, async_add, 10, 12)

    assert manager.run_sync(outer) == 22


def test_contextvars_reach_the_coroutine_and_its_changes_stay_there(manager: _AsyncLoopManager) -> None:
    """As in flytekit, also through a nested call (case 74)."""

    async def read_and_change(nested: bool) -> list[str]:
        seen = [variable.get()]
        variable.set(f"changed in {seen[0]}")
        return seen + manager.run_sync(read_and_change, False) if nested else seen

    token = variable.set("caller")
    assert manager.run_sync(read_and_change, True) == ["caller", "changed in caller"]
    assert variable.get() == "caller"
    variable.reset(token)


# One runner


def test_a_runner_starts_with_its_first_call(runner: _TaskRunner) -> None:
    """Making one costs no thread, and closing one that never ran does nothing."""
    before = set(threading.enumerate())
    runner._close()
    assert set(threading.enumerate()) <= before
    assert runner.run(async_add(1, 2)) == 3
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["MainThread : loop-runner"]


def test_a_runner_has_one_loop_for_all_threads(runner: _TaskRunner) -> None:
    """Also for eight that make its first call together (case 64)."""
    together = threading.Barrier(8)

    def first_call() -> asyncio.AbstractEventLoop:
        together.wait(10)
        loop: asyncio.AbstractEventLoop = runner.run(own_loop())
        return loop

    with ThreadPoolExecutor(8) as pool:
        loops = {job.result() for job in [pool.submit(first_call) for _ in range(8)]}
    assert loops == {runner.run(own_loop())}


def test_a_runner_called_on_its_own_loop_does_not_deadlock(runner: _TaskRunner) -> None:
    """flytekit waits for itself for ever (case 15)."""

    async def outer() -> int:
        return runner.run(async_add(1, 2)) + 1  # type: ignore[no-any-return]

    assert runner.run(outer()) == 4


def test_closing_a_runner_ends_its_calls_and_its_thread(runner: _TaskRunner) -> None:
    """A call in flight is cancelled and its caller told; so is the next caller; nobody hangs (case 34)."""
    begun, tidied = threading.Event(), threading.Event()

    async def forever() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            tidied.set()

    thread = runner.run(own_thread())
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: runner.run(forever()))
        assert begun.wait(10)
        runner._close()
        with pytest.raises(syncline.RunnerClosedError):
            call.result(10)
    assert tidied.is_set()
    assert not thread.is_alive()
    with pytest.raises(syncline.RunnerClosedError):
        runner.run(async_add(1, 2))


def test_a_manager_replaces_a_closed_runner(manager: _AsyncLoopManager) -> None:
    """Also if it is closed by a coroutine that runs on it, which is cancelled by that (case 34)."""

    async def close() -> None:
        manager._runner_map[key_of("MainThread")]._close()
        await asyncio.sleep(3600)

    loop = manager.run_sync(own_loop)
    with pytest.raises(syncline.RunnerClosedError):
        manager.run_sync(close)
    assert manager.run_sync(own_loop) is not loop
    assert len(manager._runner_map) == 1


def test_all_runners_can_be_closed_and_deleted_by_key(manager: _AsyncLoopManager) -> None:
    """As flytekit's own tests do, though closing one takes the entries of its nested ones along."""

    async def nest(depth: int) -> asyncio.AbstractEventLoop:
        return manager.run_sync(nest, depth - 1) if depth else asyncio.get_running_loop()

    loop = manager.run_sync(nest, 3)
    for key in list(manager._runner_map):
        manager._runner_map[key]._close()
        del manager._runner_map[key]
    assert manager._runner_map == {}
    assert loop.is_closed()
    assert manager.run_sync(nest, 3) is not loop
