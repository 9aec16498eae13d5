"""How an await of `run_async` ends when a loop, its bridge or the process does."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

import anyio
import pytest
import uvloop

import syncline
from child import FORKS, eventually, run_script
from remote_code import Anywhere, Cleaning, answer, until

LIMIT = 20.0


def test_cleanup_that_takes_too_long_is_left_behind(
    anywhere: Anywhere, make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """After `cleanup_timeout`, and that is logged."""
    bridge = make_bridge(cleanup_timeout=0.05)
    go_on = bridge.call(asyncio.Event)

    async def refuse() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()

    async def main() -> None:
        with anyio.move_on_after(0.01):
            await bridge.run_async(refuse)

    anywhere(main)
    assert "has not ended 0.05 s after it was cancelled" in caplog.text
    bridge.call(go_on.set)
    assert eventually(lambda: bridge.stats()["active"] == 0)


def test_closing_the_bridge_ends_it(anywhere: Anywhere, each_bridge: syncline.Bridge) -> None:
    """The task learns that the bridge was closed, after the coroutine's cleanup; so does whoever comes later."""
    cleaning = Cleaning()

    async def close() -> None:
        await cleaning.began()
        await syncline.to_thread(each_bridge.close)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(close)
            with pytest.raises(syncline.RunnerClosedError):
                await each_bridge.run_async(cleaning)
        with pytest.raises(syncline.RunnerClosedError, match="is closed"):
            await each_bridge.run_async(answer)

    anywhere(main)
    assert cleaning.is_clean


