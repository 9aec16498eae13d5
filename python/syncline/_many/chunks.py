"""What `map` has given to the workers of an executor, and what came back.

Invariants:
1. At most two chunks for each worker are out or wait to be taken: one that runs, and one that comes next. The consumer
   may have the results of one more. The source is advanced for these only.
2. Only the consumer's thread touches the chunks. Executors' threads only say that there is news, and the end of the
   program only tells the workers to end.
3. When it is closed, no chunk is left that waits, and those that run have been told to end.
4. Once workers are told to end, no answer is taken: it may have a part of the results.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Future, InvalidStateError
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._core import RunnerClosedError, epoch
from .._futures import SafeFuture
from .._lost import WorkerDiedError
from .._raised import add_note, is_a
from . import program_end
from .pools import (
    PoolExecutor,
    ProcessDiedError,
    check_is_here,
    check_made,
    lets_cancel,
    shut_down,
    stir,
    workers_of,
)
from .progress import MapProgress
from .source import total
from .worker import LEASE, Answer, Begun, Job, alone, dumped, dumped_job, lives, run_chunk

if TYPE_CHECKING:
    from .._core import Bridge
    from .options import Options

LOOK_FOR_DEAD_EVERY = 1.0
"""Seconds between two looks for workers that have died, where the executor doesn't say it."""
LONGEST_FILL = 0.1
"""Seconds after which a chunk goes out though it isn't full, since its source takes its time."""
OFTEN = 4
"""So many chunks at least come to each worker, where it is known how many items there are."""
# What executors other than Python's and loky's say when a worker has died, by name: they may not be installed.
_DEATHS = frozenset(
    {"KilledWorker", "ActorDiedError", "RayActorError", "WorkerCrashedError", "OutOfMemoryError"}
)


class Chunk:
    """Items that go out together."""

    def __init__(self, number: int, items: list[tuple[Any, ...]]) -> None:
        self.number = number
        self.items = items
        self.future: Future[bytes] | None = None
        self.deaths = 0


