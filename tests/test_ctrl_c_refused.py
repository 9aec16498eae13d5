"""What a signal handler raises while a call is refused, or as a wait begins, is raised there, and not by a later call.

Forced: the handler runs in the middle of the search for the words, where it is asked whose error that is; and as a
visible bridge notes who waits for a future.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from closing import MakeBridge

pytestmark = pytest.mark.timeout(60)


class HandlersError(Exception):
    """What the handler raises."""


def raises(_number: int, _frame: object) -> None:
    raise HandlersError


@pytest.fixture
def struck(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The next question about handlers is interrupted."""
    valid_signals = signal.valid_signals

    def interrupted() -> Any:
        monkeypatch.setattr(signal, "valid_signals", valid_signals)
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, raises)
    monkeypatch.setattr(signal, "valid_signals", interrupted)
    yield
    signal.signal(signal.SIGUSR1, before)


async def awaits_run_async(bridge: Any) -> None:
    await bridge.run_async(3)


REFUSED: dict[str, Callable[[Any], object]] = {
    "run": lambda bridge: bridge.run(3),
    "call": lambda bridge: bridge.call(3),
    "submit": lambda bridge: bridge.submit(3),
    "run_sync": lambda bridge: bridge.run_sync(int),
    "run_async": lambda bridge: asyncio.run(awaits_run_async(bridge)),
}


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("refused", REFUSED)
@pytest.mark.usefixtures("struck")
def test_it_is_raised_in_the_place_of_the_refusal(make_bridge: MakeBridge, scope: Any, refused: str) -> None:
    bridge = make_bridge(scope=scope)
    with pytest.raises(HandlersError):
        REFUSED[refused](bridge)
    assert bridge.run_sync(asyncio.sleep, 0, "the next one") == "the next one"


def test_a_wait_for_a_future_of_a_visible_bridge_raises_it(make_bridge: MakeBridge) -> None:
    def profile(frame: Any, what: str, _arg: object) -> None:
        if what == "call" and frame.f_code.co_name == "add_waiter":
            sys.setprofile(None)
            signal.raise_signal(signal.SIGUSR1)

    bridge = make_bridge(visible=True)
    future = bridge.submit(asyncio.sleep, 3600)
    before = signal.signal(signal.SIGUSR1, raises)
    sys.setprofile(profile)
    try:
        with pytest.raises(HandlersError):
            future.result()
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGUSR1, before)
    future.cancel()
