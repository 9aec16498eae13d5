"""Exceptions arrive as the same object, with the user's frames, and leave nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

import syncline
from neutral import make_bridge_of, sleep, this_loop, turn


@pytest.fixture(params=["process", "thread", "caller", "trio"])
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    with make_bridge_of(request.param) as bridge:
        yield bridge


async def raise_it(error: BaseException, suspend: bool) -> None:
    if suspend:
        await turn()
    raise error


@pytest.mark.parametrize("suspend", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain"),
        ExceptionGroup("group", [ValueError(1), KeyError(2)]),
        RuntimeError("no running event loop"),
        SystemExit(3),
        KeyboardInterrupt("inside"),
        GeneratorExit("odd"),
        asyncio.CancelledError("mine"),
        TimeoutError("mine"),
        BaseException("bare"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_same_object_arrives_and_the_loop_lives_on(
    bridge: syncline.Bridge, error: BaseException, suspend: bool
) -> None:
    """Whatever a coroutine raises reaches its caller (22, 48, 49, 61), and the next call works on the same loop."""

    async def loop() -> int:
        return this_loop()

    before = bridge.run_sync(loop)
    with pytest.raises(type(error)) as caught:
        bridge.run_sync(raise_it, error, suspend)
    assert caught.value is error
    assert bridge.run_sync(loop) == before


def test_stop_iteration_becomes_a_runtime_error(bridge: syncline.Bridge) -> None:
    """As in any coroutine."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        bridge.run_sync(raise_it, StopIteration(1), True)


def test_the_traceback_shows_the_users_frames(bridge: syncline.Bridge) -> None:
    """Caller, coroutine, and what it called; at most one frame of the bridge (case 59)."""

    async def inner() -> None:
        raise ValueError("deep")

    async def outer() -> None:
        await turn()
        await inner()

    with pytest.raises(ValueError, match="deep") as caught:
        bridge.run_sync(outer)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names == ["test_the_traceback_shows_the_users_frames", "outer", "inner"]


def test_cause_and_context_are_kept(bridge: syncline.Bridge) -> None:
    """The chain that the coroutine built is the one that the caller sees."""
    cause = KeyError("cause")

    async def chained() -> None:
        try:
            raise LookupError("context")
        except LookupError:
            raise ValueError("top") from cause

    with pytest.raises(ValueError, match="top") as caught:
        bridge.run_sync(chained)
    assert caught.value.__cause__ is cause
    assert isinstance(caught.value.__context__, LookupError)


def test_a_failed_call_frees_its_arguments_at_once(bridge: syncline.Bridge) -> None:
    """No reference cycle: the argument is gone without a garbage collection (case 60)."""

    class Big:
        pass

    async def fail(big: Big) -> None:
        await turn()
        raise ValueError

    def call() -> weakref.ref[Big]:
        big = Big()
        with contextlib.suppress(ValueError):
            bridge.run_sync(fail, big)
        return weakref.ref(big)

    gc.disable()
    try:
        ref = call()
        # The loop's thread drops the finished task at the end of its turn: one more call, and that is over.
        bridge.run_sync(sleep, 0)
        assert ref() is None
    finally:
        gc.enable()


def test_raising_one_object_again_adds_no_frames_of_ours(bridge: syncline.Bridge) -> None:
    """Each call adds the frames that a plain call would add, and none of the bridge (case 59)."""
    error = ValueError("again")
    for _ in range(3):
        with pytest.raises(ValueError, match="again"):
            bridge.run_sync(raise_it, error, False)
    names = {frame.name for frame in traceback.extract_tb(error.__traceback__)}
    assert names == {"test_raising_one_object_again_adds_no_frames_of_ours", "raise_it"}


def test_an_object_of_another_loop_is_explained() -> None:
    """The error names both loops, and where they were made (case 27)."""
    with syncline.Bridge(name="one") as one, syncline.Bridge(name="two") as two:

        async def make() -> asyncio.Event:
            event = asyncio.Event()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(event.wait(), 0)
            task = asyncio.create_task(event.wait())
            await turn()
            task.cancel()
            return event

        event = one.run_sync(make)
        with pytest.raises(RuntimeError, match="different event loop") as caught:
            two.run_sync(event.wait)
        (note,) = caught.value.__notes__
        assert '"one"' in note
        assert '"two"' in note
        assert "test_exceptions.py" in note


