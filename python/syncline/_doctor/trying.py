"""Calls of every kind, made to see whether they work here, and in which way."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from .._bridge import Bridge
from .._threads import to_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from .report import Report

_LIMIT = 10.0
"""Seconds for each call."""


async def _where() -> tuple[str, int]:
    await asyncio.sleep(0)
    return type(asyncio.get_running_loop()).__name__, threading.get_ident()


def try_calls(report: Report) -> None:
    """Adds what came of a call, a nested one, one in a worker thread, and one by a running loop's code."""
    with Bridge(name="syncline-doctor", cleanup_timeout=1) as bridge:
        _try(report, "a call", lambda: _call(bridge))
        _try(report, "a nested call", lambda: _nested(bridge))
        _try(report, "a worker thread", lambda: bridge.run(to_thread(_said, "works"), timeout=_LIMIT))
        _try(report, "inside asyncio.run", lambda: asyncio.run(_inside(bridge)))
    with Bridge(scope="caller", name="syncline-doctor", cleanup_timeout=1) as bridge:
        _try(report, "on the caller's own loop", lambda: _call(bridge))


def _call(bridge: Bridge) -> str:
    loop, thread = bridge.run(_where(), timeout=_LIMIT)
    return f"works, on {loop} in {'this' if thread == threading.get_ident() else 'another'} thread"


def _nested(bridge: Bridge) -> str:
    async def outer() -> str:
        thread = threading.get_ident()
        inner = bridge.run(_where(), timeout=_LIMIT)[1]
        return f"works, {'in place' if inner == thread else 'on another thread'}"

    return bridge.run(outer(), timeout=_LIMIT)


async def _inside(bridge: Bridge) -> str:
    return _call(bridge)


def _said(text: str) -> str:
    return text


def _try(report: Report, name: str, call: Callable[[], str]) -> None:
    try:
        report.fact("tried", name, call())
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        report.fact("tried", name, what)
        report.find(
            "problem",
            "tried",
            f"{name} failed: {what}",
            meaning="Calls of that kind don't work in a process like this one.",
            advice="Do what the message says; if it is of no use, report it, with what `--json` prints.",
        )
