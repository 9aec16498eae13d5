"""Ways in which an exception gets from async code to its caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import syncline
from neutral import turn

Way = Callable[[syncline.Bridge, Exception], Any]


async def fail_later(error: Exception) -> NoReturn:
    await turn()
    raise error


def by_group(bridge: syncline.Bridge, error: Exception) -> None:
    try:
        with bridge.group() as group:
            group.start(fail_later, error)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


def by_map(bridge: syncline.Bridge, error: Exception) -> None:
    list(bridge.map(fail_later, [error]))
