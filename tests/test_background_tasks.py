"""Background tasks: their errors are logged, and the loop lives on."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import syncline


@pytest.fixture(params=["process", "thread", "caller"])
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    with syncline.Bridge(scope=request.param) as bridge:
        yield bridge


def test_an_unhandled_error_is_logged_with_its_traceback(
    bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """Logger "syncline", level ERROR, exc_info; the next call works."""
    error = ValueError("nobody looks")

    async def fail() -> None:
        raise error

    async def begin() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])
        # The task is dropped here, its error unseen: asyncio reports it when the task is freed.

    with caplog.at_level(logging.ERROR, "syncline"):
        bridge.run_sync(begin)
        bridge.run_sync(asyncio.sleep, 0)
    (record,) = caplog.records
    assert record.name == "syncline"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt()], ids=lambda error: type(error).__name__
)
def test_an_exit_in_a_callback_does_not_end_the_loop(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio lets it out of run_forever; the runner logs it and goes on (case 48)."""
    raised = threading.Event()

    def leave() -> None:
        raised.set()
        raise error

    async def plan() -> int:
        asyncio.get_running_loop().call_soon(leave)
        return id(asyncio.get_running_loop())

    with syncline.Bridge() as bridge, caplog.at_level(logging.ERROR, "syncline"):
        loop = bridge.run_sync(plan)
        assert raised.wait(10)
        assert bridge.run_sync(_loop_id) == loop
    assert type(error).__name__ in caplog.text


async def _loop_id() -> int:
    return id(asyncio.get_running_loop())


def test_a_tasks_error_at_close_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A task that fails when it is cancelled is not lost."""
    begun = threading.Event()

    async def fail_late() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            raise LookupError("in cleanup")

    kept: list[asyncio.Task[Any]] = []

    async def begin() -> None:
        kept.append(asyncio.create_task(fail_late()))

    with caplog.at_level(logging.ERROR, "syncline"), syncline.Bridge() as bridge:
        bridge.run_sync(begin)
        assert begun.wait(10)
    assert "in cleanup" in caplog.text
