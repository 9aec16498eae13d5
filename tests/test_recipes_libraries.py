"""docs/recipes-libraries.md: an SDK in both worlds, and fixtures for sync tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import recipe_code
import upstream

PAGE = "recipes-libraries.md"


@pytest.mark.parametrize("world", ["in_sync_code", "in_async_code"])
def test_an_sdk_in_both_worlds(tmp_path: Path, world: str) -> None:
    """The same lines, over one connection, and nothing on stderr."""
    recipe_code.write(tmp_path, PAGE, "An SDK for sync and async code")
    with upstream.served() as server:
        ended = recipe_code.run(tmp_path, "-W", "error", f"{world}.py", UPSTREAM=server.url)
        assert server.connections == 1
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["page tea for price", "page tea for price", "page milk for price"]


def test_fixtures_for_sync_tests(tmp_path: Path) -> None:
    """Warnings are errors, so that nothing is left open."""
    recipe_code.write(tmp_path, PAGE, "Fixtures for sync tests")
    options = (
        "-q",
        "-W",
        "error",
        "-p",
        "no:asyncio",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        f"--rootdir={tmp_path}",
    )
    ended = recipe_code.run(tmp_path, "-m", "pytest", *options, str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "2 passed" in ended.stdout
