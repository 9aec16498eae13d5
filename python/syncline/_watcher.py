"""The watcher: who notices that something blocks a loop, for `Bridge(stall_after=...)` and `install(stall_after=...)`.

One thread for the process, for all loops that are watched. It looks at them twice in the shortest time after which one
of them counts as blocked, and sleeps while none of them has anything to do.

1. A stall is reported once, when it has lasted for so long, whoever waits and however many.
2. Whoever gives a loop something to do calls `stir`, first of all or just after that: what was stirred is looked at for
   two rounds at least.
3. A loop whose thread waits for another loop that does not turn has no report of its own, and the time counts for the
   other one only.
4. No lock: a forked child could find it held. The child begins without a thread, and with loops of its own: at the
   fork, or where C code has forked, when it is used first.
5. It keeps no loop, and ends when none is left.
6. What a signal handler raises in the middle of `stir` leaves no lock taken, and no thread half begun: whoever stirs
   may be the main thread, and tries again then.
7. Time in which this thread did not get to look counts for nobody: on a busy machine the loops did not turn either.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Protocol

from . import _core

if TYPE_CHECKING:
    from collections.abc import Callable

Look = tuple[int, bool, int, Any, str]
"""How often the loop has turned, whether nothing of it runs, its thread, the loop, its name."""


class Subject(Protocol):
    """A loop that is watched."""

    def look(self) -> Look | None:
        """What is seen of it; None if it has ended."""


def _nothing() -> None:
    return None


class _Watched:
    """A loop, and what was seen of it last."""

    def __init__(self, subject: Subject, span: float) -> None:
        self.subject, self.span = subject, span
        self.turns = -1
        self.since = 0.0
        self.blocked_since = 0.0
        """As far as it is its own doing (by 3)."""
        self.is_reported = self.has_ended = self.has_work = self.rested = False
        self.thread = 0
        self.name = ""
        self._loop: Callable[[], Any] = _nothing
        """What gives the loop, while it is there (by 5)."""

    def look(self, now: float) -> None:
        seen = self.subject.look()
        if seen is None:
            self.has_ended = True
            return
        turns, rests, self.thread, loop, self.name = seen
        if loop is not self._loop():
            self._loop = _nothing if loop is None else weakref.ref(loop)
        has_turned = rests or self.rested or turns != self.turns
        self.rested = rests
        if has_turned:
            self.turns, self.since, self.blocked_since, self.is_reported = turns, now, now, False
        self.has_work = not has_turned or _has_work(loop)

    def is_of(self, loop: Any) -> bool:
        return loop is self._loop()

    def is_blocked(self, now: float) -> bool:
        return now - self.blocked_since >= self.span


class Asked:
    """A loop, or a trio run, that no bridge knows: it is asked to turn. Made in its thread, or before it has one;
    another one may run it later on."""

    def __init__(self, anchor: Any, ask: str) -> None:
        self._anchor, self._ask = weakref.ref(anchor), ask
        thread = threading.current_thread()
        self._thread, self._name = threading.get_ident(), f"{type(anchor).__name__} of {thread.name}"
        self._turns = self._asked = 0
        self.is_undone = False

    def look(self) -> Look | None:
        anchor = self._anchor()
        if anchor is None or self.is_undone:
            return None
        is_asyncio = isinstance(anchor, asyncio.AbstractEventLoop)
        if is_asyncio and anchor.is_closed():
            return None
        rests = is_asyncio and not anchor.is_running()
        if self._asked == self._turns and not rests:
            self._asked += 1
            try:
                getattr(anchor, self._ask)(self._turned)
            except RuntimeError:  # it is closed
                return None
        # asyncio's own loops tell who runs them; of others it is known by their last turn.
        told = getattr(anchor, "_thread_id", None)
        return self._turns, rests, told or self._thread, anchor, self._name

    def _turned(self) -> None:
        self._turns += 1
        self._thread = threading.get_ident()


def _has_work(loop: Any) -> bool:
    """Whether a loop that turns may come to be blocked though nobody gives it anything. Not known of a trio run."""
    if not isinstance(loop, asyncio.AbstractEventLoop):
        return loop is not None
    if getattr(loop, "_scheduled", ()):
        return True
    try:
        return bool(asyncio.all_tasks(loop))
    except RuntimeError:  # they change meanwhile
        return True


_LEAST_PAUSE, _LONGEST_PAUSE = 0.01, 3600.0
"""Seconds between looks at loops that have something to do."""
_LATENESS = 1.1
"""So many times a pause may last: two then last as long as a stall, and one, however late, does not."""
_LONGEST_REST = 1.0
"""Seconds between looks at loops that nobody runs at present, and that may be closed without a word."""

_watched: list[_Watched] = []
_threads: list[threading.Thread] = []
"""The thread that looks, once there is one."""
_begins: list[bool] = []
"""Not empty while it has been begun, and does not run yet."""


def _new_event() -> threading.Event:
    """By 6: the standard library's own condition could stay locked."""
    event = threading.Event()
    if hasattr(event, "_cond"):
        vars(event)["_cond"] = _core.Condition()
    return event


