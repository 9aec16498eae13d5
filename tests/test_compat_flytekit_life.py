"""The flytekit layer over the life of threads and processes: nothing piles up, no fork and no exit hangs."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from child import DEV, FORKS, Child, eventually, run_script
from flytekit_code import async_add, key_of, manager
from places import in_thread, own_loop, own_thread
from syncline.compat.flytekit import _AsyncLoopManager, _TaskRunner

__all__ = ["manager"]

pytestmark = pytest.mark.timeout(60)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


# Threads that end


@pytest.mark.usefixtures("leaks_nothing")
def test_200_short_threads_leave_nothing(manager: _AsyncLoopManager) -> None:
    """No thread, descriptor or entry is left when they have been joined; flytekit keeps all (case 62)."""
    loops = [in_thread(lambda: manager.run_sync(own_loop), name=f"short-{number}") for number in range(200)]
    assert manager._runner_map == {}
    assert manager._claims == {}
    assert all(loop.is_closed() for loop in loops)


@pytest.mark.usefixtures("leaks_nothing")
def test_the_nested_runners_of_an_ended_thread_go_too(manager: _AsyncLoopManager) -> None:
    """The end of each loop thread gives back the runner one level deeper (cases 4, 62)."""

    async def nest(depth: int) -> int:
        return manager.run_sync(nest, depth - 1) if depth else len(manager._runner_map)

    assert in_thread(lambda: manager.run_sync(nest, 20)) == 21
    assert eventually(lambda: manager._runner_map == {})


def test_threads_that_share_a_name_are_independent(manager: _AsyncLoopManager) -> None:
    """They have runners of their own, whose keys begin with the name; flytekit gives both one (case 63)."""
    # Interleaving: both coroutines block their loop until the other has begun, which takes two loops.
    both = threading.Barrier(2)

    async def meet() -> asyncio.AbstractEventLoop:
        both.wait(10)
        return asyncio.get_running_loop()

    def work() -> tuple[asyncio.AbstractEventLoop, set[str]]:
        loop = manager.run_sync(meet)
        both.wait(10)
        keys = set(manager._runner_map)
        both.wait(10)
        return loop, keys

    with ThreadPoolExecutor(2) as pool:
        (loop, keys), (other_loop, _) = pool.map(lambda _: in_thread(work, name="same"), range(2))
    assert loop is not other_loop
    assert keys == {key_of("same"), key_of("same") + "#2"}
    assert manager._runner_map == {}


def test_a_thread_gets_no_loop_of_an_ended_namesake(manager: _AsyncLoopManager) -> None:
    """The name and its key are free again, the loop is a new one (cases 19, 63)."""

    def work() -> asyncio.AbstractEventLoop:
        loop = manager.run_sync(own_loop)
        assert list(manager._runner_map) == [key_of("worker")]
        assert not loop.is_closed()
        return loop

    assert len({in_thread(work, name="worker") for _ in range(5)}) == 5


def test_pending_tasks_of_an_ended_thread_are_cleaned_up(manager: _AsyncLoopManager) -> None:
    """Their finally has run when the thread is joined (case 62)."""
    tidied: list[bool] = []

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            tidied.append(True)

    async def start() -> None:
        _task = asyncio.create_task(background())  # noqa: RUF006
        await asyncio.sleep(0)

    in_thread(lambda: manager.run_sync(start))
    assert tidied == [True]


def test_more_than_500_runners_are_warned_of(
    manager: _AsyncLoopManager, caplog: pytest.LogCaptureFixture
) -> None:
    """At the 501st; only living ones count."""
    # Runners that were never called have no thread: enough for the count.
    manager._runner_map.update({f"thread-{number}PID:0": _TaskRunner() for number in range(499)})
    for _ in range(20):
        in_thread(lambda: manager.run_sync(async_add, 1, 2))
    assert manager.run_sync(async_add, 1, 2) == 3
    assert "event loop runners" not in caplog.text
    assert in_thread(lambda: manager.run_sync(async_add, 1, 2)) == 3
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("syncline.compat.flytekit", logging.WARNING)
    assert record.message.startswith("More than 500 event loop runners")


@pytest.mark.usefixtures("leaks_nothing")
def test_a_dropped_manager_takes_its_runners_along() -> None:
    """Its threads and loops end though nobody closed them."""
    manager = _AsyncLoopManager()
    thread = manager.run_sync(own_thread)
    del manager
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()


# Fork


@needs_fork
def test_a_forked_child_has_runners_of_its_own() -> None:
    """Calls before and after, in parent and child, while another thread's runner exists too (case 80)."""
    script = """\
        import asyncio, os, sys, threading
        from syncline.compat.flytekit import loop_manager, run_sync

        async def double(n):
            await asyncio.sleep(0)
            return 2 * n

        def other_thread():
            run_sync(double, 1)
            called.set()
            go_on.wait()
            assert run_sync(double, 3) == 6

        called, go_on = threading.Event(), threading.Event()
        thread = threading.Thread(target=other_thread, name="other")
        thread.start()
        called.wait()
        assert run_sync(double, 2) == 4
        assert len(loop_manager._runner_map) == 2
        child = os.fork()
        if child == 0:
            assert loop_manager._runner_map == {}
            assert run_sync(double, 4) == 8
            assert list(loop_manager._runner_map) == [f"MainThreadPID:{os.getpid()}"]
            print("child", flush=True)
            sys.exit()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert run_sync(double, 5) == 10
        go_on.set()
        thread.join()
        assert list(loop_manager._runner_map) == [f"MainThreadPID:{os.getpid()}"]
        print("parent")
        """
    finished = run_script(script, flags=FORKS)
    finished.assert_clean()
    assert finished.lines == ["child", "parent"]


