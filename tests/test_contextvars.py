"""Contextvars flow both ways (group F)."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import syncline
from child import run_script
from neutral import make_bridge_of, new_event, sleep, turn

Isolated = Callable[[Callable[[], None]], None]


@pytest.fixture(params=["process", "thread", "caller", "trio"])
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    with make_bridge_of(request.param) as bridge:
        yield bridge


@pytest.fixture(params=["in a context", "in a thread"])
def isolated(request: pytest.FixtureRequest) -> Isolated:
    """Runs a test body in a context of its own; in a thread's bottom context, which nobody entered, too."""

    def run(body: Callable[[], None]) -> None:
        if request.param == "in a context":
            contextvars.copy_context().run(body)
        else:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(body).result()

    return run


async def assign(var: contextvars.ContextVar[Any], value: Any) -> None:
    await turn()
    var.set(value)


def test_the_coroutine_sees_the_callers_values(bridge: syncline.Bridge, isolated: Isolated) -> None:
    """Values go in (case 74)."""
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var")

    async def read() -> int:
        return var.get()

    def body() -> None:
        var.set(1)
        assert bridge.run_sync(read) == 1
        var.set(2)
        assert bridge.run_sync(read) == 2

    isolated(body)


def test_the_caller_sees_what_the_coroutine_changed(bridge: syncline.Bridge, isolated: Isolated) -> None:
    """Values come back (case 74), also from a call that fails, and equal ones that are not identical."""
    var: contextvars.ContextVar[Any] = contextvars.ContextVar("var", default=None)

    async def assign_and_fail(value: Any) -> None:
        var.set(value)
        raise ValueError("on purpose")

    def body() -> None:
        bridge.run_sync(assign, var, 1)
        assert var.get() == 1
        bridge.run_sync(assign, var, True)
        assert var.get() is True
        with pytest.raises(ValueError, match="on purpose"):
            bridge.run_sync(assign_and_fail, "failed")
        assert var.get() == "failed"

    isolated(body)


def test_a_token_of_one_call_resets_in_the_next(bridge: syncline.Bridge, isolated: Isolated) -> None:
    """Both run in one Context object (case 75), whether the variable was set before or not."""
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var")

    async def assign_with_token(value: int) -> contextvars.Token[int]:
        return var.set(value)

    async def reset(token: contextvars.Token[int]) -> None:
        var.reset(token)

    def body() -> None:
        first = bridge.run_sync(assign_with_token, 1)
        second = bridge.run_sync(assign_with_token, 2)
        assert var.get() == 2
        bridge.run_sync(reset, second)
        assert var.get() == 1
        bridge.run_sync(reset, first)
        assert var.get(None) is None

    isolated(body)


def test_only_what_the_coroutine_changed_is_written(bridge: syncline.Bridge) -> None:
    """A caller's own change between two calls stays."""
    mine: contextvars.ContextVar[int] = contextvars.ContextVar("mine", default=0)
    theirs: contextvars.ContextVar[int] = contextvars.ContextVar("theirs", default=0)

    def body() -> None:
        bridge.run_sync(assign, theirs, 1)
        mine.set(5)
        bridge.run_sync(assign, theirs, 2)
        assert (mine.get(), theirs.get()) == (5, 2)

    contextvars.copy_context().run(body)


def test_values_that_refuse_comparison_do_no_harm(bridge: syncline.Bridge) -> None:
    """Arrays raise when they are compared; identity decides (case 78)."""

    class Array:
        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        __hash__ = None  # type: ignore[assignment]

    var: contextvars.ContextVar[Array] = contextvars.ContextVar("var")

    def body() -> None:
        var.set(Array())
        new = Array()
        bridge.run_sync(assign, var, new)
        assert var.get() is new
        bridge.run_sync(sleep, 0)
        assert var.get() is new

    contextvars.copy_context().run(body)


def test_parallel_calls_are_isolated(bridge: syncline.Bridge) -> None:
    """Two calls that overlap do not see each other's values (case 76). The barrier forces the overlap."""
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=-1)
    ready: list[Any] = []

    async def swap(n: int) -> int:
        var.set(n)
        if bridge.scope == "process":
            ready[:] = ready or [new_event(), new_event()]
            ready[n].set()
            await ready[1 - n].wait()
        return var.get()

    def call(n: int) -> tuple[int, int]:
        return bridge.run_sync(swap, n), var.get()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(call, range(2))) == [(0, 0), (1, 1)]


def test_context_copy_keeps_changes_in_the_coroutine() -> None:
    """`context="copy"` turns the way back off."""
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)
    with syncline.Bridge(context="copy") as bridge:
        contextvars.copy_context().run(bridge.run_sync, assign, var, 1)
        bridge.run_sync(assign, var, 1)
        assert var.get() == 0


def test_a_submitted_call_sees_values_and_keeps_its_changes(bridge: syncline.Bridge) -> None:
    """Nobody waits for it, so there is no moment at which its changes could appear."""
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)

    async def read_and_set() -> int:
        seen = var.get()
        var.set(9)
        return seen

    def body() -> None:
        var.set(3)
        assert bridge.submit(read_and_set).result(10) == 3
        assert var.get() == 3

    contextvars.copy_context().run(body)


def test_steps_of_a_generator_share_one_context(bridge: syncline.Bridge) -> None:
    """What is set before a yield is there after it, for the generator and for the consumer (case 38)."""
    var: contextvars.ContextVar[int] = contextvars.ContextVar("var", default=0)

    @bridge.synced
    async def count():  # type: ignore[no-untyped-def]
        token = var.set(1)
        yield var.get()
        yield var.get()
        var.reset(token)
        yield var.get()

    def body() -> None:
        steps = count()
        assert next(steps) == 1
        assert var.get() == 1
        assert list(steps) == [1, 0]

    contextvars.copy_context().run(body)


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_threads_of_ours_inherit_no_variables(scope: str) -> None:
    """Where threads inherit their starter's context (3.14), loops and workers begin with an empty one (case 77)."""
    script = """
import asyncio, contextvars, gc, sys, threading, weakref
import syncline

class Thing:
    pass

kept = contextvars.ContextVar("kept", default=None)
seen = []

def factory():
    seen.append(kept.get())
    return asyncio.new_event_loop()

async def send():
    assert kept.get() is not None
    assert await syncline.to_thread(kept.get) is kept.get()

def use(bridge):
    kept.set(Thing())
    thread = threading.Thread(target=lambda: seen.append(kept.get() is not None))
    thread.start()
    thread.join()
    bridge.run_sync(send)
    return weakref.ref(kept.get())

with syncline.Bridge(scope="SCOPE", loop_factory=factory) as bridge:
    reference = contextvars.Context().run(use, bridge)
    bridge.run_sync(asyncio.sleep, 0)  # by now the loop has let go of the call
    assert any(thread.name.startswith("syncline-worker") for thread in threading.enumerate())
    gc.collect()
    assert reference() is None
    assert seen == [sys.version_info >= (3, 14), None], seen
"""
    run_script(script.replace("SCOPE", scope), flags=("-X", "thread_inherit_context=1")).assert_clean()
