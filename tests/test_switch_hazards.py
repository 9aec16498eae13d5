"""What sync code can be surprised by when a nested call in it lets other tasks run; each with what to do instead."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

import pytest

import syncline
from switching import Place, place

__all__ = ["place"]


async def both(place: Place, first: object, second: object) -> None:
    """Runs two sync functions in tasks of their own, the first one first."""
    tasks = [asyncio.create_task(syncline.run_nestable(each)) for each in (first, second)]  # type: ignore[call-overload]
    for task in tasks:
        await task


def pause(place: Place) -> None:
    """A nested call that lets others run."""
    place.bridge.run_sync(asyncio.sleep, 0)


def test_a_lock_held_across_a_nested_call_is_found_taken_by_the_next_task(place: Place) -> None:
    """Without a timeout it would block the loop, and with it the task that could release; an asyncio lock waits."""
    lock = threading.Lock()
    seen: list[str] = []

    def holds() -> None:
        with lock:
            pause(place)

    def tries() -> None:
        seen.append("free" if lock.acquire(timeout=0.01) else "taken")

    place.run(both, place, holds, tries)
    assert seen == ["taken"]

    async def main() -> None:
        cure = asyncio.Lock()

        def waits(name: str) -> None:
            place.bridge.run_sync(cure.acquire)
            seen.append(f"{name} in")
            pause(place)
            seen.append(f"{name} out")
            cure.release()

        await both(place, lambda: waits("a"), lambda: waits("b"))

    place.run(main)
    assert seen[1:] == ["a in", "a out", "b in", "b out"]


def test_no_switch_keeps_a_lock_from_being_held_across_a_nested_call(place: Place) -> None:
    """The nested call raises, at once and in the code that is wrong."""
    lock = threading.Lock()

    def holds() -> None:
        with lock, syncline.no_switch(), pytest.raises(RuntimeError, match="no_switch"):
            pause(place)

    def takes() -> None:
        assert lock.acquire(timeout=0)

    place.run(both, place, holds, takes)


def test_an_rlock_lets_other_tasks_in(place: Place) -> None:
    """It knows threads only, and all tasks are in one; an asyncio lock, taken by a nested call, keeps them out."""
    lock = threading.RLock()
    inside: list[str] = []
    most: list[int] = []

    def enters(name: str) -> None:
        with lock:
            inside.append(name)
            most.append(len(inside))
            pause(place)
            inside.remove(name)

    place.run(both, place, lambda: enters("a"), lambda: enters("b"))
    assert max(most) == 2
    assert inside == []
    most.clear()

    async def main() -> None:
        cure = asyncio.Lock()

        def enters_alone(name: str) -> None:
            place.bridge.run_sync(cure.acquire)
            enters(name)
            cure.release()

        await both(place, lambda: enters_alone("a"), lambda: enters_alone("b"))

    place.run(main)
    assert most == [1, 1]


def test_a_thread_local_is_shared_by_the_tasks_of_a_loop(place: Place) -> None:
    """What one task sets, another sees after a nested call; a contextvar is each task's own."""
    import contextvars

    local = threading.local()
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[tuple[str, str, str]] = []

    def sets(name: str) -> None:
        local.name = name
        variable.set(name)
        pause(place)
        seen.append((name, local.name, variable.get()))

    place.run(both, place, lambda: sets("a"), lambda: sets("b"))
    assert seen == [("a", "b", "a"), ("b", "b", "b")]


def test_a_module_that_makes_a_nested_call_is_seen_half_made(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task that imports it meanwhile gets it as it is; no_switch() around the import forbids such a call."""
    (tmp_path / "half_made.py").write_text("import builtins\nbuiltins.half_made_pause()\nREADY = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("builtins.half_made_pause", lambda: pause(place), raising=False)
    seen: list[bool] = []

    def imports() -> None:
        import half_made  # type: ignore[import-not-found]

        seen.append(hasattr(half_made, "READY"))

    try:
        place.run(both, place, imports, imports)
        assert seen == [False, True]
        del sys.modules["half_made"]

        def refuses() -> None:
            with syncline.no_switch(), pytest.raises(RuntimeError, match="no_switch"):
                imports()

        place.run(both, place, refuses, lambda: None)
    finally:
        sys.modules.pop("half_made", None)
