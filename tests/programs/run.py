"""Runs a program, and says what is wrong with what came out of it.

1. What it notes is what the model predicts.
2. Nothing is printed, warned of, logged, or raised where nobody can catch it.
3. Nothing is left: no call under way, no thread, no descriptor, no token of a limiter, no value of a context variable.
"""

from __future__ import annotations

import contextvars
import difflib
import faulthandler
import gc
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import syncline
from hosts import Host
from syncline._core import worker_counts

from . import model
from .async_code import AsyncCode
from .base import LOST, VARIABLES, Here, Inconclusive, Value, made_bridge
from .model import Model, predict
from .place import Place
from .sync_code import SyncCode
from .tree import Op, Program, used


class Run(SyncCode, AsyncCode):
    """One run of one program."""

    def notes(self) -> list[str]:
        """Runs the program in a context of its own; what it noted."""
        programs_bridges = self.program.bridges
        self.hosts = [Host(each.loop) if each.scope == "onto" else None for each in programs_bridges]
        bridges = [made_bridge(*each) for each in zip(programs_bridges, self.hosts, strict=True)]
        here = Here([], bridges)
        try:
            contextvars.copy_context().run(self.main, here)
            if not settled(lambda: not any(bridge.stats()["active"] for bridge in bridges)):
                here.note(f"calls under way: {[bridge.stats()['active'] for bridge in bridges]}")
        except Leave:
            raise  # the bridges are the exit's to close
        except BaseException:
            self.close(bridges)
            raise
        self.close(bridges)
        return here.notes

    def close(self, bridges: list[syncline.Bridge]) -> None:
        for bridge in bridges:
            bridge.close()
        for host in self.hosts:
            if host is not None:
                host.end()

    def main(self, here: Here) -> None:
        try:
            self.sync(self.program.main, here)
        except (Inconclusive, Leave):
            raise
        except BaseException as error:
            here.note(f"ended by {self.described(error)}")

    def sync_fork(self, op: Op, here: Here) -> None:
        with tempfile.TemporaryFile() as errors:
            child = os.fork()
            if child == 0:
                os.dup2(errors.fileno(), 2)
                self.child(op, here)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            errors.seek(0)
            said = errors.read().decode(errors="replace")
        if status == UNSURE:
            self.is_inconclusive = True
            raise Inconclusive
        here.note(f"child: {status}" + (f" {said}" if said else ""))

    def child(self, op: Op, here: Here) -> NoReturn:
        """In the forked child, which ends with status 0 if it notes what it should."""
        try:
            sys.stderr = sys.__stderr__
            faulthandler.register(signal.SIGALRM, file=2, all_threads=True, chain=True)
            signal.alarm(300)  # which a child doesn't inherit
            found = ((name, variable.get(None)) for name, variable in VARIABLES.items())
            context = {name: model.Value(value.number) for name, value in found if value is not None}
            right: list[str] = []
            inside = Here([], here.bridges)
            Model(self.program).attempted(op.bodies[0], Place(is_forked=True).inside(), context, right)
            with suppress(Inconclusive):
                self.sync_attempt(op, inside)
            if self.is_inconclusive:
                os._exit(UNSURE)
            wrong = list(difflib.unified_diff(right, inside.notes, "right", "seen", lineterm=""))
            if wrong:
                print(*wrong, sep="\n", file=sys.stderr, flush=True)
        except BaseException:
            if self.is_inconclusive:  # which may come in a group of errors
                os._exit(UNSURE)
            traceback.print_exc()
            os._exit(2)
        if op.how == "exit":
            raise Leave(bool(wrong))
        os._exit(bool(wrong))


UNSURE = 75
"""The status of a forked child whose run is Inconclusive."""

SETTLING = 60.0
"""Seconds after which what hasn't ended never will."""


async def nothing() -> None:
    pass


class Leave(SystemExit):
    """Ends a forked child by the interpreter's exit."""


def settled(condition: Callable[[], bool], seconds: float = SETTLING) -> bool:
    """Whether `condition` came true in time: for what nobody tells the end of."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True


class Said:
    """Whatever is printed, warned of, logged, or raised in vain (by 2)."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def log(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            text = f"logged: {record.name}: {record.getMessage()}"
            if record.exc_info:
                text += "\n" + "".join(traceback.format_exception(*record.exc_info))
            self.texts.append(text)
        return True

    def raised(self, hook: Any) -> None:
        if hook.exc_type is KeyboardInterrupt and is_of_weak_reference(getattr(hook, "object", None)):
            LOST.set()
            return
        what = getattr(hook, "object", None) or getattr(hook, "thread", None)
        lines = traceback.format_exception(hook.exc_type, hook.exc_value, hook.exc_traceback)
        self.texts.append(f"raised in vain, in {what!r}: {''.join(lines)}")

    def warn(self, message: Any, category: type[Warning], *_where: Any) -> None:
        if "use of fork() may lead to deadlocks" not in str(message):
            self.texts.append(f"warned: {category.__name__}: {message}")


