"""The names that a written module uses, and its imports.

1. A name is imported from where the source has it from. Where that is private, such as `package._models`, it comes from
   a public place that offers the same object, if there is one; but not into a module of that same package, whose
   `__init__` may be about to import it.
2. A name that is taken already gets an underscore in front. So does one that a member of a twin has: in the class's
   body it means that. A builtin one is said with its module.
3. What the source imports for type checkers only, is imported so here.
"""

from __future__ import annotations

import ast
import builtins
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .layout import WIDTH
from .source import Import, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from .source import Source


@dataclass
class Names:
    """The imports of one module that is written."""

    package: str | None
    """The top-level package that it will be part of, if that is known."""
    root: Path | None
    """The folder whose modules are the same project's, if that is known."""
    name: str | None
    """That of the module in this folder, if it stands there."""
    taken: set[str]
    """The names that it defines."""
    members: frozenset[str] = frozenset()
    """Those of the twins' members (by 2)."""
    bound: dict[str, Import] = field(default_factory=dict[str, Import])

    def imported(self, module: str, what: str, *, for_checkers: bool = False) -> str:
        """Imports a name of a module, unless that was done; returns what it is called here."""
        return self._bind(what, Import(self._public(module, what), what, for_checkers))

    def at_run_time(self, name: str) -> None:
        """What a name here stands for is needed when the module runs."""
        if name in self.bound:
            self.bound[name] = replace(self.bound[name], for_checkers=False)

    def of(self, source: Source, name: str, chain: str, *, at_run_time: bool) -> str:
        """What is called `name` in a module that is read, as it is called here.

        chain: the name with the attributes that are asked of it.
        """
        found = binding(source, name)
        if found is None:  # a builtin one
            if name not in self.members:
                return name
            return f"{self._bind('builtins', Import('builtins', None, for_checkers=False))}.{name}"
        for_checkers = found.for_checkers and not at_run_time
        if found.what is not None:
            return self._bind(name, Import(self._public(found.module, found.what), found.what, for_checkers))
        if name != found.module.partition(".")[0]:
            return self._bind(name, Import(found.module, None, for_checkers))
        # `import a.b` and `import a.c` both bind `a`.
        fitting = [each for each in source.imports.get(name, []) if f"{chain}.".startswith(f"{each.module}.")]
        found = max(fitting, key=lambda each: len(each.module), default=found)
        if "." not in found.module or name in self.taken | self.members:
            return self._bind(name, Import(name, None, for_checkers))
        self._bind(found.module, replace(found, for_checkers=for_checkers))
        return name

    def meaning(self, written: ast.expr) -> Any:
        """The object that stands behind a name of the module that is written; None where that isn't known."""
        match written:
            case ast.Name(id=name) if name in self.bound:
                each = self.bound[name]
                there = sys.modules.get(each.module)
                return there if each.what is None else getattr(there, each.what, None)
            case ast.Name(id=name):
                return getattr(builtins, name, None)
            case ast.Attribute(value=value, attr=name):
                return getattr(self.meaning(value), name, None)
            case _:
                return None

    def lines(self, used: set[str]) -> Iterator[str]:
        """The import statements for what is used, in the order of isort; a blank line between its sections."""
        bound = {name: each for name, each in self.bound.items() if name in used}
        run = {name: each for name, each in bound.items() if not each.for_checkers}
        checked = {name: each for name, each in bound.items() if each.for_checkers}
        if checked:
            run.setdefault("TYPE_CHECKING", Import("typing", "TYPE_CHECKING", for_checkers=False))
        yield from self._sections(run, 0)
        if checked:
            yield ""
            yield "if TYPE_CHECKING:"
            yield from self._sections(checked, 4)

    def _sections(self, bound: dict[str, Import], indent: int) -> Iterator[str]:
        sections: dict[int, list[tuple[str, Import]]] = {}
        for name, each in bound.items():
            sections.setdefault(self._section(each.module), []).append((name, each))
        for number, (_, members) in enumerate(sorted(sections.items())):
            if number:
                yield ""
            plain = sorted((each.module, name) for name, each in members if each.what is None)
            for module, name in plain:
                alias = "" if name == module else f" as {name}"
                yield " " * indent + f"import {module}{alias}"
            modules: dict[str, list[tuple[str, str]]] = {}
            for name, each in members:
                if each.what is not None:
                    modules.setdefault(each.module, []).append((each.what, name))
            for module, names in sorted(modules.items()):
                yield from _from(module, names, indent)

    def _section(self, module: str) -> int:
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names:
            return 0
        if top == self.package:
            return 2
        is_beside = self.root is not None and (
            top == self.name or (self.root / f"{top}.py").is_file() or (self.root / top).is_dir()
        )
        return 2 if is_beside else 1

    def _bind(self, name: str, wanted: Import) -> str:
        while True:
            known = self.bound.get(name)
            if known is None and name.partition(".")[0] not in self.taken | self.members:
                self.bound[name] = wanted
                return name
            if known is not None and _are_same(known, wanted):
                if known.for_checkers:
                    self.bound[name] = wanted
                return name
            name = f"_{name}"

    def _public(self, module: str, what: str) -> str:
        """The module to import from (by 1)."""
        parts = module.split(".")
        is_ours = parts[0] == self.package
        if is_ours or not _is_private(module):
            return _offering(module, what, may_be_private=is_ours)
        there = sys.modules.get(module)
        for length in range(1, len(parts)):
            above = ".".join(parts[:length])
            holder = sys.modules.get(above)
            if (
                not _is_private(above)
                and hasattr(holder, what)
                and getattr(holder, what) is getattr(there, what, None)
                and _offers(above, what)
            ):
                return above
        return module


