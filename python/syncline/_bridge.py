"""The public bridge: the core's class, with `submit` and the decorators.

Imports nothing heavy: `import syncline` has to be cheap, and asyncio comes with the first call.
"""

from __future__ import annotations

from . import _core
from ._kinds import REQUIRED
from ._many.methods import ManyCalls
from ._options import NAMES
from ._raised import hide_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    from typing import Any, ParamSpec, TypeVar, overload

    from . import _compatible, _dual, _finalizing, _futures, _made, _mistakes, _resources, _synced, _warming
    from ._compatible import SyncCompatible
    from ._dual import DualContextManager, DualCoroutine, DualGenerator, DualIterator
    from ._finalizing import Finalizer
    from ._futures import SubmittedFuture
    from ._resources import Resource
    from ._synced import OfClass, Synced, SyncedOfClass
    from ._twins import making as _making

    P = ParamSpec("P")
    R = TypeVar("R")
    S = TypeVar("S")
    T = TypeVar("T")
    Y = TypeVar("Y")
else:

    def overload(function):
        return function

    class _Lazy:
        """A module of this package, imported when something of it is first used.

        An import statement in each function would do the same, and take a microsecond at each call.
        """

        def __init__(self, name):
            self._name = name

        def __getattr__(self, attribute):
            try:
                module = __import__(f"{__package__}.{self._name}", fromlist=[attribute])
            except ImportError as error:
                if "shutting down" not in str(error):
                    raise
                raise RuntimeError(
                    "the interpreter is shutting down, and nothing can be imported any more; make the call earlier, "
                    "for instance in a `with` block or a function registered with atexit"
                ) from None
            found = getattr(module, attribute)
            setattr(self, attribute, found)
            return found

    _compatible = _Lazy("_compatible")
    _dual = _Lazy("_dual")
    _finalizing = _Lazy("_finalizing")
    _futures = _Lazy("_futures")
    _made = _Lazy("_made")
    _making = _Lazy("_twins.making")
    _mistakes = _Lazy("_mistakes")
    _resources = _Lazy("_resources")
    _synced = _Lazy("_synced")
    _warming = _Lazy("_warming")

    class _Signature:
        """The signature of the core's class, for `help`. A subclass with a constructor of its own has another
        one."""

        def __get__(self, instance, owner):
            import inspect

            if owner.__new__ is not Bridge.__new__ or owner.__init__ is not Bridge.__init__:
                raise AttributeError("__signature__")
            return inspect.signature(_core.Bridge)


