"""Python, how it was built and started, and the libraries that calls are made of."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _core

if TYPE_CHECKING:
    from .report import Report

_LIBRARIES = ("uvloop", "trio", "anyio", "asgiref", "gevent", "eventlet", "ipykernel", "debugpy", "coverage")
_OLDEST_GREENLET = (3, 1)
_USUAL_SWITCH_INTERVAL = 0.005


def look(report: Report) -> None:
    """Adds what there is to say."""
    _python(report)
    _free_threading(report)
    _compiler(report)
    _greenlet(report)
    report.fact("libraries", "syncline", f"{_core.__version__}, {_short(_core.__file__)}")
    for name in _LIBRARIES:
        if (version := _version(name)) is not None:
            report.fact("libraries", name, f"{version}{', imported' if name in sys.modules else ''}")


def _python(report: Report) -> None:
    report.fact("python", "version", f"{platform.python_implementation()} {platform.python_version()}")
    report.fact("python", "built", f"{', '.join(platform.python_build())}, {platform.python_compiler()}")
    report.fact("python", "program", _short(sys.executable))
    report.fact("python", "system", platform.platform())
    report.fact("python", "debug build", hasattr(sys, "gettotalrefcount"))
    report.fact("python", "development mode", sys.flags.dev_mode)
    interval = sys.getswitchinterval()
    report.fact("python", "switch interval", interval)
    if hasattr(sys, "gettotalrefcount"):
        report.find(
            "note",
            "python",
            "this is a debug build of Python",
            meaning="All Python code is several times slower in it, calls too.",
            advice="Measure with an ordinary build.",
        )
    if abs(interval - _USUAL_SWITCH_INTERVAL) > 1e-9:
        report.find(
            "note",
            "python",
            f"somebody has set the switch interval to {interval:g} s",
            meaning="A thread that computes keeps the interpreter for that long, while loops and callers wait for it.",
            advice="Leave it at 0.005 s, unless you have measured that another one suits you: sys.setswitchinterval.",
        )


def _free_threading(report: Report) -> None:
    is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    ask: Any = getattr(sys, "_is_gil_enabled", None)
    has_lock = ask is None or ask()
    report.fact("python", "free-threaded build", is_free_threaded)
    report.fact("python", "interpreter lock", has_lock)
    if is_free_threaded and has_lock:
        report.find(
            "note",
            "python",
            "this is a free-threaded build, and the interpreter lock is on",
            meaning="Threads take turns. syncline turns the lock on when it is imported, as what a fork leaves to the "
            "child relies on it.",
            advice="Nothing, if you didn't count on threads that run side by side.",
        )
    if not has_lock:
        report.find(
            "warning",
            "python",
            "the interpreter lock is off",
            meaning="syncline is not made for that: a forked child can hang, and greenlet can crash.",
            advice="Start Python without PYTHON_GIL=0 and -X gil=0.",
        )


def _compiler(report: Report) -> None:
    jit: Any = getattr(sys, "_jit", None)
    state = "not there"
    if jit is not None and jit.is_available():
        state = "on" if jit.is_enabled() else "off"
    report.fact("python", "compiler (JIT)", state)
    if state == "on":
        meaning = "It is experimental, and few of syncline's tests have run with it."
        if sys.version_info >= (3, 15):
            meaning += " That of 3.15.2 can lose what an `async for` awaits."
        report.find(
            "note",
            "python",
            "Python's compiler is on",
            meaning=meaning,
            advice="Should something odd happen, see whether it does without: PYTHON_JIT=0.",
        )


def _greenlet(report: Report) -> None:
    why_not = _core.why_no_switching()
    greenlet: Any = sys.modules.get("greenlet")
    version = getattr(greenlet, "__version__", None) or _version("greenlet")
    report.fact("nested calls", "await in place", why_not is None)
    report.fact("nested calls", "greenlet", version)
    if greenlet is not None:
        extension: Any = sys.modules.get("greenlet._greenlet")
        report.fact(
            "nested calls", "greenlet's file", _short(getattr(extension, "__file__", greenlet.__file__))
        )
        report.fact("nested calls", "greenlet's build", _tags("greenlet"))
        told = {name.removeprefix("GREENLET_"): getattr(greenlet, name) for name in _settings(greenlet)}
        report.fact("nested calls", "greenlet's settings", told)
    if why_not is not None:
        report.find(
            "warning",
            "nested calls",
            f"greenlet can't be used: {why_not}",
            meaning="A call that is made by sync code which a coroutine called runs on another thread's loop, and "
            "blocks the coroutine's own meanwhile.",
            advice='pip install "greenlet>=3.1"',
        )
    elif version is not None and _numbers(version) < _OLDEST_GREENLET:
        report.find(
            "warning",
            "nested calls",
            f"greenlet {version} is older than syncline was tried with",
            meaning="It may crash, or lose context variables, where tasks switch.",
            advice='pip install "greenlet>=3.1"',
        )


def _settings(module: Any) -> list[str]:
    return [name for name in dir(module) if name.startswith("GREENLET_USE_")]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _tags(name: str) -> str | None:
    """For which Pythons and systems the wheel was built that was installed; or that there was none."""
    try:
        text = metadata.distribution(name).read_text("WHEEL")
    except metadata.PackageNotFoundError:
        return None
    if text is None:
        return "not from a wheel"
    return ", ".join(
        line.removeprefix("Tag:").strip() for line in text.splitlines() if line.startswith("Tag:")
    )


def _short(path: str | None) -> str | None:
    """A path without the name of the user: reports are passed on."""
    home = str(Path.home())
    if path is None or home == os.sep or not path.startswith(home + os.sep):
        return path
    return "~" + path.removeprefix(home)