def _are_same(one: Import, other: Import) -> bool:
    if (one.module, one.what) == (other.module, other.what):
        return True
    if one.what is None or other.what is None:
        return False
    found = getattr(sys.modules.get(one.module), one.what, None)
    return found is not None and found is getattr(sys.modules.get(other.module), other.what, None)


def binding(source: Source, name: str) -> Import | None:
    """What a module means by a name; None for a builtin one, and for one that it doesn't know."""
    found = source.imports.get(name)
    if found is not None:
        return min(found, key=lambda each: not _is_bound_by(source, name, each))
    if name in source.defined:
        return Import(source.name, name, for_checkers=name not in source.namespace)
    for module in source.stars:
        if hasattr(sys.modules.get(module), name):
            inner = source_of(module)
            return (binding(inner, name) if inner else None) or Import(module, name, for_checkers=False)
    if name in source.namespace:
        return Import(source.name, name, for_checkers=False)
    return None


def _is_bound_by(source: Source, name: str, each: Import) -> bool:
    """Whether it is this import, of several, that gave the module's name its value."""
    if each.what is None:
        return True
    missing = object()
    value = source.namespace.get(name, missing)
    return value is getattr(sys.modules.get(each.module), each.what, None)


def _is_private(module: str) -> bool:
    return any(part.startswith("_") for part in module.split("."))


def _offering(module: str, name: str, *, may_be_private: bool) -> str:
    """The module from which another one has a name that it only uses: type checkers let nobody import it there."""
    if module not in sys.modules or module.partition(".")[0] in sys.stdlib_module_names:
        return module
    at = module
    while not _offers(at, name):
        source = source_of(at)
        if source is not None and (name in source.defined or name in source.passed_on):
            break
        each = None if source is None else next(iter(source.imports.get(name, [])), None)
        if each is None or each.what != name or each.module not in sys.modules:
            return module
        if _is_private(each.module) and not may_be_private:
            return module
        at = each.module
    return at


def _offers(module: str, name: str) -> bool:
    """Whether type checkers take the name for one that the module offers, and not only uses."""
    public = getattr(sys.modules[module], "__all__", None)
    if public is not None:
        return name in public
    source = source_of(module)
    if source is None:
        return False
    stars = (sys.modules.get(each) for each in source.stars)
    return name in source.defined or name in source.passed_on or any(hasattr(each, name) for each in stars)


def _from(module: str, names: Iterable[tuple[str, str]], indent: int) -> Iterator[str]:
    """The imports from one module: all that keep their names together, in the place of their first."""
    ordered = sorted(names, key=_order)
    written = [what for what, name in ordered if what == name]
    # The source says so, be it private; formatters and linters don't count such a comment as part of the line.
    notes = [_PRIVATE if what.startswith("_") else "" for what in written]
    margin = " " * indent
    for what, name in ordered:
        if what != name:
            note = _PRIVATE if what.startswith("_") else ""
            yield from _from_one(f"{margin}from {module} import", [f"{what} as {name}"], [note], margin)
        elif what == written[0]:
            yield from _from_one(f"{margin}from {module} import", written, notes, margin)


def _from_one(head: str, written: list[str], notes: list[str], margin: str) -> Iterator[str]:
    line = f"{head} {', '.join(written)}"
    if len(line) <= WIDTH.get():
        yield line + max(notes)
        return
    yield f"{head} ("
    for name, note in zip(written, notes, strict=True):
        yield f"{margin}    {name},{note}"
    yield f"{margin})"


_PRIVATE = "  # pyright: ignore[reportPrivateUsage]"


def _order(names: tuple[str, str]) -> tuple[int, str, str]:
    """isort's: constants, then classes, then the rest."""
    what = names[0]
    kind = 0 if what.isupper() and len(what) > 1 else 1 if what[:1].isupper() else 2
    return kind, what.casefold(), what
