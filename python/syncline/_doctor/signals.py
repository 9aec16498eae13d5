"""How signals are handled, which decides how calls and programs end."""

from __future__ import annotations

import faulthandler
import signal
import threading
from typing import TYPE_CHECKING, Any

from .. import _proc
from .report import dotted

if TYPE_CHECKING:
    from .report import Report

_ASKED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGCHLD", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGALRM")


def look(report: Report) -> None:
    """Adds what there is to say."""
    handlers: dict[str, Any] = {}
    caught = _proc.caught("self") or set[int]()
    for name in _ASKED:
        if (number := getattr(signal, name, None)) is not None:
            handler = signal.getsignal(number)
            # What faulthandler.register and code of C's have set, Python's module knows nothing of.
            handlers[name] = None if handler == signal.SIG_DFL and number in caught else handler
            report.fact("signals", name, _said(handlers[name]))
    report.fact("signals", "faulthandler", faulthandler.is_enabled())
    _interrupt(report, handlers.get("SIGINT"))
    _others(report, handlers)
    _blocked(report)
    if not faulthandler.is_enabled():
        report.find(
            "note",
            "signals",
            "faulthandler is off",
            meaning="A crash, or a process that is ended by SIGABRT, says nothing of where it was.",
            advice="python -X faulthandler; and faulthandler.register(signal.SIGUSR1) for a process that hangs.",
        )


def _interrupt(report: Report, handler: Any) -> None:
    if handler == signal.SIG_IGN:
        report.find(
            "warning",
            "signals",
            "SIGINT is ignored",
            meaning="Ctrl-C and `kill -INT` do nothing: no call is cancelled by them. That is what a process inherits "
            "from `nohup`, and from `&` in a script.",
            advice="Stop it by SIGTERM, or begin with signal.signal(signal.SIGINT, signal.default_int_handler).",
        )
    elif handler == signal.SIG_DFL:
        report.find(
            "warning",
            "signals",
            "SIGINT ends the process at once",
            meaning="Ctrl-C raises no KeyboardInterrupt: nothing is cancelled or cleaned up.",
            advice="signal.signal(signal.SIGINT, signal.default_int_handler)",
        )


def _others(report: Report, handlers: dict[str, Any]) -> None:
    if handlers.get("SIGTERM") == signal.SIG_DFL:
        report.find(
            "note",
            "signals",
            "SIGTERM ends the process at once",
            meaning="What `kill`, a container and a service manager send: no call is cancelled, no loop closed, no "
            "`finally` run.",
            advice="signal.signal(signal.SIGTERM, lambda *_: sys.exit(143)), if there is something to clean up.",
        )
    if handlers.get("SIGCHLD") == signal.SIG_IGN:
        report.find(
            "warning",
            "signals",
            "SIGCHLD is ignored",
            meaning="The system forgets how child processes end: asyncio's subprocesses report 255, or are said to be "
            "unknown.",
            advice="signal.signal(signal.SIGCHLD, signal.SIG_DFL)",
        )
    if handlers.get("SIGPIPE") == signal.SIG_DFL:
        report.find(
            "warning",
            "signals",
            "SIGPIPE ends the process",
            meaning="A write to a connection that the other side has closed ends it, instead of raising "
            "BrokenPipeError.",
            advice="signal.signal(signal.SIGPIPE, signal.SIG_IGN), as Python has it.",
        )


def _blocked(report: Report) -> None:
    if not hasattr(signal, "pthread_sigmask"):
        return
    blocked = sorted(signal.Signals(each).name for each in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    report.fact("signals", "blocked in this thread", blocked)
    if "SIGINT" in blocked and threading.current_thread() is threading.main_thread():
        report.find(
            "warning",
            "signals",
            "SIGINT is blocked in the main thread",
            meaning="Ctrl-C is not noticed by a call that the main thread waits for.",
            advice="signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT}) in the main thread.",
        )


def _said(handler: Any) -> str:
    if handler is None:
        return "handled by code that is not Python's"
    if isinstance(handler, signal.Handlers):
        return {signal.SIG_DFL: "the system's default", signal.SIG_IGN: "ignored"}[handler]
    if handler is signal.default_int_handler:
        return "KeyboardInterrupt"
    return dotted(handler)
