"""Calls that run as one task, in a process that has not loaded asgiref: other tests of this process have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILES = [f"test_{known}_{what}.py" for known in ("shared", "remembered") for what in ("tasks", "sessions")]


def test_spare_tasks_without_asgiref() -> None:
    """All of the four files."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *FILES]
    run = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=50, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "asgiref" not in run.stdout
