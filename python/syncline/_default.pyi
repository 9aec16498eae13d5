"""What type checkers and editors see of `_default.py`: the functions of the module, as the methods that they are.
Written by tests/default_stub.py."""

# pyright: reportOverlappingOverload=false
# mypy: disable-error-code="overload-overlap"
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
)
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, ParamSpec, TypeVar, Unpack, overload

from ._bridge import Bridge
from ._compatible import SyncCompatible
from ._dual import DualContextManager, DualCoroutine, DualGenerator, DualIterator
from ._finalizing import Finalizer
from ._many.group import Group
from ._many.methods import MapOptions
from ._many.results import MapIterator
from ._options import BridgeOptions
from ._resources import Resource
from ._synced import OfClass, Synced, SyncedOfClass

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")
Y = TypeVar("Y")

def default_bridge() -> Bridge:
    """The bridge of the module's functions, and of all that they decorate: the same object at each call.

    Its loop starts with the first call. `default_bridge().stats()` counts, and `default_bridge().close()` ends its
    loops for good: calls that come later raise RunnerClosedError. May be called from any thread.
    """

def configure(**options: Unpack[BridgeOptions]) -> None:
    """Gives the default bridge options, those of `Bridge(...)`, before its first use. For programs, not for libraries.

        syncline.configure(scope="thread", stall_after=5)

    What was imported or decorated before has them, too. Options that are not named keep what an earlier `configure` has
    given them. A forked child has its parent's. Raises RuntimeError once the default bridge has been used, and what
    `Bridge` raises for bad options; then nothing has changed. May be called from any thread.
    """

def finalize(
    owner: object, afn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
) -> Finalizer[R]:
    """Has `afn(*args, **kwargs)` awaited when `owner` is collected, when its loop ends, or at the exit.

        class Reader:
            def __init__(self) -> None:
                self.client = Client()
                self._cleanup = syncline.finalize(self, self.client.aclose)

    On the running loop, if this is called where one runs, asyncio's, uvloop's or trio's; else on the default bridge's.
    All else is as with `Bridge.finalize`.
    """

