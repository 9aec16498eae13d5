"""A trio run as the core drives it. Imported with the first bridge, or `install()`, that asks for it, since it
needs trio.

The core sends mail to a loop of another kind by `call_soon_threadsafe`, and makes tasks there by
`create_task`. So a trio run gets those few methods of an event loop. `run_forever` is one `trio.run`, which
can't be entered a second time: what still runs when the loop is stopped has to be ended within it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import trio

from ._carriers import carry
from ._core import Condition, Nestable, RunnerClosedError, TaskFactory, note_trio_task, tell_trio
from ._kinds import in_use

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextvars import Context

    from ._core import Pending


R = TypeVar("R")


class Idle:
    """What an idling task waits for: a session's between two steps, a producer until there is room."""

    def __init__(self, keeps_cancellations: bool = False) -> None:
        self._event = trio.Event()
        self._keeps_cancellations = keeps_cancellations

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        # A step may have left cancel scopes open. If one is cancelled meanwhile, that is for the next step,
        # where it awaits.
        with trio.CancelScope(shield=self._keeps_cancellations):
            await self._event.wait()

    def done(self) -> bool:
        return self._event.is_set()

    def set_result(self, _: None) -> None:
        self._event.set()


class Task:
    """A task of ours: the part of `asyncio.Task` that the core uses."""

    def __init__(self, coroutine: Awaitable[None]) -> None:
        self.coroutine = coroutine
        self._scope = trio.CancelScope()
        self._shield = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<trio task of {self.coroutine!r}>"

    async def carry(self) -> None:
        with self._scope, self._shield:
            await self.coroutine

    def cancel(self) -> None:
        self._scope.cancel()
        self._shield.shield = False

    def uncancel(self) -> None:
        """Takes a cancellation back. A scope of trio's stays cancelled, so the code inside is shielded from
        it until it is cancelled again."""
        self._shield.shield = True


@trio.lowlevel.enable_ki_protection  # what has begun is not left without its cleanup: a Ctrl-C comes where this waits
async def wait_for(pending: Pending) -> None:
    """Waits for something that another thread brings to its end, by trio's rules: a checkpoint in any case, and nothing
    begun by a task that is cancelled already."""
    await trio.lowlevel.checkpoint_if_cancelled()
    idle = Idle()
    if pending.begin_in_trio(idle):
        await trio.lowlevel.cancel_shielded_checkpoint()
        return
    try:
        await idle
    except (trio.Cancelled, KeyboardInterrupt) as ending:
        idle = Idle()
        seconds = pending.tell_in_trio(ending, idle)
        if seconds is None:
            raise
        with trio.move_on_after(seconds, shield=True):
            await idle
        if isinstance(ending, KeyboardInterrupt):
            raise


_raise_cancelled: list[Callable[[], NoReturn]] = []
"""A function of trio's that raises Cancelled in the task that calls it; empty until one is known."""


