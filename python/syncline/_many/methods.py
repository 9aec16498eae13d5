"""The public signatures of `map`, `amap` and `group`, as methods of a bridge. Imports nothing heavy."""

from __future__ import annotations

from .._raised import hide_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
    from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

    from .._core import Bridge
    from .group import Group
    from .options import Workers
    from .progress import Progress
    from .results import MapIterator

    class MapOptions(TypedDict, total=False):
        """The options that say nothing about what `map` gives."""

        limit: int
        ordered: bool
        timeout: float | None
        progress: Progress
        executor: Workers
        chunk: int | None
        worker_retries: int

    T = TypeVar("T")
    R = TypeVar("R")
else:

    def overload(function):
        return function


class ManyCalls:
    """What a bridge does with many calls at once."""

    __slots__ = ()

    @overload
    def map(
        self,
        fn: Callable[[T], Awaitable[R]],
        iterable: Iterable[T] | AsyncIterable[T],
        /,
        *,
        return_exceptions: Literal[False] = False,
        with_input: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> MapIterator[R]: ...
    @overload
    def map(
        self,
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
        self,
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
        self,
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
        self,
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
        self,
        fn: Callable[..., Awaitable[Any]],
        iterable: Iterable[Any],
        other: Iterable[Any],
        /,
        *others: Iterable[Any],
        return_exceptions: bool = False,
        with_input: bool = False,
        **options: Unpack[MapOptions],
    ) -> MapIterator[Any]: ...
    def map(
        self,
        fn: Callable[..., Awaitable[Any]],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        limit: int = 100,
        ordered: bool = True,
        timeout: float | None = None,
        return_exceptions: bool = False,
        with_input: bool = False,
        progress: Progress = None,
        executor: Workers = None,
        chunk: int | None = None,
        worker_retries: int = 0,
    ) -> MapIterator[Any]:
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
        from .options import Options
        from .results import mapped

        try:
            options = Options(
                "map",
                fn,
                iterables,
                limit,
                ordered,
                timeout,
                return_exceptions,
                with_input,
                progress,
                executor,
                chunk,
                worker_retries,
            )
            bridge: Bridge = self  # type: ignore[assignment]
            if executor is None:
                return mapped(bridge, options)
            from .executors import sent_out

            sent: MapIterator[Any] = sent_out(bridge, options)
            return sent
        except BaseException as error:
            hide_ours(error)
            raise

    @overload
    def amap(
        self,
        fn: Callable[[T], Awaitable[R]],
        iterable: Iterable[T] | AsyncIterable[T],
        /,
        *,
        return_exceptions: Literal[False] = False,
        with_input: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[R, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[[T], Awaitable[R]],
        iterable: Iterable[T] | AsyncIterable[T],
        /,
        *,
        return_exceptions: Literal[False] = False,
        with_input: Literal[True],
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[tuple[T, R], None]: ...
    @overload
    def amap(
        self,
        fn: Callable[[T], Awaitable[R]],
        iterable: Iterable[T] | AsyncIterable[T],
        /,
        *,
        return_exceptions: Literal[True],
        with_input: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[R | Exception, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[[T], Awaitable[R]],
        iterable: Iterable[T] | AsyncIterable[T],
        /,
        *,
        return_exceptions: Literal[True],
        with_input: Literal[True],
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[tuple[T, R | Exception], None]: ...
    @overload
    def amap(
        self,
        fn: Callable[..., Awaitable[R]],
        iterable: Iterable[Any],
        other: Iterable[Any],
        /,
        *others: Iterable[Any],
        return_exceptions: Literal[False] = False,
        with_input: Literal[False] = False,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[R, None]: ...
    @overload
    def amap(
        self,
        fn: Callable[..., Awaitable[Any]],
        iterable: Iterable[Any],
        other: Iterable[Any],
        /,
        *others: Iterable[Any],
        return_exceptions: bool = False,
        with_input: bool = False,
        **options: Unpack[MapOptions],
    ) -> AsyncGenerator[Any, None]: ...
    def amap(
        self,
        fn: Callable[..., Awaitable[Any]],
        /,
        *iterables: Iterable[Any] | AsyncIterable[Any],
        limit: int = 100,
        ordered: bool = True,
        timeout: float | None = None,
        return_exceptions: bool = False,
        with_input: bool = False,
        progress: Progress = None,
        executor: Workers = None,
        chunk: int | None = None,
        worker_retries: int = 0,
    ) -> AsyncGenerator[Any, None]:
        """As `map`, for async code: an async generator. The calls run on the loop, or trio run, that iterates over it;
        those of a `Bridge` of yours on that one's loops.

            async with contextlib.aclosing(syncline.amap(fetch, urls, limit=50)) as pages:
                async for page in pages:
                    ...

        Iterables are advanced by the task that asks for results, so that one which blocks blocks the loop. As with any
        async generator, what a `break` leaves behind ends when it is closed: `aclosing` does that at once.
        """
        from .options import Options
        from .results import amapped

        try:
            options = Options(
                "amap",
                fn,
                iterables,
                limit,
                ordered,
                timeout,
                return_exceptions,
                with_input,
                progress,
                executor,
                chunk,
                worker_retries,
            )
            bridge: Any = self
            # The default bridge has no home.
            home = bridge if bridge._found_by is None else None
            if executor is None:
                return amapped(options, None if home is None else home.run_async)
            from .executors import sent_out_by_async_code

            return sent_out_by_async_code(options, home)
        except BaseException as error:
            hide_ours(error)
            raise

    def group(self, *, timeout: float | None = None) -> Group:
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
        from .group import Group
        from .options import check_seconds

        try:
            if timeout is not None:
                check_seconds("timeout of group() is the seconds that its block may take", timeout)
        except BaseException as error:
            hide_ours(error)
            raise
        bridge: Bridge = self  # type: ignore[assignment]
        return Group(bridge, timeout)


# As messages of the interpreter's name them.
for _method in (ManyCalls.map, ManyCalls.amap, ManyCalls.group):
    _method.__qualname__ = f"Bridge.{_method.__name__}"
