"""A call whose caller has stopped waiting goes on in its own context: later calls neither share it nor get its values.

And once nothing changes any more, a call costs no look at each variable.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import anyio.lowlevel
import pytest
import trio

import syncline
from neutral import make_bridge_of
from places import in_thread

LEFT_BEHIND = "has not ended"

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

bridges = pytest.mark.parametrize("kind", ["process", "thread", "caller", "uvloop", "trio"])


@pytest.fixture
def impatient(kind: str) -> Iterator[syncline.Bridge]:
    """A bridge of that kind whose callers soon go on without what refuses to end."""
    with make_bridge_of(kind, cleanup_timeout=0.05) as bridge:
        yield bridge


class Refusing:
    """A coroutine that can't be cancelled, and goes on, on its loop, as soon as it is let go."""

    def __init__(self) -> None:
        self.released = anyio.Event()
        self.over = anyio.Event()

    async def main(self) -> None:
        token = user.set("the first call's")
        with anyio.CancelScope(shield=True):
            while not self.released.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await self.released.wait()
            user.reset(token)
            user.set("somebody else's")
            self.over.set()

    async def go_on(self) -> tuple[str, str]:
        """What a later call sees, before and after it has let the other one go on."""
        before = user.get()
        self.released.set()
        await self.over.wait()
        return before, user.get()


async def made() -> Refusing:
    return Refusing()


async def iterated(what: Refusing) -> AsyncIterator[tuple[str, str]]:
    yield await what.go_on()


@contextlib.asynccontextmanager
async def entered(what: Refusing) -> AsyncIterator[tuple[str, str]]:
    yield await what.go_on()


def by_enter(bridge: syncline.Bridge, what: Refusing) -> tuple[str, str]:
    with bridge.enter(entered(what)) as seen:
        return seen


LATER: dict[str, Callable[[syncline.Bridge, Refusing], tuple[str, str]]] = {
    "run_sync": lambda bridge, what: bridge.run_sync(what.go_on),
    "run": lambda bridge, what: bridge.run(what.go_on(), timeout=20),
    "iterate": lambda bridge, what: next(bridge.iterate(iterated(what))),
    "enter": by_enter,
    "coroutine": lambda bridge, what: bridge.coroutine(what.go_on)().run(),
}


