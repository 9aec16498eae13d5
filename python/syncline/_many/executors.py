"""`map` and `amap` with `executor=`: what users iterate over."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextvars import copy_context
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .._dual import DualCoroutine
from .._nested import within
from .chunks import LONGEST_FILL, Chunks, batched
from .group import arrival
from .progress import display
from .source import MOMENT, async_source
from .tasks import here

if TYPE_CHECKING:
    from .._core import Bridge
    from .._futures import SafeFuture
    from .options import Options
    from .progress import MapProgress

R = TypeVar("R")
LONGEST_END = 6.0
"""Seconds that running chunks have to end: those that a bridge gives to cleanup, and one to be told."""
LOOK_FOR_DEAD_EVERY = 1.0
"""Seconds between two looks for workers that have died, while nothing comes."""
LOOK_EVERY = 0.02
"""Seconds between two looks at what runs still."""


def sent_out(bridge: Bridge, options: Options) -> Any:
    """What `map` returns: an iterator that is used as `MapIterator`."""
    source = async_source(options)
    rows: Any = zip(*options.iterables, strict=False) if source is None else zip(_iterate(bridge, source))
    return WorkersIterator(bridge, options, rows)


def _iterate(bridge: Any, source: AsyncIterable[Any]) -> Iterator[Any]:
    iterated: Iterator[Any] = bridge.iterate(source)
    return iterated


class Flow:
    """What a consumer, sync or async, has of the chunks: whether to send or to wait, and what to give."""

    def __init__(self, options: Options, bridge: Bridge) -> None:
        self.chunks = Chunks(options, bridge)
        self.results: deque[Any] = deque()
        self._is_fed = False
        self._since = monotonic()
        self._error: BaseException | None = None
        self._source_error: Exception | None = None
        self._display = display(options.who, options.progress, self.chunks.total)

    def wants_items(self) -> bool:
        """Whether to send some, so that workers have something to do. Who has results to come waits for that for a
        moment only, as the source may take its time."""
        if self._is_fed or self._error is not None or not self.chunks.has_room():
            return False
        return not (self.results or self.chunks.has_done()) or monotonic() - self._since < MOMENT

    def end_inputs(self, error: Exception | None = None) -> None:
        """The source is at its end, or has failed: its error comes when the chunks before it have ended."""
        self._is_fed = True
        self._source_error = error

    def take(self) -> None:
        """Takes what there is. It is shown here how far it is."""
        results, self._error = self.chunks.take()
        self.results.extend(results)
        self._since = monotonic()
        if self._display is not None:
            self._display.show(self.chunks.progress)

    def is_over(self) -> bool:
        """Whether there is nothing more to come; raises the error that ended it."""
        error = self._error
        if error is None and self.chunks.is_empty:
            error = self._source_error
        if error is None:
            return self.chunks.is_empty and self._is_fed
        self._error = self._source_error = None
        try:
            raise error
        finally:
            del error  # its traceback has this frame

    def close(self) -> bool:
        """Tells all to end; returns whether something runs still."""
        self.results.clear()
        if self._display is not None:
            shown, self._display = self._display, None
            last: MapProgress = self.chunks.progress
            try:
                shown.show(last)
            finally:
                shown.close()
        self.chunks.close()
        return self.chunks.still_running() > 0


class WorkersIterator(Iterator[R]):
    """As `MapIterator`, of calls that the workers of an executor make."""

    _flow: Flow | None = None

    def __init__(self, bridge: Bridge, options: Options, rows: Iterator[tuple[Any, ...]]) -> None:
        self._bridge = bridge
        self._flow = Flow(options, bridge)
        self._batches = batched(rows, self._flow.chunks)
        self._results: deque[R] = self._flow.results

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        if not self._results:
            self._fetch()
        return self._results.popleft()

    def _fetch(self) -> None:
        """Gets the next results, at least one; StopIteration at the end."""
        flow = self._flow
        if flow is None:
            raise StopIteration
        try:
            while True:
                if flow.wants_items():
                    self._send(flow)
                elif self._results:
                    return
                elif flow.is_over():
                    raise StopIteration
                else:
                    news = flow.chunks.next_news()
                    if news is not None:
                        self._bridge.run(_news_of(flow.chunks, news))
                    flow.take()
        except BaseException:
            self.close()
            raise

    def _send(self, flow: Flow) -> None:
        try:
            items = next(self._batches)
        except StopIteration:
            flow.end_inputs()
        except Exception as error:
            flow.end_inputs(error)
        else:
            flow.chunks.send(items)

    def close(self) -> None:
        """Cancels what waits and what runs, and waits until it has ended. Does nothing the second time."""
        if self._flow is None:
            return
        flow, self._flow = self._flow, None
        try:
            if flow.close():
                self._bridge.run(_until_ended(flow.chunks))
        finally:
            flow.chunks.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:
            logging.getLogger("syncline").debug(
                "a map that was dropped could not wait for its end", exc_info=True
            )


async def _news_of(chunks: Chunks, news: SafeFuture[None]) -> None:
    """Waits until a chunk is done."""
    while not news.done():
        try:
            await within(arrival(news).__await__(), LOOK_FOR_DEAD_EVERY)
        except TimeoutError:
            chunks.look_for_dead()


async def _until_ended(chunks: Chunks) -> None:
    """Waits for chunks that were told to end."""
    due = monotonic() + LONGEST_END
    bell = here().new_bell()
    while left := chunks.still_running():
        if monotonic() > due:
            logging.getLogger("syncline").warning(
                "a map has ended, and %d of its chunks still run, though their workers were told to end: something "
                "blocks them",
                left,
            )
            return
        with contextlib.suppress(TimeoutError):
            await within(bell.wait().__await__(), LOOK_EVERY)


async def sent_out_by_async_code(options: Options) -> AsyncGenerator[Any, None]:
    """What `amap` returns."""
    tasks = here()
    flow = Flow(options, _bridge_like_this())
    source = async_source(options)
    batches: AsyncIterator[list[tuple[Any, ...]]] | None = None
    rows: Iterator[list[tuple[Any, ...]]] = iter(())
    if source is not None:
        batches = _batched_async(source, flow.chunks)
    else:
        rows = batched(zip(*options.iterables, strict=False), flow.chunks)
    try:
        while True:
            if flow.wants_items():
                try:
                    flow.chunks.send(next(rows) if batches is None else await anext(batches))
                except (StopIteration, StopAsyncIteration):
                    flow.end_inputs()
                except Exception as error:
                    flow.end_inputs(error)
            elif flow.results:
                while flow.results:
                    yield flow.results.popleft()
            elif flow.is_over():
                break
            else:
                news = flow.chunks.next_news()
                if news is not None:
                    await _news_of(flow.chunks, news)
                flow.take()
    finally:
        try:
            if flow.close():
                await tasks.all_end([tasks.start(_until_ended(flow.chunks), copy_context())])
        finally:
            flow.chunks.end()


def _bridge_like_this() -> Bridge:
    """The bridge that workers make the calls of `amap` on: their default one, or, in a trio run, one of that kind."""
    default = DualCoroutine.bridge
    return default if type(here()).__name__ == "OnAsyncio" else type(default)(backend="trio")


async def _batched_async(source: AsyncIterable[Any], chunks: Chunks) -> AsyncIterator[list[tuple[Any, ...]]]:
    """As `batched`."""
    iterator = aiter(source)
    try:
        is_over = False
        while not is_over:
            began, batch, size = monotonic(), list[tuple[Any, ...]](), chunks.size()
            while len(batch) < size and monotonic() - began <= LONGEST_FILL:
                try:
                    batch.append((await anext(iterator),))
                except StopAsyncIteration:
                    is_over = True
                    break
            if batch:
                yield batch
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
