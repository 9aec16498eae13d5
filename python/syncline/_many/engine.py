"""The engine of `map` and `amap`: an async generator of batches of results, and the calls that they come from.

A consumer takes a batch at a time, so that it hops to the loop for many items, not for each. Between two steps of the
generator the calls go on: each one that ends begins the next.

Invariants:
1. At most `limit` calls run, and at most twice as many items are between source and consumer, in whatever state.
2. Only the loop's thread touches the calls. A feeding thread lays items into `inputs` at the end, and the loop takes
   them from the front. All else that the two share is touched by the consumer only while no step is under way.
3. `ready` has what can be given out, in order if that is asked for. Whatever is in there comes before an error.
4. When the generator has ended, no call runs any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Coroutine, Iterable
from contextvars import Context, copy_context
from inspect import isawaitable
from threading import get_ident
from time import monotonic
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from .._core import is_of_handler, is_watched
from .._nested import within
from .._raised import exc_info, is_a
from .progress import MapProgress
from .tasks import END, error_of, following, here
from .watched import watching

if TYPE_CHECKING:
    from .options import Options
    from .tasks import Task, Tasks

COROUTINE: Any = CoroutineType
LONGEST_RUN = 256
"""So many calls are begun at most before the loop's other tasks have their turn."""
REPORT_EVERY = 0.1
"""Seconds. A consumer that shows progress hears so often of calls whose results it can't have yet."""


class Call:
    """A call that did not end at once."""

    __slots__ = ("args", "error", "has_ended", "is_cancelled", "is_dropped", "result", "task")

    def __init__(self, args: tuple[Any, ...], task: Task | None = None) -> None:
        self.args = args
        self.task = task
        self.result: Any = None
        self.error: BaseException | None = None
        self.has_ended = False
        self.is_dropped = False
        """Nobody gets its result."""
        self.is_cancelled = False


