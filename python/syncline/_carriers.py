"""Carriers, the greenlets that tasks run in: their base frame, and a list of them.

`import syncline` imports it, and it imports nothing heavy. The core needs it in the middle of a call, where
an import could block.
"""

from __future__ import annotations

import os
from _thread import get_ident
from _weakref import ref

from ._core import epoch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def carry(body: Callable[[], None], current: Callable[[], Any]) -> None:
    """The base frame of the greenlets that tasks run in. Without a Python frame at its base, a greenlet would
    have no stack that tools could show. `current` is greenlet's `getcurrent`."""
    # A function of its own: a reference to the greenlet in this frame would keep it from being used for other
    # tasks.
    _note_carrier(current())
    body()


_carriers: dict[ref[Any], int] = {}
"""The greenlets that tasks run in, and each one's thread: for reports."""


_epoch = [epoch()]
"""In which process the greenlets are, as long as nobody asks in another one."""


def _note_carrier(carrier: Any) -> None:
    _leave_parents()
    _carriers[ref(carrier, _forget_carrier)] = get_ident()


def _forget_carrier(gone: ref[Any]) -> None:
    _carriers.pop(gone, None)


def forget_thread() -> None:
    """The calling thread ends, and another one may get its number. What is parked here stays so."""
    # A copy: other threads may add theirs meanwhile.
    for carrier in [carrier for carrier, thread in list(_carriers.items()) if thread == get_ident()]:
        _carriers.pop(carrier, None)


def _leave_parents() -> None:
    """Where C code has forked, the numbers of the parent's threads mean nothing."""
    if _epoch[0] != epoch():
        _epoch[0] = epoch()
        _carriers.clear()


def _forget_other_threads() -> None:
    _epoch[0] = epoch()
    for carrier in [carrier for carrier, thread in _carriers.items() if thread != get_ident()]:
        _carriers.pop(carrier, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)


def carriers_by_thread() -> dict[int, list[Any]]:
    """Each thread's greenlets that tasks run in, whether they do just now or not, in the order of their making."""
    _leave_parents()
    found: dict[int, list[Any]] = {}
    for known, thread in list(_carriers.items()):
        carrier = known()
        if carrier is not None:
            found.setdefault(thread, []).append(carrier)
    return found


def carriers_of(thread_id: int) -> list[Any]:
    """Those of one thread."""
    return carriers_by_thread().get(thread_id, [])
