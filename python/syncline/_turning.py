"""Turns a running loop of asyncio's on while a stack in the middle of it waits: for nested calls in tasks that can't
switch, as they were made too early or past the loop, and in callbacks.

The stack that waits can't be told apart from the loop's below it. So it is left as it is, in its greenlet, and a
*turner*, a new greenlet, turns the loop meanwhile.

1. A turner switches away between two turns only, and ends with that. So there are no more of them than stacks that
   wait, and each holds the rest of a turn and code of the user's.
2. While anything waits, a turner turns the loop. The loop's own stack makes room for one (`_make_room`): it would not
   see who may go on, nor end the waits when the loop is stopped.
3. All turners begin at the same depth of the C stack (`_start`): a thousand stacks that wait don't pile up.
4. `_run_once` counts what is ready, and then takes that many handles. A stack finds as many as it was still to take, or
   cancelled ones in their place (`_Room`).
5. A task whose step is under way takes a cancellation for its next `await`, and may be given another one there. So
   while it waits, its `cancel` is ours (`_Cancelling`).
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import tasks
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped]

from ._core import Aside
from ._kinds import type_of

if TYPE_CHECKING:
    from types import TracebackType

    Loop = Any
    """A loop of asyncio's, with its private parts."""


class _Wait:
    """A stack that waits for a future."""

    def __init__(self, future: asyncio.Future[Any], task: asyncio.Task[Any] | None) -> None:
        self.future = future
        self.task = task
        self.stack = getcurrent()
        self.error: BaseException | None = None
        """What ends the wait before its future."""


class _Cancelling:
    """By 5: cancels what the task waits for, and counts that as the task would, until `uncancel` has taken it back."""

    def __init__(self, task: Any) -> None:
        self._task = task
        self._kind: Any = type(task)
        self._waits: list[_Wait] = []
        self._count = 0
        task.cancel, task.cancelling, task.uncancel = self.cancel, self.cancelling, self.uncancel

    @classmethod
    def of(cls, task: Any) -> _Cancelling:
        known = getattr(task.cancel, "__self__", None)
        return known if isinstance(known, cls) else cls(task)

    def begin(self, wait: _Wait) -> None:
        self._waits.append(wait)

    def end(self, wait: _Wait) -> None:
        self._waits.remove(wait)
        self._release()

    def cancel(self, msg: Any = None) -> bool:
        if self._waits and self._waits[-1].future.cancel(msg):
            self._count += 1
            return True
        cancelled: bool = self._kind.cancel(self._task, msg)
        return cancelled

    def cancelling(self) -> int:
        count: int = self._kind.cancelling(self._task)
        return count + self._count

    def uncancel(self) -> int:
        if self._count > 0:
            self._count -= 1
        else:
            self._kind.uncancel(self._task)
        left = self.cancelling()
        self._release()
        return left

    def _release(self) -> None:
        if not self._waits and not self._count:
            del self._task.cancel, self._task.cancelling, self._task.uncancel


_loops: dict[Any, _TurnedLoop] = {}
"""Those in which anything waits."""


def can_turn(loop: object) -> bool:
    """Whether this loop can be turned from outside: asyncio's own, and what is derived from them."""
    return isinstance(loop, asyncio.BaseEventLoop)


def wait(loop: Loop, future: asyncio.Future[Any]) -> None:
    """Waits for the future, which belongs to the running loop. Raises RuntimeError where the loop stops before."""
    _loops.setdefault(loop, _TurnedLoop(loop)).wait(future)


def waited_for(task: object) -> asyncio.Future[Any] | None:
    """The future that the task waits for by `wait`."""
    return next(
        (wait.future for loop in _loops.values() for wait in loop.waits if wait.task is task),
        None,
    )


class _Room:
    """What a stack leaves: its task, its contexts, and the handles that it was to run (by 4)."""

    def __init__(self, loop: Loop, task: asyncio.Task[Any] | None) -> None:
        self._loop = loop
        self._task = task
        self._aside = Aside()

    def __enter__(self) -> None:
        self._needed = _to_be_taken(self._loop)
        self._aside.__enter__()
        if self._task is not None:
            tasks._leave_task(self._loop, self._task)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            tasks._enter_task(self._loop, self._task)
        self._aside.__exit__(kind, error, trace)
        if (missing := self._needed - len(self._loop._ready)) > 0:
            nothing = asyncio.Handle(_noted, (None,), self._loop)
            nothing.cancel()
            self._loop._ready.extend([nothing] * missing)


