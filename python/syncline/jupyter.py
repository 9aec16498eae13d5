"""Jupyter notebooks: after `%load_ext syncline.jupyter`, calls in cells await in place, in the notebook's own loop.

While a cell awaits in place, no code of it runs in which a KeyboardInterrupt could be raised: raised in whatever else
the loop runs just then, it would end the kernel. So an interrupt cancels what such a cell waits for, as ipykernel
itself does with cells that use `await`. Where code of the cell runs, an interrupt is a KeyboardInterrupt as ever.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from ._nestable import install

if TYPE_CHECKING:
    from collections.abc import Callable


class _Events(Protocol):
    def register(self, event: str, function: Callable[[], None]) -> None: ...
    def unregister(self, event: str, function: Callable[[], None]) -> None: ...


class Shell(Protocol):
    """The part of IPython's shell that is used here."""

    @property
    def events(self) -> _Events: ...


class _Notebook:
    """One shell with the extension loaded."""

    def __init__(self, shell: Shell, loop: asyncio.AbstractEventLoop) -> None:
        self._events = shell.events
        self._loop = loop
        # Cells under way, as one may run another: each one's task, and the handler of SIGINT before it.
        self._cells: list[tuple[asyncio.Task[Any] | None, Any]] = []
        self._undo = install(loop)
        self._events.register("pre_execute", self._begin)
        self._events.register("post_execute", self._end)

    def close(self) -> None:
        self._events.unregister("pre_execute", self._begin)
        self._events.unregister("post_execute", self._end)
        self._undo()
        while self._cells:
            self._end()

    def _is_here(self) -> bool:
        """Cells of a subshell run in a thread and on a loop of their own."""
        is_ours = asyncio.get_running_loop() is self._loop
        return is_ours and threading.current_thread() is threading.main_thread()

    def _begin(self) -> None:
        if self._is_here():
            previous = signal.signal(signal.SIGINT, self._interrupt)
            self._cells.append((asyncio.current_task(), previous))

    def _end(self) -> None:
        # The cell that loads the extension ends without having begun.
        if self._is_here() and self._cells:
            _, previous = self._cells.pop()
            signal.signal(signal.SIGINT, previous)

    def _interrupt(self, number: int, frame: Any) -> None:
        if not self._cells:
            return  # ipykernel, which ignores SIGINT between cells, can put this handler back after the last one
        task, _ = self._cells[-1]
        if task is None or asyncio.current_task(self._loop) is task:
            signal.default_int_handler(number, frame)
        # Not at once: this may be in the middle of anything, and the loop asleep.
        self._loop.call_soon_threadsafe(self._cancel, task)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        # The cell may have ended since; its task goes on to send the reply.
        if any(task is each for each, _ in self._cells):
            task.cancel()


_loaded: dict[int, _Notebook] = {}


def load_ipython_extension(shell: Shell) -> None:
    """What `%load_ext` calls. Raises RuntimeError where it could do nothing: where cells don't run inside an event
    loop, as in a terminal, and in kernels of ipykernel before version 7."""
    ipykernel: Any = sys.modules.get("ipykernel")
    if ipykernel is not None and ipykernel.version_info[0] < 7:
        # Its cells run in a task that was there before them, which nothing can make nestable any more.
        raise RuntimeError(
            f"syncline.jupyter needs ipykernel 7 or newer, and this kernel runs {ipykernel.__version__}; run_sync() "
            "works here all the same, but the notebook's loop waits meanwhile"
        )
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "syncline.jupyter is for kernels, whose cells run inside an event loop; here run_sync() needs no extension"
        ) from None
    _loaded[id(shell)] = _Notebook(shell, loop)


def unload_ipython_extension(shell: Shell) -> None:
    """What `%unload_ext` calls."""
    _loaded.pop(id(shell)).close()
