"""Modules whose twins are written in tests."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncline._commands import main


class Write:
    """Writes modules, and the twins of their classes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def __call__(self, source: str, cls: str = "AsyncClient", *options: str) -> str:
        """The text of the twins of a module's classes; the module is called `source` there."""
        (self.folder / f"{self.name}.py").write_text(textwrap.dedent(source))
        importlib.invalidate_caches()
        output = self.folder / (f"{self.name}_twin.pyi" if "--stub" in options else f"{self.name}_twin.py")
        targets = [f"{self.name}:{each}" for each in cls.split()]
        assert main(["twin", *targets, "-o", str(output), *options]) == 0
        text = output.read_text().replace(self.name, "source")
        ast.parse(text)
        return text

    def source(self) -> Any:
        """The module that was written before."""
        return importlib.import_module(self.name)

    def module(self, source: str) -> Any:
        """The module with the twin."""
        self(source)
        return importlib.import_module(f"{self.name}_twin")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Write]:
    """For one module, which has the name of the test."""
    monkeypatch.syspath_prepend(tmp_path)
    name = re.sub(r"\W", "_", request.node.name)
    yield Write(tmp_path, name)
    for each in (name, f"{name}_twin"):
        sys.modules.pop(each, None)


def has(text: str, *parts: str) -> None:
    """That a text has these parts, in this order."""
    at = 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{part}\n\nis not in\n\n{text}"
        at = found + 1
