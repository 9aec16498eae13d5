"""On which cores the threads of a hop run, which decides much of what the hop costs.

1. A placement is chosen before anything else happens in the process, so that whoever asks how many cores there are
   gets the answer that a user who had placed the process like that would get.
2. Threads are pinned only after their first calls. A thread hands its cores down to the threads it starts: `free`
   undoes that for a thread that is about to make its first call.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable


def usable_cores() -> list[int]:
    """The cores that this process may use; empty where the system doesn't tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


class Placement:
    """Leaves all threads to the scheduler."""

    name = "unpinned"
    title = "unpinned: the scheduler decides"
    cores_needed = 0

    def __init__(self) -> None:
        self.cores = usable_cores()

    @property
    def server_core(self) -> int | None:
        """Where a server in another process shall run, if that matters."""
        return None

    def start(self) -> None:
        """Places the process, by 1."""

    def free(self) -> None:
        """Lets this thread run wherever the process may, by 2."""

    def pin(self, callers: Iterable[threading.Thread]) -> None:
        """Pins the threads that make the calls, and all others, by 2."""


class OneCore(Placement):
    """All threads on one core, as in a container with one CPU."""

    name = "one-core"
    title = "one core for all threads"
    cores_needed = 1

    @property
    def server_core(self) -> int | None:
        return self.cores[-1]

    def start(self) -> None:
        os.sched_setaffinity(0, {self.cores[0]})


class TwoCores(Placement):
    """Callers on one core, loops on another. Threads that a call starts stay on their caller's core."""

    name = "two-cores"
    title = "two cores: callers on one, loops on the other"
    cores_needed = 2

    @property
    def server_core(self) -> int | None:
        return self.cores[-1]

    def free(self) -> None:
        os.sched_setaffinity(0, self.cores)

    def pin(self, callers: Iterable[threading.Thread]) -> None:
        calling = set(callers)
        for thread in threading.enumerate():
            core = self.cores[0] if thread in calling else self.cores[1]
            # A thread may end between the listing and the pinning.
            with contextlib.suppress(ProcessLookupError):
                if thread.native_id is not None:
                    os.sched_setaffinity(thread.native_id, {core})


PLACEMENTS: dict[str, type[Placement]] = {each.name: each for each in (OneCore, TwoCores, Placement)}


def possible_placements() -> list[str]:
    """The names of the placements that this machine has the cores for."""
    cores = len(usable_cores())
    return [name for name, placement in PLACEMENTS.items() if placement.cores_needed <= cores]
