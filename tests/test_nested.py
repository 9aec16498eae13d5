"""Calls from inside event loops: sync code that a coroutine called, and that calls a bridge again.

nested="thread" here: on a loop of ours the nested call goes to a runner one level deeper, which is kept; on any other
loop the call runs on the process runner while that loop waits. nested="switch" has tests of its own (test_switch*.py).
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal

import pytest

import syncline
from child import eventually, open_descriptors
from neutral import make_bridge_of, turn
from places import in_tasks

Scope = Literal["process", "thread", "caller", "trio"]
Mode = Literal["switch", "thread"]
pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller", "trio"])
modes = pytest.mark.parametrize("mode", ["switch", "thread"])


@pytest.fixture
def bridge() -> Iterator[syncline.Bridge]:
    """A bridge of this test's own."""
    with syncline.Bridge(name="nest", nested="thread") as one:
        yield one


async def level(bridge: syncline.Bridge, depth: int) -> list[tuple[str, int]]:
    """Name and id of the thread at this level and at `depth` deeper ones, each reached through a sync
    call."""
    await turn()
    here = (threading.current_thread().name, threading.get_ident())
    deeper = bridge.run_sync(level, bridge, depth - 1) if depth else []
    await turn()
    return [here, *deeper]


def uvloop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's loop factory, or a skip."""
    module = pytest.importorskip("uvloop")
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


def run_on(kind: str, main: Callable[[], Any]) -> Any:
    """Run a coroutine function on a loop of the user's: asyncio's or uvloop's."""
    factory = uvloop_factory() if kind == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


hosts = pytest.mark.parametrize("host", ["asyncio", "uvloop"])


@scopes
@pytest.mark.parametrize("depth", [1, 3, 5])
def test_sync_and_async_code_alternate(scope: Scope, depth: int) -> None:
    """sync -> async -> sync -> async: 2, 4 and 6 coroutines deep, no two of them in one thread (case 3)."""
    with make_bridge_of(scope, nested="thread") as bridge:
        for _ in range(3):
            threads = bridge.run_sync(level, bridge, depth)
            assert len(threads) == len(set(threads)) == depth + 1


def test_nested_runners_are_daemon_threads_named_by_level(bridge: syncline.Bridge) -> None:
    """threading.enumerate() shows how deep a runner is: "nest", "nest-nested-1", ... (case 3)."""
    names = [name for name, _ in bridge.run_sync(level, bridge, 3)]
    assert names == ["nest", "nest-nested-1", "nest-nested-2", "nest-nested-3"]
    assert all(one.daemon for one in threading.enumerate() if one.name.startswith("nest"))


def test_calls_50_deep_use_bounded_threads_and_free_them_at_close(bridge: syncline.Bridge) -> None:
    """50 levels work with one thread each, again and again; close() ends them all (case 4)."""
    before = threading.active_count(), open_descriptors()
    for _ in range(3):
        assert len(bridge.run_sync(level, bridge, 49)) == 50
        assert threading.active_count() - before[0] <= 50
    assert bridge.stats()["runners"] <= 50
    bridge.close()
    gc.collect()
    assert eventually(lambda: threading.active_count() <= before[0] and open_descriptors() <= before[1])
    assert bridge.stats()["runners"] == 0


@scopes
def test_a_chain_100_deep_works(scope: Scope) -> None:
    """100 levels, in every scope, and nothing is left after close() (case 4)."""
    before = threading.active_count()
    with make_bridge_of(scope, nested="thread") as bridge:
        assert len(bridge.run_sync(level, bridge, 99)) == 100
    assert eventually(lambda: threading.active_count() <= before)


@scopes
def test_100_chains_3_deep_start_at_most_2_extra_threads(scope: Scope) -> None:
    """The deeper runners are kept and reused: the same threads serve all the chains (case 4)."""
    with make_bridge_of(scope, nested="thread") as bridge:
        first = {bridge.run_sync(level, bridge, 0)[0]}
        used = set(first)
        for _ in range(100):
            used.update(bridge.run_sync(level, bridge, 2))
        assert len(used - first) <= 2
        assert bridge.stats()["nested"] == 200


