"""What `help` and editors show: a docstring for each public name, the stub's the same as the extension's."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

import syncline
from syncline import _core

STUB = ast.parse(Path(_core.__file__).with_name("_core.pyi").read_text())
BASES_OF_PUBLIC_CLASSES = {
    base.__name__
    for name in syncline.__all__
    if inspect.isclass(public := getattr(syncline, name))
    for base in public.__mro__
    if base.__module__ in ("syncline._core", "syncline")
}


def documented() -> dict[str, tuple[ast.FunctionDef | ast.ClassDef, Any]]:
    """What users meet of the stub, by its dotted name, each with its counterpart in the extension."""
    found: dict[str, tuple[ast.FunctionDef | ast.ClassDef, Any]] = {}
    for node in STUB.body:
        if isinstance(node, ast.FunctionDef) and node.name in syncline.__all__:
            found[node.name] = (node, getattr(_core, node.name))
        if not isinstance(node, ast.ClassDef) or node.name not in BASES_OF_PUBLIC_CLASSES:
            continue
        owner = getattr(_core, node.name)
        found[node.name] = (node, owner)
        for member in node.body:
            # Of overloads and setters the first stands for all. What the stub repeats of a base has that one's words.
            if isinstance(member, ast.FunctionDef) and member.name in vars(owner) and member.name[0] != "_":
                found.setdefault(f"{node.name}.{member.name}", (member, getattr(owner, member.name)))
    return found


@pytest.mark.parametrize("name", [name for name in syncline.__all__ if callable(getattr(syncline, name))])
def test_each_public_name_has_a_docstring(name: str) -> None:
    """Its own, not one that it inherits from a builtin."""
    public = getattr(syncline, name)
    if public is syncline.BridgeStats:
        pytest.skip("a dict at run time; type checkers see a TypedDict")
    assert public.__doc__
    assert not (inspect.isclass(public) and public.__doc__ == public.__base__.__doc__)


@pytest.mark.parametrize("name", documented())
def test_the_stub_says_what_the_extension_says(name: str) -> None:
    """Hovering in an editor shows what `help` shows."""
    node, counterpart = documented()[name]
    own = inspect.cleandoc(counterpart.__doc__ or "") or None
    assert ast.get_docstring(node) == own


def test_the_help_of_run_sync_shows_how_to_limit_its_time() -> None:
    """All its arguments are the function's, so that it has no `timeout`."""
    for function in (syncline.run_sync, syncline.Bridge.run_sync):
        assert "run(fn(...), timeout=" in (function.__doc__ or "")