@bridges
@pytest.mark.parametrize("later", LATER)
def test_later_calls_see_nothing_of_what_was_left_behind(
    impatient: syncline.Bridge, kind: str, later: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither before it goes on nor after; and their caller gets nothing of it."""

    def body() -> tuple[tuple[str, str], str]:
        what = impatient.run_sync(made)
        # Both waits are needed for the call to be left behind; it has begun by then, as its loop is free.
        with pytest.raises(TimeoutError):
            impatient.run(what.main(), timeout=0.3)
        user.set("mine")
        return LATER[later](impatient, what), user.get()

    assert contextvars.copy_context().run(body) == (("mine", "mine"), "mine")
    assert LEFT_BEHIND in caplog.text


@pytest.mark.parametrize("kind", ["process", "thread", "uvloop", "trio"])
@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_the_next_call_is_not_in_the_context_of_one_that_still_runs(
    impatient: syncline.Bridge, kind: str, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A coroutine that blocks its loop has its context entered: no other thread could enter that."""
    begun, go_on = threading.Event(), threading.Event()

    async def blocks() -> None:
        user.set("the first call's")
        begun.set()
        go_on.wait(30)

    async def see() -> str:
        return user.get()

    def body() -> tuple[str, str]:
        with syncline.Bridge(scope=scope) as other:
            with pytest.raises(TimeoutError):
                impatient.run(blocks(), timeout=0.3)
            # The order that this forces: the loop's thread is in `wait`, with the context entered, until the end.
            assert begun.wait(20)
            user.set("mine")
            seen = other.run_sync(see), user.get()
            go_on.set()
            return seen

    try:
        assert contextvars.copy_context().run(body) == ("mine", "mine")
    finally:
        go_on.set()
    assert LEFT_BEHIND in caplog.text


def cpu(bridge: syncline.Bridge) -> float:
    """What a call costs this thread."""
    best = 1.0
    for _ in range(7):
        began = time.thread_time()
        for _ in range(100):
            bridge.run_sync(nothing)
        best = min(best, (time.thread_time() - began) / 100)
    return best


async def nothing() -> None: ...


async def change() -> None:
    user.set("changed")


@pytest.mark.parametrize("kind", ["process", "thread", "caller", "uvloop"])
@pytest.mark.parametrize("changer", ["the coroutine", "the caller"])
def test_a_call_that_changes_nothing_costs_no_look_at_each_variable(
    impatient: syncline.Bridge, kind: str, changer: str
) -> None:
    """Also after one that did, and after its caller did, once: with 3,000 variables that would be 50 times as much."""
    variables = [contextvars.ContextVar[int](f"variable {number}") for number in range(3000)]

    def body() -> tuple[float, float]:
        for variable in variables:
            variable.set(1)
        before = cpu(impatient)
        impatient.run_sync(change)
        if changer == "the caller":
            user.set("changed by the caller")
        return before, cpu(impatient)

    before, after = in_thread(body)
    assert after < 5 * before + 20e-6


@pytest.mark.parametrize("kind", ["process", "thread", "caller", "uvloop", "trio"])
def test_changes_of_either_side_are_seen_in_turns(impatient: syncline.Bridge, kind: str) -> None:
    """However often a call changed nothing in between: of the caller's set and reset, and of the coroutine's."""
    fresh: contextvars.ContextVar[int] = contextvars.ContextVar("fresh", default=0)

    async def see() -> tuple[int, str]:
        await anyio.lowlevel.checkpoint()
        return fresh.get(), user.get()

    async def put(number: int) -> contextvars.Token[int]:
        return fresh.set(number)

    async def take_back(token: contextvars.Token[int]) -> None:
        fresh.reset(token)

    def body() -> None:
        for number in range(1, 4):
            token = impatient.run_sync(put, number)
            assert [impatient.run_sync(see), impatient.run_sync(see)] == [(number, user.get())] * 2
            mine = user.set(str(number))
            assert [impatient.run_sync(see), impatient.run_sync(see)] == [(number, str(number))] * 2
            impatient.run_sync(take_back, token)
            assert [impatient.run_sync(see), fresh.get()] == [(0, str(number)), 0]
            user.reset(mine)
            assert [impatient.run_sync(see), impatient.run_sync(see)] == [(0, user.get())] * 2

    in_thread(body)


@bridges
def test_a_context_that_the_loop_s_thread_has_not_left_yet_is_waited_for(
    impatient: syncline.Bridge, kind: str
) -> None:
    """A token can be reset by the next call, also if the last step of the call before it is still being ended."""
    fresh: contextvars.ContextVar[int] = contextvars.ContextVar("fresh", default=0)
    context: contextvars.Context | None = None
    is_calling, entered = threading.Event(), threading.Event()

    async def put() -> contextvars.Token[int]:
        nonlocal context
        task = trio.lowlevel.current_task() if kind == "trio" else asyncio.current_task()
        (context,) = (each for each in gc.get_referents(task) if isinstance(each, contextvars.Context))
        return fresh.set(1)

    async def take_back(token: contextvars.Token[int]) -> None:
        fresh.reset(token)

    def stay() -> None:
        # Order forced: the other thread makes its call while this one is in the context, which it leaves after some
        # dozens of changes of the thread that has the interpreter.
        entered.set()
        is_calling.wait()
        for _ in range(50):
            time.sleep(0)

    def body() -> None:
        token = impatient.run_sync(put)
        assert context is not None
        staying = threading.Thread(target=context.run, args=(stay,))
        staying.start()
        entered.wait()
        is_calling.set()
        impatient.run_sync(take_back, token)
        assert fresh.get() == 0
        staying.join()

    in_thread(body)
