"""What may use what: no circles among files or folders, and no file that is too long to be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from imports import Edge, between_folders, circle, described, python_edges
from mutants import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "syncline"


def test_no_python_files_import_each_other_in_a_circle() -> None:
    """Neither at the top, nor in functions, nor for type checkers, nor lazily."""
    found = circle(python_edges(PACKAGE))
    assert not found, described(found)


def test_no_python_folders_import_each_other_in_a_circle() -> None:
    """As for the files."""
    found = circle(between_folders(python_edges(PACKAGE)))
    assert not found, described(found)


def test_the_graph_has_what_we_know_of() -> None:
    """An import at the top, one for type checkers, one in a function, a lazy one, one by a stub, one from above."""
    edges = {(edge.importer, edge.imported) for edge in python_edges(PACKAGE)}
    assert {
        ("__init__.py", "_default.py"),
        ("_converted.py", "_core.pyi"),
        ("_nestable.py", "_trio.py"),
        ("_bridge.py", "_dual.py"),
        ("_core.pyi", "_stats.py"),
        ("compat/flytekit.py", "__init__.py"),
        ("compat/prefect.py", "_groups.py"),
    } <= edges


def test_the_table_of_the_package_names_each_file() -> None:
    """docs/internals.md says where to begin."""
    there = {path.stem for path in PACKAGE.glob("*.py")} | {
        f"{path.name}/" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()
    }
    _, _, text = (ROOT / "docs" / "internals.md").read_text().partition("\n## The Python package\n")
    rows = [line.split("|")[2] for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    named = [name for row in rows[1:] for name in re.findall(r"`(\w+/?)`", re.sub(r"\(.*?\)", "", row))]
    assert sorted(named) == sorted(there)


def package(root: Path, files: dict[str, str]) -> Path:
    """A made-up package."""
    for name, text in files.items():
        path = root / "made_up" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "made_up"


@pytest.mark.parametrize(
    "back",
    [
        "from .first import name",
        "from . import first",
        "import made_up.first",
        "from made_up import first",
        "if TYPE_CHECKING:\n    from .first import name",
        "def function():\n    from .first import name",
        "class Class:\n    def method(self):\n        import made_up.first as other",
        "__import__('made_up.first', fromlist=['name'])",
        "import importlib\nimportlib.import_module('.first', __package__)",
        "from importlib import import_module\nimport_module('made_up.first')",
        "first = _Lazy('first')",
    ],
)
def test_a_circle_of_files_is_found_however_they_import(tmp_path: Path, back: str) -> None:
    """Both files are named, and what they import."""
    root = package(
        tmp_path, {"__init__.py": "", "first.py": "from .second import some, thing", "second.py": back}
    )
    found = circle(python_edges(root))
    assert [(edge.importer, edge.imported) for edge in found] == [
        ("first.py", "second.py"),
        ("second.py", "first.py"),
    ]
    assert "first.py imports some, thing of second.py" in described(found)
    assert found[1].names


def test_a_circle_through_three_files_and_a_stub_is_found(tmp_path: Path) -> None:
    """The stub stands for what it describes."""
    files = {
        "__init__.py": "",
        "a.py": "from .b import x",
        "b.pyi": "from .c import y",
        "c.py": "from .a import z",
    }
    found = circle(python_edges(package(tmp_path, files)))
    assert described(found).splitlines() == [
        "a.py imports x of b.pyi",
        "b.pyi imports y of c.py",
        "c.py imports z of a.py",
    ]


def test_a_circle_of_folders_is_found_where_no_files_make_one(tmp_path: Path) -> None:
    """Two folders that use each other by different files."""
    files = {
        "__init__.py": "from .one.a import x",
        "one/__init__.py": "",
        "one/a.py": "from ..two.a import x",
        "one/b.py": "",
        "two/__init__.py": "",
        "two/a.py": "from ..one.b import y",
    }
    edges = python_edges(package(tmp_path, files))
    assert not circle(edges)
    found = circle(between_folders(edges))
    assert described(found) == "one/ imports x of two/\ntwo/ imports y of one/"


def test_what_only_goes_down_is_no_circle(tmp_path: Path) -> None:
    """Nor are imports of others, of itself, and of two names of one module."""
    files = {
        "__init__.py": "from .a import x\nfrom .b import y",
        "a.py": "import os\nfrom .b import y, z\nfrom . import b",
        "b.py": "import made_up.b",
    }
    assert not circle(python_edges(package(tmp_path, files)))


def test_the_shortest_circle_is_named() -> None:
    """In a graph with several."""
    edges = [Edge(*pair, ("x",)) for pair in ("ab", "bc", "cd", "da", "ca", "ef", "fe")]
    assert [(edge.importer, edge.imported) for edge in circle(edges)] == [("e", "f"), ("f", "e")]


@pytest.mark.parametrize("folder", ["python", "tests", "crates"])
def test_no_file_is_longer_than_500_lines(folder: str) -> None:
    """What is longer is several files."""
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".pyi", ".rs")]
    long = {
        str(path.relative_to(ROOT)): length
        for path in files
        if (length := len(path.read_text().splitlines())) > 500
    }
    assert files
    assert not long


def test_no_two_files_of_tests_have_the_same_name() -> None:
    """They are modules without packages: pytest could not collect both in one run."""
    paths = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(paths) > 1
    doubles = [path for path in (ROOT / "tests").rglob("test_*.py") if paths[path.name] != path]
    assert not doubles


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_what_is_in_the_code(mutant: Mutant) -> None:
    """Its text is there once, and so are its tests: `nox -s mutants` runs seldom, and the code moves on."""
    assert mutant.stands_once()
    assert mutant.new != mutant.old
    tests = [ROOT / word for word in mutant.tests.split() if word.startswith("tests/")]
    assert tests
    assert all(path.is_file() for path in tests)
