"""Who waits for whom: one look at the whole process.

It begins with all that surely waits: threads in calls, tasks with nested calls, calls of `submit`. From each of them it
follows what is waited for. What somebody else waits for is no root of the tree.

1. No code of the user's is called, and nothing is waited for. Other threads go on meanwhile: what is read may be gone
   in the next line, and parts of the picture may be a moment apart.
2. What was looked at once is not looked at again: ten thousand threads may wait for one task.
"""

from __future__ import annotations

import time
import weakref
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import _core, _kinds
from .._threads import thread_limiter
from ..waiting import Frame, LimiterState, LoopState, Wait, Waits
from .chains import chain_of, coroutine_of, makes_nested_call, segments_of, tasks_awaited
from .stacks import is_users
from .tasks import Loop, all_loops
from .threads import WORK, Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType, FrameType

_DEEPEST = 150
"""So many waits below each other are followed, nested calls of one task not counted: each takes a few frames here."""
_MOST_HOLDERS = 10
"""So many of those who hold a limiter's tokens are shown below each one that waits for one."""

_Key = tuple[object, ...]
_Seen = tuple[float, weakref.ref[Any] | None]
_first_seen: dict[_Key, _Seen] = {}
"""When a look first saw what has no age of its own; and whose it is, where another one may get the same key later."""


def look() -> Waits:
    """What `syncline.waits()` returns."""
    return _Look().result()


