"""What `ThreadLimiter.statistics()` returns. Imported when that is first called, as it needs typing."""

from __future__ import annotations

from typing import NamedTuple


class ThreadLimiterStatistics(NamedTuple):
    """A limiter at one moment. The names are those of anyio's."""

    borrowed_tokens: int
    total_tokens: float
    borrowers: tuple[object, ...]
    """Tasks, other objects that somebody named, and the functions that run in worker threads."""
    tasks_waiting: int
