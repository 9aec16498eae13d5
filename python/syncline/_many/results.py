"""What users of `map` and `amap` iterate over: it feeds the engine, and gives its batches out one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from .._dual import DualIterator, run_by
from .._raised import hide_ours
from .engine import Engine
from .progress import Display, MapProgress, display
from .source import Feed, async_source, total

if TYPE_CHECKING:
    from .._core import Bridge
    from .options import Options

R = TypeVar("R")


def mapped(bridge: Bridge, options: Options) -> MapIterator[Any]:
    """What `map` returns."""
    return _OfLoop(bridge, options)


def amapped(options: Options, run: Callable[..., Any] | None = None) -> AsyncGenerator[Any, None]:
    """What `amap` returns. `run` makes each call where a bridge has its loop; by default they run here."""
    if run is not None:
        call = partial(run, options.fn)
        vars(call).update(__name__=options.name, __qualname__=options.name)
        options = replace(options, fn=call)
    return _results(options, *_source_of(options))


def _source_of(options: Options) -> tuple[Engine, Feed | None]:
    source = async_source(options)
    engine = Engine(options, source, total(options))
    return engine, Feed(options.iterables, engine) if source is None else None


class MapIterator(Iterator[R]):
    """The results of `map`, for one thread at a time. Also a context manager: leaving it closes it."""

    # It has no finalizer: what a signal handler raises in one of Python's would be lost. What it holds have theirs, and
    # are dropped in this order: first the calls are ended.
    def __init__(self, steps: DualIterator[Any], shown: Shown | None, results: deque[R]) -> None:
        self._steps = steps
        self._shown = shown
        self._results = results
        self._next = results.popleft

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        try:
            return self._next()
        except IndexError:
            pass
        try:
            self._fetch()
        except BaseException as error:
            hide_ours(error)
            self.close()
            raise
        return self._next()

    def _fetch(self) -> None:
        """Gets the next results, at least one; StopIteration at the end."""
        raise NotImplementedError

    def close(self) -> None:
        """Cancels what waits and what runs, and waits until it has cleaned up. Does nothing the second time."""
        self._results.clear()
        try:
            self._steps.close()
        finally:
            if self._shown is not None:
                self._shown.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _OfLoop(MapIterator[R]):
    """Of calls that run on the bridge's loop."""

    def __init__(self, bridge: Bridge, options: Options) -> None:
        engine, feed = _source_of(options)
        super().__init__(run_by(bridge, DualIterator(engine.batches())), Shown.of(options, engine), deque())
        self._engine, self._feed = engine, feed

    def _fetch(self) -> None:
        while not self._results:
            self._engine.use_up()
            if self._feed is not None:
                self._feed.feed()
            self._results.extend(next(self._steps))
            if self._shown is not None:
                self._shown.show()


async def _results(options: Options, engine: Engine, feed: Feed | None) -> AsyncGenerator[Any, None]:
    shown = Shown.of(options, engine)
    batches = engine.batches()
    try:
        while True:
            try:
                engine.use_up()
                if feed is not None:
                    feed.feed()
                batch = await anext(batches)
            except StopAsyncIteration:
                return
            except BaseException as error:
                hide_ours(error)
                raise
            if shown is not None:
                shown.show()
            for result in batch:
                yield result
    finally:
        try:
            await batches.aclose()
        finally:
            if shown is not None:
                shown.close()


class Counts(Protocol):
    """Who knows how far it is: the engine, or with an executor the chunks."""

    total: int | None

    @property
    def progress(self) -> MapProgress: ...


_OfLoop.__name__ = MapIterator.__name__  # as messages of the interpreter's name it


class Shown:
    """The progress of a map in a display, which is closed when this is dropped, if not before."""

    def __init__(self, engine: Counts, display: Display) -> None:
        self._engine = engine
        self._display = display
        self._is_closed = False

    @classmethod
    def of(cls, options: Options, engine: Counts) -> Self | None:
        """None if nothing is to be shown."""
        found = display(options.who, options.progress, engine.total)
        return None if found is None else cls(engine, found)

    def show(self) -> None:
        self._display.show(self._engine.progress)

    def close(self) -> None:
        """Shows how it has ended, and closes the display."""
        if not self._is_closed:
            self._is_closed = True
            try:
                self.show()
            finally:
                self._display.close()

    def __del__(self) -> None:
        self.close()
