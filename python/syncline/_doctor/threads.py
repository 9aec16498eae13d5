"""The threads that are alive, and what a fork would make of them."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from typing import TYPE_CHECKING, Any

from .._diagnosis.patches import patched_threads

if TYPE_CHECKING:
    from .report import Report


def look(report: Report) -> None:
    """Adds what there is to say."""
    current = threading.current_thread()
    alive = threading.enumerate()
    report.fact("threads", "this one", current.name)
    report.fact("threads", "it is the main one", current is threading.main_thread())
    report.fact("threads", "alive", [f"{each.name}{' (daemon)' * each.daemon}" for each in alive])
    _fork(report, [each for each in alive if each is not current])
    if (patched := patched_threads()) is not None:
        report.find(
            "problem",
            "threads",
            patched.what,
            meaning=f"Calls raise RuntimeError, as {patched.why}.",
            advice=f"{patched.advice[:1].upper()}{patched.advice[1:]}.",
        )


def _fork(report: Report, others: list[threading.Thread]) -> None:
    chosen: Any = multiprocessing.get_start_method(allow_none=True)
    method = chosen or multiprocessing.get_all_start_methods()[0]
    report.fact(
        "threads", "multiprocessing starts processes by", f"{method}{'' if chosen else ' (by default)'}"
    )
    is_used = chosen is not None or "concurrent.futures.process" in sys.modules
    if method != "fork" or not is_used:
        return
    names = ", ".join(each.name for each in others)
    report.find(
        "warning" if others else "note",
        "threads",
        f"multiprocessing forks{f', while other threads are alive: {names}' if others else ''}",
        meaning="A forked child has none of its parent's other threads, but the locks that they hold. syncline begins "
        "anew in it; other libraries, and an import that was under way, may hang there.",
        advice='multiprocessing.set_start_method("forkserver"), or "spawn", first of all in the program; for an '
        'executor: ProcessPoolExecutor(mp_context=multiprocessing.get_context("forkserver")).',
    )
