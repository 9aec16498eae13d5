"""What nested calls that await in place need of Python. Imported by the core at their first use, since it needs asyncio."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator


@types.coroutine
def _drive(inner: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    return (yield from inner)


async def within(inner: Generator[Any, Any, Any], seconds: float) -> Any:
    """Awaits what `inner` drives, and raises TimeoutError if it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await _drive(inner)
    except TimeoutError as error:
        if not isinstance(error.__cause__, asyncio.CancelledError):
            raise
        message = f"the call did not end within {seconds} s; its coroutine was cancelled"
        raise TimeoutError(message) from error.__cause__
