"""A module of twins, written out."""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._twins.objects import Twin
from .._twins.surface import has_async_members, raw_annotations, surface, twin_name
from .annotations import CALLABLE
from .attributes import dynamic, instance_attributes, readable
from .layout import STEP, WIDTH, block, class_header, docstring, flat, header, statement
from .members import Class, Written, constructor, method
from .names import Names
from .protocols import protocol
from .scope import Scope, class_name, imported, type_parameters
from .source import class_definition
from .variables import anything, bound_by_bases, own_variables, with_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from .._twins.surface import Member


@dataclass(frozen=True)
class Wanted:
    """A class that gets a twin, and what that is called."""

    cls: type
    name: str


def module(
    wanted: Sequence[Wanted],
    *,
    command: Sequence[str],
    package: str | None,
    root: Path | None = None,
    name: str | None = None,
    bridge: tuple[str, str] | None = None,
    is_stub: bool = False,
    width: int = 88,
    note: Callable[[str], None] = lambda _: None,
) -> str:
    """The text of a module with the twins of these classes, in lines of that width.

    command: what made it, in words, as its first lines say. package: the top-level package that it will be part of, if
    that is known. root: the folder whose modules are the same project's. name: that of the module, if it is to stand in
    this folder. bridge: the module and the name of the bridge on which objects live. is_stub: write a stub, for twins
    that `blocking` makes. note: is called with what the user should know of it.
    """
    WIDTH.set(width)
    members = frozenset(name for each in wanted for name in surface(each.cls) if not name.startswith("__"))
    names = Names(package, root, name, {each.name for each in wanted}, members)
    twins = {each.cls: each.name for each in wanted}
    home = None if bridge is None else names.imported(*bridge)
    left: dict[type, str] = {}
    classes = [_class(each, names, twins, home, left, is_stub=is_stub) for each in _bases_first(wanted)]
    if left:
        lines = [f"    {where}: {cls.__module__}:{cls.__qualname__}" for cls, where in left.items()]
        about = (
            "these give async objects that have no twin; name their classes, too, if sync code is to use them"
        )
        note("\n".join([f"{about}:", *lines]))
    line = f"    {' '.join(command)}"
    if len(line) > width:
        line = " \\\n        ".join([f"    {' '.join(command[:4])}", *command[4:]])
    made_of = ", ".join(f"`{each.cls.__module__}.{each.cls.__qualname__}`" for each in wanted)
    what, source = ("A blocking twin", "class") if len(wanted) == 1 else ("Blocking twins", "classes")
    title = f"{what} of {made_of}."
    if len(title) + len('r"""') > width:  # the command names them, too
        title = f"{what}, written by syncline."
    about = f"{title}\n\nThis file is written. Change the async {source}, and write it again:\n\n{line}\n"
    if is_stub:
        for name in names.bound:
            names.at_run_time(name)
    imports = "\n".join(names.lines(_used(classes)))
    parts = [docstring(about, 0), *["from __future__ import annotations"] * (not is_stub), imports]
    gap = "\n\n" if is_stub else "\n\n\n"
    return "\n\n".join(part for part in parts if part) + gap + gap.join(classes) + "\n"


def _used(classes: Iterable[str]) -> set[str]:
    """The names that code uses, those of modules with that of their packages before them."""
    nodes = (node for text in classes for node in ast.walk(ast.parse(text)))
    return {flat(node) for node in nodes if isinstance(node, (ast.Name, ast.Attribute))}


def _bases_first(wanted: Sequence[Wanted]) -> list[Wanted]:
    order = {each.cls: number for number, each in enumerate(wanted)}

    def rank(each: Wanted) -> tuple[int, int]:
        return sum(base in order for base in each.cls.__mro__), order[each.cls]

    return sorted(wanted, key=rank)


def _class(
    wanted: Wanted,
    names: Names,
    twins: dict[type, str],
    bridge: str | None,
    left: dict[type, str],
    *,
    is_stub: bool,
) -> str:
    cls = wanted.cls
    where = class_definition(cls)
    assert where is not None
    source, node = where
    scope = Scope(source, names, twins, cls, type_parameters(cls))
    of = Class(cls, wanted.name, scope, bound_by_bases(cls, scope))
    base = next((twin for twin in cls.__mro__[1:] if twin in twins), None)
    heading = ast.ClassDef(wanted.name, _expressions(_bases(of, base, is_stub=is_stub)), [], [], [])
    if not is_stub:
        words = [ast.keyword("of", class_name(cls, names))]
        if bridge is not None and base is None:
            words.append(ast.keyword("bridge", ast.Name(bridge)))
        heading.keywords = words
    vars(heading)["type_params"] = getattr(node, "type_params", [])
    parts = list(_parts(of, base, is_stub=is_stub))
    for part in parts:
        if isinstance(part, Written) and part.header.returns is not None:
            for found in _async_classes(part.header.returns, names):
                if found not in twins:
                    left.setdefault(found, f"{wanted.name}.{part.header.name}")
    text = [class_header(heading)]
    if written_docstring := ast.get_docstring(node, clean=False):
        text.append(docstring(written_docstring, STEP))
    written = [_laid_out(part, is_stub=is_stub) for part in parts]
    body = _spaced(parts, written, is_stub=is_stub)
    if len(text) > 1:
        body = f"\n{body}"
    return "\n".join([*text, body]) if written else "\n".join([*text, *["    ..."] * (len(text) == 1)])


