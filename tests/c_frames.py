"""C code below Python code, as a GUI's event loop is: it has a variable on its stack, and others know where that lies.

`touch()` writes to that variable from elsewhere, as a timer does to an event loop's flags.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

SOURCE = """
#include <alloca.h>

enum { MOST = 64 };
static __thread struct { volatile unsigned char *room; int size; unsigned char touched; } frames[MOST];
static __thread int count;

static int intact(int index) {
    for (int i = 0; i < frames[index].size; ++i)
        if (frames[index].room[i] != frames[index].touched) return 0;
    return 1;
}

/* Calls `body` above a variable of `size` bytes. Whether the variable has seen all that was written to it. */
int call_above(int size, void (*body)(void)) {
    int index = count++;
    frames[index].room = alloca(size);
    frames[index].size = size;
    frames[index].touched = 0;
    for (int i = 0; i < size; ++i) frames[index].room[i] = 0;
    body();
    count = index;
    return intact(index);
}

/* Writes to all these variables; returns how many there are, or -1 where something else lies in the place of one. */
int touch(void) {
    for (int index = 0; index < count; ++index)
        if (!intact(index)) return -1;
    for (int index = 0; index < count; ++index) {
        ++frames[index].touched;
        for (int i = 0; i < frames[index].size; ++i) ++frames[index].room[i];
    }
    return count;
}
"""


@cache
def library() -> ctypes.CDLL:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    with TemporaryDirectory() as folder:
        source, built = Path(folder, "frames.c"), Path(folder, "frames.so")
        source.write_text(SOURCE)
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", built, source], check=True)
        return ctypes.CDLL(str(built))


def above(body: Callable[[], object], *, size: int = 20_000) -> None:
    """Calls `body` above a C frame with a variable of so many bytes; what others wrote to it must have arrived."""
    raised: list[BaseException] = []

    def guarded() -> None:
        try:
            body()
        except BaseException as error:
            raised.append(error)

    kept_its_variable = library().call_above(size, ctypes.CFUNCTYPE(None)(guarded))
    if raised:
        raise raised[0]
    assert kept_its_variable, "something that was written to a variable of C code is lost"


def touch() -> int:
    """How many C frames are below: each one's variable is written to."""
    count = library().touch()
    assert count >= 0, "the variable of a C frame is not in its place"
    return int(count)


class ModalLoop(asyncio.SelectorEventLoop):
    """A loop that can be turned while it turns, as a GUI's is while a modal dialog is open."""

    _ready: list[object]  # a deque, in fact

    def turn_until(self, is_done: Callable[[], bool]) -> None:
        """In a callback, or in sync code of a task."""
        with self._inner_turns():
            while not is_done():
                self._run_once()  # type: ignore[attr-defined]

    @contextlib.contextmanager
    def _inner_turns(self) -> Iterator[None]:
        task = asyncio.current_task(self)
        if task is not None:
            asyncio.tasks._leave_task(self, task)
        due = len(self._ready)
        try:
            yield
        finally:
            # The outer turn is about to run so many.
            while len(self._ready) < due:
                self.call_soon(print).cancel()
            if task is not None:
                asyncio.tasks._enter_task(self, task)

    def open_dialog(self, is_done: Callable[[], bool], *, size: int = 20_000) -> None:
        """C frames, and above them the loop, until `is_done`."""
        above(lambda: self.turn_until(is_done), size=size)
