"""What each thread does at the moment: its stack through all of its greenlets, and what of ours is in it."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Any

from .. import _core
from .._carriers import carriers_by_thread, carry
from .._futures import SubmittedFuture
from .._workers import work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Threads:
    """All threads at one moment."""

    def __init__(self) -> None:
        self.innermost = _core.current_frames()
        self.names = {thread.ident: thread.name for thread in threading.enumerate()}
        self.jobs: dict[int, int] = {}
        """The threads of workers, by the number of what they do."""
        self.workers: dict[int, int] = {}
        """The same the other way round."""
        self.futures: dict[int, Any] = {}
        """The futures of `submit` that threads wait for."""
        self.loops: dict[int, tuple[Any, int]] = {}
        """Loops of asyncio's kind, and each one's thread, by the loop's id."""
        self.trio_runs: list[tuple[Any, int]] = []
        """Runs of trio, and each one's thread."""
        self._carriers = carriers_by_thread()
        trio: Any = sys.modules.get("trio._core._run")
        noted = _NOTED if trio is None else {**_NOTED, trio.unrolled_run.__code__: Threads._note_trio}
        self.loop_codes = _LOOPS if trio is None else _LOOPS | {trio.unrolled_run.__code__}
        for thread in self.innermost:
            for frame in self.stack(thread):
                note = noted.get(frame.f_code)
                if note is not None:
                    note(self, thread, frame.f_locals)

    def name(self, thread: int) -> str:
        return self.names.get(thread, f"thread {thread}")

    def stack(self, thread: int) -> Iterator[FrameType]:
        """The frames of a thread, the innermost first. A greenlet that makes a task's step lies above the stack that
        began it."""
        frame = self.innermost.get(thread)
        greenlet: Any = None
        while frame is not None:
            if frame.f_code is carry.__code__:
                greenlet = self._running(thread) if greenlet is None else greenlet.parent
                hub = None if greenlet is None else greenlet.parent
                frame = None if hub is None else hub.gr_frame
                continue
            yield frame
            frame = frame.f_back

    def stack_within(self, thread: int, codes: frozenset[Any]) -> list[FrameType]:
        """The same up to the first frame of such code, which is left out; the innermost last."""
        frames: list[FrameType] = []
        for frame in self.stack(thread):
            if frame.f_code in codes:
                break
            frames.append(frame)
        frames.reverse()
        return frames

    def _running(self, thread: int) -> Any:
        """The carrier that runs in that thread: it has begun, and no frame of its own is left behind."""
        for carrier in self._carriers.get(thread, ()):
            if carrier and carrier.gr_frame is None:
                return carrier
        return None

    def _note_worker(self, thread: int, local: Any) -> None:
        job = local["worker"]._job if "worker" in local else None
        if job is not None:
            self.jobs[job] = thread
            self.workers[thread] = job

    def _note_future(self, thread: int, local: Any) -> None:
        self.futures.setdefault(thread, local["self"])

    def _note_loop(self, thread: int, local: Any) -> None:
        self._add_loop(thread, local.get("self"))

    def _note_runner(self, thread: int, local: Any) -> None:
        self._add_loop(thread, getattr(local.get("self"), "_loop", None))

    def _add_loop(self, thread: int, loop: Any) -> None:
        if isinstance(loop, asyncio.AbstractEventLoop):
            self.loops.setdefault(id(loop), (loop, thread))

    def _note_trio(self, thread: int, local: Any) -> None:
        if "runner" in local:
            self.trio_runs.append((local["runner"], thread))


WORK = frozenset({work.__code__})
_LOOPS = frozenset({asyncio.BaseEventLoop.run_forever.__code__, asyncio.Runner.run.__code__})
_FUTURE: Any = SubmittedFuture
_NOTED: dict[Any, Any] = {
    work.__code__: Threads._note_worker,
    _FUTURE._wait.__code__: Threads._note_future,
    asyncio.BaseEventLoop.run_forever.__code__: Threads._note_loop,
    asyncio.Runner.run.__code__: Threads._note_runner,
}
