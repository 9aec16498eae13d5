"""`map` and `amap` with `executor=`: what users iterate over."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from .._dual import DualCoroutine, DualIterator, run_by
from .._nested import within
from .chunks import LONGEST_FILL, LOOK_FOR_DEAD_EVERY, Chunks, batched
from .group import arrival
from .results import MapIterator, Shown
from .source import MOMENT, async_source
from .tasks import here

if TYPE_CHECKING:
    from .._core import Bridge
    from .options import Options

R = TypeVar("R")
LONGEST_END = 6.0
"""Seconds that running chunks have to end: those that a bridge gives to cleanup, and one to be told."""
LOOK_EVERY = 0.02
"""Seconds between two looks at what runs still."""


def sent_out(bridge: Bridge, options: Options) -> Any:
    """What `map` returns: an iterator that is used as `MapIterator`."""
    source = async_source(options)
    rows: Any = zip(*options.iterables, strict=False) if source is None else zip(_iterate(bridge, source))
    made: WorkersIterator[Any] = WorkersIterator(bridge, options, rows)
    return made


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

    def wants_items(self) -> bool:
        """Whether to send some, so that workers have something to do. Where results lie ready, that goes on for a
        moment only, as the source may take its time."""
        if self._is_fed or self._error is not None or not self.chunks.has_room():
            return False
        return not (self.results or self.chunks.has_done()) or monotonic() - self._since < MOMENT

    def send(self, items: list[tuple[Any, ...]]) -> None:
        """Gives items out. Where that fails, what was given out before comes first, and the error then."""
        try:
            self.chunks.send(items)
        except Exception as error:
            self.end_inputs(error)

    def end_inputs(self, error: Exception | None = None) -> None:
        """The source is at its end, or has failed: its error comes when the chunks before it have ended."""
        self._is_fed = True
        self._source_error = error

    def take(self) -> None:
        """Takes what there is."""
        results, self._error = self.chunks.take()
        self.results.extend(results)
        self._since = monotonic()

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

    async def end(self) -> None:
        """Tells all to end, and waits until it has."""
        tasks = here()
        self.chunks.close()
        if self.chunks.still_running():
            await tasks.all_end([tasks.start(_until_ended(self.chunks), copy_context())])
        self.chunks.end()


class WorkersIterator(MapIterator[R]):
    """Of calls that the workers of an executor make.

    Chunks are sent and taken in the thread that asks for results. `steps` waits for them, on the bridge's loop; there
    it ends them, too, however it is left.
    """

    def __init__(self, bridge: Bridge, options: Options, rows: Iterator[tuple[Any, ...]]) -> None:
        flow = Flow(options, bridge)
        steps = run_by(bridge, DualIterator(_steps(flow)))
        super().__init__(steps, Shown.of(options, flow.chunks), flow.results)
        self._flow = flow
        self._batches = batched(rows, flow.chunks)
        self._state: Literal["new", "open", "closed"] = "new"

    def _fetch(self) -> None:
        flow = self._flow
        if self._state == "closed":
            raise StopIteration
        if self._state == "new":
            next(self._steps)  # from now on it ends what is sent
            self._state = "open"
        while True:
            if flow.wants_items():
                self._send()
            elif self._results:
                return
            elif flow.is_over():
                raise StopIteration
            else:
                if not flow.chunks.has_done():
                    next(self._steps)
                flow.take()
                if self._shown is not None:
                    self._shown.show()

    def _send(self) -> None:
        try:
            items = next(self._batches)
        except StopIteration:
            self._flow.end_inputs()
        except Exception as error:
            self._flow.end_inputs(error)
        else:
            self._flow.send(items)

    def close(self) -> None:
        self._state = "closed"
        super().close()


async def _steps(flow: Flow) -> AsyncGenerator[None, None]:
    """Each step but the first waits until there is something to take."""
    try:
        while True:
            yield
            await _news_of(flow.chunks)
    finally:
        await flow.end()


async def _news_of(chunks: Chunks) -> None:
    """Waits until a chunk is done."""
    while (news := chunks.next_news()) is not None:
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


async def sent_out_by_async_code(options: Options, home: Bridge | None) -> AsyncGenerator[Any, None]:
    """What `amap` returns. Workers make the calls on a bridge like `home`, or, if that is None, like this loop."""
    flow = Flow(options, home or _bridge_like_this())
    shown = Shown.of(options, flow.chunks)
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
                    flow.send(next(rows) if batches is None else await anext(batches))
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
                await _news_of(flow.chunks)
                flow.take()
                if shown is not None:
                    shown.show()
    finally:
        try:
            await flow.end()
        finally:
            if shown is not None:
                shown.close()


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
