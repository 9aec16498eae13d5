"""A group ends though the loop has lost a callback of it to a signal handler, in scope "caller", where the body has the
handler's error from another call.

Forced: the handler raises in the place of the callback.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import syncline

pytestmark = pytest.mark.timeout(60)


class HandlersError(BaseException):
    """What the handler raises."""


class Losing(asyncio.SelectorEventLoop):
    """It loses the callback of that name, once."""

    loses = ""

    def call_soon(self, callback: Any, *args: Any, **options: Any) -> Any:
        if self._is_to_be_lost(callback):
            signal.raise_signal(signal.SIGUSR1)
        return super().call_soon(callback, *args, **options)

    def call_soon_threadsafe(self, callback: Any, *args: Any, **options: Any) -> Any:
        if self._is_to_be_lost(callback):
            callback, args = signal.raise_signal, (signal.SIGUSR1,)
        return super().call_soon_threadsafe(callback, *args, **options)

    def _is_to_be_lost(self, callback: Any) -> bool:
        name = getattr(getattr(callback, "func", callback), "__name__", "")
        is_lost = bool(name) and name == Losing.loses
        if is_lost:
            Losing.loses = ""
        return is_lost


def raises(_number: int, _frame: object) -> None:
    raise HandlersError


@pytest.fixture
def bridge() -> Iterator[syncline.Bridge]:
    before = signal.signal(signal.SIGUSR1, raises)
    factory: Any = Losing
    with syncline.Bridge(scope="caller", loop_factory=factory) as one:
        yield one
    signal.signal(signal.SIGUSR1, before)


async def starts(*, task_status: Any) -> None:
    task_status.started()


def test_a_call_that_was_not_begun_is_cancelled(bridge: syncline.Bridge) -> None:
    """`start` waits for it, and raises the handler's error."""
    Losing.loses = "_begin"
    with pytest.raises(HandlersError), bridge.group() as group:
        group.start(starts, wait_started=True)
    assert not Losing.loses


@pytest.mark.parametrize("loses", ["_begin", "_child_ended"])
def test_a_call_is_begun_and_its_end_noticed_at_the_end_of_the_block(
    bridge: syncline.Bridge, loses: str
) -> None:
    Losing.loses = loses
    with bridge.group() as group:
        task = group.start(asyncio.sleep, 0, "slept")
        with pytest.raises(HandlersError):
            bridge.run_sync(asyncio.sleep, 0.01)
    assert task.result() == "slept"