def is_of_weak_reference(where: object) -> bool:
    """Whether it is a callback by which a collection of weak references forgets what is freed."""
    return getattr(where, "__module__", None) in ("weakref", "_weakrefset")


@contextmanager
def listening() -> Iterator[Said]:
    """Hears all that is said meanwhile."""
    said = Said()
    handler = logging.Handler()
    handler.emit = said.log  # type: ignore[assignment]
    err, hooks, show = sys.stderr, (sys.unraisablehook, threading.excepthook), warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger().addHandler(handler)
        sys.unraisablehook = threading.excepthook = said.raised
        warnings.showwarning = said.warn  # type: ignore[assignment]
        sys.stderr = printed = io.StringIO()
        try:
            yield said
            gc.collect()  # what is only now found to be lost says so
        finally:
            if text := printed.getvalue():
                said.texts.append(f"printed: {text}")
            sys.stderr, (sys.unraisablehook, threading.excepthook), warnings.showwarning = err, hooks, show
            logging.getLogger().removeHandler(handler)


def threads() -> set[str]:
    """This process's threads, but for idle workers, which stay for some seconds."""
    return {f"{t.name}:{t.ident}" for t in threading.enumerate() if not t.name.startswith("syncline-worker-")}


def workers_are_idle() -> bool:
    """Whether no worker thread is at work, nor about to say how that ended. Those that belong to one object end."""
    there, idle = worker_counts()
    return (
        there == idle and sum(t.name.startswith("syncline-worker-") for t in threading.enumerate()) <= there
    )


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def problems(program: Program) -> list[str]:
    """What is wrong with a run of this program (by 1, 2, 3)."""
    expected = predict(program)
    before, open_before = threads(), descriptors()
    for patience in (1, 8, 64, 512):
        run = Run(program, patience)
        with listening() as said, suppress(Inconclusive):
            got = run.notes()
        if not run.is_inconclusive:
            break
        # Abandoned workers go on, and may say things that are none of the next run's.
        settled(lambda: threads() <= before and workers_are_idle())
    else:
        return ["a wait that was to be ended had not begun in seconds"]
    wrong = list(said.texts)
    if got != expected:
        wrong.append("\n".join(difflib.unified_diff(expected, got, "right", "seen", lineterm="", n=50)))
    wrong += left_behind(run, before, open_before)
    return wrong


LATER: list[weakref.ref[Value]] = []
"""What idle workers may keep for the seconds that they stay: their last context, and their own loops at rest."""


def left_behind(run: Run, threads_before: set[str], open_before: int) -> Iterator[str]:
    """What is left of a run (by 3)."""
    limiter = syncline.thread_limiter()
    if not settled(lambda: not limiter.borrowed_tokens):
        yield f"{limiter.borrowed_tokens} tokens of the limiter are not given back"
    if not settled(lambda: threads() <= threads_before):
        yield f"threads are left: {threads() - threads_before}"
    run.raised.clear()  # tracebacks keep what they show
    # A thread remembers the context of its last call, to see what the next one changes.
    syncline.run_sync(nothing)
    if "to_thread" in used(run.program.main):
        LATER.extend(run.values)
        return
    if not settled(lambda: descriptors() <= open_before):
        yield f"descriptors: {open_before} before, {descriptors()} after"

    if not settled(lambda: not kept(run.values)):
        yield f"{kept(run.values)} values of context variables are kept alive"


def kept(values: list[weakref.ref[Value]]) -> int:
    """How many values are alive."""
    gc.collect()
    return sum(value() is not None for value in values)


def left_at_last(open_before: int) -> list[str]:
    """What is left when the idle workers have gone, too."""
    wrong = []
    if not settled(lambda: not any(t.name.startswith("syncline-worker-") for t in threading.enumerate()), 30):
        wrong.append("idle workers don't end")
    if not settled(lambda: not kept(LATER)):
        wrong.append(f"{kept(LATER)} values of context variables are kept alive")
    if not settled(lambda: descriptors() <= open_before):
        wrong.append(f"descriptors: {open_before} at first, {descriptors()} at last")
    return wrong
