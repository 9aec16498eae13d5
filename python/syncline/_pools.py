"""Whether a thread is one of a pool's, of `concurrent.futures`.

Not in `_diagnosis`, which is large: a thread asks this before its first long sleep.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType


def is_only_worker() -> bool:
    """Whether this thread is a pool's, and that has no other."""
    worker = frame_of_worker()
    executor: Any = None if worker is None else worker.f_locals["executor_reference"]()
    return executor is not None and executor._max_workers == 1


def frame_of_worker() -> FrameType | None:
    """The frame in which this thread, if it is a pool's, takes its work."""
    pools: Any = sys.modules.get("concurrent.futures.thread")
    if pools is None:
        return None
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not pools._worker.__code__:
        frame = frame.f_back
    known = frame is not None and all(name in frame.f_locals for name in ("executor_reference", "work_queue"))
    return frame if known else None