def run_sync(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls the async function `fn` with these arguments, and waits for its result.

        page = syncline.run_sync(client.get, url)

    Works in any thread, inside and outside of a running event loop. For a limit of the wait itself, or for
    something that can be awaited already: `run(fn(...), timeout=seconds)`.

    Raises what `fn` raises, as the same object; TypeError for a function that isn't async; RunnerClosedError where
    the loop or the bridge ends before the call does; DeadlockError where the wait could never end.
    """

def run(awaitable: Awaitable[R], *, timeout: float | None = None) -> R:
    """Waits for the result of `awaitable`, for at most `timeout` seconds (None: without a limit).

        page = syncline.run(client.get(url), timeout=5)

    At the end of its time the awaitable is cancelled, cleans up, and TimeoutError is raised. Otherwise as
    `run_sync`.
    """

def call(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls the sync function (or class) `fn` on the bridge's loop, and returns what it returns.

        session = bridge.call(aiohttp.ClientSession)

    For code that needs the loop and does not wait for anything: constructors, `event.set`, `task.cancel`. It blocks
    the loop while it runs. On the loop's own thread it is called at once.

    Raises what `fn` raises; TypeError for an async function; otherwise as `run_sync`.
    """

async def run_async(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Awaits the async function `fn` on the bridge's loop, from a task of any other loop (asyncio, uvloop, trio).

        rows = await bridge.run_async(pool.fetch, query)

    For what lives on the bridge's loop, such as a client that sync code uses, too. No thread waits, and no loop is
    blocked. `fn` sees the task's context variables, and what it changes the task sees afterwards. If the task is
    cancelled, so is the coroutine, and the task waits for its cleanup (at most `cleanup_timeout`).

    On the bridge's own loop it is awaited in the task itself. In scope "caller" the process runner runs it. Raises
    what `fn` raises, as the same object; RunnerClosedError where the loop or the bridge ends before.
    """

def submit(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
    """Starts the async function `fn` and returns a `concurrent.futures.Future` for its result.

    Cancelling the future cancels the task. Waiting for it on the loop's own thread raises DeadlockError. Changes to
    contextvars stay in the task. In scope "caller" the process runner runs it, as it must move by itself.
    """

@overload
def synced(
    fn: OfClass[T, P, AsyncGenerator[Y, S]], /
) -> SyncedOfClass[P, Generator[Y, S], AsyncGenerator[Y, S]]:
    """Makes a sync function of an async one; a sync generator function of an async generator function.

    Works on functions, methods, static and class methods (above or below `@staticmethod` and `@classmethod`).
    Signature, docstring and name are kept; `.aio` is the original, bound as the method is if that was decorated in
    the class body. From Python 3.13 on, a class method's is bound only if `@synced` stands above `@classmethod`.

    Type checkers see all of that, class methods (with a first parameter `cls`) in either order, static methods
    where they are called through the class. mypy makes nothing of a method that returns `Self`: name the class.
    """

@overload
def synced(fn: OfClass[T, P, AsyncIterator[Y]], /) -> SyncedOfClass[P, Generator[Y], AsyncIterator[Y]]: ...
@overload
def synced(fn: OfClass[T, P, Coroutine[Any, Any, R]], /) -> SyncedOfClass[P, R, Coroutine[Any, Any, R]]: ...
@overload
def synced(fn: OfClass[T, P, Awaitable[R]], /) -> SyncedOfClass[P, R, Awaitable[R]]: ...
@overload
def synced(fn: Callable[P, AsyncGenerator[Y, S]], /) -> Synced[P, Generator[Y, S], AsyncGenerator[Y, S]]: ...
@overload
def synced(fn: Callable[P, AsyncIterator[Y]], /) -> Synced[P, Generator[Y], AsyncIterator[Y]]: ...
@overload
def synced(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Synced[P, R, Coroutine[Any, Any, R]]: ...
@overload
def synced(fn: Callable[P, Awaitable[R]], /) -> Synced[P, R, Awaitable[R]]: ...
@overload
def blocking(
    cls: type[Any],
    /,
    *,
    name: str | None = None,
    names: Mapping[str, str] | None = None,
    direct: Iterable[str] = (),
    related: Iterable[str] = (),
) -> type[Any]:
    """Makes the blocking twin of an async class: a class with the same methods, sync.

        Client = syncline.blocking(AsyncClient)

    An object of the twin makes one of the async class, on the loop, and calls it there; `.aio` is the async side of
    it, for async code on any loop. Async methods, generators, context managers and properties become sync ones,
    `aclose` becomes `close`. Objects that come out and whose classes have twins come as those, the same twin each
    time, also in lists, dicts and tuples, where annotations say so; twins that go in are taken for their objects.

    name: of the twin, by default that of the class without "Async", or with "Blocking" before it. It has to be the
        name that the twin is given in its module, for pickling.
    names: maps names of the class to those that the twin has for them.
    direct: names of sync methods that are called in the calling thread. Others run on the loop, as in async code.
    related: names of packages whose async classes get twins when objects of them come out.
    of: as a decorator of a class that says what the twin is called, and what type checkers should know of it:

        @syncline.blocking(of=AsyncClient)
        class Client:
            def get(self, url: str) -> bytes: ...

    An object instead of a class, with nothing but `related`: the twin of that object. A twin: one like it, whose
    objects live on this bridge.

    Raises TypeError for what is no class, or has nothing async.
    """

@overload
def blocking(obj: object, /, *, related: Iterable[str] = ()) -> Any: ...
@overload
def blocking(
    *,
    of: type[Any],
    names: Mapping[str, str] | None = None,
    direct: Iterable[str] = (),
    related: Iterable[str] = (),
) -> Callable[[type[T]], type[T]]: ...
def sync_compatible(fn: Callable[P, Coroutine[Any, Any, R]], /) -> SyncCompatible[P, R]:
    """Makes an async function whose calls give the coroutine where an event loop runs in this thread, and the
    result elsewhere: in a worker thread from the loop that sent it there, otherwise through the bridge.

    `_sync=True` makes a call give the result, `_sync=False` the coroutine, wherever it is made; `.aio` is the
    original. Type checkers see the result, and with `.aio` or `_sync=False` the coroutine. Where a sync function
    gets the coroutine, because a loop happens to run, a RuntimeWarning says so, once for each function.

    Raises TypeError for what is not an async function. Prefer `coroutine` in new code.
    """

def coroutine(fn: Callable[P, Awaitable[R]], /) -> Callable[P, DualCoroutine[R]]:
    """Makes an async function's coroutines serve both worlds: `await f()`, or `f().run(timeout=None)` in sync code.

    Raises TypeError for an async generator function. `run` raises what the coroutine raises, TimeoutError,
    RunnerClosedError or DeadlockError.
    """

def iterator(fn: Callable[P, AsyncIterator[Y]], /) -> Callable[P, DualIterator[Y]]:
    """Makes what an async generator function (or one that returns an async iterator) returns serve both worlds:
    `async for`, and `for` in sync code.
    """

def generator(fn: Callable[P, AsyncGenerator[Y, S]], /) -> Callable[P, DualGenerator[Y, S]]:
    """As `iterator`, with `send`, `throw` and `close` besides `asend`, `athrow` and `aclose`."""

def contextmanager(fn: Callable[P, AsyncIterator[Y]], /) -> Callable[P, DualContextManager[Y]]:
    """As `contextlib.asynccontextmanager`, for `async with` and for `with`."""

def iterate(aiterable: AsyncIterable[Y], /, *, prefetch: int = 0) -> DualIterator[Y]:
    """Iterates over any async iterable in sync code: `for item in bridge.iterate(response.aiter_lines())`.

    prefetch: how many items may be fetched ahead of the loop. They arrive in order, an error after the items before
    it, and whoever produces them waits while that many lie there. 0 fetches nothing ahead. (In scope "caller", and
    in a task whose nested calls await in place, nothing runs ahead: the loop turns only during calls.)
    """

@overload
def enter(acm: AbstractAsyncContextManager[Y, Any], /) -> DualContextManager[Y]:
    """Uses any async context manager in sync code: `with bridge.enter(client.stream("GET", url)) as response`.

    Given a function (or class) and its arguments, it calls that where the manager is entered, on the loop, for what
    can be made only there: `with bridge.enter(aiohttp.ClientSession) as session`. What it returns is awaited first
    if it is no manager itself: `with bridge.enter(asyncio.start_server, serve, "127.0.0.1", 0) as server`.

    What it returns may be entered again once it was left, if the manager bears that; given a function, it makes one
    for each `with`. Entering and leaving raise what the manager's methods raise; otherwise as `run_sync`.
    """

@overload
def enter(
    fn: Callable[P, AbstractAsyncContextManager[Y, Any]], /, *args: P.args, **kwargs: P.kwargs
) -> DualContextManager[Y]: ...
@overload
def enter(
    fn: Callable[P, Awaitable[AbstractAsyncContextManager[Y, Any]]], /, *args: P.args, **kwargs: P.kwargs
) -> DualContextManager[Y]: ...
@overload
def map(
    fn: Callable[[T], Awaitable[R]],
    iterable: Iterable[T] | AsyncIterable[T],
    /,
    *,
    return_exceptions: Literal[False] = False,
    with_input: Literal[False] = False,
    **options: Unpack[MapOptions],
) -> MapIterator[R]:
    """Calls the async function `fn` for each item, many at a time, and iterates over the results.

        for page in syncline.map(fetch, urls, limit=50):
            ...

    The calls begin with the first `next`, and run on the bridge's loop. Several iterables give `fn` an argument
    each, as the builtin `map`; the shortest one ends it. Iterables are advanced in the calling thread, whenever it
    asks for a result: they may be endless, block, and call the bridge. One async iterable is advanced on the loop,
    meanwhile; so take one where items come late and results are wanted at once.

    limit: how many calls run at once. At most twice as many items are under way between source and consumer:
        further ones are fetched when results are taken.
    ordered: results come in the order of the items; False: in the order in which the calls end.
    timeout: seconds that each call may take (not all of them together). Then it is cancelled, cleans up, and ends
        with TimeoutError.
    return_exceptions: an error of a call is its result, and the others go on. By default the first error ends the
        iteration: the results before it come, calls after it are cancelled, and it is raised when they have
        cleaned up.
    with_input: the results are pairs `(item, result)`; of several iterables, `((a, b), result)`.
    progress: True shows a bar, tqdm's or rich's (the extra `syncline[progress]`). Or a bar of yours, or a function
        that is called with a `MapProgress`.
    executor: a `concurrent.futures.Executor`, whose workers make the calls, each on its own loop: other processes
        or machines. `limit` is for each worker then. Or a pool with `apply_async`; or a function that makes one of
        both, which is shut down at the end.
    chunk: with an executor, how many items it is given at a time. By default `limit`, or less, so that each worker
        gets several chunks. Results come when their chunk has ended.
    worker_retries: with an executor, how often items are given out again whose worker has died.

    The iterator belongs to one thread at a time. The last result, an error, `close()` and being dropped (a `break`
    out of the `for`) end it: what runs is cancelled, and waited for until it has cleaned up; so does Ctrl-C.

    Raises what `fn` or the source raises; TypeError or ValueError for what is wrong with the arguments;
    RunnerClosedError where the loop or the bridge ends before; ImportError where there is no bar to show; with an
    executor WorkerDiedError, and what the executor raises.
    """

@overload
def map(
    fn: Callable[[T], Awaitable[R]],
    iterable: Iterable[T] | AsyncIterable[T],
    /,
    *,
    return_exceptions: Literal[False] = False,
    with_input: Literal[True],
    **options: Unpack[MapOptions],
) -> MapIterator[tuple[T, R]]: ...
@overload
def map(
    fn: Callable[[T], Awaitable[R]],
    iterable: Iterable[T] | AsyncIterable[T],
    /,
    *,
    return_exceptions: Literal[True],
    with_input: Literal[False] = False,
    **options: Unpack[MapOptions],
) -> MapIterator[R | Exception]: ...
@overload
def map(
    fn: Callable[[T], Awaitable[R]],
    iterable: Iterable[T] | AsyncIterable[T],
    /,
    *,
    return_exceptions: Literal[True],
    with_input: Literal[True],
    **options: Unpack[MapOptions],
) -> MapIterator[tuple[T, R | Exception]]: ...
@overload
def map(
    fn: Callable[..., Awaitable[R]],
    iterable: Iterable[Any],
    other: Iterable[Any],
    /,
    *others: Iterable[Any],
    return_exceptions: Literal[False] = False,
    with_input: Literal[False] = False,
    **options: Unpack[MapOptions],
) -> MapIterator[R]: ...
@overload
def map(
    fn: Callable[..., Awaitable[Any]],
    iterable: Iterable[Any],
    other: Iterable[Any],
    /,
    *others: Iterable[Any],
    return_exceptions: bool = False,
    with_input: bool = False,
    **options: Unpack[MapOptions],
) -> MapIterator[Any]: ...
@overload
def amap(
    fn: Callable[[T], Awaitable[R]],
    iterable: Iterable[T] | AsyncIterable[T],
    /,
    *,
    return_exceptions: Literal[False] = False,
    with_input: Literal[False] = False,
    **options: Unpack[MapOptions],
) -> AsyncGenerator[R]:
    """As `map`, for async code: an async generator. The calls run on the loop, or trio run, that iterates over it;
    those of a `Bridge` of yours on that one's loops.

        async with contextlib.aclosing(syncline.amap(fetch, urls, limit=50)) as pages:
            async for page in pages:
                ...

    Iterables are advanced by the task that asks for results, so that one which blocks blocks the loop. As with any
    async generator, what a `break` leaves behind ends when it is closed: `aclosing` does that at once.
    """

@overload
def amap(
    fn: Callable[[T], Awaitable[R]],
    iterable: Iterable[T] | AsyncIterable[T],
    /,
    *,
    return_exceptions: Literal[False] = False,
    with_input: Literal[True],
    **options: Unpack[MapOptions],
) -> AsyncGenerator[tuple[T, R]]: ...
@overload
def amap(
    fn: Callable[[T], Awaitable[R]],
    iterable: Iterable[T] | AsyncIterable[T],
    /,
    *,
    return_exceptions: Literal[True],
    with_input: Literal[False] = False,
    **options: Unpack[MapOptions],
) -> AsyncGenerator[R | Exception]: ...
@overload
def amap(
    fn: Callable[[T], Awaitable[R]],
    iterable: Iterable[T] | AsyncIterable[T],
    /,
    *,
    return_exceptions: Literal[True],
    with_input: Literal[True],
    **options: Unpack[MapOptions],
) -> AsyncGenerator[tuple[T, R | Exception]]: ...
@overload
def amap(
    fn: Callable[..., Awaitable[R]],
    iterable: Iterable[Any],
    other: Iterable[Any],
    /,
    *others: Iterable[Any],
    return_exceptions: Literal[False] = False,
    with_input: Literal[False] = False,
    **options: Unpack[MapOptions],
) -> AsyncGenerator[R]: ...
@overload
def amap(
    fn: Callable[..., Awaitable[Any]],
    iterable: Iterable[Any],
    other: Iterable[Any],
    /,
    *others: Iterable[Any],
    return_exceptions: bool = False,
    with_input: bool = False,
    **options: Unpack[MapOptions],
) -> AsyncGenerator[Any]: ...
def group(*, timeout: float | None = None) -> Group:
    """Makes a group of calls that end together, for `with`:

        with syncline.group() as group:
            first = group.start(fetch, 1)
            second = group.start(fetch, 2)
        print(first.result(), second.result())

    The block ends when all calls have. The first error, also one of the block itself, cancels the others; all
    errors come in one ExceptionGroup, when all have cleaned up. Ctrl-C cancels them, too, and comes as itself.

    timeout: seconds that the block may take; then its calls are cancelled, and it raises TimeoutError.

    Raises TypeError or ValueError for a timeout that is none.
    """

@overload
def resource(fn: Callable[[], AsyncIterator[R]], /) -> Resource[R]:
    """Makes an object that is opened at its first use, on the bridge's loop, shared by all threads, and closed at
    the end: a client, or a pool of connections.

        @syncline.resource
        async def pool():
            async with asyncpg.create_pool(dsn) as opened:
                yield opened

        async def names():
            return await (await pool.aget()).fetch("select name from users")

    fn: what opens it, called without arguments: an async generator function with one `yield`; or a function, sync
        or async, that returns an async context manager, which is entered, or any other object, which is closed by
        its `aclose` or `close`, if it has one.
    close: what closes the object, sync or async, in the place of all that: `resource(open, close=Client.shutdown)`.

    `aget()` gives the object to async code, `get()` to sync code, where the next call on the bridge can use it. If
    opening it fails, the next use tries again. It is closed when its loop ends, thus when the bridge is closed and
    at the exit, after all tasks, what was opened last first. A forked process opens its own. So does each loop: in
    scope "thread" and "caller" each thread has one, and so has async code on a loop of yours.
    """

@overload
def resource(fn: Callable[[], AbstractAsyncContextManager[R, Any]], /) -> Resource[R]: ...
@overload
def resource(
    fn: Callable[[], Awaitable[R]], /, *, close: Callable[[R], object] | None = None
) -> Resource[R]: ...
@overload
def resource(fn: Callable[[], R], /, *, close: Callable[[R], object] | None = None) -> Resource[R]: ...