_stirred = _new_event()
_ended = _new_event()
_epoch = [_core.epoch()]
"""In which process it looks."""


def watch(subject: Subject, span: float) -> None:
    """Has stalls of the loop reported that last for `span` seconds."""
    _leave_parents()
    _watched.append(_Watched(subject, span))
    stir()


def watches(loop: Any) -> bool:
    """Whether stalls of that loop are reported here."""
    return loop is not None and any(each.is_of(loop) for each in list(_watched))


def stir() -> None:
    """A loop that is watched has something to do."""
    _leave_parents()
    if not _stirred.is_set():
        _stirred.set()
    _begin()


def leave() -> None:
    """A loop that is watched has ended."""
    _leave_parents()
    _ended.set()
    _stirred.set()


def _leave_parents() -> None:
    if _epoch[0] != _core.epoch():
        _forget()


def _begin() -> None:
    if _threads or _begins:
        return
    try:
        _begins.append(True)
        if not _core.start_thread("syncline-watcher", _run):
            _begins.clear()  # the interpreter ends, or there are too many threads: the next call tries again
    except BaseException:
        _begins.clear()
        raise


def _run() -> None:
    thread = threading.current_thread()
    _threads.append(thread)
    _begins.clear()
    # A handler that raised just after this one was started has had another one started, too.
    if _threads[0] is thread:
        _core.serve()
        _watch()
    _threads.remove(thread)
    if _watched:  # one that came before that line, and found this thread alive
        _begin()


def _watch() -> None:
    quiet = 0
    now = pause = 0.0
    looked = time.monotonic()
    while _watched:
        _ended.clear()
        if _stirred.is_set():
            _stirred.clear()
            quiet = 0
        before, looked = looked, time.monotonic()
        now += min(looked - before, pause * _LATENESS)  # by 7
        _look_at_all(now)
        quiet = 0 if any(each.has_work for each in list(_watched)) else quiet + 1
        if quiet <= 2:  # by 2
            shortest = min((each.span for each in list(_watched)), default=0.0)
            pause = min(max(shortest / 2, _LEAST_PAUSE), _LONGEST_PAUSE)
            _ended.wait(pause)
        else:
            is_anybodys = any(isinstance(each.subject, Asked) for each in list(_watched))
            _stirred.wait(_LONGEST_REST if is_anybodys else None)


def _look_at_all(now: float) -> None:
    for each in list(_watched):  # noqa: PERF101 - loops are added meanwhile
        each.look(now)
    for ended in [each for each in list(_watched) if each.has_ended]:
        _watched.remove(ended)
    stuck = [each for each in list(_watched) if each.since < now]
    waits = _core.long_waits() if len(stuck) > 1 else {}
    threads = {each.thread for each in stuck}
    for each in stuck:
        if waits.get(each.thread, (0, 0))[1] in threads - {each.thread}:
            each.blocked_since = now
        if each.is_reported or not each.is_blocked(now):
            continue
        each.is_reported = True
        try:
            from ._diagnosis import stall_report

            logging.getLogger("syncline").warning(
                "%s", stall_report(each.thread, each.name, now - each.blocked_since)
            )
        except Exception:
            logging.getLogger("syncline").exception("a stall of the loop %r could not be reported", each.name)


def _forget() -> None:
    global _stirred, _ended
    _stirred, _ended = _new_event(), _new_event()
    _epoch[0] = _core.epoch()
    _begins.clear()
    # What the parent's loops hold is not freed here.
    for each in _watched:
        _core.keep_for_ever(each)
    _watched.clear()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