class Bridge(ManyCalls, _core.Bridge):
    """Decides where coroutines run that synchronous code calls.

    scope: which loop gets a call. "process": one loop, on a thread of its own, for all threads. "thread": one loop, on
        a thread of its own, for each calling thread; it goes when that thread ends. "caller": the calling thread's own
        loop, which that thread drives while it waits; inside a running loop, as "process".
    nested: what a call does that sync code makes which a coroutine on our loop called. "switch" (default): it awaits in
        place, in the same loop and task, by switching greenlets. "thread": it runs on a loop one level deeper, which
        is kept for the next such call. "error": RuntimeError. Without greenlet the default is "thread", with one
        warning, and "switch" asked for by name raises ImportError.
    context: "share": what a coroutine changes in contextvars, its caller sees. "copy": it doesn't.
    loop_factory: makes the event loops (such as `uvloop.new_event_loop`); asyncio's own by default.
    name: for threads and messages; "syncline" by default.
    cleanup_timeout: seconds that a cancelled coroutine may take to clean up before its caller goes on without it, and a
        closing loop before it is closed all the same: once for its tasks, and once for its async generators. `close()`
        takes twice that and a second at most. `math.inf`: without a limit.
    stall_after: seconds. When a loop of this bridge has not turned for that long, whoever waits for it, the logger
        "syncline" names what blocks it, and shows who waits and what is parked in nested calls; so it does when a call
        itself blocks a loop that is not a bridge's. A thread looks, one for the process. Off by default.
    backend: "asyncio", or "trio": then coroutines run with trio (the extra `syncline[trio]`), in scope "process" or
        "thread". Raises ImportError if trio is not there.
    in_worker: which loop runs what `run_sync` and `run` are given in a worker thread (`to_thread`). "own": the
        bridge's, as in any other thread. "sender": the loop that sent the worker, as with `from_thread`; RuntimeError
        in a thread that was marked as a worker, and that no loop has sent.
    loop: a loop that somebody else runs, and that all calls are to run on: an asyncio or uvloop loop, a trio token, or
        anyio's `EventLoopToken`. The bridge neither starts nor stops nor closes it; `close()` ends what the bridge
        runs there, and lets go of it. On that loop's own thread sync code can't wait for it: there its task has to opt
        in (`nestable`), or DeadlockError says so. When the loop ends, every wait raises RunnerClosedError.
    roams: where calls run that a task makes on a loop which is not a bridge's, if that task has opted in to nested
        calls that await in place. False: on the bridge's own loop, always, so that a client stays on the loop where it
        was made; the task is parked meanwhile, and its loop goes on. True, as for the default bridge: in that very
        task.
    in_loop: what happens to whatever would block a running loop that is no bridge's (a call, a step, `close()`), with
        all its tasks. "block": it does. "warn": RuntimeWarning, once for each line, which shows the line as it should
        be. "error": RuntimeError that says the same.
    in_async: where what `coroutine`, `iterator`, `generator`, `contextmanager`, `iterate` and `enter` have made runs
        when async code uses it. "task": in the task that uses it, with nothing of ours in between. "home": on the
        bridge's loop, from whichever loop the task is on, as by `run_async`.
    timed: whether `stats()["hops"]` says how long callers waited for what ran on the bridge's loops. Off by default: it
        costs each call 0.1 microseconds.
    visible: True: the interpreter's own tools see the tasks of the bridge, their names, where each is suspended, and
        which task waits for it (`python -m asyncio pstree`, `asyncio.print_call_graph`, `Task.get_stack`). False: as
        cheap as can be. None (default): as the environment variable SYNCLINE_VISIBLE says ("1" or "0"), or else whether
        Python runs with `-X dev`. ValueError for True with trio.

    All methods may be called from any thread. A bridge is a context manager: leaving it closes it.

    A bridge pickles as its options: where it arrives there is a new bridge, with loops of its own. The default bridge
    arrives as the default bridge of that process.

    In scope "caller", `close()` also ends the calls that other threads are driving: those threads clean up and close
    their loops. Another thread's loop that is at rest can't be touched from outside: that thread closes it at its next
    call on the bridge, which raises RunnerClosedError, or when it ends.
    """

    _options: dict[str, Any]
    _found_by: Callable[[], Bridge] | None = None
    """For a bridge that each process has (the default one): the function that returns it. It pickles as
    that."""

    if not TYPE_CHECKING:  # type checkers know the options from the core's stub

        def __new__(cls, /, *args, **options):
            if args:
                raise TypeError(_mistakes.making_a_bridge(args))
            if not NAMES.issuperset(options):
                raise TypeError(_mistakes.unknown_option(options))
            made = super().__new__(cls, **options)
            made._options = options
            return made

        __signature__ = _Signature()

    def __reduce__(self) -> Any:
        if self._found_by is not None:
            return self._found_by, ()
        if (mistake := _mistakes.pickling_a_bridge(self._options)) is not None:
            raise TypeError(mistake)
        state = {name: value for name, value in vars(self).items() if name not in ("_options", "_twins")}
        return _remade, (type(self), self._options), state or None

    def submit(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Starts the async function `fn` and returns a `concurrent.futures.Future` for its result.

        Cancelling the future cancels the task. Waiting for it on the loop's own thread raises DeadlockError. Changes to
        contextvars stay in the task. In scope "caller" the process runner runs it, as it must move by itself.
        """
        future: SubmittedFuture[R] = _futures.SubmittedFuture()
        future.bind(self._submit(future, fn, args, kwargs or None))
        return future

    async def run_async(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Awaits the async function `fn` on the bridge's loop, from a task of any other loop (asyncio, uvloop, trio).

            rows = await bridge.run_async(pool.fetch, query)

        For what lives on the bridge's loop, such as a client that sync code uses, too. No thread waits, and no loop is
        blocked. `fn` sees the task's context variables, and what it changes the task sees afterwards. If the task is
        cancelled, so is the coroutine, and the task waits for its cleanup (at most `cleanup_timeout`).

        On the bridge's own loop it is awaited in the task itself. In scope "caller" the process runner runs it. Raises
        what `fn` raises, as the same object; RunnerClosedError where the loop or the bridge ends before.
        """
        # A trace, or who makes spans, would be shown the thread that starts the loop as a call of the user's.
        if self._is_cold() and not _core.is_watched():
            await _warming.warmed_up(self)
        result: R = await self._run_async(fn, args, kwargs or None)
        return result

    def finalize(
        self, owner: object, afn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Finalizer[R]:
        """Has `afn(*args, **kwargs)` awaited on the bridge's loop when `owner` is collected, or at the exit.

            class Reader:
                def __init__(self) -> None:
                    self.client = bridge.run_sync(connect)
                    self._cleanup = bridge.finalize(self, self.client.aclose)

        As `weakref.finalize`: neither the function nor an argument may refer to the object. What comes first does it,
        once: the object is collected, the loop ends (as by `close()`), the interpreter exits, or somebody calls what
        this returns, which also has `alive`, `detach()` and `await ....aio()`. It is a task of its own, so nothing
        waits for it and no loop stands still; in the context of this call. An error is logged by "syncline".

        The loop is the one that a call from here gets: started now, if it does not run yet. A forked child does none of
        its parent's. Raises TypeError for what can't be referred to weakly, or would be kept alive by `afn`.
        """
        try:
            made: Finalizer[R] = _finalizing.finalize(self, self._drives_here(), owner, afn, args, kwargs)
        except BaseException as error:
            hide_ours(error)
            raise
        return made

    # What is narrower comes first: class methods; an async generator is an async iterator, a coroutine an awaitable.
    @overload
    def synced(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, fn: OfClass[T, P, AsyncGenerator[Y, S]], /
    ) -> SyncedOfClass[P, Generator[Y, S, None], AsyncGenerator[Y, S]]: ...
    @overload
    def synced(  # pyright: ignore[reportOverlappingOverload]
        self, fn: OfClass[T, P, AsyncIterator[Y]], /
    ) -> SyncedOfClass[P, Generator[Y, None, None], AsyncIterator[Y]]: ...
    @overload
    def synced(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, fn: OfClass[T, P, Coroutine[Any, Any, R]], /
    ) -> SyncedOfClass[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def synced(  # pyright: ignore[reportOverlappingOverload]
        self, fn: OfClass[T, P, Awaitable[R]], /
    ) -> SyncedOfClass[P, R, Awaitable[R]]: ...
    @overload
    def synced(  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[P, AsyncGenerator[Y, S]], /
    ) -> Synced[P, Generator[Y, S, None], AsyncGenerator[Y, S]]: ...
    @overload
    def synced(
        self, fn: Callable[P, AsyncIterator[Y]], /
    ) -> Synced[P, Generator[Y, None, None], AsyncIterator[Y]]: ...
    @overload
    def synced(  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> Synced[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def synced(self, fn: Callable[P, Awaitable[R]], /) -> Synced[P, R, Awaitable[R]]: ...
    def synced(self, fn: Callable[..., Any], /) -> Any:
        """Makes a sync function of an async one; a sync generator function of an async generator function.

        Works on functions, methods, static and class methods (above or below `@staticmethod` and `@classmethod`).
        Signature, docstring and name are kept; `.aio` is the original, bound as the method is if that was decorated in
        the class body. From Python 3.13 on, a class method's is bound only if `@synced` stands above `@classmethod`.

        Type checkers see all of that, class methods (with a first parameter `cls`) in either order, static methods
        where they are called through the class. mypy makes nothing of a method that returns `Self`: name the class.
        """
        if (mistake := _mistakes.decorating("synced", fn)) is not None:
            raise TypeError(mistake)
        return _synced.synced(self, fn)

    @overload
    def blocking(
        self,
        cls: type[Any],
        /,
        *,
        name: str | None = None,
        names: Mapping[str, str] | None = None,
        direct: Iterable[str] = (),
        related: Iterable[str] = (),
    ) -> type[Any]: ...
    @overload
    def blocking(self, obj: object, /, *, related: Iterable[str] = ()) -> Any: ...
    @overload
    def blocking(
        self,
        /,
        *,
        of: type[Any],
        names: Mapping[str, str] | None = None,
        direct: Iterable[str] = (),
        related: Iterable[str] = (),
    ) -> Callable[[type[T]], type[T]]: ...
    def blocking(
        self,
        cls: Any = None,
        /,
        *,
        of: type[Any] | None = None,
        name: str | None = None,
        names: Mapping[str, str] | None = None,
        direct: Iterable[str] = (),
        related: Iterable[str] = (),
    ) -> Any:
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
        terms: dict[str, Any] = {"name": name, "names": names, "direct": direct, "related": related}
        if (mistake := _mistakes.making_a_twin(self._options, cls, of, **terms)) is not None:
            raise TypeError(mistake)
        import sys

        module = sys._getframe(1).f_globals.get("__name__", "__main__")
        return _making.blocking(self, cls, of, module=module, **terms)

    def sync_compatible(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> SyncCompatible[P, R]:
        """Makes an async function whose calls give the coroutine where an event loop runs in this thread, and the
        result elsewhere: in a worker thread from the loop that sent it there, otherwise through the bridge.

        `_sync=True` makes a call give the result, `_sync=False` the coroutine, wherever it is made; `.aio` is the
        original. Type checkers see the result, and with `.aio` or `_sync=False` the coroutine. Where a sync function
        gets the coroutine, because a loop happens to run, a RuntimeWarning says so, once for each function.

        Raises TypeError for what is not an async function. Prefer `coroutine` in new code.
        """
        if (mistake := _mistakes.decorating("sync_compatible", fn)) is not None:
            raise TypeError(mistake)
        made: SyncCompatible[P, R] = _compatible.sync_compatible(self, fn)
        return made

    def coroutine(self, fn: Callable[P, Awaitable[R]], /) -> Callable[P, DualCoroutine[R]]:
        """Makes an async function's coroutines serve both worlds: `await f()`, or `f().run(timeout=None)` in sync code.

        Raises TypeError for an async generator function. `run` raises what the coroutine raises, TimeoutError,
        RunnerClosedError or DeadlockError.
        """
        if (mistake := _mistakes.decorating("coroutine", fn)) is not None:
            raise TypeError(mistake)
        return _dual.decorated(self, "coroutine", fn, _dual.DualCoroutine)

    def iterator(self, fn: Callable[P, AsyncIterator[Y]], /) -> Callable[P, DualIterator[Y]]:
        """Makes what an async generator function (or one that returns an async iterator) returns serve both worlds:
        `async for`, and `for` in sync code."""
        if (mistake := _mistakes.decorating("iterator", fn)) is not None:
            raise TypeError(mistake)
        return _dual.decorated(self, "iterator", fn, _dual.DualIterator)

    def generator(self, fn: Callable[P, AsyncGenerator[Y, S]], /) -> Callable[P, DualGenerator[Y, S]]:
        """As `iterator`, with `send`, `throw` and `close` besides `asend`, `athrow` and `aclose`."""
        if (mistake := _mistakes.decorating("generator", fn)) is not None:
            raise TypeError(mistake)
        return _dual.decorated(self, "generator", fn, _dual.DualGenerator)

    def contextmanager(self, fn: Callable[P, AsyncIterator[Y]], /) -> Callable[P, DualContextManager[Y]]:
        """As `contextlib.asynccontextmanager`, for `async with` and for `with`."""
        if (mistake := _mistakes.decorating("contextmanager", fn)) is not None:
            raise TypeError(mistake)
        return _dual.decorated(self, "contextmanager", fn, _dual.context_manager)

    def iterate(self, aiterable: AsyncIterable[Y], /, *, prefetch: int = 0) -> DualIterator[Y]:
        """Iterates over any async iterable in sync code: `for item in bridge.iterate(response.aiter_lines())`.

        prefetch: how many items may be fetched ahead of the loop. They arrive in order, an error after the items before
        it, and whoever produces them waits while that many lie there. 0 fetches nothing ahead. (In scope "caller", and
        in a task whose nested calls await in place, nothing runs ahead: the loop turns only during calls.)
        """
        return _dual.run_by(self, _dual.DualIterator(aiterable, prefetch=prefetch))

    @overload
    def enter(self, acm: AbstractAsyncContextManager[Y, Any], /) -> DualContextManager[Y]: ...
    @overload
    def enter(
        self, fn: Callable[P, AbstractAsyncContextManager[Y, Any]], /, *args: P.args, **kwargs: P.kwargs
    ) -> DualContextManager[Y]: ...
    @overload
    def enter(
        self,
        fn: Callable[P, Awaitable[AbstractAsyncContextManager[Y, Any]]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> DualContextManager[Y]: ...
    def enter(self, acm: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Uses any async context manager in sync code: `with bridge.enter(client.stream("GET", url)) as response`.

        Given a function (or class) and its arguments, it calls that where the manager is entered, on the loop, for what
        can be made only there: `with bridge.enter(aiohttp.ClientSession) as session`. What it returns is awaited first
        if it is no manager itself: `with bridge.enter(asyncio.start_server, serve, "127.0.0.1", 0) as server`.

        What it returns may be entered again once it was left, if the manager bears that; given a function, it makes one
        for each `with`. Entering and leaving raise what the manager's methods raise; otherwise as `run_sync`.
        """
        if args or kwargs or _made.is_function(acm):
            if (mistake := _made.mistake(acm)) is not None:
                raise TypeError(mistake)
            acm = _made.Made(acm, args, kwargs)
        return _dual.run_by(self, _dual.DualContextManager(acm))

    @overload
    def resource(self, fn: Callable[[], AsyncIterator[R]], /) -> Resource[R]: ...
    @overload  # What is both, as asyncpg's pools, is entered.
    def resource(  # pyright: ignore[reportOverlappingOverload]
        self, fn: Callable[[], AbstractAsyncContextManager[R, Any]], /
    ) -> Resource[R]: ...
    @overload
    def resource(
        self, fn: Callable[[], Awaitable[R]], /, *, close: Callable[[R], object] | None = None
    ) -> Resource[R]: ...
    @overload
    def resource(
        self, fn: Callable[[], R], /, *, close: Callable[[R], object] | None = None
    ) -> Resource[R]: ...
    def resource(
        self, fn: Callable[[], Any], /, *, close: Callable[[Any], object] | None = None
    ) -> Resource[Any]:
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
        if (mistake := _mistakes.making_a_resource(fn)) is not None:
            raise TypeError(mistake)
        return _resources.Resource(self, fn, close)


# Called with empty parentheses, as some decorators are, they say what to write. To type checkers that is an error.
for _decorator in (
    *(Bridge.synced, Bridge.sync_compatible, Bridge.coroutine, Bridge.iterator, Bridge.generator),
    *(Bridge.contextmanager, Bridge.resource),
):
    _decorator.__defaults__ = (REQUIRED,)


def _remade(kind: type[Bridge], options: dict[str, Any]) -> Bridge:
    return kind(**options)