@scopes
def test_chains_of_many_threads_do_not_disturb_each_other(scope: Scope) -> None:
    """Eight threads run 3-deep chains at once, each gets its own value back (cases 3, 67)."""
    with make_bridge_of(scope, nested="thread") as bridge:

        async def add(value: int, depth: int) -> int:
            await turn()
            return bridge.run_sync(add, value, depth - 1) + 1 if depth else value

        results: dict[int, list[int]] = {}

        def work(number: int) -> None:
            results[number] = [bridge.run_sync(add, number * 1000 + turn, 2) for turn in range(25)]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {n: [n * 1000 + turn + 2 for turn in range(25)] for n in range(8)}


def test_errors_cross_every_level_as_the_same_object(bridge: syncline.Bridge) -> None:
    """An error of the innermost coroutine arrives outside unchanged, through 4 levels (case 3)."""
    error = ValueError("deep")

    async def fail(depth: int) -> None:
        if depth:
            bridge.run_sync(fail, depth - 1)
        raise error

    with pytest.raises(ValueError, match="deep") as caught:
        bridge.run_sync(fail, 3)
    assert caught.value is error


def test_a_timeout_reaches_the_innermost_level(bridge: syncline.Bridge) -> None:
    """The deadline of a nested call is kept while the outer loop is blocked (case 50)."""
    ended: list[str] = []

    async def inner() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("inner")

    async def outer() -> str:
        with pytest.raises(TimeoutError):
            bridge.run(inner(), timeout=0.05)
        return "went on"

    assert bridge.run_sync(outer) == "went on"
    assert ended == ["inner"]


