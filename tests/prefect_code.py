"""What the tests of the Prefect layer share: coroutines, and the place where its calls run."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from syncline.compat import prefect

R = TypeVar("R")
Run = Callable[[Callable[[], Coroutine[Any, Any, R]]], R]
Place = tuple[asyncio.AbstractEventLoop, threading.Thread]
current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="unset")


async def add(a: int, b: int, c: int = 3) -> int:
    await anyio.lowlevel.checkpoint()
    return a + b + c


async def where() -> Place:
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), threading.current_thread()


async def change() -> str:
    before = current.get()
    current.set("changed")
    return before


def run_sync_place() -> Place:
    """The "run sync" loop and its thread."""
    return prefect.run_coro_as_sync(where())
