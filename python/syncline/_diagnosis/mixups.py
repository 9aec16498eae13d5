"""Objects of one loop, used on another."""

from __future__ import annotations

import asyncio
from typing import Any


def explain_loop_mixup(error: BaseException, owners: dict[int, str], awaited: object = None) -> str | None:
    """Names both loops of asyncio's "different loop" errors; None for other errors."""
    text = str(error)
    if "attached to a different loop" not in text and "is bound to a different event loop" not in text:
        return None
    theirs = _loop_of(awaited) if awaited is not None else None
    here: Any = asyncio.events._get_running_loop()
    tb = error.__traceback__
    while tb is not None and theirs is None:
        if tb.tb_next is None and tb.tb_frame.f_code.co_name == "_get_loop":
            theirs = _loop_of(tb.tb_frame.f_locals.get("self"))
        tb = tb.tb_next
    if theirs is None:
        return None
    return (
        f"the object belongs to {_describe(theirs, owners)}, and was used on {_describe(here, owners)}; use it "
        f"in calls through the same bridge, from code that is not itself on one of its loops"
    )


def _loop_of(thing: Any) -> Any:
    return getattr(thing, "_loop", None)


def _describe(loop: Any, owners: dict[int, str]) -> str:
    return owners.get(id(loop), f"another loop, {loop!r}")
