"""`Bridge(loop=...)`: a bridge onto a loop that somebody else runs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import pytest
import uvloop

import syncline
from child import FORKS, eventually, run_script
from hosts import KINDS, Host, hosted
from neutral import turn
from places import in_thread
from remote_code import Cleaning, answer

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(params=KINDS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with hosted(request.param) as one:
        yield one


@pytest.fixture
def bridge(host: Host) -> Iterator[syncline.Bridge]:
    with syncline.Bridge(loop=host.loop, name="onto") as one:
        yield one


async def own_ident() -> int:
    await turn()
    return threading.get_ident()


def test_calls_of_all_kinds_run_on_that_loop(host: Host, bridge: syncline.Bridge) -> None:
    """In its thread, from any other one."""
    assert bridge.run_sync(own_ident) == host.thread
    assert bridge.run(own_ident(), timeout=10) == host.thread
    assert bridge.submit(own_ident).result(10) == host.thread
    assert bridge.call(threading.get_ident) == host.thread
    assert bridge.synced(own_ident)() == host.thread
    assert asyncio.run(bridge.run_async(own_ident)) == host.thread
    assert in_thread(lambda: bridge.run_sync(own_ident)) == host.thread


def test_what_the_program_made_sync_code_uses(host: Host, bridge: syncline.Bridge) -> None:
    """The reason for such a bridge: the objects belong to the program's loop."""

    async def make() -> tuple[anyio.Event, anyio.Lock]:
        return anyio.Event(), anyio.Lock()

    event, lock = host.run(make)
    waiting = bridge.submit(event.wait)
    with bridge.enter(lock):
        bridge.call(event.set)
    waiting.result(10)


def test_steps_of_iterators_are_made_there(host: Host, bridge: syncline.Bridge) -> None:
    """Fetched ahead or not; and a generator that is left early is closed there."""
    closed: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(1000):
                await turn()
                yield number
        finally:
            closed.append(threading.get_ident())

    for prefetch in (0, 3):
        items = bridge.iterate(numbers(), prefetch=prefetch)
        assert [next(items) for _ in range(4)] == [0, 1, 2, 3]
        items.close()
    assert closed == [host.thread] * 2


def test_errors_and_context_variables_come_back(bridge: syncline.Bridge) -> None:
    """As for every call."""
    raised = [KeyError("known"), SystemExit(3)]

    async def fail(error: BaseException) -> None:
        variable.set("changed")
        await turn()
        raise error

    for error in raised:
        variable.set("before")
        with pytest.raises(type(error)) as caught:
            bridge.run_sync(fail, error)
        assert (caught.value, variable.get()) == (error, "changed")
    assert bridge.run_sync(answer) == 42


def test_timeouts_and_cancelled_futures_cancel(bridge: syncline.Bridge) -> None:
    """And the coroutine cleans up."""
    one, two = Cleaning(), Cleaning()
    with pytest.raises(TimeoutError):
        bridge.run(one(), timeout=0.05)
    assert one.is_clean
    future = bridge.submit(two)
    assert two.waits.wait(10)
    assert future.cancel()
    assert eventually(lambda: two.is_clean)


def test_sync_code_that_a_call_has_called_awaits_in_place(host: Host, bridge: syncline.Bridge) -> None:
    """The bridge's own calls have opted in, so nothing blocks the program's loop."""

    async def outer(depth: int) -> int:
        await turn()
        return bridge.run_sync(outer, depth - 1) + 1 if depth else 0

    assert bridge.run_sync(outer, 20) == 20


def test_many_calls_await_in_place_below_sync_code(bridge: syncline.Bridge) -> None:
    """Each of a map's, whenever it begins, and each of a group's, as a single call."""

    async def outer(number: int) -> int:
        if number % 2:
            await turn()
        return bridge.run_sync(answer) + number

    assert list(bridge.map(outer, range(5), limit=2)) == [42, 43, 44, 45, 46]
    with bridge.group() as group:
        calls = [group.start(outer, number) for number in range(3)]
    assert [call.result() for call in calls] == [42, 43, 44]

    async def maps() -> list[int]:
        return list(bridge.map(outer, range(3), limit=1))

    assert bridge.run_sync(maps) == syncline.run_sync(maps) == [42, 43, 44]


def test_tasks_that_a_call_starts_find_its_caller(bridge: syncline.Bridge) -> None:
    """`to_caller` runs in the thread that waits, though the program's loop tells nobody which tasks it makes."""

    async def main() -> list[int]:
        return await syncline.gather(*[lambda: syncline.to_caller(threading.get_ident)] * 2)

    assert bridge.run_sync(main) == [threading.get_ident()] * 2


