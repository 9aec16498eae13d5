"""`python -m syncline twin`: writes the blocking twins of async classes, or checks that they are up to date."""

from __future__ import annotations

import difflib
import enum
import importlib
import inspect
import shlex
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._bridge import Bridge
from .._twins.surface import has_async_members
from .._writing.module import Wanted, default_name, module
from .._writing.source import class_definition
from .errors import Error

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_WIDTH = 88
_PROJECT = ("pyproject.toml", "ruff.toml", ".ruff.toml", "setup.cfg", ".git")
"""What is in the folder of a project."""
_SHOWN = 40
"""Lines of a difference."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "target",
        nargs="+",
        metavar="MODULE:CLASS[=NAME]",
        help="an async class, such as sdk.client:AsyncClient, and the name of its twin:\n"
        "by default Client for AsyncClient, and BlockingClient for Client. Objects of\n"
        "classes that are given together go in and come out as each other's twins",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the file to write; without it the text is printed"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; end with status 1 if FILE is not what would be written",
    )
    parser.add_argument(
        "--stub", action="store_true", help="write a stub (.pyi), for twins that syncline.blocking makes"
    )
    parser.add_argument(
        "--bridge",
        metavar="MODULE:NAME",
        help="where objects live; on the default bridge, if that isn't said",
    )
    parser.add_argument(
        "--line-length",
        type=int,
        metavar="N",
        default=_WIDTH,
        help=f"as your formatter has it; {_WIDTH} by default",
    )


def run(arguments: argparse.Namespace) -> int:
    """Carries out the command."""
    output = None if arguments.output is None else Path(arguments.output)
    if arguments.check and output is None:
        raise Error("--check compares with a file; say which one with -o FILE")
    if output is not None:
        _look_at(output, is_stub=arguments.stub)
    package, root = (None, None) if output is None else _place_of(output)
    modules = [each.partition(":")[0] for each in (*arguments.target, arguments.bridge or "")]
    if output is not None and package is not None:
        _import_without(output, package, [each for each in modules if each.partition(".")[0] == package])
    wanted = [_wanted(target) for target in arguments.target]
    _look_for_async(wanted, arguments.target)
    _look_for_doubles(wanted)
    command = _command(arguments)
    text = module(
        wanted,
        command=command,
        package=package,
        root=root,
        name=output.stem if output is not None and package is None and not arguments.stub else None,
        bridge=None if arguments.bridge is None else _bridge(arguments.bridge),
        is_stub=arguments.stub,
        width=arguments.line_length,
        note=_ignored if arguments.check else _note,
    )
    if output is None:
        sys.stdout.write(text)
        return 0
    if arguments.check:
        return _compare(output, text, f"{' '.join(command)} -o {shlex.quote(str(output))}")
    if not output.exists() or output.read_text(encoding="utf-8") != text:
        output.write_text(text, encoding="utf-8", newline="\n")
    return 0


def _note(text: str) -> None:
    print(f"syncline twin: {text}", file=sys.stderr)


def _ignored(text: str) -> None: ...


def _command(arguments: argparse.Namespace) -> list[str]:
    """What writes the same text again, wherever it is to go."""
    options = ["--stub"] * arguments.stub
    if arguments.bridge is not None:
        options.append(f"--bridge={arguments.bridge}")
    if arguments.line_length != _WIDTH:
        options.append(f"--line-length={arguments.line_length}")
    return ["python", "-m", "syncline", "twin", *options, *map(shlex.quote, arguments.target)]


def _look_at(output: Path, *, is_stub: bool) -> None:
    """Raises Error where a file can't be written."""
    if output.is_dir():
        raise Error(f"{output} is a folder; -o takes a file in it")
    if not output.parent.is_dir():
        raise Error(f"there is no folder {output.parent}; make it first")
    suffix = ".pyi" if is_stub else ".py"
    if output.suffix != suffix:
        what = "a stub" if is_stub else "the source of a twin"
        raise Error(f"{what} is written to a file that ends in {suffix}, not to {output}")


def _wanted(target: str) -> Wanted:
    """The class that the user names."""
    where, _, name = target.partition("=")
    module_name, colon, class_name = where.partition(":")
    if not colon or not module_name or not class_name:
        raise Error(f"{target!r} is not MODULE:CLASS, such as package.module:AsyncClient")
    if name and not name.isidentifier():
        raise Error(f"{name!r} can't be the name of a class")
    found = _imported(module_name)
    cls = found
    for part in class_name.split("."):
        try:
            cls = getattr(cls, part)
        except AttributeError:
            raise Error(_no_such_class(found, module_name, class_name)) from None
    if not isinstance(cls, type):
        raise Error(f"{where} is not a class: it is of type {type(cls).__name__}")
    _look_at_class(cls, where)
    return Wanted(cls, name or default_name(cls))