def _to_be_taken(loop: Loop) -> int:
    """How many handles the loop's turn that this stack is in is still to take. Where that can't be seen, all that are
    ready: then a step that makes many calls finds more and more of them."""
    kind = type_of(loop)
    code = getattr(kind._run_once, "__code__", None)
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is code and frame.f_locals.get("self") is loop:
            counted, taken = frame.f_locals.get("ntodo"), frame.f_locals.get("i")
            if counted is not None and taken is not None:
                return int(counted) - int(taken) - 1
            break
    return len(loop._ready)


class _TurnedLoop:
    """A loop in which stacks wait."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.waits: list[_Wait] = []
        """The oldest first."""
        self._turners: set[greenlet] = set()
        self._starter: greenlet | None = None
        """Starts turners from where it began (by 3)."""
        self._own: greenlet | None = None
        """The loop's own stack, while it makes room."""
        self._makes_room = False
        """Whether it is going to."""
        self._error: BaseException | None = None
        """What has ended a turn."""

    def wait(self, future: asyncio.Future[Any]) -> None:
        loop = self._loop
        wait = _Wait(future, asyncio.current_task(loop))
        room = _Room(loop, wait.task)
        # The loop may be asleep when the future ends, which calls its callbacks, and nobody else's may be there.
        future.add_done_callback(_noted)
        self.waits.append(wait)
        cancelling = None if wait.task is None else _Cancelling.of(wait.task)
        if cancelling is not None:
            cancelling.begin(wait)
        try:
            with room:
                self._turn_on()
        finally:
            if cancelling is not None:
                cancelling.end(wait)
            # Also where greenlet ends this stack, since nobody can go on with it.
            if wait in self.waits:
                self.waits.remove(wait)
            future.remove_done_callback(_noted)
            self._go_on(wait.stack)
        if wait.error is not None:
            raise wait.error

    def _go_on(self, stack: greenlet) -> None:
        """For a stack that has waited, and is about to go on."""
        if not self.waits and self._own is None:
            self._starter = None
            _loops.pop(self._loop, None)
        elif self.waits and stack not in self._turners and not self._makes_room:
            self._makes_room = True
            self._loop.call_soon(self._make_room)

    def _make_room(self) -> None:
        """By 2, in the loop's own stack: returns when nothing waits any more."""
        self._makes_room = False
        if not self.waits or getcurrent() in self._turners:
            return
        self._own = getcurrent()
        try:
            with _Room(self._loop, None):
                self._turn_on()
        finally:
            self._own = None
            self._go_on(getcurrent())
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _turn_on(self) -> None:
        """Lets a new turner turn the loop. Returns when another one goes on with the present stack."""
        if self._starter is None or self._starter.dead:
            self._starter = greenlet(self._start)
        self._starter.switch()

    def _start(self) -> None:
        while True:
            turner = greenlet(self._turn)
            self._turners.add(turner)
            turner.switch()

    def _turn(self) -> None:
        me = getcurrent()
        try:
            while (stack := self._next()) is None:
                self._turn_once()
        finally:
            self._turners.discard(me)
        me.parent = stack  # which goes on, as this one ends

    def _turn_once(self) -> None:
        try:
            self._loop._run_once()
        except BaseException as error:
            # Ctrl-C, or SystemExit of a callback, which end the loop's run. Here they end the latest wait, and may get
            # to the loop's run by its stack.
            self._error = error

    def _next(self) -> greenlet | None:
        """The stack that is to go on. None if the loop is to turn."""
        if self._error is not None:
            return self._ended(self.waits[-1], self._error) if self.waits else self._own
        for wait in self.waits:
            if wait.future.done():
                return self._ended(wait, None)
        if not self.waits:
            return self._own
        if self._loop._stopping:
            # First those of turners: with the loop's own stack its run ends.
            of_turners = [wait for wait in self.waits if wait.stack in self._turners]
            stopped = RuntimeError("Event loop stopped before Future completed.")
            return self._ended((of_turners or self.waits)[-1], stopped)
        return None

    def _ended(self, wait: _Wait, error: BaseException | None) -> greenlet:
        self.waits.remove(wait)
        wait.error, self._error = error, None
        return wait.stack


def _noted(_: object) -> None:
    """Called so that the loop wakes up."""
