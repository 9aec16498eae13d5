"""`syncline.waits()`: who waits for whom, as a tree of objects.

Whatever waits in these tests waits at a gate, and is let through when the picture was taken.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
import uvloop

import syncline
from child import FORKS, eventually, run_script
from syncline.waiting import LimiterState, Wait, Waits
from waiting import Gate, chain, in_a_circle, in_thread, root


@pytest.fixture
def gate() -> Iterator[Gate]:
    """All that waits there goes on at the end."""
    made = Gate()
    yield made
    made.let_through()


def since(before: Waits, now: Waits) -> list[Wait]:
    """The trees that have come since: what other tests have left here is none of ours."""
    known = {wait.name for wait in before}
    return [wait for wait in now if wait.name not in known]


def functions(wait: Wait) -> list[str]:
    """The names of the functions in its stack."""
    return [frame.function.rpartition(".")[2] for frame in wait.stack]


@pytest.mark.parametrize("kind", ["process", "thread", "caller", "uvloop"])
def test_a_thread_waits_for_a_coroutine_on_each_kind_of_loop(
    kind: str, gate: Gate, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Both stacks end in the user's code, and the thread's wait has an age from the first look on."""
    bridge = make_bridge(name="shown", scope=kind)

    async def below() -> None:
        await gate.wait()

    def calls() -> None:
        bridge.run_sync(below)

    with in_thread(calls, "the caller", gate.let_through):
        gate.await_entered()
        thread, task = chain(root("the caller"))
    assert (thread.kind, thread.is_blocked, thread.loop) == ("thread", True, None)
    assert thread.seconds is not None
    assert 0 < thread.seconds < 60
    assert functions(thread)[-1] == "calls"
    assert (task.kind, task.is_blocked, task.closes_circle) == ("task", False, False)
    assert task.loop is not None
    assert task.loop.startswith("shown")
    assert functions(task) == ["below", "wait"]
    assert task.stack[0].source == "await gate.wait()"


