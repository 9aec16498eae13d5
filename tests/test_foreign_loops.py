"""Loops that a bridge didn't make itself: every call works on the loop of any factory."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Literal

import pytest

import syncline
from child import eventually, open_descriptors

Scope = Literal["process", "thread", "caller"]
Factory = Callable[[], asyncio.AbstractEventLoop]
pytestmark = pytest.mark.timeout(60)
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class CustomLoop(asyncio.SelectorEventLoop):
    """A user's subclass that counts its callbacks."""

    calls = 0

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        """Count, then do what the base class does."""
        self.calls += 1
        return super().call_soon(*args, **kwargs)


class CustomTask(asyncio.Task[Any]):
    """What a user's task factory may return."""


def custom_task_factory() -> asyncio.AbstractEventLoop:
    """A loop whose tasks are CustomTask."""
    loop = asyncio.new_event_loop()

    def make(
        loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **kwargs: Any
    ) -> CustomTask:
        return CustomTask(coroutine, loop=loop, **kwargs)

    loop.set_task_factory(make)
    return loop


def eager_task_factory() -> asyncio.AbstractEventLoop:
    """A loop whose tasks start in create_task()."""
    loop = asyncio.new_event_loop()
    if sys.version_info >= (3, 12):
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def debug_loop() -> asyncio.AbstractEventLoop:
    """A loop in debug mode: it checks which thread calls it."""
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def closing_once(new_event_loop: Callable[[], Any]) -> Factory:
    """Makes loops of rloop's that close the descriptors of their wakeup sockets once.

    At the end of each run rloop 0.5.0 closes them, and frees the socket objects, which close the same numbers again:
    by then they may be what another thread has just opened (seen with rloop alone, under strace).
    """

    def make() -> asyncio.AbstractEventLoop:
        loop = new_event_loop()
        stop = loop._ssock_stop

        def stop_once() -> None:
            sockets = loop._ssock_r, loop._ssock_w
            stop()
            for each in sockets:
                each.detach()

        loop._ssock_stop = stop_once
        made: asyncio.AbstractEventLoop = loop
        return made

    return make


class BreaksDown(asyncio.SelectorEventLoop):
    """A loop that can't run any more once it is broken."""

    is_broken = False

    def run_forever(self) -> None:
        """Fail, or do what the base class does."""
        if self.is_broken:
            raise OSError("broken")
        super().run_forever()


def factory_named(name: str) -> Factory:
    """One of the factories below, or a skip where it isn't installed."""
    if name == "uvloop":
        made: Factory = pytest.importorskip(name).new_event_loop
        return made
    if name == "rloop":
        return closing_once(pytest.importorskip("rloop").new_event_loop)
    if name == "eager" and sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    known: dict[str, Factory] = {
        "selector": asyncio.SelectorEventLoop,
        "subclass": CustomLoop,
        "tasks": custom_task_factory,
        "eager": eager_task_factory,
        "debug": debug_loop,
    }
    return known[name]


@pytest.fixture(params=["uvloop", "rloop", "selector", "subclass", "tasks", "eager", "debug"])
def factory(request: pytest.FixtureRequest) -> Factory:
    """Each way to make a loop."""
    return factory_named(request.param)