def test_objects_get_async_cleanups_by_code_of_that_loop(host: Host, bridge: syncline.Bridge) -> None:
    """In a task that has not opted in: nothing has to wait for that."""
    cleaned: list[int] = []

    async def clean() -> None:
        await turn()
        cleaned.append(threading.get_ident())

    async def main() -> None:
        owner = threading.Event()
        await bridge.finalize(owner, clean).aio()
        bridge.finalize(threading.Event(), clean)  # which is collected at once
        while len(cleaned) < 2:
            await turn()

    host.run(main)
    assert cleaned == [host.thread] * 2


def test_on_the_loops_own_thread_waiting_is_refused(host: Host, bridge: syncline.Bridge) -> None:
    """In a task that has not opted in, with what to do, and also for a limited time; a plain function and `submit` need
    no wait."""

    async def main() -> int:
        with pytest.raises(syncline.DeadlockError, match=r"run_nestable\(fn, \.\.\.\)"):
            bridge.run_sync(answer)
        with pytest.raises(syncline.DeadlockError):
            bridge.run(answer())
        future = bridge.submit(answer)
        for timeout in (None, 100):
            with pytest.raises(
                syncline.DeadlockError, match=r"await (asyncio\.wrap_future|bridge\.run_async)"
            ):
                future.result(timeout)
        with pytest.raises(TimeoutError):
            future.result(0)  # which is no wait
        while not future.done():
            await turn()
        assert await bridge.run_async(own_ident) == host.thread
        return bridge.call(threading.get_ident)

    assert host.run(main) == host.thread


def test_a_task_that_opted_in_awaits_in_place(host: Host, bridge: syncline.Bridge) -> None:
    """In its own task."""
    tasks: list[Any] = []

    async def note() -> None:
        await turn()
        tasks.append(anyio.get_current_task().id)

    async def main() -> bool:
        await syncline.run_nestable(bridge.run_sync, note)
        return tasks == [anyio.get_current_task().id]

    assert host.run(main)


def test_close_detaches_and_leaves_the_loop_alone(host: Host) -> None:
    """What the bridge runs there is cancelled and cleans up; the program's tasks go on, and another bridge works."""
    bridge = syncline.Bridge(loop=host.loop, name="onto")
    ours, theirs = Cleaning(), Cleaning(0)
    future = bridge.submit(ours)
    host.start(theirs)
    items = bridge.iterate(closing_numbers(ours))
    assert next(items) == 1
    assert ours.waits.wait(10)
    assert theirs.waits.wait(10)
    bridge.close()
    assert ours.is_clean
    assert isinstance(future.exception(10), syncline.RunnerClosedError)
    with pytest.raises(syncline.RunnerClosedError, match="is closed"):
        bridge.run_sync(answer)
    assert not theirs.is_clean
    with syncline.Bridge(loop=host.loop) as another:
        assert another.run_sync(own_ident) == host.thread


async def closing_numbers(cleaning: Cleaning) -> AsyncIterator[int]:
    yield 1


def test_a_program_that_ends_ends_every_wait(host: Host) -> None:
    """Of threads, futures and tasks of other loops, and of later calls: each is told that the loop is gone."""
    bridge = syncline.Bridge(loop=host.loop, name="onto")
    told: list[str] = []
    cleanings = [Cleaning(0), Cleaning(0), Cleaning(0)]

    def wait(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:
            told.append(type(error).__name__)

    future = bridge.submit(cleanings[0])
    threads = [
        threading.Thread(target=wait, args=(lambda: bridge.run_sync(cleanings[1]),)),
        threading.Thread(target=wait, args=(lambda: asyncio.run(bridge.run_async(cleanings[2])),)),
    ]
    for thread in threads:
        thread.start()
    for cleaning in cleanings:
        assert cleaning.waits.wait(10)
    host.end()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert told == ["RunnerClosedError"] * 2
    with pytest.raises(syncline.RunnerClosedError):
        future.result(10)
    with pytest.raises(syncline.RunnerClosedError, match="before the call ended"):
        bridge.run_sync(answer)
    with pytest.raises(syncline.RunnerClosedError):
        bridge.submit(answer)
    bridge.close()


@pytest.mark.parametrize("host", ["asyncio", "uvloop"], indirect=True)
def test_a_cancellation_by_the_program_itself_arrives_as_that(bridge: syncline.Bridge) -> None:
    """The loop goes on, which is looked at first: its end would have cancelled as well."""

    async def cancels_itself() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        bridge.run_sync(cancels_itself)
    with pytest.raises(asyncio.CancelledError):
        bridge.submit(cancels_itself).result(10)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(bridge.run_async(cancels_itself))
    assert bridge.run_sync(answer) == 42


@pytest.mark.parametrize("closes", [True, False], ids=["closed", "stopped"])
@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_loop_that_is_stopped_in_the_middle_frees_its_callers(
    new_loop: Callable[[], asyncio.AbstractEventLoop], closes: bool
) -> None:
    """Nobody cancels its tasks; whether it is closed or only left standing."""
    loop = new_loop()
    bridge = syncline.Bridge(loop=loop, name="onto", cleanup_timeout=0.1)
    runs = threading.Thread(target=loop.run_forever)
    runs.start()
    cleaning, told = Cleaning(0), threading.Event()

    def wait() -> None:
        with pytest.raises(
            syncline.RunnerClosedError, match=f"was {'closed' if closes else 'stopped'} before"
        ):
            bridge.run_sync(cleaning)
        told.set()

    waits = threading.Thread(target=wait)
    waits.start()
    assert cleaning.waits.wait(10)
    loop.call_soon_threadsafe(loop.stop)
    runs.join(10)
    if closes:
        loop.close()
    assert told.wait(10)
    waits.join(10)
    bridge.close()
    loop.close()


def test_a_loop_that_runs_later_takes_the_calls_then() -> None:
    """A call made before waits for a moment."""
    loop = asyncio.new_event_loop()
    with syncline.Bridge(loop=loop) as bridge:
        future = bridge.submit(answer)
        loop.run_until_complete(come_true(future.done))
        assert future.result() == 42
    loop.close()


async def come_true(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_anyios_token_is_taken(host: Host) -> None:
    """Of either library."""
    with syncline.Bridge(loop=host.anyio_token) as bridge:
        assert bridge.run_sync(own_ident) == host.thread


def test_a_circle_through_another_bridge_is_seen(host: Host, bridge: syncline.Bridge) -> None:
    """The program's thread waits for a coroutine of another bridge, and that for the program's loop."""
    with syncline.Bridge(name="other", nested="thread") as other:

        async def back() -> int:
            return bridge.run_sync(answer)

        async def main() -> None:
            await turn()
            other.run_sync(back)

        with pytest.raises(syncline.DeadlockError):
            host.run(main)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loop": 3}, "loop must be an event loop.*not int"),
        ({"loop": asyncio.new_event_loop}, "loop must be an event loop.*not function"),
        ({"loop": uvloop.Loop}, "loop must be an event loop.*not type"),
    ],
)
def test_what_is_no_loop_is_refused(options: dict[str, Any], words: str) -> None:
    """With what to give instead."""
    with pytest.raises(TypeError, match=words):
        syncline.Bridge(**options)


