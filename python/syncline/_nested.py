"""What nested calls that await in place need of Python. Imported by the core at first use, since it needs asyncio."""

from __future__ import annotations

import asyncio
import gc
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import contextvars
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator


@types.coroutine
def _drive(inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    return (yield from inner)


_closing: set[asyncio.Task[None]] = set()


def close_later(
    loop: asyncio.AbstractEventLoop,
    function: Callable[..., Awaitable[object]],
    args: tuple[Any, ...],
    context: contextvars.Context | None,
) -> None:
    """Awaits `function(*args)` in a task of its own; an error in it is the loop's exception handler's."""

    async def close() -> None:
        await function(*args)

    task = loop.create_task(close(), context=context)
    _closing.add(task)
    task.add_done_callback(_closing.discard)


async def close_dropped(generator: AsyncGenerator[Any, Any]) -> None:
    """Closes it, unless the collector of garbage has come by it, too: then its loop has been told to close it."""
    if not gc.is_finalized(generator):
        await generator.aclose()


async def within(inner: Generator[Any, Any, Any], seconds: float) -> Any:
    """Awaits what `inner` drives, and raises TimeoutError if it takes longer."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        with trio.move_on_after(seconds) as scope:
            return await _drive(inner)
        if scope.cancelled_caught:
            raise _too_late(seconds)
        return None
    try:
        async with asyncio.timeout(seconds):
            return await _drive(inner)
    except TimeoutError as error:
        if not isinstance(error.__cause__, asyncio.CancelledError):
            raise
        raise _too_late(seconds) from error.__cause__


def _too_late(seconds: float) -> TimeoutError:
    return TimeoutError(f"the call did not end within {seconds} s; its coroutine was cancelled")


def warn_of_blocking(coroutine: object) -> None:
    """A call blocks the loop of a task that the loop didn't make."""
    name = getattr(coroutine, "__qualname__", type(coroutine).__qualname__)
    warnings.warn(
        f"a nested call in a task of {name!r} blocks its event loop instead of awaiting in place, as the task was made "
        "by asyncio.Task itself, as aiohttp's server does it, or by another task factory; below a function decorated "
        "with @syncline.nestable, or `await syncline.run_nestable(fn, ...)`, it awaits in place",
        RuntimeWarning,
        stacklevel=2,
    )