@pytest.fixture(params=["process", "thread", "caller"])
def bridge(factory: Factory, request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """A bridge of each scope on such loops."""
    with syncline.Bridge(scope=request.param, loop_factory=factory) as one:
        yield one


async def answer(suspensions: int = 1) -> int:
    """A coroutine that suspends some times."""
    for _ in range(suspensions):
        await asyncio.sleep(0)
    return 42


def test_calls_return_their_values(bridge: syncline.Bridge) -> None:
    """Coroutines that suspend never, once, often and by a timer return their values."""
    for _ in range(20):
        assert bridge.run_sync(answer, 0) == 42
        assert bridge.run_sync(answer, 1) == 42
        assert bridge.run(answer(10), timeout=20) == 42
    assert bridge.run_sync(asyncio.sleep, 0.01, "slept") == "slept"


def test_the_factory_makes_the_loop(factory: Factory) -> None:
    """The coroutine runs on what the factory returned, made once."""
    made: list[asyncio.AbstractEventLoop] = []

    def recording() -> asyncio.AbstractEventLoop:
        made.append(factory())
        return made[-1]

    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    with syncline.Bridge(loop_factory=recording) as bridge:
        assert bridge.run_sync(loop) is bridge.run_sync(loop)
        assert made == [bridge.run_sync(loop)]
    assert made[0].is_closed()


def test_errors_arrive_as_the_same_object(bridge: syncline.Bridge) -> None:
    """Ordinary errors, CancelledError and SystemExit reach the caller, and the loop lives on (cases 48,
    49)."""
    for error in (ValueError("mine"), asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt()):
        for suspensions in (0, 1):

            async def fail(error: BaseException = error, suspensions: int = suspensions) -> None:
                await answer(suspensions)
                raise error

            with pytest.raises(type(error)) as caught:
                bridge.run_sync(fail)
            if not isinstance(error, asyncio.CancelledError):
                assert caught.value is error
            assert bridge.run_sync(answer) == 42


def test_context_variables_flow_both_ways(bridge: syncline.Bridge) -> None:
    """The coroutine sees the caller's values, before and after a suspension, and the caller its changes
    (case 74)."""

    async def change(expected: str, new: str) -> None:
        assert variable.get() == expected
        await asyncio.sleep(0)
        assert variable.get() == expected
        variable.set(new)

    def body() -> None:
        variable.set("caller's")
        bridge.run_sync(change, "caller's", "first")
        bridge.run_sync(change, "first", "second")
        assert variable.get() == "second"

    contextvars.copy_context().run(body)


def test_timeouts_cancel(bridge: syncline.Bridge) -> None:
    """The deadline is kept, the coroutine's cleanup runs, and the loop goes on (case 50)."""
    cleaned: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            cleaned.append("cleaned")

    with pytest.raises(TimeoutError):
        bridge.run(slow(), timeout=0.05)
    assert cleaned == ["cleaned"]
    assert bridge.run_sync(answer) == 42


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_cancelling_a_future_stops_its_task(factory: Factory, scope: Scope) -> None:
    """Future.cancel() is carried to the loop's thread (case 53)."""
    begun, ended = threading.Event(), threading.Event()

    async def forever() -> None:
        try:
            begun.set()
            await asyncio.sleep(3600)
        finally:
            ended.set()

    with syncline.Bridge(scope=scope, loop_factory=factory) as bridge:
        future = bridge.submit(forever)
        assert begun.wait(10)
        assert future.cancel()
        assert ended.wait(10)
        assert bridge.submit(answer).result(20) == 42


def test_every_step_runs_on_the_loops_own_thread(factory: Factory) -> None:
    """Even with eager tasks the first step is never made by the calling thread, nor out of place (case
    18)."""

    async def steps() -> list[object]:
        seen: list[object] = []
        for _ in range(3):
            task = asyncio.current_task()
            assert task is not None
            assert task.get_loop() is asyncio.get_running_loop()
            seen.append((threading.get_ident(), id(task)))
            await asyncio.sleep(0)
        return seen

    with syncline.Bridge(loop_factory=factory) as bridge:
        found = {item for _ in range(20) for item in [tuple(set(bridge.run_sync(steps)))]}
        assert all(len(item) == 1 for item in found)
        idents = {item[0][0] for item in found}
        assert len(idents) == 1
        assert threading.get_ident() not in idents


def test_tasks_are_those_of_the_users_factory() -> None:
    """A custom task factory serves the bridge's calls, too (case 18)."""

    async def kind() -> type[Any]:
        await asyncio.sleep(0)
        return type(asyncio.current_task())

    with syncline.Bridge(loop_factory=custom_task_factory) as bridge:
        assert bridge.run_sync(kind) is CustomTask


def test_many_threads_call_at_once(bridge: syncline.Bridge) -> None:
    """Eight threads with 100 calls each: every one gets its own value (case 64)."""
    results: dict[int, list[int]] = {}

    async def echo(value: int) -> int:
        await asyncio.sleep(0)
        return value

    def work(number: int) -> None:
        results[number] = [bridge.run_sync(echo, number * 1000 + turn) for turn in range(100)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: [n * 1000 + turn for turn in range(100)] for n in range(8)}


def test_background_tasks_and_clients_survive_calls(factory: Factory) -> None:
    """A queue made in one call is used in another, and a task begun in one advances between them (cases
    25, 26)."""
    advanced = threading.Event()

    async def begin() -> tuple[asyncio.Queue[int], asyncio.Task[None]]:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def background() -> None:
            await asyncio.sleep(0.01)
            await queue.put(1)
            advanced.set()

        return queue, asyncio.create_task(background())

    with syncline.Bridge(loop_factory=factory) as bridge:
        queue, task = bridge.run_sync(begin)
        assert advanced.wait(10)
        assert bridge.run_sync(queue.get) == 1
        assert task.done()


def test_executors_and_other_threads_wake_the_loop(bridge: syncline.Bridge) -> None:
    """run_in_executor and call_soon_threadsafe work as ever."""

    async def uses_threads() -> tuple[int, str]:
        loop = asyncio.get_running_loop()
        here = threading.get_ident()
        there = await loop.run_in_executor(None, threading.get_ident)
        done: asyncio.Future[str] = loop.create_future()
        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(done.set_result, "woken"))
        thread.start()
        text = await asyncio.wait_for(done, 10)
        thread.join()
        return there != here, text

    assert bridge.run_sync(uses_threads) == (True, "woken")


