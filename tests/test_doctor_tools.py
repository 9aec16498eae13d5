"""What the doctor says of tools: coverage.py, debuggers and profilers, and what patches asyncio."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import syncline
from coverage_code import missing_lines
from syncline._doctor.coverages import configuration, missing


def found(text: str) -> list[str]:
    """What is seen of tools that says that."""
    return [each.what for each in syncline.doctor().findings if each.topic == "tools" and text in each.what]


# coverage.py

SETTINGS = [
    "",
    'concurrency = ["greenlet"]',
    'concurrency = ["thread"]',
    'concurrency = ["greenlet", "thread"]',
    'core = "sysmon"',
    'core = "sysmon"\nbranch = true',
    'core = "sysmon"\nconcurrency = ["greenlet", "thread"]',
    'core = "ctrace"',
    'core = "pytrace"\nconcurrency = ["greenlet", "thread"]',
    'timid = true\nconcurrency = ["greenlet", "thread"]',
    "branch = true",
    'branch = true\nconcurrency = ["greenlet", "thread"]',
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_what_is_said_of_a_setting_is_what_coverage_does_with_it(settings: str, tmp_path: Path) -> None:
    """A setting is warned of if coverage.py misses lines by it, or refuses it; and only then."""
    misses, _ = missing_lines(tmp_path, f"[tool.coverage.run]\n{settings}\n")
    path, run = configuration(tmp_path)
    assert path is not None
    assert (missing(run) is not None) is (misses != []), misses


@pytest.mark.parametrize(
    ("files", "name", "said"),
    [
        ({"pyproject.toml": "[tool.coverage.run]\ncore = 'pytrace'"}, "pyproject.toml", {"core": "pytrace"}),
        ({"setup.cfg": "[coverage:run]\nbranch = yes"}, "setup.cfg", {"branch": "yes"}),
        ({"tox.ini": "[coverage:run]\nconcurrency = thread"}, "tox.ini", {"concurrency": "thread"}),
        (
            {".coveragerc": "[run]\nbranch = yes\n", "tox.ini": "[coverage:run]"},
            ".coveragerc",
            {"branch": "yes"},
        ),
        ({".coveragerc.toml": "[run]\nbranch = true"}, ".coveragerc.toml", {"branch": True}),
        (
            {"setup.cfg": "[metadata]\nname = x", "tox.ini": "[coverage:run]\ncore = x"},
            "tox.ini",
            {"core": "x"},
        ),
        ({"pyproject.toml": "[tool.coverage.report]"}, "pyproject.toml", {}),
        ({"pyproject.toml": "[project]", "setup.cfg": "[metadata]"}, None, {}),
        ({"pyproject.toml": "no TOML"}, None, {}),
    ],
)
def test_the_configuration_is_the_one_that_coverage_would_take(
    files: dict[str, str], name: str | None, said: dict[str, Any], tmp_path: Path
) -> None:
    """The first file that says something about coverage."""
    for each, text in files.items():
        (tmp_path / each).write_text(text)
    path, settings = configuration(tmp_path)
    assert (path and path.name, settings) == (name, said)


def test_a_folder_whose_configuration_lacks_the_setting_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the file's name, and what to write there. One without a word on coverage is not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COVERAGE_CORE", raising=False)
    assert found("coverage") == []
    (tmp_path / "setup.cfg").write_text("[coverage:run]\ncore = ctrace\n")
    assert found("coverage") == [
        'setup.cfg configures coverage.py without concurrency = ["greenlet", "thread"]'
    ]
    (tmp_path / "setup.cfg").write_text("[coverage:run]\nconcurrency = greenlet, thread\n")
    assert found("coverage") == []


def test_a_program_that_is_measured_without_the_setting_can_say_so(tmp_path: Path) -> None:
    """Whatever the folder's files say: coverage.py was given another one."""
    (tmp_path / "program.py").write_text(
        "import syncline\nprint([each.what for each in syncline.doctor().findings if each.topic == 'tools'])"
    )
    (tmp_path / "other.cfg").write_text("[run]\ncore = ctrace\n")
    command = [sys.executable, "-m", "coverage", "run", "--rcfile=other.cfg", "program.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50)
    assert "coverage.py measures this program without concurrency" in ran.stdout, ran.stderr


# Tracing


@pytest.mark.parametrize("kind", ["settrace", "setprofile"])
def test_a_trace_function_is_named(kind: str) -> None:
    """By the name of the function."""

    def looks_on(*_: object) -> None: ...

    before = sys.gettrace() if kind == "settrace" else sys.getprofile()
    getattr(sys, kind)(looks_on)
    try:
        said = found("is watched by")
    finally:
        getattr(sys, kind)(before)
    assert len(said) == 1
    assert "looks_on" in said[0]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring came with Python 3.12")
def test_a_user_of_sys_monitoring_is_named() -> None:
    """By the name that it has given itself."""
    monitoring: Any = getattr(sys, "monitoring")  # noqa: B009  # type checkers look at 3.11
    monitoring.use_tool_id(4, "looks on")
    try:
        said = found("is watched by")
    finally:
        monitoring.free_tool_id(4)
    assert len(said) == 1
    assert "looks on" in said[0]
    assert found("looks on") == []


def test_nest_asyncio_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the mark that it leaves."""
    assert found("nest_asyncio") == []
    monkeypatch.setattr(asyncio, "_nest_patched", True, raising=False)
    assert found("nest_asyncio") == ["nest_asyncio has patched asyncio"]
