"""What flytekit's documents of `flytekit.utils.asyn` say in words holds for `syncline.compat.flytekit`.

Each docstring gives the sentence in short. What test_compat_flytekit*.py has is not repeated: keys of the runner map,
nesting, errors, many runners, cleanup at exit. What its users' tests patch is at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import pickle
import threading
import typing
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest

from child import run_script
from flytekit_code import async_add, key_of, manager
from places import ONE_BY_ONE, in_thread, own_loop, own_thread, side_by_side
from syncline.compat import flytekit
from syncline.compat.flytekit import _AsyncLoopManager, _TaskRunner

__all__ = ["manager"]

pytestmark = pytest.mark.timeout(30)

Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]


@pytest.fixture
def runner() -> Iterator[_TaskRunner]:
    """A runner of the test's own, closed at the end."""
    runner = _TaskRunner()
    yield runner
    runner._close()


async def fail_later() -> asyncio.AbstractEventLoop:
    """Has a callback of its loop fail, and lets that happen."""
    loop = asyncio.get_running_loop()
    loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    return loop


# The module's directory


def test_the_modules_other_names_are_the_librarys() -> None:
    """ "Classes: Any, ParamSpec, TypeVar. Methods: contextmanager. Variables: P, T, logger, loop_manager"."""
    assert flytekit.Any is typing.Any
    assert flytekit.ParamSpec is typing.ParamSpec
    assert flytekit.TypeVar is typing.TypeVar
    assert flytekit.contextmanager is contextlib.contextmanager
    assert isinstance(flytekit.P, typing.ParamSpec)
    assert isinstance(flytekit.T, typing.TypeVar)
    assert isinstance(flytekit.logger, logging.Logger)
    assert isinstance(flytekit.loop_manager, _AsyncLoopManager)


def test_parameters_of_types_are_introspected_and_pickled() -> None:
    """ "P.__name__ is 'P'" and "only those defined in the global scope can be pickled", as P and T are."""
    assert (flytekit.P.__name__, flytekit.T.__name__) == ("P", "T")
    assert pickle.loads(pickle.dumps((flytekit.P, flytekit.T))) == (flytekit.P, flytekit.T)
    Local = flytekit.ParamSpec("Local")  # noqa: N806
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(Local)


def test_any_is_not_for_instance_checks() -> None:
    """ "At runtime, Any should not be used with instance checks": Python refuses it."""
    with pytest.raises(TypeError):
        isinstance(1, flytekit.Any)


def test_the_context_manager_is_as_typically_used() -> None:
    """ "This makes this equivalent to this": setup, the body with the value, cleanup also after an error."""
    steps = []

    @flytekit.contextmanager
    def some_generator(value: str) -> Iterator[str]:
        steps.append("setup")
        try:
            yield value
        finally:
            steps.append("cleanup")

    def body() -> None:
        with some_generator("value") as variable:
            steps.append(variable)
            raise ValueError("body")

    with pytest.raises(ValueError, match="body"):
        body()
    assert steps == ["setup", "value", "cleanup"]


# Core capabilities


@pytest.mark.parametrize("how", ["run_sync", "synced"])
def test_a_call_waits_for_the_result(manager: _AsyncLoopManager, how: str) -> None:
    """ "Execute an asynchronous coroutine and wait for its result directly", blocking the calling thread till then."""
    begun, may_end = threading.Event(), threading.Event()

    async def fetch(url: str) -> str:
        begun.set()
        while not may_end.is_set():
            await asyncio.sleep(0)
        return f"Data from {url}"

    call = functools.partial(manager.run_sync, fetch) if how == "run_sync" else manager.synced(fetch)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(call, "here")
        assert begun.wait(10)
        assert not result.done()
        may_end.set()
        assert result.result(10) == "Data from here"


def test_synced_suits_code_that_expects_sync_functions(manager: _AsyncLoopManager) -> None:
    """ "Useful for frameworks that expect synchronous function signatures": `map`, `sorted`, an executor, a class."""

    @manager.synced
    async def negative(number: int) -> int:
        await asyncio.sleep(0)
        return -number

    assert list(map(negative, [1, 2])) == [-1, -2]
    assert sorted([1, 2], key=negative) == [2, 1]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(negative, [1, 2])) == [-1, -2]


