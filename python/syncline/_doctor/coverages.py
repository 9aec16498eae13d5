"""coverage.py, which has to be told of greenlets: where it measures, and what this folder's configuration says."""

from __future__ import annotations

import configparser
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _core

if TYPE_CHECKING:
    from .report import Report

_FILES = (".coveragerc", ".coveragerc.toml", "setup.cfg", "tox.ini", "pyproject.toml")
"""In the order in which coverage.py looks for them; the first that says something about coverage is taken."""
_SETTING = 'concurrency = ["greenlet", "thread"]'
_NEEDED = {"greenlet", "thread"}
_OPTIONS = ("concurrency", "core", "branch", "timid", "dynamic_context")
_HAS_SYSMON = sys.version_info >= (3, 12)
_SYSMON_KNOWS_BRANCHES = sys.version_info >= (3, 14)
"""From there on it is also coverage.py's own choice, where nothing speaks against it."""


def look_at_coverage(report: Report) -> None:
    """Adds what there is to say."""
    if _core.why_no_switching() is not None:
        return
    coverage: Any = sys.modules.get("coverage")
    current = None if coverage is None else coverage.Coverage.current()
    if current is not None:
        settings = {name: current.get_option(f"run:{name}") for name in _OPTIONS}
        report.fact("tools", "coverage", "at work")
        where = "coverage.py measures this program"
    else:
        path, settings = configuration(Path.cwd())
        if path is None:
            return
        report.fact("tools", "coverage", f"configured by {path.name}")
        where = f"{path.name} configures coverage.py"
    what = missing(settings)
    if what is not None:
        report.find(
            "warning",
            "tools",
            f"{where} {what}",
            meaning="Tasks run in greenlets: lines that ran after a nested call count as missed.",
            advice=f"{_SETTING} under [tool.coverage.run], or `concurrency = greenlet,thread` under [run].",
        )


def missing(settings: dict[str, Any]) -> str | None:
    """What is wrong with these settings; None if nothing is."""
    given = settings.get("concurrency") or ()
    names = set(re.split(r"[,\s]+", given) if isinstance(given, str) else given) - {""}
    core = settings.get("core") or os.environ.get("COVERAGE_CORE")
    if not names & {"greenlet", "gevent", "eventlet"}:
        return None if _by_sysmon(settings, core) else f"without {_SETTING}"
    if core == "pytrace" or _is_on(settings.get("timid")):
        return "to trace by Python code, which can't be told of greenlets"
    if not names >= _NEEDED:
        return "for greenlets, and not for threads"
    return None


def _by_sysmon(settings: dict[str, Any], core: str | None) -> bool:
    """Whether coverage.py uses sys.monitoring then, which doesn't mind greenlets."""
    if core not in (None, "sysmon") or _is_on(settings.get("timid")) or settings.get("dynamic_context"):
        return False
    if _SYSMON_KNOWS_BRANCHES:
        return True
    return _HAS_SYSMON and core == "sysmon" and not _is_on(settings.get("branch"))


def _is_on(value: Any) -> bool:
    return value is True or str(value).lower() in ("true", "yes", "on", "1")


def configuration(folder: Path) -> tuple[Path | None, dict[str, Any]]:
    """The file that coverage.py would take there, and what it says under "run"."""
    named = os.environ.get("COVERAGE_RCFILE")
    for path in [folder / named] if named else [folder / name for name in _FILES]:
        try:
            found = _read(path)
        except (OSError, ValueError, configparser.Error):  # ValueError: TOML, or a text that is none
            continue
        if found is not None:
            return path, found
    return None, {}


def _read(path: Path) -> dict[str, Any] | None:
    """The settings under "run", if the file says something about coverage."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".toml":
        content: dict[str, Any] = tomllib.loads(text)
        settings: dict[str, Any] | None = content.get("tool", {}).get("coverage")
        if settings is None and path.name == ".coveragerc.toml":
            settings = content
        return None if settings is None else dict(settings.get("run", {}))
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    is_its_own = path.name not in ("setup.cfg", "tox.ini")
    names = [name for name in parser.sections() if is_its_own or name.startswith("coverage:")]
    if not names and not is_its_own:
        return None
    for name in ("run", "coverage:run"):
        if name in names:
            return dict(parser[name])
    return {}
