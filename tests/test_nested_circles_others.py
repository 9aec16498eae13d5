"""Calls that come back to a bridge whose loop is blocked, by way of a loop that somebody else runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from child import run_script
from circle_code import (
    Ask,
    Function,
    by_future_in_worker,
    by_future_in_worker_later,
    by_group,
    by_group_in_worker,
    by_iterator_at_home,
    by_iterator_in_worker,
    by_map_in_worker,
    by_run_async,
    by_worker,
)
from hosts import KINDS, Host, hosted
from syncline import Bridge, DeadlockError

pytestmark = pytest.mark.timeout(60)
eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks can't start eagerly")


async def by_blocking(bridge: Bridge, fn: Function) -> int:
    """As sync code does that a library calls."""
    return bridge.run_sync(fn)


WAYS: list[Ask] = [
    by_run_async,
    by_worker,
    by_blocking,
    by_iterator_in_worker,
    by_map_in_worker,
    by_future_in_worker,
    by_group_in_worker,
    by_future_in_worker_later,
    by_iterator_at_home,
    by_group,
]
"""Those that work in asyncio and in trio."""


async def answer() -> int:
    return 42


@pytest.fixture(params=KINDS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with hosted(request.param) as one:
        yield one


@pytest.fixture
def bridges(host: Host) -> Iterator[list[Bridge]]:
    with ExitStack() as stack:
        blocked = stack.enter_context(Bridge(name="blocked", nested="thread", in_async="home"))
        onto = stack.enter_context(Bridge(loop=host.loop, name="onto", nested="thread", in_async="home"))
        other = stack.enter_context(Bridge(name="other", in_async="home"))
        yield [blocked, onto, other]


@pytest.mark.parametrize("back", WAYS)
def test_a_call_from_that_loop_runs_elsewhere(bridges: list[Bridge], back: Ask) -> None:
    """Sync code blocks its loop for a task of that loop, which calls the first bridge."""
    blocked, onto, _ = bridges

    async def comes_back() -> int:
        return await back(blocked, answer)

    async def blocks() -> int:
        return onto.run_sync(comes_back)

    assert blocked.run_sync(blocks) == 42
    assert blocked.run_sync(answer) == 42


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("back", WAYS)
def test_a_call_from_beyond_that_loop_runs_elsewhere(bridges: list[Bridge], first: Ask, back: Ask) -> None:
    """That task waits for a third bridge, whose task calls the first."""
    blocked, onto, other = bridges

    async def comes_back() -> int:
        return await back(blocked, answer)

    async def goes_on() -> int:
        return await first(other, comes_back)

    async def blocks() -> int:
        return onto.run_sync(goes_on)

    assert blocked.run_sync(blocks) == 42
    assert blocked.run_sync(answer) == 42


def test_bridges_onto_the_same_loop_know_of_each_other(host: Host, bridges: list[Bridge]) -> None:
    """What waits on that loop is followed, whichever bridge has brought a call there."""
    blocked, _, other = bridges

    async def comes_back() -> int:
        return blocked.run_sync(answer)

    async def goes_on() -> int:
        return await other.run_async(comes_back)

    with Bridge(loop=host.loop, nested="thread") as second:

        async def blocks() -> int:
            return second.run_sync(goes_on)

        assert blocked.run_sync(blocks) == 42


@pytest.mark.parametrize("way", [by_blocking, by_run_async, by_iterator_at_home])
def test_a_coroutine_that_calls_the_loop_whose_thread_waits_for_it_is_told_at_once(
    host: Host, bridges: list[Bridge], way: Ask
) -> None:
    """It awaits that loop, or is parked meanwhile: it hung, and was warned of."""
    _, onto, other = bridges

    async def comes_back() -> int:
        with pytest.raises(DeadlockError, match="that loop's thread waits for this very coroutine"):
            await way(onto, answer)
        return 42

    async def main() -> int:
        return other.run_sync(comes_back)

    assert host.run(main) == 42


@pytest.mark.parametrize("is_eager", [False, pytest.param(True, marks=eager)])
def test_a_task_that_it_has_only_started_may_call_that_loop(
    host: Host, bridges: list[Bridge], is_eager: bool
) -> None:
    """Nobody waits for it before the loop's thread goes on."""
    _, onto, other = bridges
    started: list[asyncio.Task[int]] = []
    options: dict[str, Any] = {"eager_start": True} if is_eager else {}

    async def calls() -> int:
        return await onto.run_async(answer)

    async def starts() -> None:
        started.append(asyncio.Task(calls(), loop=asyncio.get_running_loop(), **options))
        await asyncio.sleep(0)

    async def main() -> None:
        other.run_sync(starts)

    async def waits() -> int:
        return await started[0]

    host.run(main)
    assert other.run_sync(waits) == 42


def test_a_circle_through_a_task_that_it_waits_for_is_seen_beside_threads_of_ours() -> None:
    """Those that look at loops end no such wait: with one of them the circle was warned of, and went on."""
    run_script("""
        import asyncio, syncline

        elsewhere = syncline.Bridge(stall_after=60)

        async def answer():
            return 42

        async def main():
            onto = syncline.Bridge(loop=asyncio.get_running_loop())

            async def comes_back():
                await asyncio.gather(onto.run_async(answer))

            try:
                elsewhere.run_sync(comes_back)
            except syncline.DeadlockError as error:
                assert "only this thread's event loop can do" in str(error), error
            else:
                raise AssertionError("that can't end")

        asyncio.run(main())
        """).assert_clean()
