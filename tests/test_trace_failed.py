"""A trace whose file can't be written to any more: it ends as every other one, and nothing of it stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

import syncline
import trace_format

MakeBridge = Callable[..., syncline.Bridge]


async def selector() -> type:
    loop = asyncio.get_running_loop()
    return type(loop._selector)  # type: ignore[attr-defined]


def test_no_loop_is_watched_any_more(make_bridge: MakeBridge) -> None:
    """It has its own selector again, though `stop` raises."""
    bridge = make_bridge()
    before = bridge.run_sync(selector)
    recording = syncline.trace("/dev/full")
    recording.start()
    assert bridge.run_sync(selector) is not before
    with pytest.raises(OSError, match="No space left"):
        recording.stop()
    assert bridge.run_sync(selector) is before


def test_the_next_one_is_whole(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """After one that failed in the middle, while calls went on."""
    bridge = make_bridge()
    recording = syncline.trace("/dev/full")
    recording.start()
    for _ in range(1000):
        bridge.run_sync(selector)
    with pytest.raises(OSError, match="No space left"):
        recording.stop()
    with syncline.trace(tmp_path / "out.json"):
        bridge.run_sync(selector)
    assert len(trace_format.read(tmp_path / "out.json").named("selector", "call")) == 1
