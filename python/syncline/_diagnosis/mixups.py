"""Explains errors about objects of one loop that were used on another one, and about loops in loops."""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import Any

from .._kinds import trio_here
from .._raised import text_of

_BEGINNING = "the object belongs to "
_ADVICE = {
    "process": "use it in calls through the same bridge, from code that is not itself on one of its loops",
    "thread": 'in scope "thread" each calling thread has a loop of its own; share one bridge of scope "process"',
    "caller": (
        'in scope "caller" each thread has a loop of its own, and calls inside of a running loop go to another one; '
        'share one bridge of scope "process"'
    ),
}
_ASYNCIOS = (
    "this is asyncio's, and the call runs with trio; use trio's means, or a bridge without backend=\"trio\""
)
_TRIOS = "this is trio's, and the call runs with asyncio; use asyncio's means, or Bridge(backend=\"trio\")"
_NESTED = (
    "a loop runs here already; sync code below a coroutine waits for another one by syncline.run_sync(fn, ...), or "
    "run(fn(...)), in the place of asyncio.run and run_until_complete"
)
_OF_NESTED = (
    "cannot be called from a running event loop",
    "vent loop is already running",
    "while another loop is running",
)
_ADVICE_FOR_OTHERS = "make it, and use it, in calls of one and the same bridge"


def explain_loop_mixup(
    error: BaseException, owners: dict[int, tuple[str, str]], awaited: object = None
) -> str | None:
    """Names both loops in an error of asyncio's, or aiohttp's, about a wrong loop; None if that can't be told, or was.

    `owners` has words for each loop of ours, and its scope, by the loop's id.
    """
    if any(
        note.startswith((_BEGINNING, _ASYNCIOS, _TRIOS, _NESTED)) for note in getattr(error, "__notes__", ())
    ):
        return None
    if any(words in text_of(error) for words in _OF_NESTED):
        return _NESTED
    if (other := _of_another_library(error)) is not None:
        return other
    theirs = _loop_of(awaited) if awaited is not None else _loop_of_innermost(error)
    here: Any = asyncio.events._get_running_loop()
    if theirs is None or theirs is here:
        return None
    _, scope = owners.get(id(theirs), ("", "other"))
    advice = _ADVICE.get(scope, _ADVICE_FOR_OTHERS)
    return f"{_BEGINNING}{_describe(theirs, owners)}, and was used on {_describe(here, owners)}; {advice}"


def _of_another_library(error: BaseException) -> str | None:
    """The words for something of asyncio's in a run of trio's, and the other way round; None for what other code has
    raised."""
    frame = _innermost(error)
    by = "" if frame is None else str(frame.f_globals.get("__name__")).partition(".")[0]
    runs_asyncio = asyncio.events._get_running_loop() is not None
    said = error.args[:1]
    if (
        by == "asyncio"
        and said == ("no running event loop",)
        and not runs_asyncio
        and trio_here() is not None
    ):
        return _ASYNCIOS
    if by == "trio" and said == ("must be called from async context",) and runs_asyncio:
        return _TRIOS
    return None


def _loop_of_innermost(error: BaseException) -> Any:
    """The loop of the object whose method raised the error: a lock, a timer, or the loop itself."""
    frame = _innermost(error)
    return None if frame is None else _loop_of(frame.f_locals.get("self"))


def _innermost(error: BaseException) -> FrameType | None:
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return None if tb is None else tb.tb_frame


def _loop_of(thing: Any) -> Any:
    return thing if isinstance(thing, asyncio.AbstractEventLoop) else getattr(thing, "_loop", None)


def _describe(loop: Any, owners: dict[int, tuple[str, str]]) -> str:
    if loop is None:
        return "no loop at all"
    words, _ = owners.get(id(loop), (f"another loop, {loop!r}", ""))
    return words
