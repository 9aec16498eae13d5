"""Tools that look on, or change how Python works: debuggers, profilers, coverage, what patches asyncio."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Any

from .coverages import look_at_coverage
from .report import dotted

if TYPE_CHECKING:
    from .report import Report

_TOOL_IDS = range(6)


def look(report: Report) -> None:
    """Adds what there is to say."""
    report.fact("tools", "trace function", _named(sys.gettrace()))
    report.fact("tools", "trace function of new threads", _named(threading.gettrace()))
    report.fact("tools", "profile function", _named(sys.getprofile()))
    monitoring = _users_of_monitoring()
    report.fact("tools", "sys.monitoring is used by", monitoring)
    _slowed_down(report, monitoring)
    look_at_coverage(report)
    _viztracer(report)
    if hasattr(asyncio, "_nest_patched"):
        report.find(
            "warning",
            "tools",
            "nest_asyncio has patched asyncio",
            meaning="Tasks are slower; a nested run turns the loop inside of a task, and hangs where tasks are waited "
            "for out of their order.",
            advice="syncline.compat.nest_asyncio.apply() instead, or syncline.run(...) without either.",
        )


def _users_of_monitoring() -> list[str]:
    monitoring: Any = getattr(sys, "monitoring", None)
    if monitoring is None:
        return []
    return [name for each in _TOOL_IDS if (name := monitoring.get_tool(each)) is not None]


def _slowed_down(report: Report, monitoring: list[str]) -> None:
    found = [dotted(each) for each in (sys.gettrace(), sys.getprofile()) if each is not None] + monitoring
    if "pydevd" in sys.modules and not any("pydevd" in each for each in found):
        found.append("pydevd (debugpy's debugger)")
    if found:
        report.find(
            "note",
            "tools",
            f"the program is watched by {', '.join(found)}",
            meaning="Calls take longer, and breakpoints stop the loops of all who wait.",
            advice="Measure without it. What each tool shows where tasks switch: docs, Debugging and profiling.",
        )


def _viztracer(report: Report) -> None:
    viztracer: Any = sys.modules.get("viztracer")
    get_tracer: Any = getattr(viztracer, "get_tracer", None)
    tracer = None if get_tracer is None else get_tracer()
    if tracer is not None and tracer.enable:
        report.find(
            "warning",
            "tools",
            "viztracer is at work",
            meaning="It knows nothing of greenlets: when a nested call suspends, it warns of an unexpected return, and "
            "stops.",
            advice='syncline.configure(nested="thread") for as long as you trace.',
        )


def _named(tool: Any) -> str | None:
    return None if tool is None else dotted(tool)
