"""docs/recipes-programs.md: typer."""

from __future__ import annotations

from pathlib import Path

import pytest

import recipe_code

pytest.importorskip("typer")


def test_typer(tmp_path: Path) -> None:
    """Arguments and options come of the signature, and the help of the docstring."""
    recipe_code.write(tmp_path, "recipes-programs.md", "typer")
    ended = recipe_code.run(tmp_path, "pages.py", "a", "b", "--timeout", "5")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the page a\nthe page b\n", "")
    shown = recipe_code.run(tmp_path, "pages.py", "--help", NO_COLOR="1").stdout
    assert "Fetch pages." in shown
    assert "--timeout" in shown
