"""`syncline.compat.nest_asyncio` on bridges' loops, with uvloop.run, and with eager tasks."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest
import uvloop

import syncline
from nest_code import here, run_on, turns, unapplied
from syncline.compat import nest_asyncio

__all__ = ["unapplied"]

pytestmark = pytest.mark.usefixtures("unapplied")


def test_calls_in_tasks_of_a_bridge_nest() -> None:
    """In its calls and in the tasks that they start; with nested="thread" an error says how."""
    nest_asyncio.apply()

    async def calls() -> bool:
        place = here()

        async def inner() -> bool:
            await turns()
            return here() == place

        return asyncio.run(inner())

    async def child() -> bool:
        return await asyncio.create_task(calls())

    for scope in ("process", "caller"):
        with syncline.Bridge(scope=scope) as bridge:  # type: ignore[arg-type]
            assert bridge.run_sync(calls)
            assert bridge.run_sync(child)
    with syncline.Bridge(nested="thread") as bridge, pytest.raises(RuntimeError, match='nested="switch"'):
        bridge.run_sync(child)


def test_calls_of_bridges_await_in_place_too() -> None:
    """apply() makes tasks nestable, as install() does."""

    async def main() -> bool:
        return syncline.run_sync(asyncio.sleep, 0, threading.get_ident()) == threading.get_ident()

    async def where() -> int:
        return threading.get_ident()

    async def nests() -> bool:
        return syncline.run_sync(where) == threading.get_ident()

    assert run_on("asyncio", main)
    assert run_on("asyncio", nests)


def test_uvloop_run_nests() -> None:
    """Inside of itself; in a loop of asyncio's it is refused by uvloop."""
    if sys.version_info < (3, 12):
        pytest.skip("there uvloop.run itself refuses to nest")
    nest_asyncio.apply()

    async def main() -> int:
        return uvloop.run(turns(3))

    assert uvloop.run(main()) == 3

    async def mixed() -> None:
        coroutine = turns()
        with pytest.raises(TypeError, match="non-uvloop"):
            uvloop.run(coroutine)
        coroutine.close()

    asyncio.run(mixed())


def test_an_eager_task_factory_works() -> None:
    """Tasks begin in the middle of a call, and calls in the first step of a task."""
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("Python 3.12 has eager tasks first")

    async def main() -> list[int]:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)

        async def calls(count: int) -> int:
            return asyncio.run(turns(count))

        return await asyncio.gather(*(calls(count) for count in range(5)))

    # uvloop and 3.13.0 don't agree about what a task factory is given.
    for host in ("asyncio", "late", *(["uvloop"] if sys.version_info < (3, 13) else [])):
        assert run_on(host, main) == [0, 1, 2, 3, 4]