class _Look:
    def __init__(self) -> None:
        self.now = time.monotonic()
        self.threads = Threads()
        self.rows = {row[0]: row for row in _core.waiting_threads()}
        """The wait of each thread that is in one, the latest where it is in several."""
        self.loops = all_loops(self.threads)
        self.by_loop = {id(loop.loop): loop for loop in self.loops}
        self.by_thread: dict[int | None, Loop] = {}
        """The first one of each thread."""
        for loop in self.loops:
            self.by_thread.setdefault(loop.thread, loop)
        self.limiters = {limiter[0]: limiter for limiter in _core.limiters()}
        self.queued = {key: {number for number, _ in queue} for key, _, _, queue in self.limiters.values()}
        """The numbers of the calls that are in each limiter's queue."""
        self.made: dict[_Key, Wait] = {}
        self.under_way: dict[_Key, Wait] = {}
        """What closes a circle if it is met again."""
        self.waited_for: set[_Key] = set()
        self.seen: dict[_Key, _Seen] = {}
        self.circles = 0
        self.blocked = 0
        self.frames: dict[tuple[CodeType, int], Frame] = {}
        self.shown: dict[str, bool] = {}

    def result(self) -> Waits:
        candidates: dict[_Key, Callable[[], Wait]] = {}
        for thread in (*self.rows, *self.threads.futures):
            candidates["thread", thread] = partial(self._thread, thread)
        submitted = 0
        for loop in self.loops:
            submitted += len(loop.submitted)
            nested = filter(makes_nested_call, loop.tasks)
            for task in (*nested, *(task for task in loop.submitted if task is not None)):
                candidates["task", id(task)] = partial(self._task, task, loop.name, loop.thread)
        made = {key: make() for key, make in candidates.items()}
        roots = self._roots(made)
        _first_seen.clear()
        _first_seen.update(self.seen)
        workers, idle = _core.worker_counts()
        return Waits(
            roots=roots,
            blocked=self.blocked,
            submitted=submitted,
            circles=self.circles,
            loops=tuple(map(self._loop_state, self.loops)),
            limiters=tuple(map(self._limiter_state, self.limiters.values())),
            workers=workers,
            idle_workers=idle,
        )

    def _roots(self, made: dict[_Key, Wait]) -> tuple[Wait, ...]:
        """Those that nobody waits for, and of each circle that has none the first one; the deepest first."""
        first = [wait for key, wait in made.items() if key not in self.waited_for]
        below: set[int] = set()
        depths: dict[int, int] = {}
        roots: list[Wait] = []
        for wait in (*first, *made.values()):
            if id(wait) not in below:
                roots.append(wait)
                _walk(wait, below, depths)
        return tuple(sorted(roots, key=lambda wait: (-depths[id(wait)], -(wait.seconds or 0.0))))

    # What waits, and is waited for.

    def _visit(self, key: _Key, circle: Wait, make: Callable[[], Wait]) -> Wait:
        known = self.made.get(key)
        if known is not None:
            return known
        if key in self.under_way:
            self.circles += 1
            return circle
        if len(self.under_way) >= _DEEPEST:
            return replace(circle, state="is not followed any further", closes_circle=False)
        self.under_way[key] = circle
        made = self.made[key] = make()
        del self.under_way[key]
        return made

    def _thread(self, thread: int) -> Wait:
        row = self.rows.get(thread)
        is_worker = thread in self.threads.workers
        blocked = row is not None or thread in self.threads.futures
        named = Wait(
            kind="worker" if is_worker else "thread",
            name=self.threads.name(thread),
            thread=thread,
            is_blocked=blocked,
            closes_circle=True,
        )

        def make() -> Wait:
            self.blocked += blocked
            children: list[Wait] = []
            seconds: float | None = None
            key: _Key = ("thread", thread)
            if row is not None:
                _, loop_thread, loop, seconds, task = row
                children = self._call(loop, loop_thread, task, thread)
            elif blocked:
                future = self.threads.futures[thread]
                loop, loop_thread, task = future._submitted._seen
                seconds = self._age((*key, id(future)), future)
                children = self._call(loop, loop_thread, task, thread)
            elif is_worker:
                seconds = self._age(("job", self.threads.workers[thread]))
            return replace(
                named,
                state="" if blocked else "runs",
                stack=self._stack(self.threads.stack_within(thread, WORK)),
                seconds=seconds,
                waits_for=tuple(children),
                closes_circle=False,
            )

        return self._visit(("thread", thread), named, make)

    def _child_thread(self, thread: int) -> Wait:
        self.waited_for.add(("thread", thread))
        return self._thread(thread)

    def _call(self, loop: str, loop_thread: int, task: Any, waiter: int) -> list[Wait]:
        """What a call's caller waits for: the task, and the loop's thread if that is blocked itself."""
        known = self.by_thread.get(loop_thread)
        loop = loop if known is None else known.name
        blocked = loop_thread in self.rows and loop_thread != waiter
        thread = [self._child_thread(loop_thread)] if blocked else []
        if task is not None:
            return [self._child_task(task, loop, loop_thread), *thread]
        asleep = None if known is None else known.is_asleep
        frames = [] if blocked or asleep or loop_thread == waiter else self._running(loop_thread)
        state = "has not begun" if blocked else "has not begun, or runs now"
        call = Wait(
            kind="task",
            name="the call",
            thread=loop_thread,
            loop=loop,
            state=state,
            stack=self._stack(frames),
            waits_for=tuple(thread),
        )
        return [call]

    def _child_task(self, task: Any, loop: str, thread: int | None) -> Wait:
        self.waited_for.add(("task", id(task)))
        return self._task(task, loop, thread)

    def _task(self, task: Any, loop: str, thread: int | None) -> Wait:
        coroutine = coroutine_of(task)
        get_name = getattr(task, "get_name", None)
        name = getattr(task, "name", None) if get_name is None else get_name()
        named = Wait(
            kind="task",
            name=_name_of(coroutine),
            task=name if isinstance(name, str) else None,
            thread=thread,
            loop=loop,
            closes_circle=True,
        )
        return self._visit(("task", id(task)), named, partial(self._make_task, task, coroutine, named))

    def _make_task(self, task: Any, coroutine: Any, named: Wait) -> Wait:
        segments, leaf = chain_of(coroutine)
        innermost = segments[-1][-1] if segments[-1] else None
        state = "" if innermost is not None else "has not begun"
        if leaf is None and innermost is not None and named.thread is not None:
            above = self._above(innermost, named.thread)
            if above is not None:
                state = "runs now"
                # Where the thread is blocked in a call, that is shown as a wait of the thread's.
                if named.thread not in self.rows:
                    segments = [*segments[:-1], *segments_of([innermost, *above], segments[-1][:-1])]
        waits_for = self._awaited(task, leaf, innermost, named)
        for index in reversed(range(len(segments))):
            segment = segments[index]
            is_last = index == len(segments) - 1
            if is_last and not segment and len(segments) > 1:
                continue  # a nested call of something that is no coroutine
            self.blocked += not is_last
            made = Wait(
                kind="task" if is_last else "nested",
                name=named.name if index == 0 or not segment else segment[0].f_code.co_qualname,
                task=named.task,
                thread=named.thread,
                loop=named.loop,
                is_blocked=not is_last,
                state=state if is_last else "",
                stack=self._stack(segment),
                seconds=self._age(("nested", id(segment[-1]), segment[-1].f_lasti), task)
                if segment and not is_last
                else None,
                waits_for=tuple(waits_for),
            )
            waits_for = [made]
        return waits_for[0]

    def _awaited(self, task: Any, leaf: Any, innermost: FrameType | None, named: Wait) -> list[Wait]:
        if isinstance(leaf, _core.Pending):
            return self._operation(leaf._seen, named)
        found: list[Wait] = []
        for each in tasks_awaited(task, innermost):
            loop = self._loop_of(each)
            found.append(self._child_task(each, loop.name, loop.thread))
        return found

    def _loop_of(self, task: Any) -> Loop:
        event_loop = task.get_loop()
        known = self.by_loop.get(id(event_loop))
        return known or Loop(event_loop, type(event_loop).__name__, None, None, [], [])

    def _operation(self, seen: Any, named: Wait) -> list[Wait]:
        match seen:
            case ("work", number, key, function):
                thread = self.threads.jobs.get(number)
                if thread is not None:
                    return [self._child_thread(thread)]
                return [self._queued(key, number, _name_of(function), named)]
            case ("call", loop, thread, task):
                return self._call(loop, thread, task, 0)
            case ("token", key):
                return [self._queued(key, None, "a token", named)]
            case ("errand", name):
                state = "is to be called by the thread that waits for this coroutine"
                return [Wait("queued", name, loop=named.loop, state=state)]
            case _:
                return []

    def _queued(self, key: int, number: int | None, name: str, named: Wait) -> Wait:
        """What has no token yet, or no thread, and those who hold the tokens."""
        limiter = self.limiters.get(key)
        if limiter is None:
            return Wait("queued", name, loop=named.loop, state="is about to begin")
        _, _, holders, queue = limiter
        if number is not None and number not in self.queued[key]:
            return Wait("queued", name, loop=named.loop, state="is about to begin")
        # Without its place there, by which each would look different.
        state = f"waits for a token of {self._limiter_name(key)}, one of {len(queue)} in the queue; held by"
        shown = [self._holder(*holder) for holder in holders[:_MOST_HOLDERS]]
        waits_for = tuple(wait for wait in shown if wait is not None)
        return Wait("queued", name, loop=named.loop, state=state, waits_for=waits_for)

    def _holder(self, number: int | None, borrower: Any) -> Wait | None:
        if number is not None:
            thread = self.threads.jobs.get(number)
            return None if thread is None else self._child_thread(thread)
        if hasattr(borrower, "get_loop") and hasattr(borrower, "get_coro"):
            loop = self._loop_of(borrower)
            return self._child_task(borrower, loop.name, loop.thread)
        return None

    # Loops and limiters.

    def _loop_state(self, loop: Loop) -> LoopState:
        frames = [] if loop.thread is None or loop.is_asleep else self._running(loop.thread)
        stack = tuple(frame for frame in self._stack(frames) if self._is_shown(frame.file))
        asleep = loop.is_asleep
        if asleep is None and not stack and frames:
            asleep = frames[-1].f_code.co_name == "select" or None
        thread_name = "" if loop.thread is None else self.threads.name(loop.thread)
        blocked = loop.thread in self.rows and bool(stack)
        return LoopState(loop.name, loop.thread, thread_name, asleep, blocked, len(loop.tasks), stack)

    def _running(self, thread: int) -> list[FrameType]:
        return self.threads.stack_within(thread, self.threads.loop_codes)

    def _above(self, frame: FrameType, thread: int) -> list[FrameType] | None:
        """The frames above that one in the thread's stack, if it is there."""
        above: list[FrameType] = []
        for each in self.threads.stack(thread):
            if each is frame:
                above.reverse()
                return above
            above.append(each)
        return None

    def _limiter_state(self, limiter: Any) -> LimiterState:
        key, total, holders, queue = limiter
        words: list[str] = []
        for number, borrower in holders:
            thread = self.threads.jobs.get(number) if number is not None else None
            if thread is not None:
                words.append(f"the thread {self.threads.name(thread)!r}")
            elif number is not None:
                words.append("a call that is about to begin")
            else:
                words.append(
                    _name_of(coroutine_of(borrower)) if coroutine_of(borrower) else type(borrower).__name__
                )
        return LimiterState(self._limiter_name(key), total, tuple(words), len(queue))

    def _limiter_name(self, key: int) -> str:
        if key == thread_limiter()._key:
            return "thread_limiter()"
        total = self.limiters[key][1]
        return "a ThreadLimiter without a limit" if total is None else f"a ThreadLimiter({total})"

    # Ages and stacks.

    def _age(self, key: _Key, of: Any = None) -> float | None:
        known = _first_seen.get(key)
        if known is None or (known[1] is not None and known[1]() is not of):
            self.seen[key] = self.now, None if of is None else weakref.ref(of)
            return None
        self.seen[key] = known
        return self.now - known[0]

    def _stack(self, frames: Iterable[FrameType]) -> tuple[Frame, ...]:
        """The user's frames, or all if there are none."""
        made = [self._frame(frame) for frame in frames]
        return tuple(frame for frame in made if self._is_shown(frame.file)) or tuple(made)

    def _is_shown(self, file: str) -> bool:
        known = self.shown.get(file)
        if known is None:
            known = self.shown[file] = is_users(file)
        return known

    def _frame(self, frame: FrameType) -> Frame:
        code, line = frame.f_code, frame.f_lineno or 0
        known = self.frames.get((code, line))
        if known is None:
            known = self.frames[code, line] = Frame(code.co_filename, line, code.co_qualname)
        return known


def _name_of(function: Any) -> str:
    return "a function" if function is None else _kinds.named(function).__qualname__


def _walk(root: Wait, below: set[int], depths: dict[int, int]) -> None:
    """Notes all waits below that one, and how deep each one's tree is. Without recursion: nested calls may be many."""
    todo = [(root, False)]
    while todo:
        wait, is_done = todo.pop()
        if is_done:
            depths[id(wait)] = 1 + max((depths.get(id(each), 0) for each in wait.waits_for), default=0)
        elif id(wait) not in below:
            below.add(id(wait))
            todo.append((wait, True))
            todo += [(each, False) for each in wait.waits_for]
