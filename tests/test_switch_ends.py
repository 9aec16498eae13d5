"""How suspended stacks end: with their task, their loop, their thread, and their process."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

import syncline
from child import DEV, FORKS, run_script
from switching import Place, place

__all__ = ["place"]


def test_closing_a_bridge_ends_50_suspended_stacks() -> None:
    """close() cancels what waits in nested calls; each cleans up, awaiting, and no task is left (case 84)."""
    ended: list[int] = []
    bridge = syncline.Bridge(nested="switch")

    async def wait(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    async def nested(number: int) -> None:
        bridge.run_sync(wait, number)

    async def main() -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(nested(number)) for number in range(50)]
        await asyncio.sleep(0)
        return tasks

    tasks = bridge.run_sync(main)
    bridge.close()
    assert sorted(ended) == list(range(50))
    assert all(task.cancelled() for task in tasks)


def test_stacks_that_refuse_to_end_are_closed_with_their_loop() -> None:
    """Tasks that go on though they were cancelled: their nested calls get GeneratorExit before the thread ends."""
    ended: list[str] = []
    bridge = syncline.Bridge(nested="switch", cleanup_timeout=0.05)

    async def stubborn() -> None:
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    ended.append("refused")
        except GeneratorExit:
            ended.append(threading.current_thread().name)
            raise

    async def nested() -> None:
        bridge.run_sync(stubborn)

    async def main() -> asyncio.Task[None]:
        task = asyncio.create_task(nested())
        await asyncio.sleep(0)
        return task

    task = bridge.run_sync(main)
    bridge.close()
    assert ended == ["refused", "syncline"]
    assert not task.done()


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("refuses", [False, True])
def test_the_process_ends_with_50_suspended_stacks(scope: str, refuses: bool) -> None:
    """Exit runs the cleanup of each, within the bound even for those that refuse, and is quiet (cases 84, 86)."""
    finished = run_script(
        f"""
    import asyncio, sys, syncline
    bridge = syncline.Bridge(nested="switch", scope={scope!r}, cleanup_timeout=0.3)
    ended = 0

    async def wait():
        global ended
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended += 1
                if ended == 50:
                    print("ended", flush=True)
                if not {refuses}:
                    raise

    async def nested():
        bridge.run_sync(wait)

    async def main():
        global tasks
        tasks = [asyncio.create_task(nested()) for _ in range(50)]
        await asyncio.sleep(0)

    bridge.run_sync(main)
    """,
        flags=() if refuses else DEV,
    )
    assert (finished.status, finished.lines) == (0, ["ended"]), finished.err
    if not refuses:
        finished.assert_clean()
    assert finished.seconds < 10


@pytest.mark.parametrize("kind", ["install", "nestable"])
def test_a_thread_of_the_users_ends_with_50_suspended_stacks(kind: str) -> None:
    """A loop of the user's that is closed, or left, with tasks that wait in nested calls; then its thread ends, and the
    process, without a crash."""
    finished = run_script(
        f"""
    import asyncio, gc, logging, syncline, threading
    logging.disable()

    async def nested():
        syncline.run_sync(asyncio.Event().wait)

    def work():
        loop = asyncio.new_event_loop()

        async def main():
            syncline.install()
            make = nested if {kind!r} == "install" else syncline.nestable(nested)
            kept.append([asyncio.create_task(make()) for _ in range(50)])
            await asyncio.sleep(0)

        loop.run_until_complete(main())
        loop.close()

    kept = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    kept.clear()
    gc.collect()
    print(threading.active_count())
    """
    )
    assert (finished.status, finished.lines) == (0, ["1"]), finished.err


def test_a_task_that_nobody_has_any_more_is_closed(place: Place) -> None:
    """A coroutine that is dropped in the middle of a nested call gets GeneratorExit, as a plain one would."""
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except GeneratorExit:
            ended.append("inner")
            raise

    async def nested() -> None:
        try:
            place.bridge.run_sync(wait)
        finally:
            ended.append("outer")

    async def main() -> None:
        coroutine = syncline.run_nestable(nested)
        coroutine.send(None)
        assert ended == []
        coroutine.close()
        assert ended == ["inner", "outer"]
        ended.clear()
        coroutine = syncline.run_nestable(nested)
        coroutine.send(None)
        del coroutine
        gc.collect()
        assert ended == ["inner", "outer"]

    place.run(main)


def test_a_closed_coroutine_that_awaits_in_its_cleanup_is_told_so(place: Place) -> None:
    """As a plain coroutine's: close() raises RuntimeError."""

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)

    async def nested() -> None:
        place.bridge.run_sync(wait)

    async def main() -> None:
        coroutine = syncline.run_nestable(nested)
        coroutine.send(None)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            coroutine.close()

    place.run(main)


