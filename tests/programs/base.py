"""What both kinds of code need to run a program: errors, notes, bridges.

1. Notes of bodies that run at the same time are put together in the bodies' order, as the model does.
2. An error is known by its object: one that arrives as another object is noted as such.
3. What a time limit ends has to wait for ever by then. Where the machine was too slow for that, the run is
   Inconclusive, and is made again with longer limits.
4. A Ctrl-C that comes in the callback of a weak reference is lost, as Python lets no error out of one: anyio forgets
   its tasks so, in the main thread where that drives a loop. It is sent again.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel
import trio
import uvloop

import syncline
from hosts import Host

from .tree import Block, Op, Options, Program, limits, waits

LIMIT = 0.02


class OwnError(Exception):
    """An error of a program."""


class OwnBase(BaseException):
    """An error that isn't an Exception."""


class ToThrow(Exception):  # noqa: N818 -- what throw() is given
    """What goes into a generator."""


class Inconclusive(BaseException):
    """A time limit came too early (by 3)."""


class Owner:
    """An object whose cleanup is async."""


class Value:
    """A context variable's value, whose life can be watched."""

    def __init__(self, number: int) -> None:
        self.number = number


ERRORS = {error.__name__: error for error in (OwnError, OwnBase, SystemExit, KeyboardInterrupt)}
LOST = threading.Event()
"""A Ctrl-C was lost (by 4)."""
VARIABLES = {name: contextvars.ContextVar[Value](name) for name in "ab"}


class Latch:
    """Opens when `count` waits have begun."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.lock = threading.Lock()
        self.opened = threading.Event()

    def arrive(self) -> None:
        with self.lock:
            self.left -= 1
            if not self.left:
                self.opened.set()


class Here:
    """Where notes go, and who counts the waits that have begun."""

    def __init__(
        self,
        notes: list[str],
        bridges: list[syncline.Bridge],
        latch: Latch | None = None,
        caller: int | None = None,
    ) -> None:
        self.notes = notes
        self.bridges = bridges
        self.latch = latch
        self.caller = caller
        """The thread that waits for this call."""

    def note(self, text: str) -> None:
        self.notes.append(text)

    def apart(self) -> Here:
        """For a body that runs beside others."""
        return Here([], self.bridges, self.latch, self.caller)

    def called(self) -> Here:
        """For a call that this thread waits for."""
        return Here(self.notes, self.bridges, self.latch, threading.get_ident())

    def doomed(self, *blocks: Block) -> Here:
        """For bodies that are cancelled."""
        return Here(self.notes, self.bridges, Latch(sum(map(waits, blocks))), self.caller)


async def until(event: threading.Event) -> None:
    """For what nobody waits for, and is done soon."""
    while not event.is_set():
        await anyio.lowlevel.checkpoint()


def on_trio() -> bool:
    return trio.lowlevel.in_trio_run()


@contextmanager
def shielded() -> Iterator[None]:
    """Cleanup may await: the cancel scopes of trio and anyio cancel again and again, unless that is said."""
    if not on_trio() and asyncio._get_running_loop() is None:
        yield
    else:
        with anyio.CancelScope(shield=True):
            yield


def made_bridge(options: Options, host: Host | None) -> syncline.Bridge:
    more: dict[str, Any] = {"scope": options.scope}
    if host is not None:
        more = {"loop": host.loop}
    elif options.loop == "trio":
        more["backend"] = "trio"
    elif options.loop == "uvloop":
        more["loop_factory"] = uvloop.new_event_loop
    return syncline.Bridge(
        nested=options.nested,
        context=options.context,
        in_worker=options.in_worker,
        in_async=options.in_async,
        visible=options.visible,
        timed=options.timed,
        # The model knows no bridges that keep their calls at home: it would have to know which loop their code blocks.
        roams=True,
        **more,
    )


class Base:
    """One run of one program: what both kinds of code share."""

    def __init__(self, program: Program, patience: float = 1) -> None:
        self.program = program
        self.patience = patience
        self.is_inconclusive = False
        self.raised: dict[int, BaseException] = {}
        self.values: list[weakref.ref[Value]] = []
        self.hosts: list[Host | None] = []
        """Who runs the loops that bridges are onto."""

    def sync(self, block: Block, here: Here) -> None:
        """Runs sync code."""
        raise NotImplementedError

    async def aio(self, block: Block, here: Here) -> None:
        """Runs async code."""
        raise NotImplementedError

    async def clean(self, op: Op, here: Here, done: threading.Event) -> None:
        """What a finalizer does."""
        try:
            await self.aio(op.bodies[0], here)
        finally:
            done.set()

    def described(self, error: BaseException) -> str:
        """An error as the model describes it (by 2)."""
        kind = type(error).__name__
        if isinstance(error, BaseExceptionGroup):
            return "group of " + ", ".join(map(self.described, error.exceptions))
        if kind in ERRORS or isinstance(error, ToThrow):
            number = error.args[0] if error.args else "of nobody"
            known = self.raised.get(number) if isinstance(number, int) else None
            return f"{kind} {number}" + (" (another object)" if known is not error else "")
        return kind

    def may_catch(self, error: BaseException) -> bool:
        """Whether it is the program's to catch: a cancellation and a Ctrl-C are not."""
        return isinstance(error, Exception) or any(error is known for known in self.raised.values())

    def error(self, op: Op) -> BaseException:
        error = self.raised[op.number] = ERRORS[op.how](op.number)
        return error

    def limit(self, op: Op) -> float:
        """Seconds after which a body is ended: those in it end first."""
        return LIMIT * self.patience * (1 + 2 * limits(op.bodies[0]))

    def has_begun(self, here: Here) -> None:
        """What was ended had begun to wait (by 3)."""
        assert here.latch is not None
        if not here.latch.opened.is_set():
            self.is_inconclusive = True  # the error may be lost in a group, or among other errors
            raise Inconclusive

    def throwable(self, number: int) -> ToThrow:
        error = self.raised[number] = ToThrow(number)
        return error

    def context(self) -> str:
        """The values of all variables."""
        found = ((name, variable.get(None)) for name, variable in VARIABLES.items())
        return ", ".join(f"{name} = {value.number if value else 0}" for name, value in found)

    def simple(self, op: Op, here: Here) -> bool:
        """Operations that are the same in both kinds of code."""
        if op.kind == "set":
            value = Value(op.number)
            self.values.append(weakref.ref(value))
            VARIABLES[op.how].set(value)
        elif op.kind == "see":
            value = VARIABLES[op.how].get(None)  # type: ignore[arg-type]
            here.note(f"{op.how} = {value.number if value else 0}")
        elif op.kind == "fail":
            raise self.error(op)
        else:
            return False
        return True
