"""Who imports whom, and in a circle or not: the graph that test_architecture.py asks.

An edge is an import of one file by another, with the names that it is about. What stands inside functions or under
`TYPE_CHECKING` counts as the rest does: a reader has to follow it all the same.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple


class Edge(NamedTuple):
    """`importer` uses `names` of `imported`. Both are paths below one root, such as "compat/prefect.py"."""

    importer: str
    imported: str
    names: tuple[str, ...]


def circle(edges: Iterable[Edge]) -> list[Edge]:
    """A shortest circle of the graph, edge by edge; empty if there is none."""
    leaving: dict[str, dict[str, Edge]] = {}
    for edge in edges:
        if edge.importer != edge.imported:
            known = leaving.setdefault(edge.importer, {})
            names = known[edge.imported].names if edge.imported in known else ()
            known[edge.imported] = edge._replace(names=(*names, *edge.names))
    circles = [found for start in sorted(leaving) if (found := _way_back(leaving, start))]
    return min(circles, key=len, default=[])


def _way_back(leaving: dict[str, dict[str, Edge]], start: str) -> list[Edge]:
    """The shortest way from `start` to itself."""
    ways: dict[str, list[Edge]] = {start: []}
    todo = [start]
    for place in todo:
        for target, edge in sorted(leaving.get(place, {}).items()):
            if target == start:
                return [*ways[place], edge]
            if target not in ways:
                ways[target] = [*ways[place], edge]
                todo.append(target)
    return []


def between_folders(edges: Iterable[Edge]) -> Iterator[Edge]:
    """The same edges from folder to folder; files that lie in the root itself are in no folder."""
    for edge in edges:
        importer, imported = PurePosixPath(edge.importer).parent, PurePosixPath(edge.imported).parent
        if importer != imported and importer.name and imported.name:
            yield edge._replace(importer=f"{importer}/", imported=f"{imported}/")


def described(found: Iterable[Edge]) -> str:
    """A circle in words: both files of each edge, and the names."""
    return "\n".join(f"{edge.importer} imports {', '.join(edge.names)} of {edge.imported}" for edge in found)


def python_edges(root: Path) -> list[Edge]:
    """The edges among the files of the package in `root`. A stub stands for the extension that it describes.

    That importing a module imports its packages first is left out: it holds for all, and nobody can change it.
    """
    paths = [path for path in sorted(root.rglob("*.py*")) if path.suffix in (".py", ".pyi")]
    # One that stands beside a module counts as part of that.
    files = {_module_of(path, root): path for path in reversed(paths)}
    edges: list[Edge] = []
    for path in paths:
        module = _module_of(path, root)
        for target, name in _imports(ast.parse(path.read_text()), module, path.stem == "__init__"):
            # `from package import name` is about the module of that name, if there is one.
            for found, what in ((f"{target}.{name}", "the module"), (target, name)):
                if found in files:
                    places = (_place(files[module], root), _place(files[found], root))
                    edges.append(Edge(*places, (what,)))
                    break
    return edges


def _module_of(path: Path, root: Path) -> str:
    parts = [root.name, *path.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _place(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[str, str]]:
    """Each module that a file of that name imports anything of, in whatever way, and what it imports of it."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from ((alias.name, "the module") for alias in node.names)
            case ast.ImportFrom():
                target = _absolute(package, node.level, node.module)
                yield from ((target, alias.name) for alias in node.names)
            case ast.Call(
                func=ast.Name(id="__import__" | "import_module") | ast.Attribute(attr="import_module")
            ):
                yield from ((name, "the module") for name in _names_in(node, package))
            case ast.Call(func=ast.Name(id="_Lazy")):
                yield from ((f"{package}.{name}", "the module, lazily") for name in _names_in(node, package))
            case _:
                pass


def _absolute(package: str, level: int, module: str | None) -> str:
    if not level:
        return module or ""
    base = package.split(".")
    return ".".join([*base[: len(base) - level + 1], *([module] if module else [])])


def _names_in(call: ast.Call, package: str) -> Iterator[str]:
    """The name of a module that is given as a literal; one with a dot in front counts from the package."""
    for argument in call.args[:1]:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            name = argument.value
            dots = len(name) - len(name.lstrip("."))
            yield _absolute(package, dots, name.lstrip(".")) if dots else name