async def _learn_to_cancel() -> None:
    """Gets a function that raises Cancelled, which has no public constructor. trio hands one to a wait that
    it cancels, so this cancels a wait. Later, sync code in whose place an await would be cancelled can use it
    without awaiting."""

    def keep(raise_cancelled: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        _raise_cancelled.append(raise_cancelled)
        return trio.lowlevel.Abort.SUCCEEDED

    with trio.CancelScope() as scope:
        scope.cancel()
        await trio.lowlevel.wait_task_rescheduled(keep)


def new_cancelled() -> BaseException:
    """What the core raises in a task of ours that it has cancelled."""
    try:
        _raise_cancelled[0]()
    except trio.Cancelled as error:
        return error.with_traceback(None)


class TrioLoop:
    """One `trio.run`, with the methods of an event loop that the core uses."""

    def __init__(self, cleanup_timeout: float, switches: bool) -> None:
        self._cleanup_timeout = cleanup_timeout
        self._switches = switches
        self._lock = Condition()  # since a signal handler's exception can't leave it taken
        self._early: list[Callable[[], Any]] = []
        self._token: trio.lowlevel.TrioToken | None = None
        self._tasks: set[Task] = set()

    def run_forever(self) -> None:
        trio.run(self._main)

    async def _main(self) -> None:
        self._stopped = trio.Event()
        self._changed = trio.Event()
        trio.lowlevel.add_instrument(_Installed(of_bridge=True, nests=self._switches))
        with self._lock:
            self._token = trio.lowlevel.current_trio_token()
            early, self._early = self._early, []
        for callback in early:
            self._call(callback)
        await self._stopped.wait()
        # First the tasks that are busy are cancelled, then the sessions that are between two steps are ended.
        idle = {task for task in self._tasks if getattr(task.coroutine, "is_idle", False)}
        for task in self._tasks - idle:
            _end_session(task)
            task.cancel()
        await self._until_done(lambda: not self._tasks - idle)
        for task in idle & self._tasks:
            _end_session(task)
        await self._until_done(lambda: not self._tasks)
        keepers = in_use("_keepers")
        if keepers is not None:
            await keepers.close_kept(self._token, self._cleanup_timeout)
        if self._tasks:
            logging.getLogger("syncline").warning(
                "the runner %r is closed, and these tasks have not ended though they were cancelled; its thread "
                "goes on with them: %r",
                threading.current_thread().name,
                self._tasks,
            )
        for task in self._tasks:
            task.cancel()

    async def _until_done(self, done: Callable[[], bool]) -> None:
        with trio.move_on_after(self._cleanup_timeout):
            while not done():
                await self._changed.wait()

    def _call(self, callback: Callable[[], Any]) -> None:
        try:
            callback()
        except BaseException:  # an error in here would end trio, and all that runs in it
            logging.getLogger("syncline").exception("a callback on a trio loop failed")

    def call_soon_threadsafe(self, callback: Callable[[], Any]) -> None:
        with self._lock:
            token = self._token
            if token is None:
                self._early.append(callback)
                return
        try:
            tell_trio(token, self._call, callback)
        except OSError as error:  # trio itself has failed, and closed the socket that wakes it
            raise trio.RunFinishedError("the trio run has failed") from error

    def is_closed(self) -> bool:
        """Whether its run is over: a run can't be entered a second time."""
        if self._token is None:
            return False
        try:
            tell_trio(self._token, _nothing, idempotent=True)
        except (trio.RunFinishedError, OSError):  # OSError: as above
            return True
        return False

    def is_running(self) -> bool:
        return False

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        pass

    def set_exception_handler(self, handler: Any) -> None:
        pass

    def get_task_factory(self) -> Any:
        # The core makes tasks by `create_task` where there is a task factory, and as asyncio's own where
        # there is none.
        return self.create_task

    def create_task(self, coroutine: Awaitable[None], *, context: Context) -> Task:
        task = Task(coroutine)
        self._tasks.add(task)
        # A system task, as only `spawn_system_task` runs a task in the given context itself and not in a
        # copy.
        try:
            trio.lowlevel.spawn_system_task(self._carry, task, name=repr(coroutine), context=context)
        except RuntimeError as error:  # the run has failed, and takes no tasks any more
            self._tasks.discard(task)
            raise RunnerClosedError(
                "the trio run has failed, and ends; the next call starts a new one"
            ) from error
        return task

    async def _carry(self, task: Task) -> None:
        try:
            if not _raise_cancelled:
                await _learn_to_cancel()
            await task.carry()
        except trio.Cancelled:
            pass  # the run ends
        except BaseException:
            # An error, such as trio's about scopes that a generator has closed in the wrong order, would end
            # the whole run.
            logging.getLogger("syncline").exception("a task on a trio loop failed")
        finally:
            self._tasks.discard(task)
            self._changed.set()
            self._changed = trio.Event()

    def call_later(self, seconds: float, callback: Callable[[], Any]) -> None:
        trio.lowlevel.spawn_system_task(self._later, seconds, callback)

    async def _later(self, seconds: float, callback: Callable[[], Any]) -> None:
        await trio.sleep(seconds)
        self._call(callback)

    def make_idle(self, keeps_cancellations: bool) -> Idle:
        return Idle(keeps_cancellations)


class TrioGuest(TrioLoop):
    """A trio run that is not ours, for worker threads that come back to it."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        super().__init__(0.0, switches=False)
        self._token = token
        self._changed = trio.Event()

    def is_running(self) -> bool:
        return not self.is_closed()

    def create_task(self, coroutine: Awaitable[None], *, context: Context) -> Task:
        task = super().create_task(coroutine, context=context)
        if hasattr(coroutine, "end"):
            trio.lowlevel.spawn_system_task(self._guard, task)
        return task

    async def _guard(self, task: Task) -> None:
        """The session ends with the run. Its task is shielded from the run's end between two steps."""
        try:
            while task in self._tasks:
                await self._changed.wait()
        except trio.Cancelled:
            _end_session(task)


_CARRY = TrioLoop._carry.__code__


def _nothing() -> None:
    """Called by a trio run that is asked whether it still runs."""


def _end_session(task: Task) -> None:
    """If this is the task of a session: ends the session, after its current step."""
    end: Callable[[], None] | None = getattr(task.coroutine, "end", None)
    if end is not None:
        end()


# When Ctrl-C comes, trio looks through the frames below the signal handler for a mark that says whether it is
# raised there, or put off to the main task's next checkpoint. A greenlet's frames end at its base, `carry`,
# so that has the mark which allows it. Code that is protected has its own mark in a frame above.
trio.lowlevel.disable_ki_protection(carry)


def keeping_protection(coroutine: Coroutine[Any, Any, R]) -> Coroutine[Any, Any, R]:
    """Protects a coroutine that is to run in a greenlet from Ctrl-C if the calling code is protected."""
    return _protected(coroutine) if trio.lowlevel.currently_ki_protected() else coroutine


@trio.lowlevel.enable_ki_protection
async def _protected(coroutine: Coroutine[Any, Any, R]) -> R:
    return await coroutine


class _Installed(trio.abc.Instrument):
    """Makes the tasks of a run nestable, by replacing the coroutine of each new task. trio allows that: it
    calls `task_spawned` before it looks up the coroutine's `send`. greenback does the same. Each new task also learns
    for whom it works (`to_caller`)."""

    def __init__(self, *, of_bridge: bool, nests: bool = True) -> None:
        self.is_undone = False
        self._of_bridge = of_bridge
        self._nests = nests

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        coroutine = cast("object", task.coro)
        # Left alone is what runs in greenlets anyway: a task that another `install()` has changed, and in a
        # bridge's run what the core drives itself.
        is_cores = self._of_bridge and getattr(coroutine, "cr_code", None) is _CARRY
        if not is_cores:
            note_trio_task(task.context)
        is_done = is_cores or type(coroutine) is Nestable
        if self._nests and not self.is_undone and not is_done:
            task.coro = cast("Any", Nestable(task.coro))


def install_in_run() -> Callable[[], None]:
    """`install()`, in a trio run."""
    TaskFactory()  # raises ImportError where greenlet is missing; trio would log what an instrument raises
    installed = _Installed(of_bridge=False)
    trio.lowlevel.add_instrument(installed)

    def undo() -> None:
        installed.is_undone = True
        # It may be undone already, and it may be called outside of the run.
        with contextlib.suppress(KeyError, RuntimeError):
            trio.lowlevel.remove_instrument(installed)

    return undo
