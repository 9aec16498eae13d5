"""A bridge that nobody has any more ends its threads, once what was submitted through it has ended."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from typing import Any

import anyio
import pytest

import syncline
from child import eventually, run_script
from places import OPTIONS

KINDS: dict[str, dict[str, Any]] = {
    **OPTIONS,
    "trio": {"backend": "trio"},
}
kinds = pytest.mark.parametrize("kind", KINDS)
Gate = threading.Event


def made(kind: str, **options: Any) -> syncline.Bridge:
    return syncline.Bridge(name="dropped", **{**KINDS[kind], **options})


def threads() -> int:
    return sum(thread.name.startswith("dropped") for thread in threading.enumerate())


async def passes(gate: Gate) -> str:
    """Ends when the gate has been opened, and suspends until then."""
    while not gate.is_set():
        await anyio.sleep(0.001)
    return "done"


async def fails(gate: Gate) -> str:
    await passes(gate)
    raise KeyError("on purpose")


@kinds
def test_what_was_submitted_comes_to_its_end(kind: str, leaks_nothing: None) -> None:
    """However it ends, and though the bridge is dropped in the very expression; then the thread ends."""
    gate = Gate()
    futures = [made(kind).submit(passes, gate), made(kind).submit(fails, gate)]
    gc.collect()
    # By now both bridges are dropped and both calls still run: the gate is closed.
    assert threads() == 2
    gate.set()
    assert futures[0].result(20) == "done"
    with pytest.raises(KeyError, match="on purpose"):
        futures[1].result(20)
    # The futures are kept: they don't keep the threads.
    assert eventually(lambda: threads() == 0)


@kinds
def test_the_last_of_several_is_waited_for(kind: str, leaks_nothing: None) -> None:
    """A bridge lives for each of its calls, whatever the order in which they end."""
    gates = [Gate() for _ in range(3)]
    bridge = made(kind)
    futures = [bridge.submit(passes, gate) for gate in gates]
    del bridge
    gc.collect()
    for turn in (1, 2, 0):
        gates[turn].set()
        assert futures[turn].result(20) == "done"
        assert threads() == 1 or turn == 0
    assert eventually(lambda: threads() == 0)


@kinds
def test_a_cancelled_future_lets_the_thread_end(kind: str, leaks_nothing: None) -> None:
    """One that would never end by itself; nobody has to keep the future to the end."""
    future: Future[str] = made(kind).submit(passes, Gate())
    assert threads() == 1
    assert future.cancel()
    with pytest.raises(CancelledError):
        future.result(20)
    assert eventually(lambda: threads() == 0)


@kinds
def test_a_future_that_nobody_has_is_no_reason_to_stop(kind: str, leaks_nothing: None) -> None:
    """As with executors: what was submitted is done."""
    gate, done = Gate(), Gate()

    async def does() -> None:
        await passes(gate)
        done.set()

    made(kind).submit(does)
    gc.collect()
    gate.set()
    assert done.wait(20)
    assert eventually(lambda: threads() == 0)


def test_a_call_that_drops_its_own_bridge_ends(leaks_nothing: None) -> None:
    """The last reference goes in a coroutine on the loop, which it does not stop under that."""
    held = [made("process")]

    async def drops() -> str:
        held.clear()
        gc.collect()
        await asyncio.sleep(0)
        return "done"

    future = held[0].submit(drops)
    assert future.result(20) == "done"
    assert eventually(lambda: threads() == 0)


def test_close_ends_what_was_submitted(leaks_nothing: None) -> None:
    """As ever: whoever closes a bridge says that it is to end now."""
    with made("process") as bridge:
        future = bridge.submit(passes, Gate())
    assert wait([future], 20).done
    with pytest.raises(syncline.RunnerClosedError):
        future.result()


class Service:
    """Has a bridge whose loop factory refers to it."""

    def __init__(self, how: str, scope: str) -> None:
        def closure() -> asyncio.AbstractEventLoop:
            return self.new_loop()

        factories: dict[str, Callable[[], Any]] = {"a method": self.new_loop, "a closure": closure}
        self.bridge = made(scope, loop_factory=factories[how])

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def use(self) -> None:
        self.bridge.run_sync(asyncio.sleep, 0)
        assert self.bridge.submit(asyncio.sleep, 0, 1).result(20) == 1
        iterator = self.bridge.iterate(self.numbers())
        assert next(iterator) == 1

    async def numbers(self) -> Any:
        yield 1
        yield 2


@pytest.mark.parametrize("kind", ["process", "thread", "caller"])
@pytest.mark.parametrize("how", ["a method", "a closure"])
def test_a_bridge_is_freed_whose_factory_refers_to_its_owner(
    how: str, kind: str, leaks_nothing: None
) -> None:
    """With the owner, its thread and its descriptors: the collector sees the ring."""

    def used() -> weakref.ref[Service]:
        service = Service(how, kind)
        service.use()
        return weakref.ref(service)

    references = [used() for _ in range(3)]

    def freed() -> bool:
        gc.collect()
        return all(reference() is None for reference in references)

    assert eventually(freed)
    assert eventually(lambda: threads() == 0)


@pytest.mark.parametrize("kind", ["process", "thread", "caller"])
def test_a_factory_is_not_freed_while_something_needs_it(kind: str, leaks_nothing: None) -> None:
    """An iterator keeps the options of a bridge that nobody else has: its loop can still be made."""
    service = Service("a method", kind)
    iterator = service.bridge.iterate(service.numbers())
    reference = weakref.ref(service)
    del service
    gc.collect()
    assert reference() is not None
    assert list(iterator) == [1, 2]
    del iterator

    def freed() -> bool:
        gc.collect()
        return reference() is None

    assert eventually(freed)


def test_the_exit_ends_what_a_dropped_bridge_still_runs() -> None:
    """Nobody waits for it there: it is cancelled, as everything is, and cleans up."""
    finished = run_script(
        """
        import asyncio, gc, threading
        import syncline

        begun = threading.Event()

        async def endless():
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                print("cleaned up", flush=True)

        future = syncline.Bridge().submit(endless)
        assert begun.wait(20)
        gc.collect()
        """
    )
    finished.assert_clean()
    assert finished.lines == ["cleaned up"]


def used(kind: str) -> syncline.Bridge:
    bridge = made(kind)
    assert bridge.run_sync(passes, opened()) == "done"
    return bridge


def opened() -> Gate:
    gate = Gate()
    gate.set()
    return gate


@kinds
def test_an_error_that_comes_by_while_a_bridge_is_dropped_arrives(kind: str) -> None:
    """The call that fails has the only reference, and lets go of it when its error is there already."""
    with pytest.raises(TypeError, match="int"):
        int(used(kind))  # type: ignore[call-overload]
