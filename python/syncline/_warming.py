"""The start of a bridge's loop by async code on another loop, which goes on meanwhile."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ._core import RunnerClosedError
from ._threads import Worker

if TYPE_CHECKING:
    from ._core import Bridge


async def warmed_up(bridge: Bridge) -> None:
    """Has a thread of its own start the loop, and wait until it runs: all others may wait for this very loop."""
    worker = Worker()
    try:
        await worker.to_thread(_warm_up, bridge)
    finally:
        worker.close()


def _warm_up(bridge: Bridge) -> None:
    # The call raises it itself. If that was cancelled, nobody has to hear of it.
    with suppress(RunnerClosedError):
        bridge._warm_up()