def test_a_loop_that_is_blocked_while_it_closes_frees_the_task(
    make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """Its thread can't tell anybody."""
    bridge = make_bridge(cleanup_timeout=0.05)
    blocks, go_on = threading.Event(), threading.Event()

    async def block() -> None:
        blocks.set()
        go_on.wait(20)

    async def main() -> None:
        task = asyncio.create_task(bridge.run_async(block))
        await until(blocks.is_set)
        await syncline.to_thread(bridge.close)
        with pytest.raises(syncline.RunnerClosedError):
            await task

    asyncio.run(main())
    go_on.set()
    assert "something blocks it" in caplog.text


def test_a_cancelled_call_whose_loop_was_just_starting_leaves_no_word(
    make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """The bridge is closed before its loop has begun to run, which nobody waits for any more."""
    starts, go_on = threading.Event(), threading.Event()

    def factory() -> asyncio.AbstractEventLoop:
        starts.set()
        go_on.wait(20)
        return asyncio.new_event_loop()

    bridge = make_bridge(loop_factory=factory)
    before = set(threading.enumerate())

    async def main() -> None:
        task = asyncio.create_task(bridge.run_async(answer))
        await until(starts.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        closing = threading.Thread(target=bridge.close)
        closing.start()
        await until(lambda: bridge.closed)
        go_on.set()
        closing.join(20)

    asyncio.run(main())
    assert eventually(lambda: set(threading.enumerate()) <= before)
    assert not [record for record in caplog.records if record.name == "syncline"]


def test_a_stopped_loop_ends_it(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Somebody calls `loop.stop()` on the bridge's loop; the next call has a new one."""
    bridge = make_bridge()

    async def stop() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.Event().wait()

    async def main() -> int:
        with pytest.raises(syncline.RunnerClosedError):
            await bridge.run_async(stop)
        return await bridge.run_async(answer)

    assert asyncio.run(main()) == 42


def test_an_awaiting_loop_that_is_closed_cancels_it(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody can be told any more; what it raises then is logged."""
    cleaning = Cleaning()
    loop = asyncio.new_event_loop()
    task = loop.create_task(syncline.run_async(cleaning))
    loop.run_until_complete(cleaning.began())
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    del task
    assert eventually(lambda: cleaning.is_clean)
    assert not [record for record in caplog.records if record.name == "syncline"]


def test_a_forgotten_bridge_lives_until_its_call_has_ended() -> None:
    """The await keeps its loop."""

    async def main() -> int:
        return await syncline.Bridge().run_async(answer, 3)

    assert asyncio.run(main()) == 42


def test_ctrl_c_cancels_it_and_its_cleanup_runs() -> None:
    """In a real process, by a real signal: asyncio cancels the main task."""
    script = """
        import asyncio, os, signal, syncline

        async def wait():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.05)
                print("clean", flush=True)

        try:
            asyncio.run(syncline.run_async(wait))
        except KeyboardInterrupt:
            print("interrupted")
    """
    done = run_script(script)
    done.assert_clean()
    assert done.lines == ["clean", "interrupted"]


def test_a_forked_child_has_loops_of_its_own() -> None:
    """The parent's await goes on, and the child makes calls of its own."""
    script = """
        import asyncio, os, syncline, threading

        async def where():
            await asyncio.sleep(0)
            return os.getpid()

        async def main():
            assert await syncline.run_async(where) == os.getpid()
            pid = os.fork()
            if not pid:
                # The loop is the parent's: Python 3.14 runs none of its callbacks any more.
                thread = threading.Thread(target=child)
                thread.start()
                thread.join()
                os._exit(not was_right)
            assert await syncline.run_async(where) == os.getpid()
            assert os.waitpid(pid, 0)[1] == 0

        def child():
            if asyncio.run(syncline.run_async(where)) == os.getpid():
                was_right.append(True)

        was_right = []
        asyncio.run(main())
    """
    run_script(script, flags=FORKS).assert_clean()


def test_at_exit_what_is_awaited_is_cancelled() -> None:
    """A daemon thread's loop awaits when the process ends."""
    script = """
        import asyncio, syncline, threading

        waits = threading.Event()

        async def wait():
            try:
                waits.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                print("clean", flush=True)

        async def main():
            try:
                await syncline.run_async(wait)
            except syncline.RunnerClosedError:
                pass

        threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
        waits.wait()
    """
    done = run_script(script)
    done.assert_clean()
    assert done.lines == ["clean"]


def test_an_error_that_comes_too_late_is_logged(
    make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """After the task has gone on without it."""
    bridge = make_bridge(cleanup_timeout=0.01)
    go_on, begun = bridge.call(asyncio.Event), threading.Event()

    async def refuse() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await go_on.wait()
            raise LookupError("late")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(bridge.run_async, refuse)
            await until(begun.is_set)
            group.cancel_scope.cancel()

    asyncio.run(main())
    bridge.call(go_on.set)
    assert eventually(lambda: "LookupError: late" in caplog.text)
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_a_call_that_ends_just_while_the_loop_that_awaits_it_is_closed_hangs_nobody() -> None:
    """The closing thread gives the call up, and the other one finds nobody to give its result to."""
    # Interleaving: in the middle of asking the call to end, the closing thread waits until the call has ended.
    done = run_script(
        """
        import asyncio, threading, syncline

        main, begun, ended = threading.get_ident(), threading.Event(), threading.Event()

        class Loop(asyncio.SelectorEventLoop):
            def call_soon_threadsafe(self, callback, *args, context=None):
                handle = super().call_soon_threadsafe(callback, *args, context=context)
                if closes and threading.get_ident() == main:
                    closes.clear()
                    ended.wait()
                return handle

        async def work():
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                asyncio.get_running_loop().call_soon(ended.set)

        async def until_begun():
            while not begun.is_set():
                await asyncio.sleep(0)

        closes = []
        bridge = syncline.Bridge(loop_factory=Loop)
        bridge.run_sync(asyncio.sleep, 0)
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # the task is pending, which is the point
        task = loop.create_task(bridge.run_async(work))
        loop.run_until_complete(until_begun())
        closes.append(True)
        loop.close()
        del task
        print("asked" if not closes else "never asked", ended.is_set())
        """
    )
    assert done.lines == ["asked True"], done


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_cancellation_between_an_end_and_its_notice_leaves_the_next_await_alone(
    run: Callable[..., object], make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """The task sees the end before its loop, which stands still then, has heard of it. The task goes on, and the loop
    is told of what comes later."""
    bridge = make_bridge()
    is_busy, may_go_on = threading.Event(), threading.Event()
    wakes_up: list[Callable[[], object]] = []

    def keep_busy() -> None:
        is_busy.set()
        while not may_go_on.is_set():  # without a wait, in which the thread would tell what it has to tell
            pass

    async def ends_before_others_run() -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def wake_up() -> None:
            future.set_result(None)
            loop.call_soon(keep_busy)  # in the same turn as the coroutine's end, after that

        wakes_up.append(lambda: loop.call_soon_threadsafe(wake_up))
        await future

    async def main() -> int:
        task = asyncio.create_task(bridge.run_async(ends_before_others_run))
        await until(lambda: bool(wakes_up))
        wakes_up[0]()
        assert is_busy.wait(LIMIT)  # Interleaving: this loop stands still until the coroutine has ended.
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        may_go_on.set()
        async with asyncio.timeout(LIMIT):
            return await bridge.run_async(answer)

    try:
        assert run(main()) == run(answer())
    finally:
        may_go_on.set()
