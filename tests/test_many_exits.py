"""map and groups: what ends a program, raised by one of the calls, reaches the consumer, and no loop ends by it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import NoReturn

import pytest

import syncline
from hosts import KINDS, Host, hosted
from neutral import turn

pytestmark = pytest.mark.timeout(30)


async def exits(suspends: bool) -> NoReturn:
    if suspends:
        await turn()
    raise SystemExit(3)


async def same(item: int) -> int:
    await turn()
    return item


async def exiting_source() -> AsyncIterator[int]:
    yield 1
    await turn()
    raise SystemExit(3)


def by_map(bridge: syncline.Bridge, suspends: bool) -> None:
    list(bridge.map(exits, [suspends]))


def by_source(bridge: syncline.Bridge, suspends: bool) -> None:
    list(bridge.map(same, exiting_source()))


def by_group(bridge: syncline.Bridge, suspends: bool) -> None:
    with bridge.group() as group:
        group.start(exits, suspends)


@pytest.fixture(params=KINDS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with hosted(request.param) as one:
        yield one


@pytest.mark.parametrize("suspends", [True, False])
@pytest.mark.parametrize("way", [by_map, by_source, by_group])
def test_a_loop_of_somebody_elses_lives_on(
    host: Host, way: Callable[[syncline.Bridge, bool], None], suspends: bool
) -> None:
    """As with run_sync: such a loop's thread ended by the SystemExit of one call, and with it the program's other
    tasks."""
    with syncline.Bridge(loop=host.loop) as bridge:
        for _ in range(2):
            with pytest.raises(SystemExit) as caught:
                way(bridge, suspends)
            assert caught.value.code == 3
            assert bridge.run_sync(same, 5) == 5


def test_a_group_logs_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    """Its caller has it."""
    with syncline.Bridge() as bridge, caplog.at_level(logging.DEBUG, "syncline"):
        with pytest.raises(SystemExit):
            by_group(bridge, True)
        bridge.run_sync(asyncio.sleep, 0)
    assert caplog.records == []
