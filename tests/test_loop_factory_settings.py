"""What a loop_factory gave its loop stays as it is."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

import syncline

MakeBridge = Callable[..., syncline.Bridge]
kinds = pytest.mark.parametrize(
    "new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


async def fails_in_the_background() -> None:
    async def fails() -> None:
        raise ValueError("background")

    task = asyncio.get_running_loop().create_task(fails())
    await asyncio.wait([task])
    del task


@kinds
@scopes
def test_its_exception_handler_is_kept(
    make_bridge: MakeBridge, new_loop: Any, scope: str, caplog: Any
) -> None:
    """Errors that nobody saw go where the user has sent them, and nowhere else."""
    seen: list[Any] = []

    def factory() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = new_loop()
        loop.set_exception_handler(lambda loop, what: seen.append(what["exception"]))
        return loop

    bridge = make_bridge(loop_factory=factory, scope=scope)
    with caplog.at_level(logging.DEBUG, "syncline"):
        bridge.run_sync(fails_in_the_background)
        gc.collect()
    assert [str(error) for error in seen] == ["background"]
    assert caplog.records == []


@kinds
@scopes
def test_a_loop_without_one_tells_our_logger(
    make_bridge: MakeBridge, new_loop: Any, scope: str, caplog: Any
) -> None:
    """As our own loops do."""
    bridge = make_bridge(loop_factory=new_loop, scope=scope)
    with caplog.at_level(logging.ERROR, "syncline"):
        bridge.run_sync(fails_in_the_background)
        gc.collect()
    assert [str(record.exc_info[1]) for record in caplog.records] == ["background"]
