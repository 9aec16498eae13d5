"""docs/recipes-programs.md: click. What is larger is in tests/recipes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import recipe_code

PAGE = "recipes-programs.md"


@pytest.fixture
def fetch(tmp_path: Path) -> Path:
    recipe_code.write(tmp_path, PAGE, "click")
    return tmp_path / "fetch.py"


def test_click(fetch: Path) -> None:
    """Arguments, options and the help come through."""
    ended = recipe_code.run(fetch.parent, "-W", "error", "fetch.py", "a", "b", "--timeout", "5")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the page a\nthe page b\n", "")
    shown = recipe_code.run(fetch.parent, "fetch.py", "--help").stdout
    assert "Fetch pages, all at the same time." in shown
    assert "Seconds for all pages." in shown


def test_click_is_interrupted(fetch: Path) -> None:
    """The coroutine cleans up, and click ends the program as it does."""
    text = fetch.read_text().replace(
        "    await asyncio.sleep(0.01)\n",
        "    try:\n        print('waits', flush=True)\n        await asyncio.sleep(60)\n"
        "    finally:\n        await asyncio.sleep(0)\n        print('cleaned up')\n",
    )
    fetch.write_text(text)
    # Started with SIGINT ignored, Python would leave it so.
    reset = "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{reset}; runpy.run_path({str(fetch)!r}, run_name='__main__')"
    with subprocess.Popen(
        [sys.executable, "-c", start, "a"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        assert child.stderr
        assert child.stdout.readline() == "waits\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == "cleaned up\n"
        assert child.stderr.read().strip() == "Aborted!"
        assert child.wait(20) == 1
