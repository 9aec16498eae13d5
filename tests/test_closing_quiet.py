"""What a closing bridge, or the exit, ends where nobody waits for it is no news: nothing is logged."""

from __future__ import annotations

import logging
from functools import partial

import pytest

import syncline
from child import DEV, eventually, run_script
from closing import Caller, Held, is_closed_error, scopes
from neutral import make_bridge_of


@scopes
def test_what_a_worker_was_waiting_for_as_its_bridge_closed(
    scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The close ends the await that has sent the worker, and the call that the worker waits for."""
    held, got = Held(), []
    bridge = make_bridge_of(scope)

    def work() -> None:
        try:
            bridge.run_sync(held.hold)
        except BaseException as error:
            got.append(error)
            raise

    caller = Caller(partial(bridge.run_sync, syncline.to_thread, work))
    assert held.all_begun.wait(10)
    with caplog.at_level(logging.WARNING):
        bridge.close()
        assert caller.has_got.wait(10)
        assert is_closed_error(caller.got)
        assert eventually(lambda: bool(got))
        # The worker comes back for more once it has seen to what its function has raised.
        assert eventually(lambda: _idle_workers() > 0)
    assert is_closed_error(got[0])
    assert not caplog.records


def _idle_workers() -> int:
    workers, idle = syncline._core.worker_counts()
    return idle if workers else 1


@pytest.mark.parametrize("scope", ["process", "thread", "trio"])
def test_what_a_worker_was_waiting_for_at_the_exit(scope: str) -> None:
    """A daemon thread's call has sent the worker."""
    options = "backend='trio'" if scope == "trio" else f"scope={scope!r}"
    finished = run_script(
        f"""
import threading, anyio, syncline

bridge = syncline.Bridge({options})
begun = threading.Event()

async def lasts():
    begun.set()
    await anyio.sleep_forever()

def call():
    bridge.run_sync(syncline.to_thread, lambda: bridge.run_sync(lasts))

threading.Thread(target=call, daemon=True).start()
begun.wait()
""",
        flags=DEV,
    )
    finished.assert_clean()
