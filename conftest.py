"""The examples in README.md and docs/ are tests: Sybil runs their Python blocks, in one namespace a file."""

from __future__ import annotations

import importlib.util

# tests/ needs no Sybil; `nox -s doctests` asks for these files by name, and fails without it.
if importlib.util.find_spec("sybil") is not None:
    from sybil import Sybil
    from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

    pytest_collect_file = Sybil(
        parsers=[PythonCodeBlockParser(), SkipParser()],
        patterns=["README.md", "docs/*.md"],
    ).pytest()
