"""`trace`: what the package does, as a file that Perfetto, Chrome and speedscope show."""

from __future__ import annotations

import os
import sys
import time

from . import _core
from ._raised import hide_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Trace:
    """A recording of calls, loops and worker threads, in the file `path`; `trace(path)` makes one.

    It begins with the `with` block, or with `start()`, and ends with the block, or with `stop()`; at the latest when
    the process ends.
    """

    def __init__(self, path: str | os.PathLike[str], /) -> None:
        try:
            self._path = os.fsdecode(path)
        except TypeError:
            raise TypeError(
                f"trace() takes the path of the file to write, not {type(path).__name__}: trace('out.json')"
            ) from None
        self._number: int | None = None
        self._lost = 0

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    @property
    def lost(self) -> int:
        """How many records were lost so far, since a thread made them faster than the file could be written."""
        if self._number is not None:
            lost = _core.trace_lost(self._number)
            if lost is not None:
                self._lost = lost
        return self._lost

    def start(self) -> None:
        """Begins to record. What was in the file is gone.

        Raises RuntimeError while a trace is being recorded in this process, this one or another; OSError if the file
        can't be written.
        """
        arguments: list[str] = getattr(sys, "argv", None) or [""]
        program = os.path.basename(arguments[0]) or "python"
        self._number = _core.begin_trace(self._path, program, time.monotonic_ns())
        self._lost = 0

    def stop(self) -> None:
        """Ends the recording, and returns when all of it is in the file. Does nothing if it does not run.

        Raises OSError if the file could not be written, where the disk is full, say. In a forked child it does nothing:
        the recording is the parent's.
        """
        number, self._number = self._number, None
        if number is not None:
            lost = _core.end_trace(number)
            if lost is not None:
                self._lost = lost

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException as error:
            hide_ours(error)
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<syncline.Trace {self._path!r}>"


def trace(path: str | os.PathLike[str], /) -> Trace:
    """Records what the package does in this process into the file `path`, in the Trace Event Format.

        with syncline.trace("out.json"):
            main()

    Open the file at https://ui.perfetto.dev, in chrome://tracing or with speedscope. It shows, for each thread: the
    calls that it waits for, the steps of coroutines, what worker threads run, the turns of loops; arrows from each
    caller to the coroutine and back; and a track for each call that suspends, with its nested calls.

    Works for all bridges, from any thread, and inside and outside of loops; calls that are under way at its beginning
    are not shown. The file grows by less than a kilobyte a call, and is written all the time: it can be read when the
    program was killed. A forked child goes on without; it may record a trace of its own, into another file. One trace
    can be recorded in a process at a time.
    """
    try:
        return Trace(path)
    except BaseException as error:
        hide_ours(error)
        raise
