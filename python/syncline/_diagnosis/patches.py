"""Processes in which gevent or eventlet has put greenlets in the place of threads."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

# The modules that must not be patched if a loop is to run on a thread of its own, and their options in
# gevent. "queue" is what the loop's executor gets its work by.
_NEEDED = {"threading": "thread", "queue": "queue", "select": "select"}


_WHY = "an event loop beside the calling code needs a real thread"


class Patched(NamedTuple):
    """Threads that can't run a loop."""

    what: str
    why: str
    advice: str


def patched_threads() -> Patched | None:
    """None in a process whose threads can run one."""
    gevent: Any = sys.modules.get("gevent.monkey")
    if gevent is not None:
        patched = [module for module in _NEEDED if gevent.is_module_patched(module)]
        if patched:
            options = ", ".join(f"{option}=False" for option in _NEEDED.values())
            return Patched(
                f"gevent has patched {' and '.join(patched)}",
                _WHY,
                _advice(
                    f"gevent.monkey.patch_all({options})",
                    "gevent.get_hub().threadpool.apply(syncline.run_sync, (fn,))",
                ),
            )
    eventlet: Any = sys.modules.get("eventlet.patcher")
    if eventlet is not None:
        patched = [module for module in ("thread", "select") if eventlet.is_monkey_patched(module)]
        if patched:
            return Patched(
                f"eventlet has patched {' and '.join(patched)}",
                _WHY,
                _advice(
                    "eventlet.monkey_patch(thread=False, select=False)",
                    "eventlet.tpool.execute(syncline.run_sync, fn)",
                ),
            )
    return None


def explain_patched_threads() -> str | None:
    """What to do in a process whose threads can't run a loop; None if they can."""
    patched = patched_threads()
    return None if patched is None else f"{patched.what}, and {patched.why}; {patched.advice}"


def _advice(patching: str, calling: str) -> str:
    return (
        f"patch with `{patching}`, and, where other greenlets are to go on meanwhile, call with `{calling}`"
    )
