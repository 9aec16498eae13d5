"""Which code signal handlers run. The core asks when an exception comes out of a loop that the main thread drives."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType


def handler_codes() -> set[CodeType]:
    """The code objects of all handlers that are written in Python."""
    handlers = (signal.getsignal(number) for number in signal.valid_signals())
    codes = (_code(handler) for handler in handlers)
    return {code for code in codes if code is not None}


def _code(handler: Any) -> CodeType | None:
    while hasattr(handler, "func"):  # functools.partial
        handler = handler.func
    if not hasattr(handler, "__code__"):  # an object with __call__
        handler = getattr(type(handler), "__call__", None)  # noqa: B004 -- the method is wanted
    return getattr(handler, "__code__", None)
