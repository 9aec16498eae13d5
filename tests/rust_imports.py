"""Which file of a crate uses which: read from its `use` lines and the paths in its code."""

from __future__ import annotations

import re
from pathlib import Path

from imports import Edge

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r'r#*"(?:.*?)"#*|"(?:\\.|[^"\\])*"', re.DOTALL)
_USE = re.compile(r"\buse\s+((?:crate|super|self)::[^;]+);", re.DOTALL)
_PATH = re.compile(r"(?:\$)?\b((?:crate|super)(?:::\w+)+)")


def rust_edges(src: Path) -> list[Edge]:
    """Every use of one file's names in another. Files are paths below the crate's src."""
    known = {path.relative_to(src).as_posix() for path in src.rglob("*.rs")}
    found: dict[tuple[str, str], dict[str, None]] = {}
    for user in sorted(known):
        text = _STRING.sub('""', _COMMENT.sub("", (src / user).read_text()))
        paths = [path for use in _USE.findall(text) for path in _flattened(use)]
        paths += _PATH.findall(_USE.sub("", text))
        for path in paths:
            target = _file_of(_absolute(path, user), known)
            if target is not None and target[0] != user:
                found.setdefault((user, target[0]), {})[target[1]] = None
    return [Edge(*files, tuple(names)) for files, names in found.items()]


def _flattened(use: str) -> list[str]:
    """The paths of one `use`, whose braces may hold others."""
    use = re.sub(r"\s+as\s+\w+", "", re.sub(r"\s+", " ", use)).strip()
    start = use.find("{")
    if start < 0:
        return [use]
    parts: list[str] = []
    depth, part = 0, ""
    for char in use[start + 1 : use.rindex("}")]:
        depth += (char == "{") - (char == "}")
        if char == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += char
    return [
        path for each in [*parts, part] if each.strip() for path in _flattened(use[:start] + each.strip())
    ]


def _absolute(path: str, user: str) -> list[str]:
    """The path from the crate's root on."""
    first, *rest = [part.strip() for part in path.split("::")]
    if first == "crate":
        return rest
    folder = list(Path(user).with_suffix("").parts)
    module = folder[:-1] if folder[-1] in ("mod", "lib") else folder
    while first == "super":
        module = module[:-1]
        if not rest or rest[0] != "super":
            break
        first, *rest = rest
    return [*module, *rest]


def _file_of(path: list[str], files: set[str]) -> tuple[str, str] | None:
    """The file that a path leads into, and the name that is used there."""
    for length in range(len(path), 0, -1):
        stem = "/".join(path[:length])
        for file in (f"{stem}.rs", f"{stem}/mod.rs"):
            if file in files:
                name = "::".join(part for part in path[length:] if part != "self")
                return file, name or path[length - 1]
    return None