def test_nested_calls_run_on_loops_of_the_same_factory(factory: Factory) -> None:
    """A deeper runner gets a loop of the user's factory, too (case 3)."""
    made: list[asyncio.AbstractEventLoop] = []

    def recording() -> asyncio.AbstractEventLoop:
        made.append(factory())
        return made[-1]

    with syncline.Bridge(loop_factory=recording, nested="thread") as bridge:

        async def level(depth: int) -> list[asyncio.AbstractEventLoop]:
            await asyncio.sleep(0)
            deeper = bridge.run_sync(level, depth - 1) if depth else []
            return [asyncio.get_running_loop(), *deeper]

        assert bridge.run_sync(level, 3) == made
        assert len(set(made)) == 4


def test_close_cancels_tasks_and_leaves_nothing(factory: Factory) -> None:
    """Pending tasks are cleaned up, callers told, the loop closed, threads and descriptors freed (cases
    34, 87)."""
    cleaned = threading.Event()
    kept: list[object] = []

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned.set()

    async def begin() -> None:
        kept.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    def use() -> None:
        with syncline.Bridge(loop_factory=factory) as bridge:
            bridge.run_sync(begin)
            future = bridge.submit(background)
        with pytest.raises(syncline.RunnerClosedError):
            future.result(10)

    def left_behind_alone() -> int:
        # What the loop's own close() leaves open, without any bridge: nothing, but with rloop.
        gc.collect()
        before = open_descriptors()
        loop = factory()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        del loop
        gc.collect()
        return open_descriptors() - before

    use()  # first use may open descriptors for good (an imported module's, a library's thread's)
    allowed = left_behind_alone()
    before = threading.active_count(), open_descriptors() + allowed
    cleaned.clear()
    use()
    assert cleaned.is_set()
    kept.clear()
    gc.collect()  # the error, its traceback and the future that has it are a cycle of this test
    assert eventually(lambda: threading.active_count() <= before[0] and open_descriptors() <= before[1])


def test_the_runner_of_a_loop_that_broke_down_ends(caplog: pytest.LogCaptureFixture) -> None:
    """A loop that fails whenever it is to run can't be cleaned up: that is logged, and the thread ends
    (cases 7, 34)."""

    async def breaks() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, BreaksDown)
        loop.is_broken = True
        loop.stop()
        await asyncio.sleep(3600)

    threads = threading.active_count()
    with syncline.Bridge(loop_factory=BreaksDown, cleanup_timeout=1.0) as bridge:
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(breaks)
        assert bridge.run_sync(answer) == 42
    assert eventually(lambda: threading.active_count() <= threads)
    assert "could not be closed cleanly" in caplog.text


def test_a_stopped_loop_frees_its_callers(factory: Factory) -> None:
    """loop.stop() by user code: RunnerClosedError, and a new loop for the next call (case 7)."""

    async def stops() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(3600)

    with syncline.Bridge(loop_factory=factory, cleanup_timeout=1.0) as bridge:
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(stops)
        assert bridge.run_sync(answer) == 42


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_an_error_of_the_factory_reaches_the_caller(scope: Scope) -> None:
    """A loop that can't be made is an error of the call, not a wait; the next call tries again (case 32)."""
    error = OSError("no more descriptors")
    failing = True

    def factory() -> asyncio.AbstractEventLoop:
        if failing:
            raise error
        return asyncio.new_event_loop()

    with syncline.Bridge(scope=scope, loop_factory=factory) as bridge:
        for _ in range(2):
            with pytest.raises(OSError, match="no more descriptors") as caught:
                bridge.run_sync(answer)
            assert caught.value is error
        failing = False
        assert bridge.run_sync(answer) == 42


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_factory_that_returns_no_loop_is_named(scope: Scope) -> None:
    """The TypeError says what loop_factory returned."""
    with (
        syncline.Bridge(scope=scope, loop_factory=lambda: 5) as bridge,  # type: ignore[arg-type,return-value]
        pytest.raises(TypeError, match="loop_factory"),
    ):
        bridge.run_sync(answer)