@pytest.mark.parametrize(
    "text", ["no running event loop", "There is no current event loop", "Event loop is closed"]
)
def test_an_error_about_event_loops_arrives_unchanged(bridge: syncline.Bridge, text: str) -> None:
    """What the coroutine raises about loops of its own is not taken for trouble with ours (case 22)."""
    error = RuntimeError(text)

    async def fail() -> None:
        raise error

    with pytest.raises(RuntimeError) as caught:
        bridge.run_sync(fail)
    assert caught.value is error
    assert not hasattr(error, "__notes__")
    assert bridge.run_sync(sleep, 0, "goes on") == "goes on"


def test_a_coroutine_that_raises_stop_iteration_gives_a_runtime_error(bridge: syncline.Bridge) -> None:
    """As everywhere in Python; the caller does not hang (case 40)."""

    async def stop() -> None:
        raise StopIteration("mine")

    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        bridge.run_sync(stop)
    assert isinstance(caught.value.__cause__, StopIteration)


class HandledError(Exception):
    """What the caller is in the middle of handling."""


@pytest.mark.parametrize("kind", ["call", "step", "enter", "future", "map"])
def test_what_the_caller_handles_is_the_context(bridge: syncline.Bridge, kind: str) -> None:
    """As where a sync function raises; what has a context of its own keeps it, and no error is its own context."""
    error, handled = ValueError("in the coroutine"), HandledError()

    async def fails(*_: object) -> None:
        await turn()
        raise error

    async def items() -> AsyncIterator[None]:
        yield await fails()

    calls: dict[str, Callable[[], object]] = {
        "call": lambda: bridge.run_sync(fails),
        "step": lambda: list(bridge.iterate(items())),
        "enter": lambda: bridge.enter(asynccontextmanager(items)()).__enter__(),
        "future": lambda: bridge.submit(fails).result(),
        "map": lambda: list(bridge.map(fails, [1])),
    }

    def call_while_handling(other: Exception) -> None:
        try:
            raise other
        except type(other):
            calls[kind]()

    with pytest.raises(ValueError, match="in the coroutine") as caught:
        call_while_handling(handled)
    assert caught.value is error
    assert error.__context__ is handled
    assert handled.__context__ is None
    with pytest.raises(ValueError, match="in the coroutine"):
        call_while_handling(error)
    assert error.__context__ is handled or kind == "future"  # where Python's own `raise` decides


@pytest.mark.parametrize("kind", ["to_thread", "to_caller", "run_async", "worker"])
def test_what_the_awaiting_task_handles_is_the_context(bridge: syncline.Bridge, kind: str) -> None:
    """The same for what is awaited."""

    def fails() -> None:
        raise ValueError("elsewhere")

    async def afails() -> None:
        fails()

    other = syncline.default_bridge()

    async def main() -> None:
        async with syncline.Worker() as worker:
            made: dict[str, Callable[[], Awaitable[object]]] = {
                "to_thread": lambda: syncline.to_thread(fails),
                "to_caller": lambda: syncline.to_caller(fails),
                "run_async": lambda: other.run_async(afails),
                "worker": lambda: worker.to_thread(fails),
            }
            try:
                raise HandledError
            except HandledError:
                await made[kind]()

    with pytest.raises(ValueError, match="elsewhere") as caught:
        bridge.run_sync(main)
    assert isinstance(caught.value.__context__, HandledError)


class FalsyError(Exception):
    """As one with a `__len__` that has nothing in it."""

    def __bool__(self) -> bool:
        return False


def by_call(bridge: syncline.Bridge) -> None:
    bridge.run_sync(raise_it, FalsyError(), True)


def by_future(bridge: syncline.Bridge) -> None:
    bridge.submit(raise_it, FalsyError(), True).result()


def by_map(bridge: syncline.Bridge) -> None:
    list(bridge.map(lambda error: raise_it(error, True), [FalsyError()]))


def by_source_of_map(bridge: syncline.Bridge) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        raise FalsyError

    async def same(item: int) -> int:
        return item

    list(bridge.map(same, items()))


def by_task_of_a_group(bridge: syncline.Bridge) -> None:
    found: list[BaseException] = []
    with contextlib.suppress(ExceptionGroup), bridge.group() as group:
        task = group.start(raise_it, FalsyError(), True)
        try:
            task.result()
        except FalsyError as error:
            found.append(error)
    raise found[0]


def by_iterator(bridge: syncline.Bridge) -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        raise FalsyError

    list(bridge.iterate(items()))


@pytest.mark.parametrize(
    "way", [by_call, by_future, by_map, by_source_of_map, by_task_of_a_group, by_iterator]
)
def test_an_exception_that_counts_as_false_is_raised(
    bridge: syncline.Bridge, way: Callable[[syncline.Bridge], None]
) -> None:
    """Also where Python's own future would return None instead."""
    with pytest.raises(FalsyError):
        way(bridge)