def test_a_cancellation_that_comes_as_a_nested_call_ends_is_not_lost(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """It was in time for the call around that, whose loop could not deliver it: the nested call does, though its own
    coroutine has ended by itself."""
    # Interleaving: the outer call is cancelled during the nested one's last step, and the nested one is told.
    begun, is_told = threading.Event(), threading.Event()

    class Loop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
            if begun.is_set() and threading.current_thread().name == "nested":
                is_told.set()
            return super().call_soon_threadsafe(*args, **kwargs)

    bridge = make_bridge(nested="thread", name="nested", loop_factory=Loop)

    async def inner() -> None:
        begun.set()
        assert is_told.wait(10)

    async def outer() -> None:
        bridge.run_sync(inner)
        await asyncio.sleep(3600)

    future = bridge.submit(outer)
    assert begun.wait(10)
    future.cancel()
    assert eventually(lambda: bridge.stats()["active"] == 0)


def test_current_task_timeouts_and_task_groups_work_in_nested_calls(bridge: syncline.Bridge) -> None:
    """A nested coroutine is an ordinary task of an ordinary loop (cases 16, 17)."""

    async def inner() -> int:
        assert asyncio.current_task() is not None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
        return sum(task.result() for task in tasks)

    async def outer() -> int:
        task = asyncio.current_task()
        value = bridge.run_sync(inner)
        assert asyncio.current_task() is task
        return value

    assert bridge.run_sync(outer) == 3


def test_nested_error_refuses_with_advice() -> None:
    """nested="error": RuntimeError that names the cure; the bridge and the outer coroutine go on (case 1)."""
    with syncline.Bridge(nested="error") as bridge:

        async def inner() -> None:
            raise AssertionError("must not run")

        async def outer() -> str:
            with pytest.raises(RuntimeError, match="await") as caught:
                bridge.run_sync(inner)
            assert not isinstance(caught.value, syncline.DeadlockError)
            with pytest.raises(RuntimeError, match='nested="thread"'):
                bridge.run(inner())
            return "went on"

        assert bridge.run_sync(outer) == "went on"
        assert bridge.run_sync(outer) == "went on"
        assert bridge.stats()["runners"] == 1


def test_nested_error_concerns_only_the_bridges_own_loops() -> None:
    """On a loop that is not ours, such a bridge works as any other (case 1)."""
    with syncline.Bridge(nested="error") as bridge:

        async def main() -> int:
            return len(bridge.run_sync(level, bridge, 0))

        assert asyncio.run(main()) == 1


@scopes
@pytest.mark.parametrize("of_a", ["switch", "thread"])
@pytest.mark.parametrize("of_b", ["switch", "thread"])
@pytest.mark.parametrize("depth", [1, 2, 3, 8])
def test_two_bridges_that_call_each_other_in_a_circle_never_hang(
    scope: Scope, of_a: Mode, of_b: Mode, depth: int
) -> None:
    """A -> B -> A -> B ...: each bridge goes as deep as it has to, by calls that block a loop or park a task (cases 6,
    15)."""
    with make_bridge_of(scope, name="a", nested=of_a) as a, make_bridge_of(scope, name="b", nested=of_b) as b:

        async def ping(left: int) -> int:
            await turn()
            other = b if left % 2 == depth % 2 else a  # it runs on the other one
            return 1 + (other.run_sync(ping, left - 1) if left else 0)

        assert a.run_sync(ping, depth) == depth + 1
        assert a.run_sync(ping, 0) == b.run_sync(ping, 0) == 1


@contextmanager
def in_group(bridge: syncline.Bridge, work: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
    with bridge.group() as group:
        group.start(work)
        yield


@contextmanager
def in_producer(bridge: syncline.Bridge, work: Callable[[], Coroutine[Any, Any, None]]) -> Iterator[None]:
    async def items() -> AsyncGenerator[int, None]:
        yield 1
        await work()
        yield 2

    it = bridge.iterate(items(), prefetch=2)
    assert next(it) == 1
    yield
    assert list(it) == [2]


@pytest.mark.parametrize("beside", [in_group, in_producer])
@pytest.mark.parametrize("by", ["its task", "a worker"])
@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_what_runs_beside_sync_code_does_not_call_its_loop(
    scope: Scope, by: str, beside: Callable[[syncline.Bridge, Any], AbstractContextManager[None]]
) -> None:
    """Sync code on a loop has begun something on the next one, whose own calls must not queue behind the sync code: it
    may wait for them any time."""
    # Interleaving: the inner call is made while the lower loop's thread is busy, and in no wait of the bridge's; that
    # thread goes on when the call has returned.
    with make_bridge_of(scope, name="lower", nested="thread") as bridge:
        returned = threading.Event()

        def call() -> None:
            bridge.run_sync(turn)
            returned.set()

        async def work() -> None:
            if by == "a worker":
                await syncline.to_thread(call)
            else:
                call()

        def sync() -> bool:
            with beside(bridge, work):
                return returned.wait(10)

        async def lower() -> bool:
            return sync()

        assert bridge.run_sync(lower)


@scopes
@modes
def test_two_threads_that_enter_the_circle_from_both_ends_never_hang(scope: Scope, mode: Mode) -> None:
    """One thread goes A -> B and another B -> A at the same time: each gets its value (case 6)."""
    # Interleaving: both coroutines hold their loops before either calls the other bridge.
    with make_bridge_of(scope, name="a", nested=mode) as a, make_bridge_of(scope, name="b", nested=mode) as b:
        both = threading.Barrier(2)
        outcomes: list[object] = []

        async def leaf() -> str:
            return "value"

        async def cross(other: syncline.Bridge) -> str:
            both.wait(10)
            return other.run_sync(leaf)

        def work(mine: syncline.Bridge, other: syncline.Bridge) -> None:
            outcomes.append(mine.run_sync(cross, other))

        threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in ((a, b), (b, a))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert outcomes == ["value", "value"]
        assert a.run_sync(leaf) == b.run_sync(leaf) == "value"


@hosts
@scopes
def test_a_call_inside_a_running_loop_returns_its_value(scope: Scope, host: str) -> None:
    """A coroutine on a loop of the user's calls sync code that calls the bridge: it works (cases 1, 9)."""
    with make_bridge_of(scope, name="host", nested="thread") as bridge:

        async def main() -> list[tuple[str, int]]:
            return [bridge.run_sync(level, bridge, 0)[0], *bridge.run(level(bridge, 2))]

        home = f"host-thread-{threading.current_thread().name}" if scope == "thread" else "host"
        found = run_on(host, main)
        assert [name for name, _ in found] == [home, home, "host-nested-1", "host-nested-2"]
        assert threading.get_ident() not in {ident for _, ident in found}


@hosts
@pytest.mark.parametrize("how", ["create_task", "gather", "wait_for", "shield", "task_group", "to_thread"])
def test_a_call_works_under_every_way_to_start_a_task(bridge: syncline.Bridge, host: str, how: str) -> None:
    """create_task, gather, wait_for, shield, task groups and threads, on loops of the user's (cases 5, 9)."""

    async def leaf(number: int) -> int:
        await turn()
        return number

    async def calls(number: int) -> int:
        await turn()
        return bridge.run_sync(leaf, number)

    async def main() -> list[int]:
        if how == "to_thread":
            return [await asyncio.to_thread(bridge.run_sync, leaf, n) for n in range(3)]
        return await in_tasks(how, calls)

    assert run_on(host, main) == [0, 1, 2]
    assert bridge.run_sync(main) == [0, 1, 2]


def test_wait_for_around_a_call_that_is_too_slow(
    bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """The blocked loop's timeout comes due when the call is over, and leaves no log behind (case 56)."""

    async def calls() -> str:
        bridge.run_sync(asyncio.sleep, 0.1)
        await asyncio.sleep(3600)
        return "never"

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(calls(), 0.01)

    asyncio.run(main())
    assert caplog.records == []


def test_a_call_inside_except_cancelled_error_works(bridge: syncline.Bridge) -> None:
    """A task that is being cancelled can call the bridge for its cleanup (case 57)."""
    cleaned: list[int] = []

    async def calls() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cleaned.append(bridge.run_sync(asyncio.sleep, 0, 42))
            raise

    async def main() -> None:
        task = asyncio.create_task(calls())
        await turn()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    bridge.run_sync(main)
    assert cleaned == [42, 42]


def test_a_call_in_a_callback_of_a_running_loop(bridge: syncline.Bridge) -> None:
    """As under Jupyter: run_forever() in this thread, and the call comes from a callback, not a task
    (cases 1, 5)."""
    loop = asyncio.new_event_loop()
    results: list[object] = []

    def cell() -> None:
        assert asyncio.current_task() is None
        results.append(bridge.run_sync(level, bridge, 1)[0][0])
        loop.call_soon(loop.stop)

    loop.call_soon(cell)
    loop.run_forever()
    loop.close()
    assert results == ["nest"]


def test_the_host_loop_is_untouched_by_calls(bridge: syncline.Bridge) -> None:
    """Its running loop, current task and default loop are the same after a call as before (cases 16, 20)."""

    async def main() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        tasks = asyncio.all_tasks()
        bridge.run_sync(asyncio.sleep, 0)
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
        assert asyncio.all_tasks() == tasks
        await turn()

    asyncio.run(main())


@pytest.mark.asyncio
async def test_a_call_inside_a_pytest_asyncio_test() -> None:
    """The loop that pytest-asyncio runs this test on is a foreign one like any other (case 1)."""
    with syncline.Bridge(name="pytest", nested="thread") as bridge:
        await turn()
        names = [name for name, _ in bridge.run_sync(level, bridge, 1)]
        assert names == ["pytest", "pytest-nested-1"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_inside_an_anyio_program(bridge: syncline.Bridge, backend: str) -> None:
    """Under anyio.run, on trio too, the call blocks its host and returns its value (case 10)."""
    anyio = pytest.importorskip("anyio")
    if backend == "trio":
        pytest.importorskip("trio")

    async def main() -> str:
        await anyio.sleep(0)
        return bridge.run_sync(level, bridge, 0)[0][0]

    assert anyio.run(main, backend=backend) == "nest"
