"""An examination: all that is looked at, in the order in which it is told."""

from __future__ import annotations

from . import bridges, cores, interpreter, signals, threads, tools
from .report import Report

_LOOKS = (interpreter.look, cores.look, bridges.look, threads.look, signals.look, tools.look)


def examine() -> Report:
    """Looks at this process, from the calling thread."""
    report = Report()
    for look in _LOOKS:
        try:
            look(report)
        except Exception as error:
            # A report that lacks something is still of use where something is wrong.
            name = look.__module__.rpartition(".")[2]
            report.fact("not found out", name, f"{type(error).__name__}: {error}")
    return report
