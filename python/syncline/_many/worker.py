"""What runs in the workers of an executor, and what travels there and back.

1. Everything travels as bytes that are pickled here, by cloudpickle where that is needed and installed: so functions of
   a script or a notebook travel too, and what can't is named, whichever executor it is.
2. A chunk ends with an answer, whatever its calls raise. So what an executor's future raises is about the worker.
3. A chunk runs as long as its lease is there: a file that the process of the `map` removes when nobody wants the
   results any more. Beside it lies a mark of each chunk that runs. A worker leaves its mark first and looks for the
   lease then; who ends the map removes the lease first and looks for marks then. Workers on other machines know nothing
   of that, and finish their chunk.
"""

from __future__ import annotations

import functools
import os
import pickle
import platform
import traceback
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .._nested import within
from .._raised import add_note, is_a, text_of
from .options import Options
from .results import amapped
from .tasks import END, following, here

if TYPE_CHECKING:
    from .._core import Bridge

LOOK_EVERY = 0.1
"""Seconds between two looks at the lease."""
KEPT_JOBS = 8
LEASE = "lease"


@dataclass(frozen=True, slots=True)
class Job:
    """What all chunks of a `map` have in common."""

    who: str
    fn: Callable[..., Any]
    limit: int
    ordered: bool
    timeout: float | None
    return_exceptions: bool
    bridge: Bridge
    process: int


class Answer(NamedTuple):
    """What became of a chunk: pairs of a position in it and a result, and the error that ended it."""

    results: list[tuple[int, Any]]
    failed: int
    error: BaseException | None


class Begun(NamedTuple):
    """A chunk on its way."""

    job: bytes
    items: bytes
    host: str
    folder: str
    """For its lease and its mark (by 3)."""
    number: int
    attempt: int
    """Makes the repeated chunk another one: Dask runs the same thing once."""


def dumped(value: object) -> bytes:
    """Pickles by pickle, or by cloudpickle where that is needed and there."""
    try:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        try:
            more: Any = import_module("cloudpickle")
        except ModuleNotFoundError:
            add_note(error, "cloudpickle, if it is installed, pickles more: pip install cloudpickle")
            raise error from None
        dumped: bytes = more.dumps(value)
        return dumped


def dumped_job(job: Job) -> bytes:
    """As `dumped`. What belongs to the main script travels by value: workers may have another one."""
    with suppress(ModuleNotFoundError):
        by_value: Any = import_module("cloudpickle")
        dumped: bytes = by_value.dumps(job)
        return dumped
    return pickle.dumps(job)


_jobs: dict[bytes, Job] = {}


def run_chunk(chunk: Begun) -> bytes:
    """Runs a chunk in this process, through its own bridge; returns an answer, pickled (by 2). The mark is there for as
    long as code of others may run: what travels is made and taken apart by it."""
    lease = Path(chunk.folder) / LEASE if chunk.host == platform.node() else None
    mark = None if lease is None else lease.with_name(f"{chunk.number}")
    try:
        if mark is not None:
            with suppress(FileNotFoundError):  # nobody waits any more
                mark.write_text(str(os.getpid()))
        return _dumped_answer(*_run(chunk, lease))
    finally:
        if mark is not None:
            with suppress(OSError):
                mark.unlink()
            with suppress(OSError):  # others are in it, mostly
                mark.parent.rmdir()


def _run(chunk: Begun, lease: Path | None) -> tuple[Answer, list[Any]]:
    items = list[Any]()
    try:
        job = _jobs.get(chunk.job) or pickle.loads(chunk.job)
        _jobs[chunk.job] = job
        for old in [*_jobs][:-KEPT_JOBS]:  # other threads may do so, too
            _jobs.pop(old, None)
        if lease is not None and not _holds(lease, job.process):
            return Answer([], 0, None), items
        items = pickle.loads(chunk.items)
        return job.bridge.run(_answer(job, items, lease)), items
    except BaseException as error:
        return Answer([], 0, error), items


async def _answer(job: Job, items: list[tuple[Any, ...]], lease: Path | None) -> Answer:
    """Makes the calls of a chunk. They are cancelled when the lease ends (by 3)."""
    results: list[tuple[int, Any]] = []
    failed = 0

    async def make_calls() -> BaseException | None:
        nonlocal failed
        try:
            while (step := await following(calls)) is not END:
                (position, *_), result = step
                results.append((position, result))
                failed += job.return_exceptions and is_a(result, Exception)
        except StopAsyncIteration:
            pass
        except BaseException as error:
            return error
        finally:
            await calls.aclose()
        return None

    calls = amapped(
        Options(
            job.who,
            _after_position(job.fn),
            (range(len(items)), *zip(*items, strict=True)),
            job.limit,
            job.ordered,
            job.timeout,
            job.return_exceptions,
            True,
            None,
            None,
            None,
        )
    )
    tasks = here()
    ended = tasks.new_bell()
    work = tasks.start(make_calls(), copy_context())
    try:
        if not work.done():
            work.add_done_callback(lambda _: ended.ring(), context=copy_context())
        while not work.done():
            try:
                await within(ended.wait().__await__(), LOOK_EVERY if lease is not None else 3600.0)
            except TimeoutError:
                if lease is not None and not _holds(lease, job.process):
                    break
    finally:
        if not work.done():
            work.cancel()
            await tasks.all_end([work])
    return Answer(results, failed, None if work.cancelled() else work.result())


def _after_position(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Takes an item's position in front of its arguments, which comes back with the result."""

    def called(_: int, /, *args: Any) -> Any:
        return fn(*args)

    with suppress(AttributeError, TypeError):
        functools.update_wrapper(called, fn)
    return called


def _holds(lease: Path, process: int) -> bool:
    if not lease.exists():
        return False
    if not lives(process):
        lease.unlink(missing_ok=True)  # nobody else removes what it has left
        return False
    return True


def lives(process: int) -> bool:
    """Whether a process of this machine lives. One that was killed, and is a zombie yet, does not."""
    with suppress(OSError):
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in ("X", "Z")
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _dumped_answer(answer: Answer, items: list[Any]) -> bytes:
    """Pickles an answer. What can't be pickled in it becomes an error that says so."""
    results, failed, error = answer
    if error is not None:
        error = _travelling(error)
    results = [(at, _travelling(each) if is_a(each, BaseException) else each) for at, each in results]
    try:
        return dumped(Answer(results, failed, error))
    except Exception:
        for place, (at, result) in enumerate(results):
            try:
                dumped(result)
            except Exception as problem:
                cause = TypeError(
                    f"the result for {alone(items[at])!r} can't be sent back, as it is of type "
                    f"{type(result).__name__}: {problem}"
                )
                return dumped(Answer(results[:place], failed, cause))
        raise


def alone(item: tuple[Any, ...]) -> Any:
    """An item as the user knows it: the arguments of one call, or the only one."""
    return item[0] if len(item) == 1 else item


def _travelling(error: BaseException) -> BaseException:
    """An error as it can be sent home, with its traceback as a note."""
    text = "".join(traceback.format_exception(error)).rstrip()
    try:
        again = pickle.loads(dumped(error))
        assert type(again) is type(error)
    except Exception as problem:
        again = RuntimeError(
            f"{type(error).__name__}: {text_of(error)} (which can't be pickled: {text_of(problem)})"
        )
    with suppress(Exception):  # a class that takes no notes would not take them where it arrives, either
        again.add_note(f"raised in process {os.getpid()} on {platform.node()}:\n{text}")
    return cast("BaseException", again)
