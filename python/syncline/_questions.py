"""How `python -m syncline ps` gets the dump of a process that has told by `dump_on` which signal asks for it.

The process has a file in memory, which goes with it, and which others find by its name among the descriptors of the
process (`/proc/PID/fd`). There stands the signal's number. Whoever asks writes that there, sends the signal, and reads
the text there. Nothing lies on a disk, nothing stays behind, and who may ask is who may look into the process.

The file: a line of JSON, padded, and the text behind it. The writer of a text writes its line last, so that a line
which says "answered" has its text.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

NAME = "syncline-dump"
_LINE = 256
"""Bytes of the first line."""


class Letter(NamedTuple):
    """What the first line says."""

    pid: int
    """Of the process that has made it: a forked child has its parent's file until it makes its own."""
    signum: int
    asked: int
    """The number of the last question."""
    answered: int
    """The number of the last question that was answered."""
    length: int
    """Of the answer, in bytes."""


def new(signum: int) -> int | None:
    """The descriptor of such a file; None where the system has none of the kind."""
    create: Any = getattr(os, "memfd_create", None)
    if create is None:
        return None
    try:
        descriptor: int = create(NAME)
    except OSError:
        return None
    _write(descriptor, Letter(os.getpid(), signum, 0, 0, 0))
    return descriptor


def read(descriptor: int) -> Letter:
    """Raises ValueError where it is none of ours."""
    fields = json.loads(os.pread(descriptor, _LINE, 0))
    return Letter(**fields)


def ask(descriptor: int) -> int:
    """Returns the question's number."""
    letter = read(descriptor)
    number = letter.asked + 1
    _write(descriptor, letter._replace(asked=number))
    return number


def take_back(descriptor: int) -> None:
    """Nobody waits for an answer any more."""
    letter = read(descriptor)
    _write(descriptor, letter._replace(answered=letter.asked))


def answer(descriptor: int, text: str) -> bool:
    """Answers the question, if there is one."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        letter = read(descriptor)
        if letter.asked > letter.answered:
            data = text.encode(errors="backslashreplace")
            os.ftruncate(descriptor, _LINE)
            _write_all(descriptor, data, _LINE)
            _write(descriptor, letter._replace(answered=letter.asked, length=len(data)))
            return True
    return False


def answer_to(descriptor: int, number: int) -> str | None:
    """None where it is not there yet."""
    letter = read(descriptor)
    if letter.answered < number:
        return None
    return os.pread(descriptor, letter.length, _LINE).decode(errors="replace")


def _write(descriptor: int, letter: Letter) -> None:
    line = json.dumps(letter._asdict()).ljust(_LINE - 1) + "\n"
    os.pwrite(descriptor, line.encode(), 0)


def _write_all(descriptor: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, at)
        data, at = data[written:], at + written
