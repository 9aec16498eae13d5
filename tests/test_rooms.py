"""The rooms of the extension's crate: each uses only those before it, and what holds in all of them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest

from imports import Edge, circle, described
from rust_imports import rust_edges

CRATES = Path(__file__).parent.parent / "crates"
EXTENSION = CRATES / "syncline-py" / "src"
CORE = CRATES / "syncline-core" / "src"
ROOMS = ["python", "coroutine", "switch", "call", "task", "runner", "worker", "bridge", "dual"]
"""From the ground up. lib.rs and lifecycle.rs stand on top of them."""
LOCKED = re.compile(r"\*lock\([^;{}]*\)\s*=[^=]|mem::(?:replace|take|swap)\(&mut \*lock\(")
TYPE = re.compile(
    r"^(?!(?:struct|enum) State\b)"  # Many files have one for themselves.
    r"(?:pub(?:\([a-z]+\))? )?(?:(?:struct|enum|trait|union) (\w+)"
    r"|type (\w+)\b(?! = [\w:]+::\2<))",  # With its parameters filled in, a generic type is the same type.
    re.MULTILINE,
)


def height(file: str) -> int:
    """How high up a file stands."""
    folder = PurePosixPath(file).parts[0]
    return ROOMS.index(folder) if folder in ROOMS else len(ROOMS)


def upward(edges: list[Edge]) -> list[Edge]:
    """The edges that lead to a higher room."""
    return [edge for edge in edges if height(edge.imported) > height(edge.importer)]


def test_each_room_uses_only_rooms_below() -> None:
    """The two files and the names are said where one doesn't."""
    found = upward(rust_edges(EXTENSION))
    assert not found, described(found)


@pytest.mark.parametrize("src", [EXTENSION, CORE], ids=["extension", "core"])
def test_no_rust_files_use_each_other_in_a_circle(src: Path) -> None:
    """Within a room, too."""
    found = circle(rust_edges(src))
    assert not found, described(found)


def test_every_folder_is_a_room() -> None:
    """A new one has to be given its place."""
    assert {path.name for path in EXTENSION.iterdir() if path.is_dir()} == set(ROOMS)


def test_the_graph_has_what_we_know_of() -> None:
    """A `use` of a file, of names in braces, of a nested brace, an inline path, `super`."""
    edges = {(edge.importer, edge.imported) for edge in rust_edges(EXTENSION)}
    assert {
        ("lib.rs", "lifecycle.rs"),
        ("bridge/execution.rs", "runner/hop.rs"),
        ("dual/binding.rs", "bridge/shared.rs"),
        ("runner/thread.rs", "runner/selector.rs"),
        ("worker/work.rs", "call/waiter.rs"),
    } <= edges


def crate(root: Path, files: dict[str, str]) -> Path:
    """A made-up crate."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "line",
    [
        "use crate::dual::usage::Usage;",
        "use crate::dual::usage;",
        "use crate::{dual::usage::{self, Usage}, python::names};",
        "fn f() { crate::dual::usage::f(); }",
        "fn f() -> crate::dual::usage::Usage { todo!() }",
        "use super::super::dual::usage::Usage as Other;",
    ],
)
def test_a_use_of_a_higher_room_is_found(tmp_path: Path, line: str) -> None:
    """However it is written."""
    src = crate(tmp_path, {"call/wait.rs": line, "dual/usage.rs": "", "python/names.rs": ""})
    (edge,) = upward(rust_edges(src))
    assert edge[:2] == ("call/wait.rs", "dual/usage.rs")
    assert edge.names


def test_what_only_a_comment_or_a_text_says_is_no_use(tmp_path: Path) -> None:
    """They may name whatever explains something."""
    text = '// See crate::dual::usage.\nconst TEXT: &str = "crate::dual::usage::Usage";\n'
    assert not rust_edges(crate(tmp_path, {"call/wait.rs": text, "dual/usage.rs": ""}))


def test_a_circle_within_a_room_is_found(tmp_path: Path) -> None:
    """By `super` as well."""
    src = crate(tmp_path, {"call/a.rs": "use super::b::B;", "call/b.rs": "use crate::call::a::A;"})
    assert {edge.importer for edge in circle(rust_edges(src))} == {"call/a.rs", "call/b.rs"}


def sources() -> list[Path]:
    """The files of both crates."""
    return [*EXTENSION.rglob("*.rs"), *CORE.rglob("*.rs")]


def test_nothing_is_dropped_under_a_lock() -> None:
    """`replace` and `take` of the core's `sync` give the old value out; an assignment would drop it there."""
    found = [
        path.relative_to(CRATES).as_posix()
        for path in sources()
        if path.name != "sync.rs" and LOCKED.search(path.read_text())
    ]
    assert not found


def test_the_search_for_values_dropped_under_a_lock_finds_them() -> None:
    """An assignment, and the long forms of `replace` and `take`; not a comparison or a look."""
    for line in [
        "*lock(&self.a) = b;",
        "std::mem::take(&mut *lock(&self.a))",
        "mem::replace(&mut *lock(&ALL), b)",
    ]:
        assert LOCKED.search(line)
    for line in ["*lock(&self.a) == b", "lock(&self.a).clone()", "take(&self.a)"]:
        assert not LOCKED.search(line)


def types(text: str) -> list[str]:
    """The names of a file's types that no other file may have."""
    return [struct or alias for struct, alias in TYPE.findall(text)]


def test_no_two_types_have_one_name() -> None:
    """In both crates; but for a private `State`."""
    seen: dict[str, str] = {}
    twice: dict[str, list[str]] = {}
    for path in sorted(sources()):
        file = path.relative_to(CRATES).as_posix()
        for name in types(path.read_text()):
            if seen.setdefault(name, file) != file:
                twice.setdefault(name, [seen[name]]).append(file)
    assert not twice


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("pub struct Kind {", ["Kind"]),
        ("pub(crate) enum Kind<T> {", ["Kind"]),
        ("type Pair<'a> = ();", ["Pair"]),
        ("struct State {", []),
        ("pub struct State {", ["State"]),
        ("pub type Find = runners::Find<RunnerKey>;", []),
        ("pub type Find = runners::Start<RunnerKey>;", ["Find"]),
        ("pub type Find = (u8, Find<u8>);", ["Find"]),
    ],
)
def test_the_types_that_no_other_file_may_have_are_found(line: str, names: list[str]) -> None:
    """A private `State` and the core's type with its parameters filled in are none of them."""
    assert types(line) == names
