"""An iterator one of whose steps goes on without its caller: its end waits for nobody, says nothing, and comes."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

import syncline


@pytest.mark.parametrize(
    ("prefetch", "closes"), [(0, False), (0, True), (1, False), (3, False)], ids=["0", "closed", "1", "3"]
)
@pytest.mark.parametrize("scope", ["process", "thread"])
def test_one_in_a_deadlock_ends_when_that_is_over(
    make_bridge: Callable[..., syncline.Bridge], scope: str, prefetch: int, closes: bool
) -> None:
    """The step waits for a lock that the caller has, who gets DeadlockError once: not again where it is closed, nor in
    its finalizer, which Python would show."""
    bridge = make_bridge(scope=scope)
    lock, is_taken, closed = threading.Lock(), threading.Event(), threading.Event()

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.to_thread(is_taken.wait)
            with lock:  # Interleaving: the caller has it by now.
                pass
            yield 2
        finally:
            closed.set()

    # In a list, as Python keeps what a frame's variables were when somebody looked, as who looks for deadlocks does.
    held = [bridge.iterate(items(), prefetch=prefetch)]
    assert next(held[0]) == 1
    with lock:
        is_taken.set()
        with pytest.raises(syncline.DeadlockError):
            next(held[0])
        if closes:
            held[0].close()
        held.clear()
        gc.collect()
        assert not closed.is_set()
    assert closed.wait(10)


async def stops(_: int = 0) -> None:
    """Refuses to end."""
    asyncio.get_running_loop().stop()
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def stops_later() -> AsyncIterator[int]:
    yield 1
    await stops()


@pytest.mark.filterwarnings("default")  # of tasks that are freed before they have ended
@pytest.mark.parametrize("scope", ["process", "caller"])
def test_a_stopped_loop_ends_the_iteration_with_one_error(
    make_bridge: Callable[..., syncline.Bridge], scope: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the step refuses to end, and a generator can't be closed in the middle of one."""
    bridge = make_bridge(scope=scope, cleanup_timeout=0.1)
    for iterate in (lambda: bridge.map(stops, range(3)), lambda: bridge.iterate(stops_later())):
        iterator = iterate()
        with pytest.raises(syncline.RunnerClosedError):
            list(iterator)
        iterator.close()
        del iterator
    bridge.close()
    gc.collect()
    assert capsys.readouterr().err == ""
