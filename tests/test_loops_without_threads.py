"""A loop that other threads can't wake, as simulators and workflow engines have one: what would wait for another thread
there says so at once, and what needs none works."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import pytest

import syncline

pytestmark = pytest.mark.timeout(60)
called: list[int] = []


class Deterministic(asyncio.SelectorEventLoop):
    """Nothing but what its own thread does gets into it."""

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse."""
        raise NotImplementedError

    add_reader = run_in_executor = call_soon_threadsafe


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """`main` on such a loop."""
    loop = Deterministic()
    try:
        return loop.run_until_complete(main)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def all_of(items: Any) -> list[Any]:
    return [item async for item in items]


async def in_a_worker(bridge: syncline.Bridge) -> None:
    await syncline.to_thread(called.append, 1)


async def on_the_bridge(bridge: syncline.Bridge) -> None:
    await bridge.run_async(double, 1)


async def items_of_sync_code(bridge: syncline.Bridge) -> None:
    await all_of(syncline.aiterate(iter([1]), prefetch=1))


WAITS: dict[str, Callable[[syncline.Bridge], Coroutine[Any, Any, None]]] = {
    "to_thread": in_a_worker,
    "run_async": on_the_bridge,
    "aiterate": items_of_sync_code,
}


@pytest.mark.parametrize("kind", WAITS)
def test_what_waits_for_another_thread_says_that_it_never_could_end(
    kind: str, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """In each kind of wait, before anything runs in the other thread."""
    called.clear()
    with pytest.raises(RuntimeError, match="Deterministic can't be woken by other threads"):
        run(WAITS[kind](make_bridge()))
    assert called == []


def test_sync_code_on_it_calls_a_bridge(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Its thread waits, which needs nobody who wakes the loop."""
    bridge = make_bridge()

    async def main() -> int:
        return bridge.run_sync(double, 2)

    assert run(main()) == 4
