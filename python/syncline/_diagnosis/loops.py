"""A loop that waits for another one, which waits for it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

from .. import _core
from .chains import frames_of
from .idle import is_quiescent
from .stacks import stack_of, stacks_of_tasks
from .suspicion import Suspicion

if TYPE_CHECKING:
    from types import FrameType

_suspicions: dict[int, Suspicion] = {}
"""One for each wait that is suspected, by the number that `long_waits` gives the wait: of the turn in which the
coroutine's loop stands still, as what was seen in an earlier one is no sign."""


def blocked_loop_is_needed(
    waiting_loop: asyncio.AbstractEventLoop | None,
    has_mail: bool,
    runner_loop: asyncio.AbstractEventLoop,
    wait: int,
    turn: int,
) -> str | None:
    """Says so, with both stacks, if only the loop that waits could let the coroutine go on that it waits for.
    `has_mail` says that a bridge has sent it something; of a loop that isn't asyncio's own nothing else is known.
    `turn` is the number of the coroutine's loop's turn.

    That is certain if three things were seen twice: the coroutine's loop has nothing to do and nothing to
    wait for, the waiting loop has something to do, and no other thread can act. If others can, it is logged that
    this may be a deadlock.
    """
    suspicion = _suspicions.pop(wait, None)
    if not (has_mail or _has_work(waiting_loop)) or not is_quiescent(runner_loop):
        return None
    _forget_ended_waits()
    if suspicion is None or suspicion.of != turn:
        suspicion = Suspicion(turn)
    _suspicions[wait] = suspicion
    return suspicion.look(
        "a coroutine waits for something that only this thread's event loop can do, while this thread waits for the "
        "coroutine and so its loop can't turn; await the coroutine instead of calling it from sync code",
        "a call blocks this thread's event loop, which has work to do, and its coroutine has not moved for %.0f s; "
        "if it waits for that loop, this is a deadlock, unless %s ends the wait; await the coroutine instead of "
        "calling it from sync code\n%s",
        lambda: (
            f"this thread:\n{stack_of(threading.get_ident())}\nthe coroutine:\n{stacks_of_tasks(runner_loop)}"
        ),
    )


def thread_of_loop(loop: Any) -> int | None:
    """The thread that runs a loop. Of one that doesn't tell, as uvloop's don't, only if it is in the middle of a step
    of the loop's task."""
    told: int | None = getattr(loop, "_thread_id", 0)
    if told != 0:
        return told
    task: Any = asyncio.current_task(loop)
    if task is None:
        return None
    of_task = set(frames_of(task))
    for thread, innermost in _core.current_frames().items():
        frame: FrameType | None = innermost
        while frame is not None:
            if frame in of_task:
                return thread
            frame = frame.f_back
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
