"""Jupyter notebooks: after `%load_ext syncline.jupyter`, calls in cells await in place, in the notebook's own loop.

While a cell awaits in place, none of its code runs. A KeyboardInterrupt would be raised in whatever the loop
runs at that moment, and end the kernel. So an interrupt then cancels the cell's task, as ipykernel does with
cells that use `await`. While code of the cell runs, an interrupt is a KeyboardInterrupt as ever.
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
        # The cells under way (one may run another): the task of each, and the handler of SIGINT that was set
        # before it.
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
        """Whether this is a cell of the main shell. Those of a subshell run in a thread and on a loop of
        their own."""
        is_ours = asyncio.get_running_loop() is self._loop
        return is_ours and threading.current_thread() is threading.main_thread()

    def _begin(self) -> None:
        if self._is_here():
            previous = signal.signal(signal.SIGINT, self._interrupt)
            self._cells.append((asyncio.current_task(), previous))

    def _end(self) -> None:
        # The cell that loads the extension ends here, too, and has not come through `_begin`.
        if self._is_here() and self._cells:
            _, previous = self._cells.pop()
            signal.signal(signal.SIGINT, previous)

    def _interrupt(self, number: int, frame: Any) -> None:
        if not self._cells:
            return  # between cells, where ipykernel ignores SIGINT, and may have put this handler back
        task, _ = self._cells[-1]
        if task is None or asyncio.current_task(self._loop) is task:
            signal.default_int_handler(number, frame)
        # By the loop: this handler may run in the middle of anything, and the loop may be asleep.
        self._loop.call_soon_threadsafe(self._cancel, task)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        # Only if the cell has not ended meanwhile: its task goes on after that, to send the reply.
        if any(task is each for each, _ in self._cells):
            task.cancel()


_loaded: dict[int, _Notebook] = {}


def load_ipython_extension(shell: Shell) -> None:
    """What `%load_ext` calls. Raises RuntimeError where it could do nothing: where cells don't run inside an event
    loop, as in a terminal, and in kernels of ipykernel before version 7."""
    ipykernel: Any = sys.modules.get("ipykernel")
    if ipykernel is not None and ipykernel.version_info[0] < 7:
        # Older kernels run cells in a task that began before the extension was loaded, and can't be made
        # nestable any more.
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
