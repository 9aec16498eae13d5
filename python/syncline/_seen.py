"""Who waits for whom: the functions. Imports nothing heavy, as `import syncline` imports it."""

from __future__ import annotations

from ._raised import hide_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike
    from typing import Any

    from .waiting import Waits


def waits() -> Waits:
    """Who waits for whom in this process at this moment: an immutable tree, with stacks.

        for wait in syncline.waits():
            print(wait.name, wait.seconds, [each.name for each in wait.waits_for])

    It has each thread and each nested call that a call of a bridge's blocks, the coroutines that they wait for, and
    what those wait for in turn: in other tasks, on other loops, in worker threads and their queues. A call of some
    milliseconds may be missing, and parts of the picture may be a moment apart, as other threads go on meanwhile.

    May be called from any thread, also from a signal handler and while a loop is blocked; it calls no code of the
    user's. Takes a millisecond, or half a second where ten thousand wait.
    """
    from ._diagnosis.waits import look

    return look()


def dump() -> str:
    """The same as `waits()` as text, for people: how many wait, then who waits for whom, the deepest waits first.

    What waits alike is shown once, with its number. May be called wherever `waits()` may.
    """
    from ._diagnosis.rendering import render

    return render(waits())


def dump_on(signum: int, /, file: str | PathLike[str] | Any = None) -> Callable[[], None]:
    """Has the signal `signum` write `dump()` to `file`: by default to stderr. Returns a function that undoes that.

        syncline.dump_on(signal.SIGUSR1)  # then: kill -USR1 PID, or: python -m syncline ps PID

    file: a path, to whose file each dump is appended, or an object with a method `write` for text. `python -m syncline
    ps` gets the dump instead, and prints it.

    A handler in Python that was there before is called after the dump is written, unless it is one of `dump_on`'s; a
    default action, or none, is replaced. To undo it sets what was there before, unless somebody has set another handler
    since. A forked child has it, too. A later `loop.add_signal_handler` for the same signal takes its place, as does
    `signal.signal`.

    Python runs signal handlers in the main thread, between two steps of Python code. Where that thread waits in a call
    of a bridge's, or for a lock, the signal interrupts the wait for a moment. Where it stays in a function of C that
    takes no notice of signals, there is no dump until it comes back.

    To be called in the main thread. Raises ValueError in another one, and for a number that is no signal or one that
    can't be handled; TypeError for a `file` that is neither a path nor can be written to.
    """
    from . import _dumping

    try:
        return _dumping.dump_on(signum, file)
    except BaseException as error:
        hide_ours(error)
        raise
