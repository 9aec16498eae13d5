"""Tracebacks, exceptions and contextvars of nested calls that await in place."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import traceback

import pytest

import syncline
from switching import Place, place

__all__ = ["place"]

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


@pytest.mark.parametrize("depth", [3, 40])
def test_tracebacks_run_from_the_outermost_to_the_innermost_frame(place: Place, depth: int) -> None:
    """One traceback with the user's frames in the order of their calls, and the same exception object (case 59)."""
    error = ValueError("deep")

    def sync_code(left: int) -> None:
        place.bridge.run_sync(level, left)

    async def level(left: int) -> None:
        await asyncio.sleep(0)
        if not left:
            raise error
        sync_code(left - 1)

    async def main() -> list[str]:
        with pytest.raises(ValueError, match="deep") as caught:
            sync_code(depth)
        assert caught.value is error
        return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]

    names = place.run(main)
    assert names == ["main", "sync_code", *["level", "sync_code"] * depth, "level"]


def test_an_exception_handled_outside_does_not_leak_in_or_out(place: Place) -> None:
    """sys.exception() is that of each stack: a nested call made in an except block, and one that handles its own."""

    async def inner() -> None:
        assert isinstance(sys.exception(), KeyError)  # as in a plain await there
        try:
            raise ValueError
        except ValueError:
            await asyncio.sleep(0)
            assert isinstance(sys.exception(), ValueError)

    async def other() -> object:
        return sys.exception()

    async def main() -> None:
        task = asyncio.create_task(other())
        try:
            raise KeyError("outer")
        except KeyError:
            place.call(inner)
            assert isinstance(sys.exception(), KeyError)
        assert sys.exception() is None
        assert await task is None

    place.run(main)


@pytest.mark.parametrize("depth", [1, 20])
def test_contextvars_flow_both_ways(place: Place, depth: int) -> None:
    """The nested call sees what its caller set, and the caller what it set; tokens
    can be reset across calls (cases 74, 75)."""
    tokens: list[contextvars.Token[str]] = []

    async def inner(left: int) -> None:
        if left:
            place.bridge.run_sync(inner, left - 1)
            return
        assert VAR.get() == "outer"
        await asyncio.sleep(0)
        tokens.append(VAR.set("inner"))
        await asyncio.sleep(0)

    async def undo() -> None:
        await asyncio.sleep(0)
        VAR.reset(tokens.pop())

    async def main() -> None:
        VAR.set("outer")
        place.call(inner, depth)
        assert VAR.get() == "inner"
        place.call(undo)
        assert VAR.get() == "outer"

    place.run(main)


def test_contextvars_of_tasks_that_take_turns_stay_apart(place: Place) -> None:
    """Two tasks with nested calls under way see their own values at each step (case 76)."""

    async def inner(name: str) -> None:
        for number in range(20):
            VAR.set(f"{name} {number}")
            await asyncio.sleep(0)
            assert VAR.get() == f"{name} {number}"

    async def nested(name: str) -> str:
        place.bridge.run_sync(inner, name)
        return VAR.get()

    async def main() -> list[str]:
        tasks = [asyncio.create_task(syncline.run_nestable(nested, name)) for name in ("a", "b")]
        return [await task for task in tasks]

    assert place.run(main) == ["a 19", "b 19"]


def test_context_copy_keeps_changes_in_the_nested_call(place: Place) -> None:
    """context="copy": the caller's variables are seen, and left as they are."""

    async def inner() -> str:
        seen = VAR.get()
        VAR.set("inner")
        await asyncio.sleep(0)
        assert VAR.get() == "inner"
        return seen

    async def main(bridge: syncline.Bridge) -> tuple[str, str]:
        VAR.set("outer")
        return bridge.run_sync(inner), VAR.get()

    with syncline.Bridge(context="copy", nested="switch") as bridge:
        if place.name in ("process", "thread", "caller", "uvloop"):
            assert bridge.run_sync(main, bridge) == ("outer", "outer")
        else:
            assert place.run(main, bridge) == ("outer", "outer")
