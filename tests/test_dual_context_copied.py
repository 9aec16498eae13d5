"""context="copy": all steps of one thing are in one copy of the context, wherever sync code makes them."""

from __future__ import annotations

import contextvars
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import uvloop

import syncline

current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="unset")
Body = Callable[[syncline.Bridge], Any]


@pytest.fixture(params=["process", "thread", "caller", "uvloop", "trio"])
def copying(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """A bridge of each kind that copies contexts."""
    options: dict[str, Any] = {"scope": request.param}
    if request.param == "uvloop":
        options = {"loop_factory": uvloop.new_event_loop}
    if request.param == "trio":
        options = {"backend": "trio"}
    with syncline.Bridge(context="copy", **options) as bridge:
        yield bridge


def plainly(bridge: syncline.Bridge, body: Body) -> Any:
    return body(bridge)


def in_its_task(bridge: syncline.Bridge, body: Body) -> Any:
    """In sync code that a coroutine of the bridge calls."""

    async def main() -> Any:
        await anyio.lowlevel.checkpoint()
        return body(bridge)

    return bridge.run_sync(main)


async def scoped() -> AsyncGenerator[str, None]:
    """Sets a variable while it lasts, by a token that no other context would take."""
    token = current.set("inside")
    try:
        while True:
            await anyio.lowlevel.checkpoint()
            yield current.get()
    finally:
        current.reset(token)


def iterates(bridge: syncline.Bridge) -> Any:
    it = bridge.iterator(scoped)()
    seen = [next(it), current.get(), next(it)]
    it.close()
    return [*seen, current.get()]


def generates(bridge: syncline.Bridge) -> Any:
    it = bridge.generator(scoped)()
    seen = [next(it), current.get(), it.send(None)]
    it.close()
    return [*seen, current.get()]


def enters(bridge: syncline.Bridge) -> Any:
    @bridge.contextmanager
    async def managed() -> AsyncIterator[str]:
        token = current.set("inside")
        await anyio.lowlevel.checkpoint()
        yield current.get()
        await anyio.lowlevel.checkpoint()
        again = current.get()
        current.reset(token)
        assert (again, current.get()) == ("inside", "mine")

    with managed() as first:
        seen = current.get()
    return [first, seen, "inside", current.get()]


@pytest.mark.parametrize("where", [plainly, in_its_task])
@pytest.mark.parametrize("what", [iterates, generates, enters])
def test_steps_share_what_they_set_and_their_tokens(
    copying: syncline.Bridge, where: Callable[[syncline.Bridge, Body], Any], what: Body
) -> None:
    """What a step changes, the next one sees, and the caller doesn't; a token of the first is good in the last."""

    def body(bridge: syncline.Bridge) -> Any:
        current.set("mine")
        return what(bridge)

    seen = contextvars.copy_context().run(where, copying, body)
    assert seen == ["inside", "mine", "inside", "mine"]


@pytest.mark.parametrize("where", [plainly, in_its_task])
def test_two_at_a_time_have_a_copy_each(
    copying: syncline.Bridge, where: Callable[[syncline.Bridge, Body], Any]
) -> None:
    """One generator in the middle of another: each goes on with what it set itself."""

    async def named(name: str) -> AsyncGenerator[str, None]:
        before = current.get()
        current.set(name)
        while True:
            await anyio.lowlevel.checkpoint()
            yield f"{before}, {current.get()}"

    def body(bridge: syncline.Bridge) -> Any:
        one, other = bridge.iterate(named("one")), bridge.iterate(named("other"))
        seen = [next(it) for it in (one, other, one, other)]
        one.close()
        other.close()
        return seen

    seen = contextvars.copy_context().run(where, copying, body)
    assert seen == ["unset, one", "unset, other"] * 2


@pytest.mark.parametrize("copying", ["process", "thread", "caller", "uvloop"], indirect=True)
def test_one_that_another_task_drops_is_closed_in_its_copy(copying: syncline.Bridge) -> None:
    """By a task of its own, as the one that began it is over: the token is good there, too."""
    log: list[str] = []
    held: list[Any] = []

    async def watched() -> AsyncGenerator[None, None]:
        token = current.set("inside")
        try:
            yield
        finally:
            await anyio.lowlevel.checkpoint()
            log.append(current.get())
            current.reset(token)
            log.append(current.get())

    async def begin() -> None:
        held.append(copying.iterate(watched()))
        next(held[0])

    async def drop() -> None:
        held.clear()
        gc.collect()
        with anyio.fail_after(20):
            while len(log) < 2:
                await anyio.lowlevel.checkpoint()

    copying.run_sync(begin)
    copying.run_sync(drop)
    assert log == ["inside", "unset"]
