"""Nothing of an operation is left when it is over, however often it is made, in a thread that lives on.

Counted are objects by their type (tasks, futures, contexts, greenlets, frames and so on are among those that Python's
collector knows), all blocks of Python's allocator, resident memory, threads and descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import syncline
from child import eventually, open_descriptors
from places import OPTIONS

Operation = Callable[[syncline.Bridge], object]

# What one of a thousand may leave, on an average: caches fill, and the memory of a process is not exact.
BLOCKS = 0.2
BYTES = 500
SLACK = 6 << 20

variable: contextvars.ContextVar[object] = contextvars.ContextVar("variable", default=None)


async def turn(value: object = None) -> object:
    await anyio.lowlevel.checkpoint()
    return value


async def change() -> None:
    await anyio.lowlevel.checkpoint()
    variable.set(object())


async def numbers() -> AsyncIterator[int]:
    for number in range(3):
        await anyio.lowlevel.checkpoint()
        yield number


@contextlib.asynccontextmanager
async def managed() -> AsyncIterator[int]:
    await anyio.lowlevel.checkpoint()
    yield 1
    await anyio.lowlevel.checkpoint()


async def fails() -> None:
    await anyio.lowlevel.checkpoint()
    raise KeyError("on purpose")


def runs_and_fails(bridge: syncline.Bridge) -> None:
    with contextlib.suppress(KeyError):
        bridge.run_sync(fails)


def is_too_late(bridge: syncline.Bridge) -> None:
    with contextlib.suppress(TimeoutError):
        bridge.run(anyio.sleep(3600), timeout=0)


def submits(bridge: syncline.Bridge) -> None:
    assert bridge.submit(turn, 1).result(20) == 1


def cancels(bridge: syncline.Bridge) -> None:
    future = bridge.submit(anyio.sleep, 3600)
    future.cancel()
    with contextlib.suppress(CancelledError):
        future.result(20)


def iterates(bridge: syncline.Bridge) -> None:
    assert list(bridge.iterate(numbers())) == [0, 1, 2]


def breaks(bridge: syncline.Bridge) -> None:
    for _ in bridge.iterate(numbers()):
        break


def fetches_ahead(bridge: syncline.Bridge) -> None:
    assert list(bridge.iterate(numbers(), prefetch=2)) == [0, 1, 2]


def fetches_ahead_and_breaks(bridge: syncline.Bridge) -> None:
    for _ in bridge.iterate(numbers(), prefetch=2):
        break


def enters(bridge: syncline.Bridge) -> None:
    with bridge.enter(managed()):
        pass


def enters_and_fails(bridge: syncline.Bridge) -> None:
    with contextlib.suppress(KeyError), bridge.enter(managed()):
        raise KeyError("on purpose")


def sends(bridge: syncline.Bridge) -> None:
    generator = bridge.generator(numbers)()  # type: ignore[arg-type]
    assert [next(generator), generator.send(None)] == [0, 1]
    generator.close()


def nests(bridge: syncline.Bridge) -> None:
    async def outer() -> object:
        return bridge.run_sync(turn, 1)

    assert bridge.run_sync(outer) == 1


def nests_iterations(bridge: syncline.Bridge) -> None:
    async def outer() -> None:
        iterates(bridge)
        breaks(bridge)
        enters(bridge)

    bridge.run_sync(outer)


def nests_elsewhere(bridge: syncline.Bridge) -> None:
    async def outer() -> object:
        return syncline.run_sync(turn, 1)

    assert bridge.run_sync(outer) == 1


def uses_workers(bridge: syncline.Bridge) -> None:
    async def main() -> None:
        assert await syncline.to_thread(int) == 0
        assert await syncline.to_thread(syncline.from_thread, turn, 1) == 1
        with contextlib.suppress(KeyError):
            await syncline.to_thread(syncline.from_thread, fails)

    bridge.run_sync(main)


def limits(bridge: syncline.Bridge) -> None:
    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)
        somebody = object()
        limiter.acquire_on_behalf_of_nowait(somebody)
        with anyio.move_on_after(0):
            await limiter.to_thread(int)
        limiter.release_on_behalf_of(somebody)
        await syncline.gather(lambda: limiter.to_thread(int), lambda: limiter.to_thread(int))

    bridge.run_sync(main)


def gathers(bridge: syncline.Bridge) -> None:
    async def main() -> None:
        assert await syncline.gather(lambda: turn(1), lambda: turn(2)) == [1, 2]
        with contextlib.suppress(KeyError):
            await syncline.gather(fails, turn, unwrap=True)

    bridge.run_sync(main)


def starts_tasks(bridge: syncline.Bridge) -> None:
    async def main() -> None:
        syncline.create_task(turn())  # type: ignore[arg-type]
        await asyncio.gather(asyncio.create_task(turn()), asyncio.ensure_future(turn()))  # type: ignore[arg-type]

    bridge.run_sync(main)


CHEAP: dict[str, Operation] = {
    "run_sync": lambda bridge: bridge.run_sync(turn),
    "run": lambda bridge: bridge.run(turn(), timeout=20),
    "change": lambda bridge: bridge.run_sync(change),
    "coroutine": lambda bridge: bridge.coroutine(turn)().run(),
    "in the task": nests,
    "iterations in the task": nests_iterations,
    "in the task of another bridge": nests_elsewhere,
    **{
        operation.__name__: operation
        for operation in (
            runs_and_fails, submits, cancels, iterates, breaks, fetches_ahead, fetches_ahead_and_breaks, enters,
            enters_and_fails, sends, uses_workers, gathers, starts_tasks,
        )
    },
}  # fmt: skip
DEAR = {"is_too_late": is_too_late, "limits": limits}

KINDS: dict[str, dict[str, Any]] = {
    **OPTIONS,
    "nested=thread": {"nested": "thread"},
    "context=copy": {"context": "copy"},
    "trio": {"backend": "trio"},
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """No record of a log is kept."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module", autouse=True)
def own_heap() -> Iterator[None]:
    """Python's collector passes over what the tests before have left, which is much and takes long to go through."""
    objects()  # what counting itself leaves in caches, the first time
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def objects() -> Counter[str]:
    return Counter(type(each).__qualname__ for each in gc.get_objects())


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def left_by(operation: Callable[[], object], times: int, settle: Callable[[], object]) -> list[str]:
    """What is left by so many, after some that have filled all caches."""

    def repeat(times: int) -> None:
        for _ in range(times):
            operation()

    def looked() -> tuple[Counter[str], int, int]:
        settle()
        gc.collect()
        known = objects()
        known.pop("uop_executor", None)  # machine code of the interpreter's own compiler
        return known, sys.getallocatedblocks(), resident()

    def left() -> list[str]:
        before, blocks, memory = looked()
        started = threading.active_count(), open_descriptors()
        repeat(times)
        found: list[str] = []

        def is_clean() -> bool:
            now, blocks_now, memory_now = looked()
            grown = {
                name: count - before[name]
                for name, count in now.items()
                if count - before[name] > times // 20
            }
            found[:] = [f"{count} of {name}" for name, count in grown.items()]
            if blocks_now - blocks > times * BLOCKS + 500:
                found.append(f"{blocks_now - blocks} blocks")
            if memory_now - memory > times * BYTES + SLACK:
                found.append(f"{memory_now - memory} bytes")
            if threading.active_count() > started[0] + 2 or open_descriptors() > started[1] + 4:
                found.append(
                    f"threads, descriptors {started} -> {threading.active_count(), open_descriptors()}"
                )
            return not found

        # Loops on other threads let go of a call a little later than its caller goes on.
        eventually(is_clean, 5)
        return found

    repeat(max(times // 5, 100))
    # What is left once, in a cache of Python's that a new type gets into, is not left by as many again.
    return left() and left()


def directly(work: Callable[[], Any]) -> Any:
    return work()


def in_another_thread(work: Callable[[], Any]) -> Any:
    """While the main thread goes on: what greenlet has of a thread that has ended is freed there."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        while not wait([future], 0.01).done:
            pass
        return future.result()


@pytest.mark.parametrize("thread", [directly, in_another_thread])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(300)
def test_operations_leave_nothing(kind: str, thread: Callable[[Callable[[], Any]], Any]) -> None:
    """Each kind of operation, a thousand times (dear ones a hundred), through one bridge in one thread."""

    def work() -> dict[str, list[str]]:
        with syncline.Bridge(**KINDS[kind]) as bridge:
            # trio has no tasks that nobody waits for; and there a producer that is cut short in its step raises.
            skipped = {"starts_tasks", "fetches_ahead_and_breaks"} if kind == "trio" else set()
            found: dict[str, list[str]] = {}
            for name, operation in (CHEAP | DEAR).items():
                if name not in skipped:
                    times = 1000 if name in CHEAP else 100
                    left = left_by(lambda run=operation: run(bridge), times, lambda: bridge.run_sync(turn))
                    if left:
                        found[name] = left
            return found

    assert thread(work) == {}


def closes(kind: str) -> None:
    with syncline.Bridge(**KINDS[kind]) as bridge:
        bridge.run_sync(turn)
        next(bridge.iterate(numbers()))
        assert bridge.submit(turn, 1).result(20) == 1


def drops(kind: str) -> None:
    bridge = syncline.Bridge(**KINDS[kind])
    bridge.run_sync(turn)
    assert bridge.submit(turn, 1).result(20) == 1


def drops_at_once(kind: str) -> None:
    assert syncline.Bridge(**KINDS[kind]).submit(turn, 1).result(20) == 1


def only_makes(kind: str) -> None:
    syncline.Bridge(**KINDS[kind])


@pytest.mark.parametrize("thread", [directly, in_another_thread])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", [closes, drops, drops_at_once, only_makes])
@pytest.mark.timeout(180)
def test_bridges_leave_nothing(
    how: Callable[[str], None], kind: str, thread: Callable[[Callable[[], Any]], Any]
) -> None:
    """Neither those that are closed nor those that are dropped, with all that they started."""
    times = 100

    def ended() -> bool:
        return not any(thread.name.startswith("syncline-thread") for thread in threading.enumerate())

    assert thread(lambda: left_by(lambda: how(kind), times, lambda: eventually(ended))) == []


@pytest.mark.parametrize("thread", [directly, in_another_thread])
def test_loops_for_one_call_leave_nothing(thread: Callable[[Callable[[], Any]], Any]) -> None:
    """`run_in_new_loop` in a thread that lives on."""
    assert thread(lambda: left_by(lambda: syncline.run_in_new_loop(turn), 300, lambda: None)) == []


def test_a_crowd_of_worker_calls_leaves_nothing_to_later_ones() -> None:
    """What is noted of calls that wait is dropped once they have ended, however many there were at a time."""

    async def crowd() -> None:
        limiter, somebody = syncline.ThreadLimiter(1), object()
        limiter.acquire_on_behalf_of_nowait(somebody)
        tasks = [asyncio.ensure_future(limiter.to_thread(int)) for _ in range(9000)]
        while limiter.statistics().tasks_waiting < len(tasks):
            await asyncio.sleep(0)
        # Interleaving: all of them wait at the same time.
        limiter.release_on_behalf_of(somebody)
        await asyncio.gather(*tasks)

    with syncline.Bridge() as bridge:
        bridge.run_sync(turn)  # anyio is there, so that the tasks that wait for workers are noted
        bridge.run_sync(crowd)
        assert left_by(lambda: uses_workers(bridge), 1000, lambda: bridge.run_sync(turn)) == []
