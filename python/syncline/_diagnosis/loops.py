"""A loop that waits for another one, which waits for it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from .. import _core
from .idle import is_quiescent, threads_that_may_act
from .stacks import stack_of, stacks_of_tasks

if TYPE_CHECKING:
    import asyncio

_TELL_AFTER = 3.0
"""Seconds after the first suspicion. Then it is logged that this may be a deadlock."""
_MOST_NAMES = 5


class _Suspicion:
    """What was seen of a wait when it was last looked at."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self.nobody_could_act = False
        self.is_told = False


_suspicions: dict[int, _Suspicion] = {}
"""One for each wait that is suspected, by the number that `long_waits` gives the wait."""


def blocked_loop_is_needed(
    waiting_loop: asyncio.AbstractEventLoop | None,
    has_mail: bool,
    runner_loop: asyncio.AbstractEventLoop,
    wait: int,
) -> str | None:
    """Says so, with both stacks, if only the loop that waits could let the coroutine go on that it waits for.
    `has_mail` says that a bridge has sent it something; of a loop that isn't asyncio's own nothing else is known.

    That is certain if three things were seen twice: the coroutine's loop has nothing to do and nothing to
    wait for, the waiting loop has something to do, and no other thread can act. Twice, as work that was just
    handed to a thread can't be seen yet. If other threads can act, it is logged that this may be a deadlock.
    """
    suspicion = _suspicions.pop(wait, None) or _Suspicion()
    if not (has_mail or _has_work(waiting_loop)) or not is_quiescent(runner_loop):
        return None
    _forget_ended_waits()
    _suspicions[wait] = suspicion
    others = threads_that_may_act()
    stacks = (
        f"this thread:\n{stack_of(threading.get_ident())}\nthe coroutine:\n{stacks_of_tasks(runner_loop)}"
    )
    if not others and suspicion.nobody_could_act:
        return (
            "a coroutine waits for something that only this thread's event loop can do, while this thread waits for "
            "the coroutine and so its loop can't turn; await the coroutine instead of calling it from sync code\n"
            f"{stacks}"
        )
    suspicion.nobody_could_act = not others
    seconds = time.monotonic() - suspicion.since
    if others and seconds >= _TELL_AFTER and not suspicion.is_told:
        suspicion.is_told = True
        import logging

        logging.getLogger("syncline").warning(
            "a call blocks this thread's event loop, which has work to do, and its coroutine has not moved for %.0f s; "
            "if it waits for that loop, this is a deadlock, unless %s ends the wait; await the coroutine instead of "
            "calling it from sync code\n%s",
            seconds,
            " or ".join(others[:_MOST_NAMES]) + (" or another thread" if len(others) > _MOST_NAMES else ""),
            stacks,
        )
    return None


def _forget_ended_waits() -> None:
    going_on = {number for number, _ in _core.long_waits().values()}
    for ended in [number for number in list(_suspicions) if number not in going_on]:
        _suspicions.pop(ended, None)


def _has_work(loop: Any) -> bool:
    if getattr(loop, "_ready", ()):
        return True
    return any(
        not timer.cancelled() and timer.when() <= loop.time()
        for timer in list(getattr(loop, "_scheduled", ()))
    )
