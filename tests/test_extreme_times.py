"""Times that are nothing, tiny, or beyond all clocks: they are as good as none or for ever, and nan is refused."""

from __future__ import annotations

import asyncio
import math
import sys
from typing import Any

import anyio
import pytest
import uvloop

import syncline
from places import OPTIONS

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")]
PLACES: dict[str, dict[str, Any]] = {
    **OPTIONS,
    "caller on uvloop": {"scope": "caller", "loop_factory": uvloop.new_event_loop},
    "trio": {"backend": "trio"},
    "sender": {"in_worker": "sender"},
}
SHORT = [0, -0.0, 1e-300, 1e-9, -1, -math.inf]
LONG = [sys.maxsize, 2**64, 1e300, math.inf]


async def answer() -> int:
    await anyio.sleep(0.02)
    return 42


@pytest.mark.parametrize("place", PLACES)
def test_timeouts(place: str) -> None:
    """A short one ends a call that suspends, a long one never."""
    with syncline.Bridge(**PLACES[place]) as bridge:
        assert bridge.run(answer()) == 42
        for short in SHORT:
            with pytest.raises(TimeoutError):
                bridge.run(answer(), timeout=short)
        for long in LONG:
            assert bridge.run(answer(), timeout=long) == 42
        with pytest.raises(ValueError, match="timeout must be a number of seconds or None, not nan"):
            bridge.run(answer(), timeout=math.nan)
        assert bridge.stats()["active"] == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("option", ["cleanup_timeout", "stall_after"])
def test_options(place: str, option: str) -> None:
    """Calls, timeouts and close() work with each of them."""
    for seconds in SHORT + LONG:
        with syncline.Bridge(**PLACES[place], **{option: seconds}) as bridge:
            assert bridge.run(answer(), timeout=20) == 42
            with pytest.raises(TimeoutError):
                bridge.run(anyio.sleep(3600), timeout=0.01)
            bridge.submit(anyio.sleep, 3600)
    what = " or None" if option == "stall_after" else r", or math\.inf for no limit"
    with pytest.raises(ValueError, match=rf"{option} must be a number of seconds{what}, not nan"):
        syncline.Bridge(**{option: math.nan})


def test_a_loops_own_timer_is_not_asked_for_more_than_it_takes() -> None:
    """Scope "caller" has its loop wake it: for a call that lasts long, with a timeout that lasts longer."""
    with syncline.Bridge(scope="caller", loop_factory=uvloop.new_event_loop) as bridge:
        assert bridge.run(asyncio.sleep(0.05, 42), timeout=1e12) == 42
