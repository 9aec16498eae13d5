"""The example that the README shows runs, and asserts what it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart.py"


def test_the_quickstart_runs() -> None:
    """Against a real server, with rc 0 and nothing on stderr."""
    ended = subprocess.run(
        [sys.executable, QUICKSTART], capture_output=True, text=True, timeout=55, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "20 pages" in ended.stdout
    assert "one HTTP request" in ended.stdout