def test_a_call_on_a_trio_run_is_shown(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """The coroutine's stack goes down to trio's own code."""
    bridge = make_bridge(name="in trio", backend="trio")
    arrived, tokens = threading.Event(), []

    async def waits(event: trio.Event) -> None:
        tokens.append((trio.lowlevel.current_trio_token(), event))
        arrived.set()
        await event.wait()

    async def begins() -> None:
        await waits(trio.Event())

    def let_go() -> None:
        for token, event in tokens:
            token.run_sync_soon(event.set)

    with in_thread(lambda: bridge.run_sync(begins), "the caller", let_go):
        assert arrived.wait(30)
        _, task = chain(root("the caller"))
    assert functions(task)[:2] == ["begins", "waits"]
    assert task.loop == "in trio"


def test_a_loop_of_somebody_elses_is_shown(gate: Gate, make_bridge: Callable[..., syncline.Bridge]) -> None:
    """With its thread: `Bridge(loop=...)`."""
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    ends: list[asyncio.Event] = []

    async def serves() -> None:
        loops.append(asyncio.get_running_loop())
        ends.append(asyncio.Event())
        ready.set()
        await ends[0].wait()

    def let_go() -> None:
        for loop, end in zip(loops, ends, strict=True):
            loop.call_soon_threadsafe(end.set)

    with in_thread(lambda: asyncio.run(serves()), "the server", let_go):
        assert ready.wait(30)
        bridge = make_bridge(name="onto", loop=loops[0])
        with in_thread(lambda: bridge.run_sync(gate.wait), "the caller", gate.let_through):
            gate.await_entered()
            _, task = chain(root("the caller"))
            shown = next(loop for loop in syncline.waits().loops if loop.name == "onto")
        bridge.close()
    assert (task.loop, functions(task)) == ("onto", ["wait"])
    assert (shown.thread_name, shown.tasks, shown.stack) == ("the server", 2, ())


def test_a_chain_through_workers_and_loops_is_one_tree(
    gate: Gate, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """A thread waits for a task, that for a worker, that for a task on the loop, that for one on another loop."""
    bridge, other = make_bridge(name="first"), make_bridge(name="second")

    async def outer() -> None:
        await syncline.to_thread(in_worker)

    def in_worker() -> None:
        syncline.from_thread(comes_back)

    async def comes_back() -> None:
        await other.run_async(gate.wait)

    before = syncline.waits()
    with in_thread(lambda: bridge.run_sync(outer), "the caller", gate.let_through):
        gate.await_entered()
        assert eventually(lambda: len(chain(root("the caller"))) == 5)
        thread, first, worker, second, third = chain(root("the caller"))
        seen = syncline.waits()
    assert [each.kind for each in (thread, first, worker, second, third)] == [
        "thread",
        "task",
        "worker",
        "task",
        "task",
    ]
    assert [each.is_blocked for each in (thread, first, worker)] == [True, False, True]
    assert [each.loop for each in (first, second, third)] == ["first", "first", "second"]
    assert functions(worker) == ["in_worker"]
    assert (functions(second), functions(third)) == (["comes_back"], ["wait"])
    assert seen.blocked - before.blocked == 2
    assert [wait.name for wait in since(before, seen)] == ["the caller"]


def test_a_parked_nested_call_is_shown_with_the_code_that_it_blocks(
    gate: Gate, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Each level with its own stack: a call below a sync function, one made by a coroutine itself, 40 in a row."""
    bridge = make_bridge(name="nests", nested="switch")

    async def level(left: int) -> None:
        if left:
            helper(left)
        else:
            bridge.run_sync(gate.wait)

    def helper(left: int) -> None:
        bridge.run_sync(level, left - 1)

    before = syncline.waits().blocked
    with in_thread(lambda: bridge.run_sync(level, 40), "the caller", gate.let_through):
        gate.await_entered()
        _, *nested, innermost = chain(root("the caller"))
        blocked = syncline.waits().blocked
    assert [each.kind for each in nested] == ["nested"] * 41
    assert all(functions(each) == ["level", "helper"] for each in nested[:-1])
    assert functions(nested[-1]) == ["level"]
    assert (innermost.kind, functions(innermost)) == ("task", ["wait"])
    assert blocked - before == 42


@pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_task_of_a_users_loop_that_is_parked_is_a_root(gate: Gate, factory: Callable[[], Any]) -> None:
    """Nobody waits for it but its own loop. Its age counts from the first look on."""

    def helper() -> None:
        syncline.run_sync(gate.wait)

    async def parks() -> None:
        helper()

    async def main() -> tuple[Waits, Waits]:
        parked = asyncio.create_task(syncline.run_nestable(parks))
        while not gate.entered.acquire(blocking=False):
            await asyncio.sleep(0)
        first, second = syncline.waits(), syncline.waits()
        gate.let_through()
        await parked
        return first, second

    before = syncline.waits()
    with asyncio.Runner(loop_factory=factory) as runner:
        first, second = runner.run(main())
    (nested,), (again,) = since(before, first), since(before, second)
    assert (nested.kind, functions(nested)[-2:]) == ("nested", ["parks", "helper"])
    assert functions(nested.waits_for[0]) == ["wait"]
    assert nested.seconds is None
    assert again.seconds is not None


def test_no_wait_has_the_age_of_another_one(gate: Gate) -> None:
    """Each is in the same place as the one before, which was looked at and is gone."""

    def helper() -> None:
        syncline.run_sync(gate.wait)

    async def parks() -> None:
        helper()

    async def look() -> list[float | None]:
        parked = asyncio.create_task(syncline.run_nestable(parks))
        while not gate.entered.acquire(blocking=False):
            await asyncio.sleep(0)
        seen = syncline.waits()
        gate.let_through()
        await parked
        return [wait.seconds for wait in seen]

    with asyncio.Runner() as runner:
        assert [runner.run(look()) for _ in range(30)] == [[None]] * 30


def test_a_loop_that_a_call_blocks_is_shown_so(
    gate: Gate, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Who waits for a task there waits for that thread, too, and through it for the other loop."""
    blocked_bridge = make_bridge(name="blocked", nested="thread")
    other = make_bridge(name="other")
    arrived = threading.Event()

    async def blocks() -> None:
        other.run_sync(gate.wait)

    async def stands() -> None:
        arrived.set()
        await asyncio.sleep(0)
        await blocks()

    with in_thread(lambda: blocked_bridge.run_sync(stands), "the caller", gate.let_through):
        gate.await_entered()
        # The loop's thread is seen to wait, too, once it has slept for a moment.
        assert eventually(lambda: any(loop.is_blocked for loop in syncline.waits().loops))
        caller = root("the caller")
        loops = {loop.name: loop for loop in syncline.waits().loops}
    (thread,) = (wait for wait in caller.waits_for if wait.kind == "thread")
    assert functions(thread)[-2:] == ["stands", "blocks"]
    assert thread.waits_for[0].loop == "other"
    assert loops["blocked"].is_blocked
    assert not loops["other"].is_blocked


def test_the_queue_of_a_limiter_is_shown_with_those_who_hold_its_tokens(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """A function that has no thread yet stands for the worker, and waits for those who have one."""
    bridge = make_bridge(name="limited")
    release = threading.Event()
    begun = threading.Semaphore(0)

    def holds() -> None:
        begun.release()
        assert release.wait(30)

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)
        await asyncio.gather(*(limiter.to_thread(holds) for _ in range(3)))

    def limiters() -> list[LimiterState]:
        return [each for each in syncline.waits().limiters if each.name == "a ThreadLimiter(1)"]

    with in_thread(lambda: bridge.run_sync(main), "the caller", release.set):
        assert begun.acquire(timeout=20)
        assert eventually(lambda: [each.waiting for each in limiters()] == [2])
        caller = root("the caller")
        (limiter,) = limiters()
    tasks = chain(caller)[-1].waits_for
    assert len(tasks) == 3
    queued = [task.waits_for[0] for task in tasks if task.waits_for[0].kind == "queued"]
    assert len(queued) == 2
    assert all("of 2 in the queue" in each.state for each in queued)
    assert all(functions(each.waits_for[0])[-1] == "holds" for each in queued)
    assert (limiter.total, len(limiter.holders)) == (1, 1)


def test_calls_of_submit_are_counted_and_shown(
    gate: Gate, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """One whose result a thread waits for is below that thread."""
    bridge = make_bridge(name="submits")
    before = syncline.waits()
    waited, alone = bridge.submit(gate.wait), bridge.submit(gate.wait)
    with in_thread(waited.result, "asks", gate.let_through):
        gate.await_entered(2)
        assert eventually(lambda: len(since(before, syncline.waits())) == 2)
        asks = root("asks")
        seen = syncline.waits()
    assert alone.result(30) == "through"
    assert (seen.submitted - before.submitted, seen.blocked - before.blocked) == (2, 1)
    assert functions(asks.waits_for[0]) == ["wait"]
    assert sorted(wait.kind for wait in since(before, seen)) == ["task", "thread"]


def test_tasks_that_a_coroutine_waits_for_are_below_it(
    gate: Gate, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """A task, a gather, a task group, an async generator in between."""
    bridge = make_bridge(name="awaits")

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(gate.wait())

    async def gathered() -> None:
        await asyncio.gather(grouped(), return_exceptions=True)

    async def yields() -> Any:
        yield await asyncio.create_task(gathered())

    async def main() -> None:
        async for _ in yields():
            pass

    with in_thread(lambda: bridge.run_sync(main), "the caller", gate.let_through):
        gate.await_entered()
        assert eventually(lambda: len(chain(root("the caller"))) == 5)
        names = [functions(wait) for wait in chain(root("the caller"))[1:]]
    assert names == [["main", "yields"], ["gathered"], ["grouped"], ["wait"]]


def test_a_circle_is_closed_once() -> None:
    """Two tasks that wait for each other, below a call."""
    before = syncline.waits().circles
    with in_a_circle("the caller"):
        way, circles = chain(root("the caller")), syncline.waits().circles
    assert [wait.closes_circle for wait in way] == [False, False, False, False, True]
    assert circles - before == 1


def test_what_is_returned_can_not_be_changed(gate: Gate) -> None:
    """Neither the whole nor a part of it."""
    with in_thread(lambda: syncline.run_sync(gate.wait), "the caller", gate.let_through):
        gate.await_entered()
        wait = root("the caller")
        seen = syncline.waits()
    for thing, name in [(seen, "roots"), (wait, "name"), (wait.stack[0], "line"), (seen.loops[0], "name")]:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, None)
    assert repr(wait) == "<Wait: thread 'the caller', waits for 1>"
    assert seen.blocked >= 1
    assert (
        repr(seen) == f"<Waits: {seen.blocked} blocked, {seen.submitted} submitted, {seen.circles} circles>"
    )


def test_a_forked_child_sees_its_own_waits_only() -> None:
    """The parent's threads do not exist there. The fork comes while a thread of the parent's waits."""
    finished = run_script(
        """
        import asyncio, os, threading, syncline

        arrived = threading.Event()

        async def waits(event):
            arrived.set()
            await event

        async def main():
            await waits(asyncio.get_running_loop().create_future())

        threading.Thread(target=lambda: syncline.run_sync(main), daemon=True).start()
        arrived.wait()
        while not syncline.waits().blocked:
            pass
        if os.fork() == 0:
            assert syncline.waits().blocked == 0, syncline.dump()
            arrived.clear()
            threading.Thread(target=lambda: syncline.run_sync(main), daemon=True).start()
            arrived.wait()
            while not syncline.waits().blocked:
                pass
            (wait,) = syncline.waits()
            os._exit(len(wait.waits_for))
        print(os.waitstatus_to_exitcode(os.wait()[1]), syncline.waits().blocked, flush=True)
        os._exit(0)
        """,
        flags=FORKS,
    )
    assert (finished.out, finished.err) == ("1 1\n", "")


def test_a_look_at_ten_thousand_nested_calls_takes_less_than_a_second() -> None:
    """Of the processor's time: others may be at work here."""
    finished = run_script(
        """
        import asyncio, os, threading, time, syncline

        begun, all_wait = [], threading.Event()

        async def waits():
            begun.append(None)
            if len(begun) == 10_000:
                all_wait.set()
            await asyncio.Event().wait()

        def helper():
            syncline.run_sync(waits)

        async def calls():
            helper()

        futures = [syncline.submit(calls) for _ in range(10_000)]
        all_wait.wait()
        syncline.run_sync(asyncio.sleep, 0)  # the last one waits now, too
        start = time.thread_time()
        text = syncline.dump()
        taken = time.thread_time() - start
        assert taken < 1, taken
        assert "and 9,999 more like it" in text
        os._exit(0)
        """,
        limit=50,
    )
    assert (finished.status, finished.err) == (0, "")


def test_a_look_at_ten_thousand_waiting_threads_takes_less_than_a_second() -> None:
    """Of the processor's time, and once they wait for long none of them takes any until it is told."""
    finished = run_script(
        """
        import asyncio, os, threading, time, syncline
        from syncline import _core

        threading.stack_size(256 * 1024)  # with 128 kB, what Python 3.14 compiles overflows it
        bridge = syncline.Bridge()
        event = bridge.call(asyncio.Event)
        threads = [threading.Thread(target=bridge.run_sync, args=(event.wait,)) for _ in range(10_000)]
        try:
            for thread in threads:
                thread.start()
        except RuntimeError:
            print("too many threads")
            os._exit(0)
        while len(_core.waiting_threads()) < 10_000:  # an end that nothing signals
            time.sleep(0.01)
        start = time.thread_time()
        text = syncline.dump()
        taken = time.thread_time() - start
        assert taken < 1, taken
        assert "10,000 calls wait" in text and "and 9,999 more like it" in text, text
        bridge.call(event.set)
        for thread in threads:
            thread.join()
        bridge.close()
        """,
        limit=100,
    )
    if finished.lines == ["too many threads"]:
        pytest.skip("this machine allows no process 10,000 threads")
    assert (finished.status, finished.out, finished.err) == (0, "", "")
