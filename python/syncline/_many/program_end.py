"""Maps that are open when the program ends.

Python ends its executors then, and loky's theirs, and waits for what they run; only after that come the functions
registered with atexit, by which our loops end. So chunks whose results nobody takes any more would be waited for, for
ever if their calls don't end. Here they are told to end first. What a map leaves in the file system goes at the exit.
"""

from __future__ import annotations

import atexit
import threading
from contextlib import suppress
from typing import Any, Protocol


class Ending(Protocol):
    """What is open."""

    def end_with_program(self) -> None:
        """The main thread's program has ended. Waits for nothing."""

    def tidy_up(self) -> None:
        """The process ends."""


_open: set[Ending] = set()
_attended: set[type] = set()


def attend(ending: Ending, executor: object) -> None:
    """To be called when it has given something to an executor. What is registered last comes first at the end: Python's
    executors register themselves when they are imported, loky's at their first work."""
    if not _attended:
        atexit.register(_tidy_up)
    if type(executor) not in _attended:
        _attended.add(type(executor))
        register: Any = getattr(threading, "_register_atexit", None)
        if register is not None:
            with suppress(RuntimeError):  # the program has ended
                register(_end)
    _open.add(ending)


def leave(ending: Ending) -> None:
    """It was closed."""
    _open.discard(ending)


def _end() -> None:
    for ending in [*_open]:
        ending.end_with_program()


def _tidy_up() -> None:
    for ending in [*_open]:
        ending.tidy_up()