def _async_classes(returns: ast.expr, names: Names) -> Iterator[type]:
    """The classes in the annotation of a result whose objects are async still."""
    match returns:
        case ast.Subscript(value=value) if names.meaning(value) in (CALLABLE, type):
            return
        case ast.Name() | ast.Attribute():
            found = names.meaning(returns)
            if (
                isinstance(found, type)
                and Twin not in found.__mro__
                and not _is_of_the_standard_library(found)
            ):
                yield from [found] * has_async_members(found)
        case _:
            for part in ast.iter_child_nodes(returns):
                if isinstance(part, ast.expr):
                    yield from _async_classes(part, names)


def _is_of_the_standard_library(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in sys.stdlib_module_names


def _expressions(texts: Iterable[str]) -> list[ast.expr]:
    return [ast.parse(text, mode="eval").body for text in texts]


def _bases(of: Class, base: type | None, *, is_stub: bool) -> Iterator[str]:
    """The bases of a twin: that of the async class's base, or `Twin`; and `Generic` as the async class has it."""
    names, cls = of.scope.names, of.cls
    arguments = own_variables(cls, names)
    if base is None and not is_stub:
        yield f"{names.imported('syncline.twins', 'Twin')}[{_aio(of)}]"
    elif base is not None:
        if of.is_of_twins(base):  # whose own methods know nothing of twins
            yield f"{of.scope.twins[base]}[{', '.join(anything(base, names))}]"
        else:
            yield flat(with_arguments(of.scope.twins[base], base, of.bound, of.scope))
    if arguments and not getattr(cls, "__type_params__", ()):
        yield f"{names.imported('typing', 'Generic')}[{', '.join(arguments)}]"


def _in_order(members: dict[str, Member], cls: type) -> list[tuple[str, Member]]:
    """The members, those that a class body annotates in the order in which it does that."""
    annotated = [name for base in reversed(cls.__mro__) for name in raw_annotations(base)]
    order = {name: at for at, name in enumerate(dict.fromkeys(annotated))}
    return sorted(members.items(), key=lambda item: order.get(item[0], len(order)))


def _aio(of: Class) -> str:
    """The type of the async object."""
    cls, names = of.cls, of.scope.names
    known = own_variables(cls, names)
    return flat(class_name(cls, names)) + (f"[{', '.join(known)}]" if known else "")


def _parts(of: Class, base: type | None, *, is_stub: bool) -> Iterator[Written | ast.stmt]:
    """What stands in the body of a twin, without what it has from the twin of a `base`; but for what names the async
    class."""
    inherited = {} if base is None else surface(base)
    members = surface(of.cls)
    written: list[Written | ast.stmt] = []
    fields: list[Written | ast.stmt] = []
    for name, member in _in_order(members, of.cls):
        known = inherited.get(name)
        is_known = known is not None and known.owner is member.owner and member.binding == "instance"
        if is_known and not of.says_more_than(base, member.owner):
            continue
        if not member.is_method and name.startswith("__"):
            continue
        made = protocol(of, member)
        if made is not None:
            written.append(made)
        elif member.is_method:
            *overloads, definition = method(of, member)
            written += overloads if is_stub and overloads else [*overloads, definition]
        else:
            (fields if member.kind == "attribute" else written).extend(readable(of, member))
    if (by_name := dynamic(of)) is not None:
        written.append(by_name)
    attributes = list(instance_attributes(of, base, set(members)))
    yield from (part for part in fields if isinstance(part, ast.stmt))
    if is_stub:
        yield from _narrowed(of, ["aio"])
    elif base is not None:
        test = imported(of.scope, "typing", "TYPE_CHECKING")
        yield ast.If(test, [each.header for each in _narrowed(of, ["aio", "_aio"])], [])
    *overloads, made_by = constructor(of)
    yield from overloads if is_stub and overloads else [*overloads, made_by]
    yield from (part for part in fields if isinstance(part, Written))
    yield from attributes
    yield from written


def _narrowed(of: Class, names: Sequence[str]) -> Iterator[Written]:
    """Properties that say of which class the async object is."""
    for name in names:
        node = ast.parse(f"@property\ndef {name}(self) -> {_aio(of)}: ...").body[0]
        assert isinstance(node, ast.FunctionDef)
        yield Written(node)


def _laid_out(part: Written | ast.stmt, *, is_stub: bool) -> str:
    if isinstance(part, ast.If):
        functions = [node for node in part.body if isinstance(node, ast.FunctionDef)]
        lines = [header(node, 2 * STEP, is_stub=True) for node in functions]
        gap = "" if is_stub else "\n"
        return f"{' ' * STEP}if {flat(part.test)}:\n{gap}" + f"\n{gap}".join(lines)
    if isinstance(part, ast.stmt):
        return statement(part, STEP)
    is_short = not part.body or (is_stub and not part.docstring)
    lines = [header(part.header, STEP, is_stub=is_short)]
    if part.docstring and part.body:
        lines.append(docstring(part.docstring, 2 * STEP))
    if part.body and not is_stub:
        lines.append(block(part.body, 2 * STEP))
    return "\n".join(lines)


def _spaced(parts: Iterable[Written | ast.stmt], texts: Iterable[str], *, is_stub: bool) -> str:
    """Members with a blank line between them, but for overloads, constants and the members of a stub."""
    spaced = ""
    before: Written | ast.stmt | None = None
    for part, text in zip(parts, texts, strict=True):
        if before is not None:
            together = (isinstance(part, ast.stmt) and not isinstance(part, ast.If)) or (
                isinstance(before, Written) and not before.body
            )
            spaced += "\n" if is_stub or together else "\n\n"
        spaced += text
        before = part
    return spaced


def default_name(cls: type) -> str:
    """What the twin of a class is called where nobody says otherwise."""
    return twin_name(cls.__name__)
