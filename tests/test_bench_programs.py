"""The programs in bench/ start: what they measure takes too long for a test, what they import does not."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"
NEEDS = {"twins": "synchronicity"}
"""What is in the dependency group `bench` only, and no program does without."""


@pytest.mark.parametrize("program", sorted(path.stem for path in BENCH.glob("*.py")))
def test_each_program_starts(program: str) -> None:
    """It says how it is called; what takes no arguments, or is a part of others, can be imported."""
    needed = NEEDS.get(program)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    takes_arguments = "ArgumentParser(" in (BENCH / f"{program}.py").read_text()
    imports = f"import sys; sys.path.insert(0, {str(BENCH)!r}); import {program}"
    arguments = [str(BENCH / f"{program}.py"), "--help"] if takes_arguments else ["-c", imports]
    ran = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=50)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("usage: ") is takes_arguments