def test_options_about_loops_of_its_own_are_refused() -> None:
    """And a closed loop."""
    loop = asyncio.new_event_loop()
    for options in ({"scope": "thread"}, {"loop_factory": asyncio.new_event_loop}, {"backend": "trio"}):
        with pytest.raises(TypeError, match="somebody else runs"):
            syncline.Bridge(loop=loop, **options)  # type: ignore[arg-type]
    loop.close()
    with pytest.raises(ValueError, match="is closed"):
        syncline.Bridge(loop=loop)


def test_a_running_loop_as_a_factory_is_refused_before_it_is_touched() -> None:
    """By itself, and as what a factory returns."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with pytest.raises(TypeError, match=r"Bridge\(loop=\.\.\.\)"):
            syncline.Bridge(loop_factory=loop)  # type: ignore[arg-type]
        with (
            syncline.Bridge(loop_factory=lambda: loop) as bridge,
            pytest.raises(TypeError, match=r"one that runs already.*Bridge\(loop=\.\.\.\)"),
        ):
            bridge.run_sync(answer)
        assert loop.get_exception_handler() is None
        assert loop.get_task_factory() is None
        await turn()

    asyncio.run(main())


def test_a_forked_child_refuses_and_the_parent_goes_on() -> None:
    """The loop's thread is not there in the child."""
    script = """
        import asyncio, os, syncline, threading

        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        bridge = syncline.Bridge(loop=loop)
        assert bridge.run_sync(asyncio.sleep, 0, 42) == 42
        pid = os.fork()
        if not pid:
            try:
                bridge.run_sync(asyncio.sleep, 0)
            except syncline.RunnerClosedError as error:
                assert "forked" in str(error), error
                bridge.close()
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert bridge.run_sync(asyncio.sleep, 0, 42) == 42
        bridge.close()
        loop.call_soon_threadsafe(loop.stop)
    """
    run_script(script, flags=FORKS).assert_clean()


def test_ctrl_c_cancels_and_the_loop_lives_on() -> None:
    """In a real process, by a real signal."""
    script = """
        import asyncio, os, signal, syncline, threading

        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        bridge = syncline.Bridge(loop=loop)

        async def wait():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                print("clean", flush=True)

        try:
            bridge.run_sync(wait)
        except KeyboardInterrupt:
            print("interrupted")
        print(bridge.run_sync(asyncio.sleep, 0, 42))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    """
    done = run_script(script)
    done.assert_clean()
    assert done.lines == ["clean", "interrupted", "42"]


def test_a_dropped_bridge_leaves_the_loop_alone(host: Host) -> None:
    """And nothing of it stays."""
    assert syncline.Bridge(loop=host.loop).run_sync(own_ident) == host.thread

    async def main() -> int:
        return await answer()

    assert host.run(main) == 42