class Engine:
    """The calls of one `map`. `batches` is iterated over once."""

    def __init__(self, options: Options, source: AsyncIterable[Any] | None, total: int | None) -> None:
        self.total = total
        self.inputs: deque[tuple[Any, ...]] = deque()
        self.laid_in = 0
        self.is_fed = False
        """Whether the source has nothing more."""
        self.is_in_haste = False
        """Whether the next step is to begin calls only: the consumer has items to fetch meanwhile."""
        self._done = 0
        self._failed = 0
        self._options = options
        self._source = source
        self._source_error: BaseException | None = None
        self._given = 0
        self._used = 0
        self._ready: list[Any] = []
        self._running: dict[Task, Call] = {}
        self._in_order: deque[Call] = deque()
        """Calls whose results are not in `ready` yet, the earliest first; empty where order does not matter."""
        self._error: BaseException | None = None
        self._stops = False
        """Whether no more calls are to begin."""
        self._is_closing = False
        self._run = 0
        """How many calls have begun since the loop's other tasks had their turn."""
        self._reported = 0.0
        self._tasks: Tasks | None = None
        self._thread = 0
        self._watches = False
        """Whether somebody looks at calls."""

    # For the consumer, between two steps

    @property
    def progress(self) -> MapProgress:
        """How far it is."""
        return MapProgress(self._done, self._failed, len(self._running), self.total)

    @property
    def has_ready(self) -> bool:
        """Whether the next step has results already."""
        return bool(self._ready)

    def use_up(self) -> None:
        """What was given has been used, so that there is room for more."""
        self._used = self._given

    def room(self) -> int:
        """How many items may be laid in (by 1)."""
        return 2 * self._options.limit - (self.laid_in - self._used)

    def end_inputs(self, error: BaseException | None) -> None:
        """The source is at its end, or has failed."""
        self._source_error = error
        self.is_fed = True

    def begin_soon(self) -> bool:
        """Has the loop begin what was laid in, meanwhile. False where it can't: it waits for this very thread."""
        if self._tasks is None or self._thread == get_ident():
            return False
        try:
            self._tasks.call_soon(self._begin)
        except RuntimeError:
            return False  # the loop has ended, as the next step will say
        return True

    # On the loop

    async def batches(self) -> AsyncGenerator[list[Any], None]:
        """Gives lists of results; an empty one where the consumer has something to do before there are more."""
        tasks = self._tasks = here()
        self._thread = get_ident()
        self._start_task = tasks.start
        self._context = copy_context()
        self._news, self._room_made = tasks.new_bell(), tasks.new_bell()
        puller = None
        try:
            if self._source is not None:
                puller = tasks.start(self._pull(self._source), self._context.copy())
                puller.add_done_callback(self._pulled, context=self._context)
            while True:
                if self._source is not None:
                    self._room_made.ring()
                has_more = self._begin()
                if has_more:
                    await tasks.turn()
                    self._run = 0
                if self._ready:
                    batch, self._ready = self._ready, []
                    self._given += len(batch)
                    yield batch
                elif self._error is not None:
                    raise self._taken_error()
                elif self.is_in_haste:
                    self.is_in_haste = False
                    await tasks.turn()
                    yield []
                elif has_more:
                    continue
                elif self._running or (puller is not None and not self.is_fed):
                    await self._news.wait()
                    if self._options.progress and not self._ready:
                        yield []
                elif self.is_fed:
                    break
                else:
                    yield []
            if self._source_error is not None:
                raise self._taken_error()
        finally:
            self._stops = self._is_closing = True
            self.inputs.clear()
            left = list(self._running)
            for call in self._running.values():
                self._cancel(call)
            if puller is not None:
                puller.cancel()
                left.append(puller)
            await tasks.all_end(left)
            for task in list(self._running):  # of which the loop has not told yet that they have ended
                self._ended(task)

    def _taken_error(self) -> BaseException:
        """The error, which is not kept: its traceback will have a frame that refers to this object."""
        error = self._source_error if self._error is None else self._error
        self._error = self._source_error = None
        assert error is not None
        return error

    async def _pull(self, source: AsyncIterable[Any]) -> None:
        """Advances an async source, as far as there is room, and closes it."""
        error: BaseException | None = None
        iterator = aiter(source)
        try:
            while True:
                while self.room() <= 0:
                    await self._room_made.wait()
                if (item := await following(iterator)) is END:
                    break
                self.inputs.append((item,))
                self.laid_in += 1
                if self._begin() or self._ready:
                    self._news.ring()
        except StopAsyncIteration:
            pass
        except (Exception, asyncio.CancelledError) as raised:
            if self._is_closing and is_a(raised, asyncio.CancelledError):
                raise
            error = raised  # also a cancellation of the source's own, such as that of a task which it awaits
        finally:
            # Before the end is told, which would cancel this task in the middle of it.
            if (close := getattr(iterator, "aclose", None)) is not None:
                await close()
        self.end_inputs(error)
        self._news.ring()

    def _pulled(self, puller: Task) -> None:
        error = error_of(puller)
        if error is None:
            return
        if self._is_closing:
            if not puller.cancelled():
                self._log(error, "the source")
        else:  # it could not be closed, or somebody has cancelled it
            self._error = error if self._error is None else self._error
            self._news.ring()

    def _begin(self) -> bool:
        """Begins as many calls as may run. True if there are more, and the loop's other tasks should come first."""
        self._watches = is_watched()
        while self._run < LONGEST_RUN:
            if self._stops or len(self._running) >= self._options.limit:
                return False
            try:
                args = self.inputs.popleft()
            except IndexError:
                return False
            self._run += 1
            self._call(args)
        return bool(self.inputs)

    def _call(self, args: tuple[Any, ...]) -> None:
        coroutine: Any = None
        context = self._context.copy()
        try:
            coroutine = self._options.fn(*args)
            if type(coroutine) is not COROUTINE or self._options.timeout is not None:
                coroutine = self._awaiting(coroutine)
            if self._watches:
                watch = watching(self._options.fn, self._options.who)
                task = self._start_task(coroutine, context, watch)
            else:
                task = self._start_task(coroutine, context)
        except BaseException as error:  # of what makes no coroutine, or ends the program
            self._not_begun(args, coroutine, context, error)
            if is_of_handler(error):
                raise  # of whatever this thread waits for
            return
        if not task.done():
            call = self._running[task] = Call(args, task)
            if self._options.ordered:
                self._in_order.append(call)
            task.add_done_callback(self._ended, context=self._context)
        elif self._in_order or error_of(task) is not None:
            call = Call(args, task)
            if self._options.ordered:
                self._in_order.append(call)
            self._settle(call, error_of(task))
        else:  # the short way for what did not suspend
            self._done += 1
            result = task.result()
            self._ready.append(self._with_input(args, result) if self._options.with_input else result)

    def _not_begun(
        self, args: tuple[Any, ...], coroutine: Any, context: Context, error: BaseException
    ) -> None:
        assert self._tasks is not None
        task = self._tasks.started_in(context) if is_of_handler(error) else None
        if task is not None:
            call = self._running[task] = Call(args, task)
            task.add_done_callback(self._ended, context=self._context)
            self._drop([call])
        elif type(coroutine) is COROUTINE:
            coroutine.close()
        self._settle(Call(args), error)

    def _awaiting(self, made: Any) -> Coroutine[Any, Any, Any]:
        if not isawaitable(made):
            who, name = self._options.who, self._options.name
            instead = f"{who}({name}.aio, ...)" if hasattr(self._options.fn, "aio") else "the builtin map()"
            raise TypeError(
                f"{who}() got the sync function {name!r}, which has run and returned {type(made).__name__}; use "
                f"{instead}, or call it in worker threads: {who}(syncline.threaded({name}), ...)"
            )
        coroutine: Any = _awaited(made, self._options.timeout)
        coroutine.__qualname__ = self._options.name  # for what shows tasks
        return cast("Coroutine[Any, Any, Any]", coroutine)

    def _with_input(self, args: tuple[Any, ...], result: Any) -> tuple[Any, Any]:
        return (args[0] if len(self._options.iterables) == 1 else args), result

    def _ended(self, task: Task) -> None:
        """Called by the loop for each call that did not end at once."""
        call = self._running.pop(task, None)
        if call is None:
            return
        error = error_of(task)
        if call.is_cancelled and error is not None:
            # Where the loop is driven.
            is_raised = is_a(error, KeyboardInterrupt) and is_of_handler(error)
            if not (is_raised or task.cancelled()):
                self._log(error, "a call")
        if self._is_closing:
            return
        if not call.is_dropped:
            self._settle(call, error)
        self._run = 0
        has_more = self._begin()
        if has_more or self._ready or self._error is not None or not self._running:
            self._news.ring()
        elif self._options.progress and (now := monotonic()) - self._reported > REPORT_EVERY:
            self._reported = now
            self._news.ring()

    def _log(self, error: BaseException, what: str) -> None:
        logging.getLogger("syncline").error(
            "%s of %s() failed when it was cancelled", what, self._options.who, exc_info=exc_info(error)
        )

    def _settle(self, call: Call, error: BaseException | None) -> None:
        """Writes down how a call has ended, and what of it can be given out."""
        self._done += 1
        self._failed += error is not None
        ends_all = error is not None and not is_a(error, (Exception, asyncio.CancelledError))
        call.has_ended = True
        if error is None:
            assert call.task is not None
            call.result = call.task.result()
        elif self._options.return_exceptions and not ends_all:
            call.result = error
        else:
            call.error = error
            self._stops = True
        call.task = None
        if not self._options.ordered or ends_all or not self._in_order:
            self._give(call)
            if call.error is not None:
                self._drop(self._in_order)
                self._in_order.clear()
                self._drop(self._running.values())
            return
        if call.error is not None:
            later: list[Call] = []
            while self._in_order[-1] is not call:
                later.append(self._in_order.pop())
            self._drop(later)
        while self._in_order and self._in_order[0].has_ended:
            self._give(self._in_order.popleft())

    def _give(self, call: Call) -> None:
        if call.error is not None:
            self._error, call.error = call.error, None
        else:
            result = call.result
            self._ready.append(self._with_input(call.args, result) if self._options.with_input else result)

    def _drop(self, calls: Iterable[Call]) -> None:
        """Cancels calls whose results nobody gets, as an earlier one has failed."""
        for call in calls:
            call.is_dropped = True
            self._cancel(call)

    def _cancel(self, call: Call) -> None:
        """Once: a second cancellation would break off its cleanup."""
        if call.task is not None and not (call.is_cancelled or call.task.done()):
            call.is_cancelled = True
            call.task.cancel()


async def _awaited(awaitable: Awaitable[Any], seconds: float | None) -> Any:
    return await awaitable if seconds is None else await within(awaitable.__await__(), seconds)