def _look_for_async(wanted: Sequence[Wanted], targets: Sequence[str]) -> None:
    """Raises Error where none of the classes is async; one that leads to others has no async methods itself."""
    if not any(has_async_members(each.cls) for each in wanted):
        where = targets[0].partition("=")[0]
        raise Error(
            f"{where} has no async methods: sync code can use it as it is; if it leads to objects that have, name "
            "their classes, too"
        )


def _bridge(where: str) -> tuple[str, str]:
    """The module and the name of a bridge."""
    module_name, _, name = where.partition(":")
    if not (module_name and name.isidentifier()):
        raise Error(f"--bridge takes MODULE:NAME, such as package.loop:bridge, not {where!r}")
    found = getattr(_imported(module_name), name, None)
    if not isinstance(found, Bridge):
        raise Error(f"{where} is no bridge; make one there: {name} = syncline.Bridge(name={name!r})")
    return module_name, name


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise Error(
                f"there is no module {error.name!r} (looked for in this folder, and where Python finds packages)"
            ) from None
        raise Error(f"importing {name!r} failed: {error}") from error
    except Exception as error:
        raise Error(f"importing {name!r} failed: {type(error).__name__}: {error}") from error


def _import_without(output: Path, package: str, modules: Sequence[str]) -> None:
    """Imports modules of the package that the file is part of, which may import the file: before it is there, or while
    it is that of a class that has another name now."""
    before = set(sys.modules)
    try:
        for name in modules:
            importlib.import_module(name)
    except Exception:
        for name in [
            each for each in sys.modules if each not in before and each.partition(".")[0] == package
        ]:
            del sys.modules[name]
    else:
        return
    parts = [output.stem]
    for folder in output.resolve().parents:
        parts.insert(0, folder.name)
        if folder.name == package and not (folder.parent / "__init__.py").exists():
            break
    stand_in: Any = types.ModuleType(".".join(parts))
    stand_in.__getattr__ = _class_to_come
    sys.modules[stand_in.__name__] = stand_in
    try:
        for name in modules:
            _imported(name)
    finally:
        del sys.modules[stand_in.__name__]


def _class_to_come(name: str) -> type:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})


def _no_such_class(found: Any, module_name: str, class_name: str) -> str:
    classes = [name for name in dir(found) if name[0] != "_" and isinstance(getattr(found, name), type)]
    near = difflib.get_close_matches(class_name, classes)
    there = (
        f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(classes[:10])}" if classes else ""
    )
    return f"the module {module_name!r} has no class {class_name!r}{there}"


def _look_at_class(cls: type, where: str) -> None:
    """Raises Error for a class that can't get a twin."""
    outer, is_local, _ = cls.__qualname__.partition(".<locals>")
    if is_local:
        raise Error(
            f"{where} is defined inside of {outer!r}; move it to the top of its module, where the twin can import it"
        )
    if enum.Enum in cls.__mro__:
        raise Error(
            f"{where} is an enum, whose members are there before anybody makes one; call its async methods by "
            "syncline.run_sync, or give members a twin by syncline.blocking(member)"
        )
    if class_definition(cls) is None:
        is_python = any(inspect.isfunction(value) for value in vars(cls).values())
        why = "it has no source file that can be read" if is_python else "it is not written in Python"
        raise Error(f"{where} can't be read: {why}")


def _look_for_doubles(wanted: Sequence[Wanted]) -> None:
    names: dict[str, type] = {}
    for each in wanted:
        known = names.setdefault(each.name, each.cls)
        if known is not each.cls:
            raise Error(
                f"{known.__qualname__} and {each.cls.__qualname__} would both get the twin {each.name!r}; name one: "
                f"{each.cls.__module__}:{each.cls.__qualname__}=OtherName"
            )
    if len({each.cls for each in wanted}) < len(wanted):
        raise Error("a class is given twice")


def _place_of(output: Path) -> tuple[str | None, Path | None]:
    """The top-level package that a file is in, and the folder of that, if formatters take what is there for the
    project's own: the project's folder, or `src` in it."""
    root = output.resolve().parent
    package = None
    while (root / "__init__.py").exists():
        package, root = root.name, root.parent
    project = next(
        (each for each in (root, *root.parents) if any((each / name).exists() for name in _PROJECT)), root
    )
    return package, root if root in (project, project / "src") else None


def _compare(output: Path, text: str, command: str) -> int:
    """Says whether the file is what would be written: by the exit status, and in words if it isn't."""
    if not output.exists():
        print(f"{output} is not there; write it: {command}", file=sys.stderr)
        return 1
    before = output.read_text(encoding="utf-8")
    if before == text:
        return 0
    lines = list(
        difflib.unified_diff(
            before.splitlines(),
            text.splitlines(),
            f"{output} (as it is)",
            f"{output} (to be written)",
            lineterm="",
            n=1,
        )
    )
    print(*lines[:_SHOWN], sep="\n")
    if len(lines) > _SHOWN:
        print(f"... and {len(lines) - _SHOWN} more lines")
    print(f"{output} is out of date; write it again: {command}", file=sys.stderr)
    return 1
