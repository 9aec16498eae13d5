from asyncio import AbstractEventLoop
from collections.abc import (
    Awaitable,
    Callable,
    Generator,
    Mapping,
)
from concurrent.futures import Future
from contextvars import Context
from types import FrameType
from typing import Any, Literal, ParamSpec, Self, TypeVar, final
from weakref import WeakSet

from typing_extensions import disjoint_base

from ._core_dual import CoroutineBase, GeneratorBase, IteratorBase, ManagerBase
from ._core_tasks import (
    BridgedCoroutine,
    BridgeLoop,
    Collected,
    Drain,
    Leaving,
    LoopEnd,
    Nestable,
    SessionCoroutine,
    Steps,
    layers_of,
    made_nestable,
    name_of,
    start_task,
)
from ._limits import ThreadLimiterStatistics
from ._stats import BridgeStats

__all__ = [
    "Aside",
    "Bridge",
    "BridgeLoop",
    "BridgedCoroutine",
    "Caller",
    "Collected",
    "Condition",
    "CoroutineBase",
    "DeadlockError",
    "Drain",
    "FutureBase",
    "GeneratorBase",
    "IteratorBase",
    "Leaving",
    "LimiterBase",
    "LoopEnd",
    "ManagerBase",
    "Nestable",
    "OwnThread",
    "OwnTurnWatcher",
    "Pending",
    "RunnerClosedError",
    "Selector",
    "SessionCoroutine",
    "Steps",
    "Submitted",
    "SynclineError",
    "TaskFactory",
    "TurnWatcher",
    "WatchedCall",
    "Worker",
    "__version__",
    "await_here",
    "begin_trace",
    "call_with_mark",
    "can_await_here",
    "check_cancelled",
    "current_frames",
    "end_trace",
    "epoch",
    "errand",
    "from_thread",
    "has_opted_in",
    "in_event_loop",
    "in_worker_thread",
    "is_of_handler",
    "is_watched",
    "keep_for_ever",
    "layers_of",
    "limiters",
    "long_wait_of",
    "long_waits",
    "loops",
    "made_nestable",
    "mark_as_worker_thread",
    "name_of",
    "nested_calls",
    "no_switch",
    "note_trio_task",
    "serve",
    "set_span_maker",
    "spin_policy",
    "start_task",
    "start_thread",
    "tell_trio",
    "trace_lost",
    "waiting_threads",
    "why_no_switching",
    "worker_counts",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")

__version__: str

class SynclineError(Exception):
    """Base class of the errors that syncline itself raises."""

class RunnerClosedError(SynclineError, RuntimeError):
    """The bridge, or the loop that ran the call, was closed, was stopped or died."""

class DeadlockError(SynclineError, RuntimeError):
    """The wait could never have ended: what it waits for waits for this thread."""

@disjoint_base
class Bridge:
    """The bridge without its decorators; `syncline.Bridge` adds them."""

    def __new__(
        cls,
        *,
        scope: Literal["process", "thread", "caller"] = "process",
        nested: Literal["switch", "thread", "error"] | None = None,
        context: Literal["share", "copy"] = "share",
        loop_factory: Callable[[], Any] | None = None,
        name: str | None = None,
        cleanup_timeout: float = 5.0,
        stall_after: float | None = None,
        backend: Literal["asyncio", "trio"] = "asyncio",
        in_worker: Literal["own", "sender"] = "own",
        roams: bool = False,
        loop: Any = None,
        in_loop: Literal["block", "warn", "error"] = "block",
        in_async: Literal["task", "home"] = "task",
        timed: bool = False,
        visible: bool | None = None,
    ) -> Self: ...
    def run_sync(self, fn: Callable[_P, Awaitable[_R]], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Calls the async function `fn` with these arguments, and waits for its result.

            page = syncline.run_sync(client.get, url)

        Works in any thread, inside and outside of a running event loop. For a limit of the wait itself, or for
        something that can be awaited already: `run(fn(...), timeout=seconds)`.

        Raises what `fn` raises, as the same object; TypeError for a function that isn't async; RunnerClosedError where
        the loop or the bridge ends before the call does; DeadlockError where the wait could never end.
        """
    def _run_synced(self, fn: Callable[_P, Awaitable[_R]], /, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def _run_alone(self, fn: Callable[_P, Awaitable[_R]], /, *args: _P.args, **kwargs: _P.kwargs) -> _R: ...
    def run(self, awaitable: Awaitable[_R], *, timeout: float | None = None) -> _R:
        """Waits for the result of `awaitable`, for at most `timeout` seconds (None: without a limit).

            page = syncline.run(client.get(url), timeout=5)

        At the end of its time the awaitable is cancelled, cleans up, and TimeoutError is raised. Otherwise as
        `run_sync`.
        """
    def call(self, fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Calls the sync function (or class) `fn` on the bridge's loop, and returns what it returns.

            session = bridge.call(aiohttp.ClientSession)

        For code that needs the loop and does not wait for anything: constructors, `event.set`, `task.cancel`. It blocks
        the loop while it runs. On the loop's own thread it is called at once.

        Raises what `fn` raises; TypeError for an async function; otherwise as `run_sync`.
        """
    def _run_at_home(self, awaitable: Awaitable[_R], timeout: float | None) -> _R: ...
    def _is_cold(self) -> bool: ...
    def _warm_up(self) -> None: ...
    def _run_async(
        self, fn: Callable[..., Awaitable[_R]], args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Awaitable[_R]: ...
    def _submit(
        self,
        future: Future[Any],
        fn: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
    ) -> Submitted | None: ...
    def _configure(self, other: Bridge) -> None: ...
    def close(self) -> None:
        """Cancels what runs, closes the loops and ends their threads. Calls that run or come later raise
        RunnerClosedError.

        Takes twice the cleanup time and a second at most: what blocks a loop for longer is left behind and logged, and
        its callers are freed after the cleanup time. In scope "caller", a loop of another thread that is at rest is
        closed by that thread, at its next call on the bridge or at its end.
        """
    def stats(self) -> BridgeStats:
        """Counters of this bridge, read at about the same time; see `BridgeStats`."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *_exc_info: object) -> None: ...
    @property
    def name(self) -> str:
        """The name, as threads and messages have it."""
    @property
    def scope(self) -> Literal["process", "thread", "caller"]:
        """Which loop gets a call: "process", "thread" or "caller"."""
    @property
    def closed(self) -> bool:
        """Whether it was closed."""
    @property
    def _shares_context(self) -> bool: ...
    def _drives_here(self) -> bool: ...

@final
class TurnWatcher:
    """Stands for a loop's selector, and notes the turns."""

    def select(self, timeout: float | None = None) -> Any: ...

@final
class OwnTurnWatcher:
    """The same for a selector of ours."""

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]: ...
    def register(self, fileobj: Any, events: int, data: Any) -> Any: ...
    def unregister(self, fileobj: Any) -> Any: ...
    def modify(self, fileobj: Any, events: int, data: Any) -> Any: ...
    def get_key(self, fileobj: Any) -> Any: ...
    def get_map(self) -> Mapping[Any, Any]: ...
    def close(self) -> None: ...

def begin_trace(path: str, process: str, now: int, /) -> int:
    """Begins a trace into the file at `path`, and returns its number. `now` is `time.monotonic_ns()`."""

def end_trace(number: int, /) -> int | None:
    """Ends the trace; returns how many records it has lost, or None if it had ended."""

def trace_lost(number: int, /) -> int | None:
    """How many records the trace has lost so far; None if it has ended."""

def set_span_maker(maker: object | None, /) -> None:
    """From now on `maker` is told of each call that sync code waits for; None: nobody is."""

@final
class Caller:
    def waits(self) -> bool:
        """Whether the thread still waits."""
    def drives(self) -> bool:
        """Whether it drives the call's loop itself."""
    def hand_over(
        self, future: Future[_R], fn: Callable[..., _R], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> bool:
        """Has the thread call `fn` and settle the future. False if it does not wait any more."""

@final
class Condition:
    """As much of `threading.Condition` as events and futures use; a Ctrl-C leaves it in order."""

    def __new__(cls) -> Self: ...
    def acquire(self, blocking: bool = True, timeout: float = ...) -> bool: ...
    def release(self) -> None: ...
    def __enter__(self) -> bool: ...
    def __exit__(self, *_exc_info: object) -> None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def notify(self, n: int = 1) -> None: ...
    def notify_all(self) -> None: ...
    def _at_fork_reinit(self) -> None: ...

@final
class Submitted:
    @property
    def _seen(self) -> tuple[str, int, Any]: ...
    def cancel(self) -> None: ...
    def wait(self, wait: Callable[[float | None], bool | None], timeout: float | None) -> bool | None: ...

class FutureBase:
    def __new__(cls) -> Self: ...
    def _drop(self) -> None: ...

@final
class Selector:
    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]: ...
    def register(self, fileobj: Any, events: int, data: Any) -> Any: ...
    def unregister(self, fileobj: Any) -> Any: ...
    def modify(self, fileobj: Any, events: int, data: Any) -> Any: ...
    def get_key(self, fileobj: Any) -> Any: ...
    def get_map(self) -> Mapping[Any, Any]: ...
    def close(self) -> None: ...

def from_thread(fn: Callable[_P, Awaitable[_R]], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Runs the async function `fn` on the loop that sent this worker thread, and waits for its result.

        def crawl() -> list[str]:  # await syncline.to_thread(crawl)
            return [syncline.from_thread(fetch, url) for url in urls]

    Where the await of the worker is cancelled, the coroutine is, too. Raises what `fn` raises; RunnerClosedError where
    that loop has ended; RuntimeError in a thread that no loop has sent. anyio's worker threads are reached, too.
    """

def errand(
    fn: Callable[..., _R], args: tuple[Any, ...], kwargs: dict[str, Any] | None
) -> Awaitable[_R] | None:
    """The call of `fn` by the thread that waits for this coroutine, as an awaitable. None where that is this thread:
    then the function is to be called at once.
    """

def check_cancelled() -> None:
    """Raises CancelledError in a worker thread whose await was cancelled, for functions that take long.

    Works in anyio's worker threads, too. Raises RuntimeError in any other thread.
    """

def in_worker_thread() -> bool:
    """Whether this is a worker thread: one of `to_thread`, or one marked as such."""

def serve() -> None:
    """Says that this thread is one of ours: at the exit it ends quietly."""

def is_of_handler(error: BaseException) -> bool:
    """Whether a signal handler raised this in the calling thread, the main one; a KeyboardInterrupt counts as such."""

def is_watched() -> bool:
    """Whether anybody looks at calls."""

@final
class WatchedCall:
    """A call of `map` or of a group, as a recorded trace and who makes spans see it; `_many/watched.py` tells of it."""

    def __new__(cls, function: Any, kind: str) -> Self: ...
    def begin(self) -> None:
        """In the call's own context."""

    def begin_step(self) -> None: ...
    def end_step(self, *, suspends: bool) -> None: ...
    def end(self, error: BaseException | None) -> None:
        """In the call's own context, too."""

def current_frames() -> dict[int, FrameType]: ...
def epoch() -> int: ...
def keep_for_ever(kept: Any, /) -> None:
    """Keeps an object alive for ever: for what a forked child has of its parent, and must not finalize."""

def in_event_loop() -> bool:
    """Whether an event loop, asyncio's or trio's, runs in this thread."""

def mark_as_worker_thread() -> None:
    """Makes this thread count as a worker thread until it ends; see `in_worker_thread`."""

def call_with_mark(fn: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Calls `fn` in this thread, which counts as a worker thread meanwhile; returns its result."""

def long_waits() -> dict[int, tuple[int, int]]:
    """Maps each thread that has waited for a while for another thread's loop to the wait's number and that thread."""

def long_wait_of(thread: int, /) -> tuple[int, int] | None:
    """The wait's number and that thread (0: not certain), for one thread; None if it has not waited for a while."""

def waiting_threads() -> list[tuple[int, int, str, float, Any]]:
    """All waits that have gone on for a while, those that began first first."""

def loops() -> list[tuple[Any, str, int | None, bool | None, list[Any]]]:
    """All loops that calls run on, also those that somebody else runs."""

def nested_calls(coroutine: Any, /) -> list[tuple[Any, Any]]:
    """The nested calls that are suspended in a coroutine of ours, the outermost first: the greenlet that is parked in
    the middle of each, and what it awaits. Where a greenlet has made several, the last one is meant."""

def limiters() -> list[tuple[int, int | None, list[tuple[int | None, Any]], list[tuple[int | None, Any]]]]:
    """All limiters that are in use."""

def note_trio_task(context: Context) -> None:
    """Notes for whom a task of trio's will work that has just been made, with its context."""

def start_thread(name: str, target: Callable[[], object]) -> bool:
    """Starts a daemon thread, and keeps what a handler raises meanwhile. False where none can be started now."""

def tell_trio(token: Any, callback: Callable[..., object], *args: object, idempotent: bool = False) -> None:
    """`token.run_sync_soon(callback, *args)`. What a signal handler raises in it can't leave the run's lock taken."""

def worker_counts() -> tuple[int, int]: ...
def spin_policy(bridge: Bridge, /) -> dict[str, Any]:
    """Whether threads spin before they sleep, and on which loops of this bridge."""

def why_no_switching() -> str | None:
    """Why nested calls can't await in place in this process; `None` if they can. Imports greenlet."""

@disjoint_base
class LimiterBase:
    """How many worker threads may be busy at once."""

    def __new__(cls, total_tokens: float) -> Self: ...
    @property
    def _key(self) -> int: ...
    @property
    def total_tokens(self) -> float:
        """How many may be borrowed at once; can be set at any time. `math.inf` is no limit."""
    @total_tokens.setter
    def total_tokens(self, value: float) -> None: ...
    @property
    def borrowed_tokens(self) -> int:
        """How many are borrowed."""
    @property
    def available_tokens(self) -> float:
        """How many can be borrowed before somebody has to wait."""
    def statistics(self) -> ThreadLimiterStatistics:
        """The counts, the borrowers and how many wait, at one moment."""
    def acquire_nowait(self) -> None:
        """Takes a token for the current task, or raises `WouldBlock`."""
    def acquire_on_behalf_of_nowait(self, borrower: object) -> None:
        """Takes a token for `borrower`, or raises `WouldBlock`."""
    def release(self) -> None:
        """Gives the current task's token back."""
    def release_on_behalf_of(self, borrower: object) -> None:
        """Gives the token of `borrower` back."""
    def _acquire(self) -> Awaitable[None]: ...
    def _acquire_on_behalf_of(self, borrower: object) -> Awaitable[None]: ...
    def _call(
        self, fn: Callable[..., _R], args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Awaitable[_R]: ...

@disjoint_base
class OwnThread:
    """The core of `syncline.Worker`."""

    def __new__(cls) -> Self: ...
    @property
    def closed(self) -> bool:
        """Whether it was closed."""
    def _call(
        self, fn: Callable[..., _R], args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Awaitable[_R]:
        """The call of `fn` in the thread, as an awaitable."""
    def _send(self, fn: Callable[[], object]) -> None:
        """Has the thread call `fn` after all that it was asked for before; nobody waits for that."""
    def close(self) -> None:
        """Ends the thread when it has done what it was asked for. Calls that come later are refused."""

@final
class Pending:
    @property
    def _seen(self) -> Any: ...
    def __await__(self) -> Generator[Any, Any, Any]: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...
    def send(self, value: Any) -> Any: ...
    def throw(self, error: Any, _value: Any = None, _traceback: Any = None) -> Any: ...
    def close(self) -> None: ...
    def begin_in_trio(self, waker: Any) -> bool: ...
    def tell_in_trio(self, error: BaseException, waker: Any) -> float | None: ...

@final
class Worker:
    @property
    def _job(self) -> int | None: ...
    def next(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None: ...
    def returned(self, value: Any) -> None: ...
    def raised(self, error: BaseException) -> None: ...

def can_await_here() -> bool:
    """Whether the present code runs in a task that can await in place."""

def has_opted_in() -> bool:
    """Whether the present code runs in a task that has opted in to that, on a loop that is no bridge's."""

def await_here(awaitable: Awaitable[_R], /) -> _R:
    """Awaits in place, in the task that the present code runs in, whichever bridge there is."""

@final
class Aside:
    """While it is entered, the present stack holds neither a context nor a task's strand."""

    def __new__(cls) -> Self: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_exc_info: object) -> None: ...

@final
class TaskFactory:
    def __new__(
        cls, inner: Callable[..., Any] | None = None, earlier: WeakSet[Any] | None = None
    ) -> Self: ...
    @property
    def inner(self) -> Callable[..., Any] | None: ...
    def undo(self) -> None: ...
    def __call__(self, event_loop: AbstractEventLoop, coroutine: Any, /, **options: Any) -> Any: ...

@final
class no_switch:  # noqa: N801 -- it reads as a function
    """`with no_switch():` a nested call in the block, made in the task that entered it, raises RuntimeError."""

    def __new__(cls) -> Self: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *_exc_info: object) -> None: ...
