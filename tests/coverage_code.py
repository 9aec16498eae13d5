"""A program with nested calls, each of whose lines runs: for coverage.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = """\
import asyncio
import syncline

async def inner(n):
    await asyncio.sleep(0.001)
    doubled = n * 2
    return doubled

def sync_code(n):
    before = n
    value = syncline.run_sync(inner, before)
    after = value + 1
    return after

async def outer(n):
    first = sync_code(n)
    await asyncio.sleep(0)
    second = sync_code(first)
    third = second + 1
    return third

async def many():
    results = await asyncio.gather(*map(outer, range(3)))
    total = sum(results)
    return total

one = syncline.run_sync(many)
two = syncline.Bridge(scope="caller").run_sync(outer, 1)
assert one + two
"""


def missing_lines(folder: Path, configuration: str) -> tuple[Any, str]:
    """The lines of the program that coverage.py misses with that pyproject.toml, None if it makes no report; and what
    it says on standard error."""
    (folder / "pyproject.toml").write_text(configuration)
    (folder / "program.py").write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    said = ""
    for command in (["run", "program.py"], ["json", "--quiet", "-o", "out.json"]):
        arguments = [sys.executable, "-m", "coverage", *command]
        ran = subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=50
        )
        said += ran.stderr
        if ran.returncode:
            return None, said
    return json.loads((folder / "out.json").read_text())["files"]["program.py"]["missing_lines"], said
