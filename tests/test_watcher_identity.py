"""The watcher knows whose thread a loop is run by, and which loop is which."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import uvloop

import syncline
from child import eventually
from stalls import Reports, reports
from syncline import _watcher

__all__ = ["reports"]

AFTER = 0.1


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "syncline-watcher"]


@pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_loop_that_another_thread_has_installed_shows_its_own_thread(
    factory: Callable[[], asyncio.AbstractEventLoop], reports: Reports
) -> None:
    """And so does one that changes its thread."""
    loop = factory()
    undo = syncline.install(loop, stall_after=AFTER)

    async def turns_and_blocks() -> None:
        for _ in range(2):  # the watcher has it turn in between
            turned = _watcher._watched[-1].turns
            while _watcher._watched[-1].turns == turned:
                await asyncio.sleep(0.01)
        reports.blocks()

    for _ in range(2):
        thread = threading.Thread(target=loop.run_until_complete, args=[turns_and_blocks()])
        thread.start()
        thread.join()
        assert "in turns_and_blocks" in reports.the_only()
        reports.forget()
    undo()
    loop.close()


class Stands:
    """For a loop."""


class Has:
    """A watched loop, until that is gone."""

    def __init__(self, loop: Stands) -> None:
        self.loop: Stands | None = loop

    def look(self) -> tuple[int, bool, int, Stands | None, str]:
        return 0, False, 1, self.loop, "stands"


def test_a_new_loop_in_the_place_of_one_that_is_gone_is_not_taken_for_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may lie at the same address; on Python 3.12 one of these does."""
    assert eventually(lambda: not watchers())
    loop = Stands()
    has = Has(loop)
    watched = _watcher._Watched(has, 1.0)
    watched.look(0.0)
    monkeypatch.setattr(_watcher, "_watched", [watched])
    assert _watcher.watches(loop)
    has.loop = None
    del loop
    others = [Stands() for _ in range(1000)]
    assert not any(map(_watcher.watches, others))