def test_carriers_end_with_their_thread() -> None:
    """A thread that ran 300 nested calls at once leaves no greenlet behind."""
    greenlet = pytest.importorskip("greenlet")

    def alive() -> int:
        gc.collect()
        return sum(isinstance(each, greenlet.greenlet) and not each.dead for each in gc.get_objects())

    opened = threading.Event()
    with syncline.Bridge(nested="switch") as bridge:
        bridge.run_sync(asyncio.sleep, 0)
        before = alive()

        async def wait(event: asyncio.Event) -> None:
            await event.wait()

        async def nested(event: asyncio.Event) -> None:
            bridge.run_sync(wait, event)

        async def main() -> None:
            event = asyncio.Event()
            tasks = [asyncio.create_task(nested(event)) for _ in range(300)]
            await asyncio.sleep(0)
            event.set()
            await asyncio.gather(*tasks)
            opened.set()

        bridge.run_sync(main)
        assert alive() >= before
    assert opened.is_set()
    assert alive() <= before


def test_a_task_that_keeps_its_greenlet_has_it_for_itself() -> None:
    """While anybody refers to the greenlet that a task runs in, no other task gets it."""
    greenlet = pytest.importorskip("greenlet")
    with syncline.Bridge(nested="switch") as bridge:

        async def main() -> None:
            mine = greenlet.getcurrent()
            others: set[int] = set()

            async def other() -> None:
                others.add(id(greenlet.getcurrent()))
                await asyncio.sleep(0)
                others.add(id(greenlet.getcurrent()))

            for _ in range(5):
                await asyncio.gather(*(asyncio.create_task(other()) for _ in range(5)))
                assert greenlet.getcurrent() is mine
            assert id(mine) not in others

        bridge.run_sync(main)


def test_the_greenlets_of_tasks_are_reused() -> None:
    """100 tasks, one after the other, need no more than a few greenlets."""
    greenlet = pytest.importorskip("greenlet")
    with syncline.Bridge(nested="switch") as bridge:
        seen: weakref.WeakSet[object] = weakref.WeakSet()

        async def one() -> None:
            seen.add(greenlet.getcurrent())
            await asyncio.sleep(0)
            seen.add(greenlet.getcurrent())

        async def main() -> int:
            for _ in range(100):
                await asyncio.create_task(one())
            return len(seen)

        assert bridge.run_sync(main) <= 3


def test_a_forked_child_does_not_switch_to_its_parents_loop() -> None:
    """A coroutine that forks, and calls the bridge in the child: the child has loops of its own (case 80)."""
    finished = run_script(
        """
    import asyncio, os, sys, syncline

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    def sync_code() -> int:
        child = os.fork()
        if child == 0:
            os._exit(syncline.run_sync(answer))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    async def outer() -> int:
        found = sync_code()
        assert syncline.run_sync(answer) == 42
        return found

    print(syncline.run_sync(outer))
    """,
        flags=FORKS,
    )
    assert (finished.status, finished.lines) == (0, ["42"]), finished.err


def test_a_parked_task_that_nothing_can_wake_ends_with_its_loop() -> None:
    """One that only its own future refers to. The collector can't see into a parked stack, so the task stays, where a
    task without a nested call would go; the loop's end ends it, and frees what it held."""

    class Thing:
        pass

    things: list[weakref.ref[Thing]] = []
    ended: list[str] = []

    with syncline.Bridge(nested="switch") as bridge:

        async def wait(thing: Thing) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                ended.append(type(thing).__name__)

        async def nested() -> None:
            thing = Thing()
            things.append(weakref.ref(thing))
            bridge.run_sync(wait, thing)

        async def main() -> None:
            task = asyncio.create_task(nested())
            await asyncio.sleep(0)
            assert not task.done()

        bridge.run_sync(main)
        gc.collect()
        assert ended == []
        assert things[0]() is not None
    gc.collect()
    assert ended == ["Thing"]
    assert things[0]() is None
