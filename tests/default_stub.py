"""The stub of `syncline/_default.py`, made of the bridge's methods that the module's functions are.

`python tests/default_stub.py` writes it, and tests/test_types.py fails where that would change it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "python" / "syncline"
STUB = PACKAGE / "_default.pyi"
CLASSES = {"_bridge.py": "Bridge", "_many/methods.py": "ManyCalls", "_core.pyi": "Bridge"}
"""Whose methods they are: the first that has one of that name."""
ABOUT = """\
'''What type checkers and editors see of `_default.py`: the functions of the module, as the methods that they are.
Written by tests/default_stub.py.'''
"""


def text() -> str:
    """The stub; the order of its imports and its lines are left to ruff."""
    module = ast.parse((PACKAGE / "_default.py").read_text())
    functions: list[ast.FunctionDef] = []
    imports: dict[str, str] = {}
    for node in module.body:
        match node:
            case ast.FunctionDef():
                functions.append(_shown(node, node, has_docstring=True))
                imports |= _imports("_default.py")
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Attribute(value=ast.Name(id="_default"))):
                file, found = _methods(name)
                functions += found
                imports = _imports(file) | imports
            case _:
                pass
    body = re.sub(r"\b_(?=[A-Z]\b)", "", "\n".join(map(ast.unparse, functions)))
    used = {node.id for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Name)}
    needed = [line for name, line in imports.items() if name in used or line.startswith("from typing ")]
    variables = sorted(name for name in used if re.fullmatch(r"[A-Z]\d?|Ts", name) and name not in imports)
    declared = [f"{name} = {_variable(name)}" for name in variables]
    typing = (
        "from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, TypeVarTuple, Unpack, overload"
    )
    # As at the methods.
    pyright, mypy = (
        "# pyright: reportOverlappingOverload=false",
        '# mypy: disable-error-code="overload-overlap"',
    )
    return "\n".join([ABOUT, pyright, mypy, typing, *dict.fromkeys(needed), "", *declared, "", body, ""])


def _variable(name: str) -> str:
    kind = {"P": "ParamSpec", "Ts": "TypeVarTuple"}.get(name, "TypeVar")
    return f'{kind}("{name}")'


def _methods(name: str) -> tuple[str, list[ast.FunctionDef]]:
    """The file that has a method, and its overloads, or itself."""
    for file, owner in CLASSES.items():
        tree = ast.parse((PACKAGE / file).read_text())
        (cls,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == owner]
        defined = [
            node
            for node in cls.body
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name
        ]
        if defined:
            shown = [node for node in defined if node.decorator_list] or defined
            for node in shown:
                (node.args.posonlyargs or node.args.args).pop(0)
            return file, [_shown(node, defined[-1], has_docstring=node is shown[0]) for node in shown]
    raise LookupError(name)


def _shown(
    node: ast.FunctionDef | ast.AsyncFunctionDef, described: ast.AST, *, has_docstring: bool
) -> ast.FunctionDef:
    """A function without its code."""
    assert isinstance(described, (ast.FunctionDef, ast.AsyncFunctionDef))
    text = (ast.get_docstring(described) or "").replace("\n", "\n    ").replace("\n    \n", "\n\n")
    if "\n" in text:
        text += "\n    "
    node.body = [ast.Expr(ast.Constant(text if has_docstring else ...))]
    return node  # type: ignore[return-value]


def _imports(file: str) -> dict[str, str]:
    """What a file imports from where, as lines for the stub."""
    found: dict[str, str] = {}
    folder = Path(file).parent.parts
    for node in ast.walk(ast.parse((PACKAGE / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            parts = folder[: len(folder) - node.level + 1]
            module = ".".join([*parts, *([node.module] if node.module else [])])
            dots = "." if node.level else ""
            for alias in node.names:
                found[alias.asname or alias.name] = f"from {dots}{module} import {alias.name}"
        elif isinstance(node, ast.ClassDef):
            found[node.name] = f"from .{'.'.join(Path(file).with_suffix('').parts)} import {node.name}"
    return found


def definitions(source: str) -> Iterator[str]:
    """What a stub says, whatever its layout."""
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if docstring := ast.get_docstring(node):
                node.body = [ast.Expr(ast.Constant(docstring))]
            # ruff leaves out what is a default: `Generator[Y, S]` is `Generator[Y, S, None]`.
            yield re.sub(r"(, None)+\]", "]", ast.unparse(node))


if __name__ == "__main__":
    STUB.write_text(text())
