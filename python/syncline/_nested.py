"""Python code that the core needs for nested calls that await in place. Imported at first use, as it needs
asyncio."""

from __future__ import annotations

import asyncio
import gc
import types
import warnings
from typing import TYPE_CHECKING, Any

from ._kinds import trio_here

if TYPE_CHECKING:
    import contextvars
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator


@types.coroutine
def _drive(inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    return (yield from inner)


closing_tasks: set[asyncio.Task[None]] = set()
"""Tasks that close something. A loop that ends gives them time before it cancels them."""


def close_later(
    loop: asyncio.AbstractEventLoop,
    function: Callable[..., Awaitable[object]],
    args: tuple[Any, ...],
    context: contextvars.Context | None,
) -> None:
    """Awaits `function(*args)` in a task of its own. Its error goes to the loop's exception handler."""

    async def close() -> None:
        await function(*args)

    task = loop.create_task(close(), context=context)
    closing_tasks.add(task)
    task.add_done_callback(closing_tasks.discard)


async def close_dropped(generator: AsyncGenerator[Any, Any]) -> None:
    """Closes the generator of an object that was dropped. If the garbage collector has finalized the
    generator as well, its loop has been told to close it, by the hooks for async generators."""
    if not gc.is_finalized(generator):
        await generator.aclose()


async def within(inner: Generator[Any, Any, Any], seconds: float) -> Any:
    """Awaits what `inner` drives, and raises TimeoutError if it takes longer."""
    if (trio := trio_here()) is not None:
        with trio.move_on_after(seconds) as scope:
            return await _drive(inner)
        if scope.cancelled_caught:
            raise _too_late(seconds)
        return None
    is_its_own = False
    try:
        async with asyncio.timeout(seconds):
            try:
                return await _drive(inner)
            except TimeoutError:
                is_its_own = True
                raise
    except TimeoutError as error:
        if is_its_own:
            raise
        # Before Python 3.11.3 the cancellation is no cause, but the context only.
        raise _too_late(seconds) from error.__cause__ or error.__context__


def _too_late(seconds: float) -> TimeoutError:
    return TimeoutError(f"the call did not end within {seconds} s; its coroutine was cancelled")


def warn_of_blocking(coroutine: object) -> None:
    """Warns that a call blocks a loop, in a task that was made past the loop's task factory."""
    name = getattr(coroutine, "__qualname__", type(coroutine).__qualname__)
    warnings.warn(
        f"a nested call in a task of {name!r} blocks its event loop instead of awaiting in place, as the task was made "
        "by asyncio.Task itself, as aiohttp's server does it, or by another task factory; below a function decorated "
        "with @syncline.nestable, or `await syncline.run_nestable(fn, ...)`, it awaits in place",
        RuntimeWarning,
        stacklevel=2,
    )
