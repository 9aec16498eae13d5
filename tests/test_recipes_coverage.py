"""docs/recipes-libraries.md: coverage.py counts every line that ran, with either of the configurations there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coverage_code import PROGRAM

PAGE = (Path(__file__).parent.parent / "docs" / "recipes-libraries.md").read_text()
CONFIGURATIONS = re.findall(r"^```toml\n(\[tool\.coverage\.run\].*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=["greenlet", "sysmon"])
def test_every_line_that_ran_is_counted(configuration: str, tmp_path: Path) -> None:
    """In sync code, in coroutines on the loops, and after nested calls that were suspended."""
    if "sysmon" in configuration and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with Python 3.12")
    (tmp_path / "pyproject.toml").write_text(configuration)
    (tmp_path / "program.py").write_text(PROGRAM)
    for command in (["run", "program.py"], ["json", "--quiet", "-o", "out.json"]):
        ran = subprocess.run(
            [sys.executable, "-m", "coverage", *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["files"]["program.py"]["missing_lines"] == []
