"""The default bridge, and the loop that runs where the report is made."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from .. import _core
from .._default import default_bridge
from .._kinds import trio_here

if TYPE_CHECKING:
    from .report import Report


def look(report: Report) -> None:
    """Adds what there is to say."""
    bridge = default_bridge()
    loops = _core.spin_policy(bridge)["loops"]
    report.fact("default bridge", "scope", bridge.scope)
    report.fact("default bridge", "name", bridge.name)
    report.fact("default bridge", "closed", bridge.closed)
    options = {name: _plain(value) for name, value in bridge._options.items() if name != "roams"}
    report.fact("default bridge", "configured", options)
    report.fact(
        "default bridge", "loops", [f"{each['name']} ({_kind(each['event_loop'])})" for each in loops]
    )
    report.fact("default bridge", "counters", dict(bridge.stats()))
    report.fact("loops", "asyncio makes", _made_by_asyncio())
    running, kind = _running()
    report.fact("loops", "running in this thread", kind)
    report.fact("loops", "this code can await in place", _core.can_await_here())
    if bridge.closed:
        report.find(
            "problem",
            "default bridge",
            "the default bridge is closed",
            meaning="run_sync and all other functions of the module raise RunnerClosedError.",
            advice="Don't close it before the program ends; a Bridge() of your own can be closed at any time.",
        )
    if kind is not None and not isinstance(running, _core.BridgeLoop) and not _core.can_await_here():
        _foreign_loop(report, kind)


def _foreign_loop(report: Report, kind: str) -> None:
    in_notebook = "ipykernel" in sys.modules
    report.find(
        "note",
        "loops",
        f"a loop runs in this thread ({kind}), and the code that asks has not opted in to nested calls",
        meaning="A call that it makes works, and blocks that loop and all its tasks while it waits.",
        advice="%load_ext syncline.jupyter"
        if in_notebook
        else "Decorate the coroutine with @syncline.nestable, or opt in for the whole loop: syncline.install(). "
        'syncline.configure(in_loop="warn") names the lines.',
    )


def _running() -> tuple[Any, str | None]:
    """The loop of asyncio's that runs in this thread; and what kind of loop does, trio's too."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return None, None if trio_here() is None else "trio"
    return running, _kind(running)


def _made_by_asyncio() -> str:
    """The class of loops that `asyncio.run` would make: an event loop policy may have its own."""
    loop = asyncio.new_event_loop()
    loop.close()
    return _kind(loop)


def _kind(loop: Any) -> str:
    return f"{type(loop).__module__}.{type(loop).__qualname__}"


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float, bool)) else repr(value)