@pytest.mark.parametrize("how", ["run_sync", "synced"])
def test_a_nested_call_blocks_the_loop_that_makes_it(manager: _AsyncLoopManager, how: str) -> None:
    """ "Blocks the calling thread until the coroutine completes", a loop's thread, too: its tasks take no turn.

    flytekit's own tests need that: sync code of two tasks pushes to one stack, and pops after such a call.
    """

    def nested(fn: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if how == "run_sync":
            manager.run_sync(fn)
        else:
            manager.synced(fn)()

    assert manager.run_sync(side_by_side, nested) == ONE_BY_ONE
    assert asyncio.run(side_by_side(nested)) == ONE_BY_ONE
    assert (
        manager.run_sync(lambda: side_by_side(lambda fn: manager.run_sync(side_by_side, nested)))
        == ONE_BY_ONE
    )


# Architectural overview


def test_a_runner_has_one_loop_on_one_background_thread(runner: _TaskRunner) -> None:
    """ "Managing a single asyncio event loop on a dedicated background threading.Thread"."""
    thread = runner.run(own_thread())
    assert isinstance(thread, threading.Thread)
    assert thread in threading.enumerate()
    assert thread is not threading.current_thread()
    assert isinstance(runner.run(own_loop()), asyncio.AbstractEventLoop)
    assert in_thread(lambda: (runner.run(own_thread()), runner.run(own_loop()))) == (
        thread,
        runner.run(own_loop()),
    )


def test_a_loop_runs_for_ever_until_it_is_stopped(manager: _AsyncLoopManager) -> None:
    """ "Runs indefinitely until explicitly stopped": then thread and loop end. (The next call has a new loop.)"""
    loop, thread = manager.run_sync(own_loop), manager.run_sync(own_thread)
    turned = threading.Event()
    loop.call_soon_threadsafe(loop.call_later, 0.001, turned.set)
    assert turned.wait(10)  # with no call in flight
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    assert not thread.is_alive()
    assert loop.is_closed()
    assert manager.run_sync(own_loop) is not loop


def test_each_thread_has_a_loop_of_its_own(manager: _AsyncLoopManager) -> None:
    """ "Preventing contention": a coroutine that blocks one thread's loop doesn't hold up another thread's."""
    # Interleaving: both coroutines block their loop until the other has begun, so they need two.
    both = threading.Barrier(2)

    async def block() -> asyncio.AbstractEventLoop:
        both.wait(10)
        return asyncio.get_running_loop()

    with ThreadPoolExecutor(2) as pool:
        loops = [call.result(20) for call in [pool.submit(manager.run_sync, block) for _ in range(2)]]
    assert loops[0] is not loops[1]


def test_a_runner_that_exists_for_the_thread_is_used(manager: _AsyncLoopManager) -> None:
    """ "Checks if a _TaskRunner already exists for the current thread": also one that somebody put there."""
    runner = manager._runner_map[key_of("MainThread")] = _TaskRunner()
    assert manager.run_sync(own_loop) is runner.run(own_loop())
    assert list(manager._runner_map.values()) == [runner]


# Exception handling


def test_a_runner_sets_a_handler_that_logs_errors(
    runner: _TaskRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """ "Any unhandled exceptions are caught by this handler and logged as errors"; the loop goes on."""
    loop = runner.run(fail_later())
    assert loop.get_exception_handler() is not None
    assert [record.levelno for record in caplog.records if record.name == flytekit.logger.name] == [
        logging.ERROR
    ]
    assert runner.run(own_loop()) is loop


def test_the_loop_after_a_stopped_one_has_the_handler_too(manager: _AsyncLoopManager) -> None:
    """Whoever calls: the manager, which asks its runner, or the runner itself."""
    seen: list[Any] = []

    class Runner(_TaskRunner):
        def get_exc_handler(self) -> Handler:
            return lambda _loop, context: seen.append(context["exception"])

    manager._runner_map[key_of("MainThread")] = Runner()
    for calls in range(1, 3):
        loop, thread = manager.run_sync(fail_later), manager.run_sync(own_thread)
        assert [type(error) for error in seen] == [ZeroDivisionError] * calls
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def test_a_forked_childs_loop_has_the_handler_too() -> None:
    """Of a runner that its parent has used."""
    finished = run_script(
        """
        import asyncio, os
        from syncline.compat.flytekit import _TaskRunner

        class Runner(_TaskRunner):
            def get_exc_handler(self):
                return lambda loop, context: print(repr(context["exception"]), flush=True)

        async def fail_later():
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(0)

        runner = Runner()
        runner.run(fail_later())
        child = os.fork()
        runner.run(fail_later())
        if child:
            os.waitpid(child, 0)
        """,
        flags=("-W", "ignore::DeprecationWarning"),  # of a fork beside threads
    )
    finished.assert_clean()
    assert finished.lines == ["ZeroDivisionError('division by zero')"] * 3


# Considerations and best practices


@pytest.mark.parametrize("in_flight", [False, True], ids=["at rest", "in flight"])
def test_daemon_threads_end_with_the_main_program(in_flight: bool) -> None:
    """ "They will automatically terminate when the main program exits, even if they are still running"."""
    finished = run_script(
        f"""
        import asyncio, threading
        from syncline.compat.flytekit import run_sync

        begun = threading.Event()

        async def forever():
            begun.set()
            while {in_flight}:
                await asyncio.sleep(0)

        threading.Thread(target=run_sync, args=(forever,), daemon=True).start()
        begun.wait(20)
        """
    )
    finished.assert_clean()


def test_a_blocked_loop_is_given_up_at_exit() -> None:
    """Once, with one message, after the time that cleanup may take."""
    finished = run_script(
        """
        import functools, threading
        from syncline.compat import flytekit

        flytekit.Bridge = functools.partial(flytekit.Bridge, cleanup_timeout=0.1)
        begun = threading.Event()

        async def block():
            begun.set()
            threading.Event().wait()

        threading.Thread(target=flytekit.run_sync, args=(block,), name="stuck", daemon=True).start()
        begun.wait(20)
        """
    )
    assert finished.status == 0
    assert finished.err.count("does not end") == finished.err.count("stuck : loop-runner") == 1


def test_the_loop_is_stopped_when_the_program_exits() -> None:
    """ "To ensure its asyncio event loop is properly stopped when the program exits"; it is closed, too."""
    finished = run_script(
        """
        import asyncio, atexit

        def report():
            print(loop.is_running(), loop.is_closed())

        atexit.register(report)  # before anything of ours is, so that it runs after that
        from syncline.compat.flytekit import _TaskRunner

        async def own_loop():
            return asyncio.get_running_loop()

        runner = _TaskRunner()
        loop = runner.run(own_loop())
        """
    )
    finished.assert_clean()
    assert finished.lines == ["False True"]


def test_deep_recursion_hits_the_warning_of_many_runners(
    manager: _AsyncLoopManager, caplog: pytest.LogCaptureFixture
) -> None:
    """ "Repeatedly calling run_sync or synced in a deeply recursive call stack can hit the 'many runners' warning"."""

    async def down(level: int) -> int:
        return 1 + manager.synced(down)(level - 1) if level else 0

    # Runners that were never called have no thread: they stand for the first 490 levels.
    manager._runner_map.update({f"level-{number}": _TaskRunner() for number in range(490)})
    assert manager.run_sync(down, 9) == 9
    assert caplog.records == []
    assert manager.run_sync(down, 10) == 10
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "runaway recursion" in record.message


# What users patch and subclass


def test_a_subclass_in_the_place_of_the_runner_is_used(manager: _AsyncLoopManager) -> None:
    """Its methods are called: once `__init__` and `get_exc_handler`, `run` for each call, `_close` with its thread."""
    calls: list[str] = []

    class Runner(_TaskRunner):
        def __init__(self) -> None:
            calls.append("init")
            super().__init__()

        def get_exc_handler(self) -> Handler:
            calls.append("handler")
            return super().get_exc_handler()

        def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
            calls.append("run")
            return super().run(coro)

        def _close(self) -> None:
            calls.append("close")
            super()._close()

    with mock.patch.object(flytekit, "_TaskRunner", Runner):
        assert in_thread(lambda: [manager.run_sync(async_add, 1, 2), manager.synced(async_add)(1, b=3)]) == [
            3,
            4,
        ]
    assert calls == ["init", "run", "handler", "run", "close"]


def test_a_runner_need_only_have_run(manager: _AsyncLoopManager) -> None:
    """Anything in the place of `_TaskRunner` is made once for a thread and kept, be it a mock."""

    class Runner:
        run = staticmethod(asyncio.run)

    for make in (mock.Mock(side_effect=Runner), mock.Mock(side_effect=lambda: mock.Mock(run=asyncio.run))):
        with mock.patch.object(flytekit, "_TaskRunner", make):
            assert in_thread(lambda: [manager.run_sync(async_add, 1, n) for n in range(2)]) == [1, 2]
        assert make.call_count == 1


def test_a_patched_run_is_called(manager: _AsyncLoopManager) -> None:
    """With the runner and the coroutine, by both ways to call."""

    def run(_self: _TaskRunner, coro: Coroutine[Any, Any, Any]) -> str:
        coro.close()
        return "patched"

    with mock.patch.object(_TaskRunner, "run", run):
        assert manager.run_sync(async_add, 1, 2) == manager.synced(async_add)(1, 2) == "patched"  # type: ignore[comparison-overlap]


def test_a_patched_or_overridden_manager_is_asked_by_synced(manager: _AsyncLoopManager) -> None:
    """`synced` calls `run_sync` of the manager at each call."""
    add = manager.synced(async_add)
    with mock.patch.object(manager, "run_sync", return_value=7) as run_sync:
        assert add(1, b=2) == 7
    run_sync.assert_called_once_with(async_add, 1, b=2)

    class Manager(_AsyncLoopManager):
        def run_sync(self, coro_func: Any, *args: Any, **kwargs: Any) -> Any:
            return -super().run_sync(coro_func, *args, **kwargs)

    assert in_thread(lambda: Manager().synced(async_add)(1, b=2)) == -3


def test_a_handler_of_one_object_is_used(runner: _TaskRunner) -> None:
    """Set on the runner before its first call, as in a test."""
    handler = mock.Mock()
    with mock.patch.object(runner, "get_exc_handler", return_value=handler):
        loop = runner.run(fail_later())
    ((seen, context), _) = handler.call_args
    assert seen is loop
    assert isinstance(context["exception"], ZeroDivisionError)


def test_the_map_may_be_replaced(manager: _AsyncLoopManager) -> None:
    """By a plain dict, for as long as a test lasts."""
    before = manager._runner_map
    with mock.patch.object(manager, "_runner_map", {}):
        loop = manager.run_sync(own_loop)
        assert list(manager._runner_map) == [key_of("MainThread")]
        manager._runner_map[key_of("MainThread")]._close()
    assert loop.is_closed()
    assert manager._runner_map is before
    assert manager._runner_map == {}
