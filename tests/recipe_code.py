"""The code of docs/recipes*.md, as files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"


def section(page: str, title: str) -> str:
    """What stands below a heading of a page, up to the next one of its level."""
    text = (DOCS / page).read_text()
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {title!r}"
    return found[2]


def files(page: str, title: str) -> dict[str, str]:
    """The code blocks of a section that begin with a file's name in a comment, by that name."""
    blocks = re.findall(
        r"^```\w+\n[#;] ([\w./]+)\n(.*?)^```$", section(page, title), re.MULTILINE | re.DOTALL
    )
    return dict(blocks)


def write(folder: Path, page: str, title: str) -> None:
    """Puts the files of a section into a folder."""
    for name, text in files(page, title).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def run(folder: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs a module of this Python in that folder, to its end."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **env},
    )
