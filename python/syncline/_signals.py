"""The code of signal handlers. By that the core tells whether an exception that comes out of a loop in the
main thread was raised by a handler or by the loop's own tasks."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any, cast

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
        handler = cast("Any", type(handler)).__call__
    return getattr(handler, "__code__", None)
