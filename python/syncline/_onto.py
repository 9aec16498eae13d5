"""The loop that `Bridge(loop=...)` was given, as the core uses it. Imported with the first such bridge."""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from ._kinds import loaded_trio

if TYPE_CHECKING:
    import asyncio


class Sessions(Protocol):
    """Those that are open on a loop; of the core."""

    def end(self) -> None:
        """Has them do what is left to them, now or after their current step."""


class Guard:
    """Sees that the program that runs a loop is about to end it: that cancels all tasks first, also one of ours that
    nobody else knows. It is there as long as sessions are open. All on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sessions: Sessions) -> None:
        self._loop = loop
        self._sessions = sessions
        self._open: set[Any] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, task: asyncio.Task[Any]) -> None:
        """A session is open until its task ends."""
        from asyncio import Task

        self._open.add(task)
        task.add_done_callback(self._ended, context=Context())
        if self._task is None:
            # Past the program's task factory, whose tasks these are not.
            self._task = Task(
                _wait(self._loop.create_future()), loop=self._loop, name="syncline-guard", context=Context()
            )
            self._task.add_done_callback(self._was_cancelled, context=Context())
            # A loop may be closed without its tasks being cancelled. There is nothing to report then.
            vars_of: Any = self._task
            vars_of._log_destroy_pending = False

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._open.discard(task)
        if not self._open and self._task is not None:
            task, self._task = self._task, None
            task.cancel()

    def _was_cancelled(self, task: asyncio.Task[None]) -> None:
        if task is self._task:  # else by us
            self._task = None
            self._sessions.end()


async def _wait(future: asyncio.Future[None]) -> None:
    await future


def resolve(given: Any) -> tuple[bool, Any, Any]:
    """Whether trio runs there, what the core uses as the loop, and the object by which the loop's own code knows it.

    Takes an event loop, a trio token, or anyio's token of one of them.
    """
    native = getattr(given, "native_token", given)
    trio = loaded_trio()
    if trio is not None and isinstance(native, trio.lowlevel.TrioToken):
        from ._trio import TrioGuest

        return True, TrioGuest(native), native
    if not hasattr(native, "call_soon_threadsafe") or isinstance(native, type):
        raise TypeError(
            "loop must be an event loop, such as asyncio.get_running_loop(), a trio token "
            f"(trio.lowlevel.current_trio_token()) or anyio's EventLoopToken, not {type(given).__name__}"
        )
    if native.is_closed():
        raise ValueError("loop must be one that runs or is going to run, and this one is closed")
    return False, native, native
