"""Nested calls in place under other people's code: anyio, sniffio, SQLAlchemy, greenback, tracing tools."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import syncline
from switching import Place, place

__all__ = ["place"]


async def turns(count: int = 1) -> int:
    """Suspends that often."""
    for _ in range(count):
        await asyncio.sleep(0)
    return count


def test_anyios_cancel_scopes_reach_into_nested_calls(place: Place) -> None:
    """A scope around a nested call ends it; a scope inside ends what is in it, and a shield protects."""
    anyio = pytest.importorskip("anyio")

    async def inner() -> str:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        return "went on"

    async def main() -> list[str]:
        order = [place.call(inner)]
        with anyio.CancelScope() as around:
            around.cancel()
            place.call(anyio.sleep_forever)
        assert around.cancelled_caught

        async def shielded() -> None:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0)
            order.append("shielded")
            await anyio.sleep_forever()

        with anyio.CancelScope() as around:
            around.cancel()
            place.call(shielded)
        await turns()
        return order

    assert place.run(main) == ["went on", "shielded"]


def test_anyios_task_groups_work_in_nested_calls(place: Place) -> None:
    """A group that is opened in a nested call, with children that nest; a failing one cancels the others."""
    anyio = pytest.importorskip("anyio")

    async def child(results: list[int], number: int) -> None:
        await syncline.run_nestable(place.bridge.run_sync, turns, number)
        results.append(number)

    async def fail() -> None:
        await anyio.sleep(0)
        raise ValueError("child")

    async def inner(results: list[int]) -> None:
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(child, results, number)

    async def failing() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            await anyio.sleep_forever()

    async def main() -> list[int]:
        results: list[int] = []
        place.call(inner, results)
        with pytest.raises(ExceptionGroup) as caught:
            place.call(failing)
        assert caught.group_contains(ValueError, match="child")
        return sorted(results)

    assert place.run(main) == [0, 1, 2]


def test_sniffio_knows_the_library(place: Place) -> None:
    """In a nested call as outside of it."""
    sniffio = pytest.importorskip("sniffio")

    async def inner() -> str:
        await asyncio.sleep(0)
        return sniffio.current_async_library()  # type: ignore[no-any-return]

    async def main() -> str:
        return place.call(inner)

    assert place.run(main) == "asyncio"


def test_sqlalchemys_async_session_works_around_and_inside_nested_calls(place: Place, tmp_path: Path) -> None:
    """SQLAlchemy runs its sync core in greenlets of its own: such a session is used in a task of ours, in a nested
    call, and by a nested call made from within one of its greenlets."""
    sqlalchemy: Any = pytest.importorskip("sqlalchemy")
    asynchronous: Any = pytest.importorskip("sqlalchemy.ext.asyncio")

    async def main() -> list[object]:
        engine = asynchronous.create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'db'}")
        seen: list[object] = []

        async def lookup(value: int) -> int:
            async with asynchronous.AsyncSession(engine) as session:
                return (await session.execute(sqlalchemy.select(sqlalchemy.literal(value)))).scalar_one()  # type: ignore[no-any-return]

        def in_their_greenlet(session: Any) -> int:
            before = session.execute(sqlalchemy.text("select 1")).scalar_one()
            nested = place.bridge.run_sync(lookup, 40)
            return before + nested + session.execute(sqlalchemy.text("select 1")).scalar_one()  # type: ignore[no-any-return]

        async with asynchronous.AsyncSession(engine) as session:
            seen.append((await session.execute(sqlalchemy.text("select 7"))).scalar_one())
            seen.append(place.bridge.run_sync(lookup, 8))  # aiosqlite starts threads
            seen.append(await session.run_sync(in_their_greenlet))
            seen.append((await session.execute(sqlalchemy.text("select 9"))).scalar_one())
        await engine.dispose()
        return seen

    assert place.run(main) == [7, 8, 42, 9]


def test_many_sqlalchemy_sessions_at_once(place: Place, tmp_path: Path) -> None:
    """20 tasks whose sessions suspend in SQLAlchemy's greenlets, and whose nested calls do in ours, don't mix."""
    sqlalchemy: Any = pytest.importorskip("sqlalchemy")
    asynchronous: Any = pytest.importorskip("sqlalchemy.ext.asyncio")

    async def main() -> list[int]:
        engine = asynchronous.create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'db'}")

        async def ask(value: int) -> int:
            async with asynchronous.AsyncSession(engine) as session:
                for _ in range(3):
                    found = (await session.execute(sqlalchemy.select(sqlalchemy.literal(value)))).scalar_one()
                return found  # type: ignore[no-any-return]

        async def work(value: int) -> int:
            assert await ask(value) == value
            assert place.bridge.run_sync(ask, value + 100) == value + 100
            return await ask(value)

        found = await asyncio.gather(*(syncline.run_nestable(work, n) for n in range(20)))
        await engine.dispose()
        return found

    assert place.run(main) == list(range(20))


def test_greenback_inside_ours(place: Place) -> None:
    """A task of ours may use greenback's portal, and nested calls besides."""
    greenback: Any = pytest.importorskip("greenback")

    async def main() -> list[int]:
        async def portal() -> list[int]:
            found = [greenback.await_(turns(1)), place.bridge.run_sync(turns, 2)]
            await turns()
            return [*found, greenback.await_(turns(3))]

        return await greenback.with_portal_run(portal)  # type: ignore[no-any-return]

    assert place.run(main) == [1, 2, 3]


def test_ours_inside_greenback() -> None:
    """On a loop of the user's, under greenback's portal, a task opts in to ours."""
    greenback: Any = pytest.importorskip("greenback")

    async def here() -> int:
        await turns()
        return threading.get_ident()

    def sync_code() -> int:
        return syncline.run_sync(here)

    async def main() -> None:
        await greenback.ensure_portal()
        assert await syncline.run_nestable(sync_code) == threading.get_ident()
        assert greenback.await_(syncline.run_nestable(sync_code)) == threading.get_ident()
        assert greenback.await_(turns(2)) == 2

    asyncio.run(main())


def test_a_trace_function_sees_nested_coroutines(place: Place) -> None:
    """sys.settrace of the loop's thread, as debuggers and coverage use it, goes on in nested calls."""
    seen: list[str] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if event == "call" and frame.f_code.co_filename == __file__:
            seen.append(frame.f_code.co_name)
        return trace

    async def inner() -> None:
        await asyncio.sleep(0)
        marker()

    def marker() -> None:
        pass

    async def main() -> None:
        await asyncio.sleep(0)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            place.bridge.run_sync(inner)
            marker()
        finally:
            sys.settrace(before)

    place.run(main)
    assert seen.count("marker") >= 1


def test_debug_mode_has_nothing_to_say(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A loop in debug mode runs nested calls without a warning."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 30
        try:
            return sum([place.call(turns, 2), await asyncio.create_task(turns(3))])
        finally:
            loop.set_debug(False)

    assert place.run(main) == 5
    assert caplog.records == []