class Chunks:
    """The chunks of one `map`."""

    def __init__(self, options: Options, bridge: Bridge) -> None:
        self._options = options
        self._given: Any = options.executor
        self._makes = (
            None if hasattr(self._given, "submit") or hasattr(self._given, "apply_async") else self._given
        )
        self._executor: Any = None
        self._workers = 0
        self._job = dumped_job_of(options, bridge)
        self._epoch = epoch()
        self._numbers = itertools.count()
        self._out: deque[Chunk] = deque()
        """Chunks whose answers are not taken, in the order of their items."""
        self._folder: Path | None = None
        """Where workers on this machine see that they are wanted, and leave their marks."""
        self._news: SafeFuture[None] = SafeFuture()
        self.total = total(options)
        """How many items there will be, where that is known."""
        self._done = 0
        self._failed = 0
        self._running: list[Future[bytes]] = []
        self._looked = monotonic()
        self._thread: threading.Thread | None = None
        """The consumer's."""
        self._has_program_ended = False

    @property
    def progress(self) -> MapProgress:
        """How far it is, in items. All items of a chunk that is out count as in flight."""
        out = sum(len(chunk.items) for chunk in self._out)
        return MapProgress(self._done, self._failed, out, self.total)

    def size(self) -> int:
        """How many items go into the next chunk."""
        self._begin()
        if self._options.chunk is not None:
            return self._options.chunk
        if self.total is None:
            return self._options.limit
        return max(1, min(self._options.limit, -(-self.total // (OFTEN * self._workers))))

    def has_room(self) -> bool:
        """By 1."""
        self._begin()
        return len(self._out) < 2 * self._workers

    @property
    def is_empty(self) -> bool:
        """Whether none is out."""
        return not self._out

    def send(self, items: list[tuple[Any, ...]]) -> None:
        """Gives items to the executor."""
        chunk = Chunk(next(self._numbers), items)
        self._out.append(chunk)
        try:
            self._submit(chunk)
        except BaseException:
            self._out.remove(chunk)
            raise

    def _submit(self, chunk: Chunk) -> None:
        self._begin()
        assert self._folder is not None
        self._thread = threading.current_thread()
        self._check_goes_on()
        try:
            items = dumped(chunk.items)
        except Exception as error:
            raise _unpickled(chunk.items, error) from error
        begun = Begun(self._job, items, platform.node(), str(self._folder), chunk.number, chunk.deaths)
        try:
            future: Future[bytes] = self._executor.submit(run_chunk, begun)
        except BrokenExecutor as error:
            # A chunk that is out has broken it. What that means, `take` finds out for both.
            future = SafeFuture()
            future.set_exception(error)
        chunk.future = future
        program_end.attend(self, self._executor)
        future.add_done_callback(self._tell)

    def _check_goes_on(self) -> None:
        if self._has_program_ended:
            raise RunnerClosedError("the program has ended, and with it what its workers did for a map")

    def _tell(self, _: object) -> None:
        if self._has_program_ended:
            return  # who waits still, in a thread that nobody waits for, does so until the process is gone
        with contextlib.suppress(Exception):  # told already
            self._news.set_result(None)

    def _begin(self) -> None:
        if self._executor is None:
            executor = self._given if self._makes is None else self._makes()
            if self._makes is not None:
                check_made(self._options.who, executor)
            check_is_here(executor)
            self._executor = executor
            self._workers = workers_of(self._executor)
            if hasattr(self._executor, "apply_async"):
                self._executor = PoolExecutor(self._executor)
        if self._folder is None:
            # Named before it is made: a Ctrl-C comes as soon as that has let go of the interpreter.
            self._folder = Path(tempfile.gettempdir(), f"syncline-map-{os.urandom(8).hex()}")
            self._folder.mkdir(mode=0o700)
            (self._folder / LEASE).touch()

    def has_done(self) -> bool:
        """Whether `take` has something."""
        return self._first_done() is not None

    def next_news(self) -> SafeFuture[None] | None:
        """What to wait for until `take` may have something; None if it has."""
        if self._has_news():
            return None
        news: SafeFuture[None] = SafeFuture()
        self._news = news
        return None if self._has_news() else news

    def _has_news(self) -> bool:
        return self._first_done() is not None and not self._has_program_ended  # as in `_tell`

    def _first_done(self) -> Chunk | None:
        candidates = itertools.islice(self._out, 1) if self._options.ordered else self._out
        return next((chunk for chunk in candidates if chunk.future is not None and chunk.future.done()), None)

    def look_for_dead(self) -> None:
        """Now and then, sees to it that chunks end whose process is gone, where the executor doesn't: a pool waits for
        ever. Raises where none of them can end."""
        if self._has_program_ended or monotonic() - self._looked < LOOK_FOR_DEAD_EVERY:
            return
        self._looked = monotonic()
        if not isinstance(self._executor, PoolExecutor):
            stir(self._executor)
            return
        self._executor.look(has_begun=any(self._mark(chunk).exists() for chunk in self._out))
        for chunk in self._out:
            if chunk.future is not None and _is_alive(self._mark(chunk)) is False:
                with contextlib.suppress(InvalidStateError):
                    chunk.future.set_exception(ProcessDiedError("the process that ran a chunk has died"))

    def take(self) -> tuple[list[Any], BaseException | None]:
        """The results of a chunk that is done, and its error. Nothing, if none is, or if it goes out again."""
        self._check_goes_on()
        self.look_for_dead()
        chunk = self._first_done()
        if chunk is None or chunk.future is None:
            return [], None
        try:
            answer: Answer = _loaded(chunk.future.result())
        except BaseException as error:
            return [], self._lost(chunk, error)
        self._check_goes_on()
        self._out.remove(chunk)
        self._done += len(answer.results) + (answer.error is not None)
        self._failed += answer.failed + (answer.error is not None)
        if not self._options.with_input:
            return [result for _, result in answer.results], answer.error
        return [(alone(chunk.items[at]), result) for at, result in answer.results], answer.error

    def _lost(self, chunk: Chunk, error: BaseException) -> BaseException | None:
        """What to raise for a chunk without an answer; None if it, and what was lost with it, goes out again."""
        is_death = is_a(error, (BrokenExecutor, ProcessDiedError)) or type(error).__name__ in _DEATHS
        if not is_death:
            add_note(
                error,
                f"raised by the executor, for {len(chunk.items)} items from {alone(chunk.items[0])!r} on",
            )
            return error
        is_broken = is_a(error, BrokenExecutor)
        # A broken executor ends all of its futures, one after the other: some may not know yet.
        lost = [each for each in self._out if not _has_answer(each)] if is_broken else [chunk]
        # Those that were begun. Where workers leave no marks, as on other machines, it may be any of them.
        suspects = [each for each in lost if self._mark(each).exists()] or lost
        for each in suspects:
            each.deaths += 1
        retries = self._options.worker_retries
        guilty = [each for each in suspects if each.deaths > retries]
        if guilty or (is_broken and self._makes is None):
            advice = ""
            if not guilty:
                advice = (
                    ". Its executor is broken by that; to have the items retried, give map() the function that makes "
                    "one: executor=functools.partial(ProcessPoolExecutor, 4)"
                )
            died = WorkerDiedError(
                [alone(item) for each in guilty or suspects for item in each.items], advice
            )
            died.__cause__ = error
            return died
        if is_broken:
            shut_down(self._executor)
            self._executor = None
        for each in lost:
            self._mark(each).unlink(missing_ok=True)
            self._submit(each)
        return None

    def _mark(self, chunk: Chunk) -> Path:
        assert self._folder is not None
        return self._folder / f"{chunk.number}"

    def close(self) -> None:
        """Cancels what waits, and tells what runs to end (by 3). What waits and can't be cancelled does nothing when
        its turn comes."""
        program_end.leave(self)
        if epoch() != self._epoch:  # a forked child's copy
            return
        running = [chunk.future for chunk in self._out if chunk.future is not None]
        self._out.clear()
        if lets_cancel(self._executor):
            for future in running:
                future.cancel()
            self._running = running
        if self._folder is not None:
            (self._folder / LEASE).unlink(missing_ok=True)

    def end_with_program(self) -> None:
        """As program_end.Ending has it, for executors for which Python, or they themselves, wait. Where another thread
        is the consumer, which Python waits for, that one goes on as far as it gets."""
        thread = self._thread
        goes_on = thread is not None and thread.is_alive() and not thread.daemon
        if goes_on and thread is not threading.main_thread():
            return
        if epoch() == self._epoch and not isinstance(self._executor, PoolExecutor):
            self._tell_workers_to_end()

    def tidy_up(self) -> None:
        """As program_end.Ending has it."""
        if epoch() == self._epoch:
            self._tell_workers_to_end()
            self._remove_folder()

    def _tell_workers_to_end(self) -> None:
        self._has_program_ended = True
        if self._folder is not None:
            (self._folder / LEASE).unlink(missing_ok=True)

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def still_running(self) -> int:
        """After `close`: how many chunks run. Dask's futures are cancelled while theirs do, so the marks count, too."""
        if epoch() != self._epoch:
            return 0
        marks: list[Path] = []
        if self._folder is not None:
            with contextlib.suppress(FileNotFoundError):  # the last of its workers removes it, at any moment
                marks = [*self._folder.iterdir()]
        return max(sum(map(bool, map(_is_alive, marks))), sum(not future.done() for future in self._running))

    def end(self) -> None:
        """Shuts an executor down that was made here. After `close`, and the end of what ran."""
        if epoch() != self._epoch:
            return
        self._remove_folder()
        if self._makes is not None and self._executor is not None:
            executor, self._executor = self._executor, None
            shut_down(executor)


def dumped_job_of(options: Options, bridge: Bridge) -> bytes:
    """What all chunks have in common, pickled."""
    job = Job(
        options.who,
        options.fn,
        options.limit,
        options.ordered,
        options.timeout,
        options.return_exceptions,
        bridge,
        os.getpid(),
    )
    try:
        return dumped_job(job)
    except Exception as error:
        more = "" if find_spec("cloudpickle") else ", or pip install cloudpickle"
        raise TypeError(
            f"{options.who}() can't send {options.name!r} to a worker: {error}; define it at the top of a module{more}"
        ) from error


def batched(rows: Iterator[tuple[Any, ...]], chunks: Chunks) -> Iterator[list[tuple[Any, ...]]]:
    """Items in the size in which they go out. One that takes long to fill goes out as it is."""
    while True:
        began, batch = monotonic(), list[tuple[Any, ...]]()
        size = chunks.size()
        try:
            for row in rows:
                batch.append(row)
                if len(batch) >= size or monotonic() - began > LONGEST_FILL:
                    break
        except Exception:
            if batch:
                yield batch
            raise
        if not batch:
            return
        yield batch


def _loaded(answer: bytes) -> Answer:
    import pickle

    loaded: Answer = pickle.loads(answer)
    return loaded


def _is_alive(mark: Path) -> bool | None:
    """Whether the process that has left the mark lives. None where there is no mark (any more)."""
    try:
        return lives(int(mark.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):  # not written yet
        return True


def _has_answer(chunk: Chunk) -> bool:
    future = chunk.future
    return future is not None and future.done() and not future.cancelled() and future.exception() is None


def _unpickled(items: list[tuple[Any, ...]], error: Exception) -> TypeError:
    for item in items:
        try:
            dumped(item)
        except Exception as problem:
            return TypeError(f"the item {alone(item)!r} can't be sent to a worker: {problem}")
    return TypeError(f"items can't be sent to a worker: {error}")
