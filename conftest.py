"""The examples in README.md and docs/ are tests: Sybil runs their Python blocks, in one namespace a file, and in a
folder of their own, where they may leave files."""

from __future__ import annotations

import contextlib
import importlib.util
import tempfile
from typing import Any

FOLDER = "_folder_of_the_examples"


def in_a_folder_of_its_own(namespace: dict[str, Any]) -> None:
    stack = namespace[FOLDER] = contextlib.ExitStack()
    stack.enter_context(contextlib.chdir(stack.enter_context(tempfile.TemporaryDirectory())))


def back(namespace: dict[str, Any]) -> None:
    namespace[FOLDER].close()


# tests/ needs no Sybil; `nox -s doctests` asks for these files by name, and fails without it.
if importlib.util.find_spec("sybil") is not None:
    from sybil import Sybil
    from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

    pytest_collect_file = Sybil(
        parsers=[PythonCodeBlockParser(), SkipParser()],
        patterns=["README.md", "docs/*.md"],
        setup=in_a_folder_of_its_own,
        teardown=back,
    ).pytest()
