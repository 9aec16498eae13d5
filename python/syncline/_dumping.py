"""`dump_on`: a signal that has the process write who waits for whom.

1. The handler imports nothing: the main thread may be in the middle of an import. So `dump_on` imports what it needs.
2. Whatever goes wrong in the handler is written where the dump would be. It raises nothing but what a handler raises
   that was there before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, cast

from . import _questions
from ._diagnosis import rendering, waits

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def dump_on(signum: int, file: Any) -> Callable[[], None]:
    """See `syncline.dump_on`."""
    number = _checked(signum)
    if threading.current_thread() is not threading.main_thread():
        raise ValueError(
            "dump_on() sets a signal handler, which only the main thread may do; call it there, at the start"
        )
    handler = _Handler(number, _target(file))
    try:
        handler.previous = signal.signal(number, handler)
    except OSError as error:
        handler.close()
        raise ValueError(
            f"{signal.Signals(number).name} can't be handled; take another signal: signal.SIGUSR1"
        ) from error
    _handlers.append(handler)
    return handler.undo


def _target(file: Any) -> Any:
    if file is None or callable(getattr(file, "write", None)):
        return file
    try:
        path = cast("str | bytes", os.fspath(file))
    except TypeError:
        raise TypeError(
            f"dump_on() got {type(file).__name__} for a file; give a path, an object with a method `write`, such as "
            "sys.stdout, or nothing for stderr"
        ) from None
    # Now, so that a path that can't be written to is told to whoever gave it.
    open(path, "a").close()
    return path


def _checked(signum: int) -> signal.Signals:
    try:
        return signal.Signals(signum)
    except ValueError:
        raise ValueError(
            f"dump_on() got {signum!r}, which is no signal; give one of the module signal, such as signal.SIGUSR1"
        ) from None


_handlers: list[_Handler] = []
"""Those that are set."""


class _Handler:
    def __init__(self, signum: signal.Signals, file: Any) -> None:
        self.signum = signum
        self.file = file
        self.previous: Any = None
        self.questions = _questions.new(signum)

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        text = dump_anyhow()
        if self.questions is None or not _questions.answer(self.questions, text):
            self.write(text)
        if callable(self.previous) and not isinstance(self.previous, _Handler):
            self.previous(signum, frame)

    def write(self, text: str) -> None:
        try:
            if isinstance(self.file, (str, bytes)):
                with open(self.file, "a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text + "\n")
            elif self.file is not None:
                self.file.write(text + "\n")
                self.file.flush() if hasattr(self.file, "flush") else None
            else:
                _write_to_stderr(text + "\n")
        except Exception as error:  # 2
            with contextlib.suppress(Exception):
                _write_to_stderr(
                    f"syncline: the dump could not be written to {self.file!r}: {error!r}\n{text}\n"
                )

    def undo(self) -> None:
        """Sets what was there before."""
        if self not in _handlers:
            return
        current: Any = signal.getsignal(self.signum)
        if current is self:
            signal.signal(self.signum, signal.SIG_DFL if self.previous is None else self.previous)
        _handlers.remove(self)
        self.close()

    def close(self) -> None:
        if self.questions is not None:
            os.close(self.questions)
            self.questions = None

    def begin_child(self) -> None:
        """A forked child is asked by its own file."""
        self.close()
        self.questions = _questions.new(self.signum)


def dump_anyhow(*, is_elsewhere: bool = False) -> str:
    """The dump, or what went wrong with it."""
    try:
        return rendering.render(waits.look())
    except Exception as error:
        if is_elsewhere or not isinstance(error, RecursionError):
            return f"syncline: the dump failed\n{traceback.format_exc()}"
    # It is made where the stack is nearly used up, as a handler may be. Another thread has one of its own.
    made: list[str] = []
    thread = threading.Thread(
        target=lambda: made.append(dump_anyhow(is_elsewhere=True)), name="syncline-dump", daemon=True
    )
    thread.start()
    thread.join()
    return made[0]


def _write_to_stderr(text: str) -> None:
    try:
        descriptor = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        descriptor = 2
    # Not by the stream: the main thread may be in the middle of writing to that, and it refuses to be entered again.
    data = text.encode(errors="backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


def _begin_child() -> None:
    for handler in _handlers:
        handler.begin_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