@needs_fork
def test_a_fork_out_of_a_nested_call_works() -> None:
    """The child's only thread drove a loop of its parent's, and calls from there (case 80)."""
    script = """\
        import asyncio, os
        from syncline.compat.flytekit import run_sync

        async def answer():
            await asyncio.sleep(0)
            return 42

        async def fork():
            child = os.fork()
            if child == 0:
                os._exit(run_sync(answer))
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), run_sync(answer)

        print(run_sync(fork))
        """
    finished = run_script(script, flags=FORKS)
    finished.assert_clean()
    assert finished.lines == ["(42, 42)"]


# Exit and signals


@pytest.mark.parametrize("flags", [(), DEV], ids=["plain", "dev"])
def test_exit_cleans_up_pending_tasks(flags: tuple[str, ...]) -> None:
    """A task's finally runs, also on a nested runner: status 0, nothing printed (cases 84, 87)."""
    script = """\
        import asyncio
        from syncline.compat.flytekit import run_sync

        async def background(name):
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                print(f"tidied {name}\\n", end="")  # in one piece: two threads print

        async def start(name, depth):
            tasks.append(asyncio.create_task(background(name)))
            await asyncio.sleep(0)
            if depth:
                run_sync(start, "nested", depth - 1)

        tasks = []
        run_sync(start, "outer", 1)
        """
    finished = run_script(script, flags=flags)
    finished.assert_clean()
    assert sorted(finished.lines) == ["tidied nested", "tidied outer"]


def test_a_call_in_an_exit_hook_works() -> None:
    """Also the first of its thread, when no thread can be started any more; flytekit fails (case 82)."""
    script = """\
        import asyncio, atexit

        async def answer():
            await asyncio.sleep(0)
            return 42

        # Registered before syncline's own hook, and so called after it.
        atexit.register(lambda: print(run_sync(answer), loop_manager.synced(answer)()))
        from syncline.compat.flytekit import loop_manager, run_sync
        """
    finished = run_script(script, flags=DEV)
    finished.assert_clean()
    assert finished.lines == ["42 42"]


def test_a_call_from_a_finalizer_at_exit_does_not_hang() -> None:
    """It works or raises at once; flytekit hangs (case 83)."""
    script = """\
        import asyncio, os, sys, types
        from syncline.compat.flytekit import run_sync

        async def answer():
            await asyncio.sleep(0)
            return 42

        class Late:
            # What it needs is bound here: the module's globals may be gone by then.
            def __del__(self, run_sync=run_sync, answer=answer, write=os.write, error=RuntimeError):
                try:
                    result = run_sync(answer)
                except error:
                    result = "refused"
                write(1, f"{result}\\n".encode())

        run_sync(answer)
        module = sys.modules["module"] = types.ModuleType("module")
        module.late = Late()
        """
    finished = run_script(script)
    finished.assert_clean()
    assert finished.lines in (["42"], ["refused"])
    assert finished.seconds < 15


def test_a_thread_that_still_waits_does_not_hold_up_the_exit() -> None:
    """Its coroutine is cancelled and cleaned up, and the process ends (case 84)."""
    script = """\
        import asyncio, threading
        from syncline.compat.flytekit import run_sync

        async def forever():
            begun.set()
            try:
                await asyncio.sleep(3600)
            finally:
                print("tidied")

        begun = threading.Event()
        threading.Thread(target=run_sync, args=(forever,), daemon=True).start()
        begun.wait()
        """
    finished = run_script(script)
    finished.assert_clean()
    assert finished.lines == ["tidied"]


def test_ctrl_c_cancels_the_coroutine_and_lets_it_clean_up() -> None:
    """Its finally runs before KeyboardInterrupt is raised, and the next call works (case 44)."""
    script = """\
        import asyncio
        from syncline.compat.flytekit import run_sync

        async def forever():
            try:
                print("begun", flush=True)
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                print("tidied")

        try:
            run_sync(forever)
        except KeyboardInterrupt:
            print("interrupted")
        print(run_sync(asyncio.sleep, 0, "and on"))
        """
    with Child(script) as child:
        child.expect("begun")
        child.signal()
        finished = child.finish()
    finished.assert_clean()
    assert finished.lines == ["tidied", "interrupted", "and on"]
