"""docs/recipes-libraries.md: coverage.py counts every line that ran, with either of the configurations there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from coverage_code import missing_lines

PAGE = (Path(__file__).parent.parent / "docs" / "recipes-libraries.md").read_text()
CONFIGURATIONS = re.findall(r"^```toml\n(\[tool\.coverage\.run\].*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=["greenlet", "sysmon"])
def test_every_line_that_ran_is_counted(configuration: str, tmp_path: Path) -> None:
    """In sync code, in coroutines on the loops, and after nested calls that were suspended."""
    if "sysmon" in configuration and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring came with Python 3.12")
    assert missing_lines(tmp_path, configuration) == ([], "")
