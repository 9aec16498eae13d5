"""Rows that are no libraries: what no library can go below.

1. A floor does what a bridge can't do without, and nothing else. It is of no use to anybody.
2. What a floor needs of Python's it does in the same way as we do; what it needs of the system, in C's way.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import importlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from syncline._bench.peers import AsyncFunction, Peer

ROOT = Path(__file__).parents[1]
Step = Callable[[Coroutine[Any, Any, Any]], "asyncio.Task[Any]"]


class NeverTurns(asyncio.SelectorEventLoop):
    """A loop that says it runs, so that tasks begin eagerly."""

    takes_steps = False

    def is_running(self) -> bool:
        return self.takes_steps


class OwnLoop:
    """What a call on a loop of this thread's own is made of, if nested calls can await in place: an eager task of
    asyncio's, and a switch to a greenlet and back."""

    def __init__(self) -> None:
        self.loop = NeverTurns()
        self.loop.takes_steps = True
        events = importlib.import_module("asyncio.events")
        self._set_running_loop, self._running_loop = events._set_running_loop, events._get_running_loop
        make_task: Step = functools.partial(asyncio.Task, loop=self.loop, eager_start=True)
        greenlets = importlib.import_module("greenlet")
        switch_back = greenlets.getcurrent().switch

        def steps(coro: Coroutine[Any, Any, Any]) -> None:
            while True:
                coro = switch_back(make_task(coro))

        self._switch: Step = greenlets.greenlet(steps).switch

    def call(self, fn: AsyncFunction, *args: Any) -> Any:
        self._set_running_loop(self.loop)
        task = self._switch(fn(*args))
        self._set_running_loop(None)
        return task.result()  # where the coroutine has suspended, this raises

    def call_to_the_end(self, fn: AsyncFunction, *args: Any) -> Any:
        """The same, also inside a running loop, and with turns of the loop for as long as the coroutine suspends."""
        outer = self._running_loop()
        self._set_running_loop(self.loop)
        task = self._switch(fn(*args))
        while not task.done():
            self.loop._run_once()  # type: ignore[attr-defined]  # which `run_forever` calls
        self._set_running_loop(outer)
        return task.result()

    def close(self) -> None:
        self.loop.takes_steps = False
        self.loop.close()


class Floor(Peer):
    """The least that a call on the caller's own loop is made of."""

    name = "floor"
    module = "greenlet"
    needs = ("greenlet",)

    @classmethod
    def missing(cls) -> str | None:
        return super().missing() or (None if sys.version_info >= (3, 12) else "Python 3.12, for eager tasks")

    def open(self) -> None:
        self._own = OwnLoop()
        self.call = self._own.call

    def close(self) -> None:
        self._own.close()


class HopFloor(Floor):
    """The least that a call on another thread's loop is made of, on one core.

    The same, and before that two threads that wake each other, by a call to C that lets go of the interpreter. With two
    cores a library can be below it, as nobody has to sleep; not beside a thread that computes, which takes the
    interpreter each time.
    """

    name = "floor-hop"
    loops = "thread"

    @classmethod
    def missing(cls) -> str | None:
        built = "cargo, and Linux" if shutil.which("cargo") is None or sys.platform != "linux" else None
        return super().missing() or built

    def open(self) -> None:
        hand_over = ctypes.CDLL(str(_hand_over())).syncline_hand_over
        of_thread = threading.local()

        def call(fn: AsyncFunction, *args: Any) -> Any:
            try:
                call_to_the_end = of_thread.call
            except AttributeError:
                call_to_the_end = of_thread.call = OwnLoop().call_to_the_end
            if hand_over() != 0:
                raise OSError("the system makes no eventfd or epoll")
            return call_to_the_end(fn, *args)

        self.call = call

    def enter(self, manager: AbstractAsyncContextManager[Any]) -> AbstractContextManager[Any]:
        return Entered(self.call, manager)

    def close(self) -> None:
        """The loops end with the process."""


class Entered:
    """A call to enter it, and one to leave it."""

    def __init__(self, call: Callable[..., Any], manager: AbstractAsyncContextManager[Any]) -> None:
        self._call = call
        self._manager = manager

    def __enter__(self) -> Any:
        return self._call(self._manager.__aenter__)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        leaves: bool | None = self._call(self._manager.__aexit__, kind, error, trace)
        return leaves


def _hand_over() -> Path:
    """The two threads that wake each other, as cargo compiles them."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "floor"
    command = ["cargo", "build", "--quiet", "--release", "-p", "syncline-core", "--example", "hand_over"]
    subprocess.run([*command, "--target-dir", str(target)], check=True, cwd=ROOT)
    return target / "release" / "examples" / "libhand_over.so"
