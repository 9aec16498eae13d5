"""docs/recipes-many.md: a command that fetches two thousand pages, retries, rates, and locks for both worlds."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import recipe_code
import upstream
from child import eventually

PAGE = "recipes-many.md"
pytestmark = pytest.mark.timeout(150)


@pytest.fixture
def pages() -> Iterator[upstream.Upstream]:
    """The server."""
    with upstream.served() as server:
        yield server


def test_two_thousand_pages(tmp_path: Path, pages: upstream.Upstream) -> None:
    """Each is fetched once, over connections that are kept, and the bar comes to its end."""
    pytest.importorskip("tqdm")
    recipe_code.write(tmp_path, PAGE, "Two thousand pages")
    ended = recipe_code.run(tmp_path, "fetch.py", pages.url)
    assert ended.returncode == 0, ended.stderr
    size = sum(len(f"page {number} for None") for number in range(2000))
    assert ended.stdout == f"2000 pages, {size} bytes\n"
    assert "2000/2000" in ended.stderr
    assert "failed=0" in ended.stderr
    assert pages.requests == 2000
    assert pages.connections < 200


def test_pages_that_are_not_there(tmp_path: Path) -> None:
    """They are named, and the others come."""
    pytest.importorskip("tqdm")
    recipe_code.write(tmp_path, PAGE, "Two thousand pages")
    with upstream.served(failures=3) as server:
        ended = recipe_code.run(tmp_path, "fetch.py", server.url, "--pages", "20", "--limit", "1")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("17 pages")
    assert len(re.findall(r"/\d+: Server error '503", ended.stderr)) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a process there")
def test_two_thousand_pages_until_ctrl_c(tmp_path: Path, pages: upstream.Upstream) -> None:
    """It says "Aborted!" and nothing else, soon, and closes its connections."""
    pytest.importorskip("tqdm")
    recipe_code.write(tmp_path, PAGE, "Two thousand pages")
    command = [sys.executable, "fetch.py", pages.url, "--pages", "1000000"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as program:
        try:
            assert eventually(lambda: pages.requests > 200, 60)
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=30)
        finally:
            program.kill()
    assert (program.returncode, out) == (1, "")
    assert "Aborted!" in err
    assert "Traceback" not in err
    assert "rror" not in err


@pytest.mark.parametrize("library", ["tenacity", "stamina"])
def test_retries(tmp_path: Path, library: str) -> None:
    """Three answers are errors, and each page comes all the same, in order."""
    pytest.importorskip(library)
    recipe_code.write(tmp_path, PAGE, "Retries")
    with upstream.served(failures=3) as server:
        urls = [f"{server.url}/{number}" for number in range(5)]
        ended = recipe_code.run(tmp_path, "-W", "error", f"with_{library}.py", *urls)
        assert server.requests == 8
    assert ended.stdout.splitlines() == [f"page {number} for None" for number in range(5)], ended.stderr
    assert ended.returncode == 0


def test_rates(tmp_path: Path) -> None:
    """Of 60 calls 20 begin at once; the others take at least the second that the rate gives them."""
    pytest.importorskip("aiolimiter")
    recipe_code.write(tmp_path, PAGE, "Rates")
    ended = recipe_code.run(tmp_path, "-W", "error", "at_a_rate.py", "60")
    assert ended.returncode == 0, ended.stderr
    moments = sorted(map(float, ended.stdout.split()))
    assert len(moments) == 60
    assert moments[59] - moments[0] >= 0.95
    for first, last in zip(
        moments, moments[30:], strict=False
    ):  # 20 of the bucket, and 10 of a quarter of a second
        assert last - first >= 0.2


def test_locks_for_both_worlds(tmp_path: Path) -> None:
    """No deposit is lost, and neither the threads nor the loop hang."""
    pytest.importorskip("aiologic")
    recipe_code.write(tmp_path, PAGE, "Locks for both worlds")
    ended = recipe_code.run(tmp_path, "-W", "error", "both_worlds.py")
    assert (ended.returncode, ended.stdout) == (0, "4000\n"), ended.stderr
