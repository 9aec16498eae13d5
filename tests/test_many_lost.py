"""Groups and `map`: an error of a call that nobody gets, as something else ends them, is logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import syncline
from neutral import new_event, sleep_forever, turn, with_asyncio


class Failing:
    """Calls of which each fails as it cleans up; `others` runs when that many of them have begun."""

    def __init__(self) -> None:
        self.begun = 0

    async def cleanup(self, _: object = None) -> None:
        self.begun += 1
        try:
            await sleep_forever()
        finally:
            raise OSError("cleanup")

    async def until(self, count: int) -> None:
        while self.begun < count:
            await turn()


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.message}: {record.exc_info[1]}" for record in caplog.records if record.exc_info]


def of_body(bridge: syncline.Bridge, failing: Failing, error: BaseException) -> None:
    with bridge.group() as group:
        group.start(failing.cleanup)
        group.start(failing.until, 1).result()
        raise error


def of_call(bridge: syncline.Bridge, failing: Failing, error: BaseException) -> None:
    async def ends() -> None:
        await failing.until(1)
        raise error

    with bridge.group() as group:
        group.start(failing.cleanup)
        group.start(ends)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["interrupt", "exit"])
@pytest.mark.parametrize("ends", [of_body, of_call])
def test_what_a_groups_cleanup_raises_is_logged_where_an_exit_is_raised(
    each_bridge: syncline.Bridge,
    caplog: pytest.LogCaptureFixture,
    ends: Callable[[syncline.Bridge, Failing, BaseException], None],
    error: BaseException,
) -> None:
    """An ordinary error of the body, or of a call, has the other ones beside it."""
    with pytest.raises(type(error)):
        ends(each_bridge, Failing(), error)
    assert logged(caplog) == ["a call of a group failed: cleanup"]


def test_nothing_is_logged_of_errors_that_are_raised(
    each_bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        of_body(each_bridge, Failing(), ValueError("body"))
    assert sorted(map(str, caught.value.exceptions)) == ["body", "cleanup"]
    assert not logged(caplog)


@pytest.mark.parametrize("ordered", [True, False])
def test_what_the_cleanup_of_calls_raises_is_logged_where_map_raises_another_error(
    each_bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture, ordered: bool
) -> None:
    failing = Failing()

    async def call(item: int) -> None:
        if item:
            await failing.cleanup()
        await failing.until(2)
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        list(each_bridge.map(call, range(3), limit=3, ordered=ordered))
    assert logged(caplog) == ["a call of map() failed when it was cancelled: cleanup"] * 2


@with_asyncio
def test_calls_of_map_that_fail_by_themselves_at_a_time_are_one_error(
    each_bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """In one turn of the loop: none is cancelled. (In trio a task that fails may have been cancelled just before.)"""

    async def main() -> Any:
        gate = new_event()

        async def call(item: int) -> None:
            if item == 2:
                gate.set()
            await gate.wait()
            raise ValueError("the same")

        return [each async for each in each_bridge.amap(call, range(3), limit=3)]

    with pytest.raises(ValueError, match="the same"):
        each_bridge.run_sync(main)
    assert not logged(caplog)
