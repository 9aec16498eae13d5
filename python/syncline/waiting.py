"""What `syncline.waits()` returns. All of it is immutable, and stays as it was: a picture of one moment.

The tree goes by who waits for whom: a `Wait` has in `waits_for` whatever has to go on before it can.
"""

from __future__ import annotations

import linecache
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Frame", "Kind", "LimiterState", "LoopState", "Wait", "Waits"]

Kind: TypeAlias = Literal["thread", "worker", "nested", "task", "queued"]
"""What a `Wait` is."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A place in the code."""

    file: str
    line: int
    """From 1 on."""
    function: str
    """Its name with those of the classes and functions around it."""

    @property
    def source(self) -> str:
        """The text of that line, stripped; empty where there is none."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f'File "{self.file}", line {self.line}, in {self.function}'


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Wait:
    """Somebody who waits or is waited for."""

    kind: Kind
    """Who it is:

    - "thread": a thread;
    - "worker": a worker thread that runs a function for a task;
    - "nested": code of a task that makes a nested call. The task is parked meanwhile, and its loop goes on;
    - "task": a coroutine. Below "nested" it is the one that is called, in the same task;
    - "queued": what has to wait for a token of a limiter.
    """
    name: str
    """Of the thread, or of the function."""
    task: str | None = None
    """The task's name."""
    thread: int | None = None
    """The identifier of the thread that its code runs in, as `threading.get_ident()` has it."""
    loop: str | None = None
    """The name of the loop that it runs on."""
    is_blocked: bool = False
    """Whether it is sync code that a call of a bridge's blocks, or the `result()` of a future of `submit`."""
    state: str = ""
    """What it does, in words, where that is not just to wait for `waits_for`."""
    stack: tuple[Frame, ...] = ()
    """Its code, the innermost call last: the user's, or all if none of it is."""
    seconds: float | None = None
    """For how long it has waited: for a thread, since its call began; for the others, since `waits()` or `dump()` saw
    them first, and None at that first time."""
    waits_for: tuple[Wait, ...] = ()
    """What it waits for, as far as that can be seen."""
    closes_circle: bool = False
    """Whether it stands higher up in this tree already, and so waits for itself. Then `waits_for` is empty."""

    def __repr__(self) -> str:
        waits = f", waits for {len(self.waits_for)}" if self.waits_for else ""
        return f"<Wait: {self.kind} {self.name!r}{waits}>"


@dataclass(frozen=True, slots=True, eq=False)
class LoopState:
    """An event loop, or a trio run, at one moment."""

    name: str
    thread: int | None
    """The identifier of the thread that runs it; None where nobody does, or it is not known."""
    thread_name: str
    is_asleep: bool | None
    """Whether it has nothing to do until something comes; None where that is not known."""
    is_blocked: bool
    """Whether a call of a bridge's blocks it, so that its tasks stand still."""
    tasks: int
    """How many it has."""
    stack: tuple[Frame, ...]
    """The code that it runs now, or that blocks it; empty where it sleeps."""


@dataclass(frozen=True, slots=True, eq=False)
class LimiterState:
    """A limiter of which tokens are in use, at one moment."""

    name: str
    total: int | None
    """How many tokens it has; None for no limit."""
    holders: tuple[str, ...]
    """Those who hold them, in words."""
    waiting: int
    """How many wait for one."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Waits:
    """Who waits for whom in this process. Iterating goes over `roots`."""

    roots: tuple[Wait, ...]
    """Those for whom nobody waits, and one of each circle. Those that wait through most others come first."""
    blocked: int
    """How many calls block sync code: those of threads, and nested ones."""
    submitted: int
    """How many calls of `submit` have not ended."""
    circles: int
    """How many waits lead back to themselves."""
    loops: tuple[LoopState, ...]
    limiters: tuple[LimiterState, ...]
    workers: int
    """How many worker threads there are."""
    idle_workers: int

    def __iter__(self) -> Iterator[Wait]:
        return iter(self.roots)

    def __len__(self) -> int:
        return len(self.roots)

    def __repr__(self) -> str:
        return f"<Waits: {self.blocked} blocked, {self.submitted} submitted, {self.circles} circles>"
