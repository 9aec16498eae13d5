"""A module of twins, written out."""

from __future__ import annotations

import ast
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._twins.surface import raw_annotations, surface, twin_name
from .attributes import instance_attributes, readable
from .layout import STEP, WIDTH, block, class_header, docstring, flat, header, statement
from .members import Class, Written, constructor, method
from .names import Names
from .protocols import protocol
from .scope import Scope, as_written, class_name, imported, parts_of, type_parameters
from .source import class_definition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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
    bridge: tuple[str, str] | None = None,
    is_stub: bool = False,
    width: int = 88,
) -> str:
    """The text of a module with the twins of these classes, in lines of that width.

    command: what made it, in words, as its first lines say. package: the top-level package that it will be part of, if
    that is known. bridge: the module and the name of the bridge on which objects live. is_stub: write a stub, for twins
    that `blocking` makes.
    """
    WIDTH.set(width)
    names = Names(package, {each.name for each in wanted})
    twins = {each.cls: each.name for each in wanted}
    home = None if bridge is None else names.imported(*bridge)
    classes = [_class(each, names, twins, home, is_stub=is_stub) for each in _bases_first(wanted)]
    line = f"    {' '.join(command)}"
    if len(line) > width:
        line = " \\\n        ".join([f"    {' '.join(command[:4])}", *command[4:]])
    made_of = ", ".join(f"`{each.cls.__module__}.{each.cls.__qualname__}`" for each in wanted)
    what, source = ("A blocking twin", "class") if len(wanted) == 1 else ("Blocking twins", "classes")
    about = (
        f"{what} of {made_of}.\n\n"
        f"This file is written. Change the async {source}, and write it again:\n\n{line}\n"
    )
    imports = "\n".join(names.lines(_used(classes)))
    parts = [docstring(about, 0), "from __future__ import annotations", imports]
    gap = "\n\n" if is_stub else "\n\n\n"
    return "\n\n".join(part for part in parts if part) + gap + gap.join(classes) + "\n"


def _used(classes: Iterable[str]) -> set[str]:
    """The names that code uses."""
    nodes = (node for text in classes for node in ast.walk(ast.parse(text)))
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _bases_first(wanted: Sequence[Wanted]) -> list[Wanted]:
    order = {each.cls: number for number, each in enumerate(wanted)}

    def rank(each: Wanted) -> tuple[int, int]:
        return sum(base in order for base in each.cls.__mro__), order[each.cls]

    return sorted(wanted, key=rank)


def _class(wanted: Wanted, names: Names, twins: dict[type, str], bridge: str | None, *, is_stub: bool) -> str:
    cls = wanted.cls
    where = class_definition(cls)
    assert where is not None
    source, node = where
    scope = Scope(source, names, twins, cls, type_parameters(cls))
    of = Class(cls, wanted.name, scope, _bound(cls, scope))
    base = next((twin for twin in cls.__mro__[1:] if twin in twins), None)
    heading = ast.ClassDef(wanted.name, _expressions(_bases(of, base, is_stub=is_stub)), [], [], [])
    if not is_stub:
        words = [ast.keyword("of", class_name(cls, names))]
        if bridge is not None and base is None:
            words.append(ast.keyword("bridge", ast.Name(bridge)))
        heading.keywords = words
    vars(heading)["type_params"] = getattr(node, "type_params", [])
    parts = list(_parts(of, base, is_stub=is_stub))
    text = [class_header(heading)]
    if written_docstring := ast.get_docstring(node, clean=False):
        text.append(docstring(written_docstring, STEP))
    written = [_laid_out(part, is_stub=is_stub) for part in parts]
    body = _spaced(parts, written, is_stub=is_stub)
    if len(text) > 1:
        body = f"\n{body}"
    return "\n".join([*text, body]) if written else "\n".join([*text, *["    ..."] * (len(text) == 1)])


def _expressions(texts: Iterable[str]) -> list[ast.expr]:
    return [ast.parse(text, mode="eval").body for text in texts]


def _bases(of: Class, base: type | None, *, is_stub: bool) -> Iterator[str]:
    """The bases of a twin: that of the async class's base, or `Twin`; and `Generic` as the async class has it."""
    names, cls = of.scope.names, of.cls
    arguments: list[str] = []
    variables = getattr(cls, "__type_params__", ()) or getattr(cls, "__parameters__", ())
    for variable in variables:
        known = getattr(cls, "__type_params__", ())
        name = variable.__name__
        arguments.append(name if known else names.imported(variable.__module__, name))
    if base is None and not is_stub:
        yield f"{names.imported('syncline.twins', 'Twin')}[{_aio(of)}]"
    elif base is not None:
        yield of.scope.twins[base]
    if arguments and not getattr(cls, "__type_params__", ()):
        yield f"{names.imported('typing', 'Generic')}[{', '.join(arguments)}]"


def _bound(cls: type, scope: Scope) -> dict[type, dict[Any, ast.expr]]:
    """What stands for the type variables of each generic base of a class."""
    found: dict[type, dict[Any, ast.expr]] = {}

    def follow(of: type, arguments: dict[Any, ast.expr]) -> None:
        where = class_definition(of)
        source, node = where or (None, None)
        if source is None or node is None:
            return
        parameters = type_parameters(of) if of is cls else frozenset[str]()
        there = Scope(source, scope.names, scope.twins, None, parameters, arguments)
        for base in node.bases:
            value, parts = (
                (base.value, parts_of(base.slice)) if isinstance(base, ast.Subscript) else (base, [])
            )
            origin = there.meaning(value)
            origin = typing.get_origin(origin) or origin
            if not isinstance(origin, type) or origin is typing.Generic or origin in found:
                continue
            variables = getattr(origin, "__parameters__", ())
            inner = [as_written(part, there) for part in parts]
            inner += [imported(scope, "typing", "Any") for _ in variables[len(inner) :]]
            found[origin] = dict(zip(variables, inner, strict=False))
            follow(origin, found[origin])

    follow(cls, {})
    return found


def _in_order(members: dict[str, Member], cls: type) -> list[tuple[str, Member]]:
    """The members, those that a class body annotates in the order in which it does that."""
    annotated = [name for base in reversed(cls.__mro__) for name in raw_annotations(base)]
    order = {name: at for at, name in enumerate(dict.fromkeys(annotated))}
    return sorted(members.items(), key=lambda item: order.get(item[0], len(order)))


def _aio(of: Class) -> str:
    """The type of the async object."""
    cls, names = of.cls, of.scope.names
    parameters: tuple[Any, ...] = getattr(cls, "__type_params__", ())
    variables: tuple[Any, ...] = parameters or getattr(cls, "__parameters__", ())
    known = [
        each.__name__ if parameters else names.imported(each.__module__, each.__name__) for each in variables
    ]
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
        if known is not None and known.owner is member.owner and member.binding == "instance":
            continue
        if member.kind == "attribute" and name.startswith("__"):
            continue
        made = protocol(of, member)
        if made is not None:
            written.append(made)
        elif member.is_method:
            written += method(of, member)
        else:
            (fields if member.kind == "attribute" else written).extend(readable(of, member))
    attributes = list(instance_attributes(of, base, set(members)))
    yield from (part for part in fields if isinstance(part, ast.stmt))
    if is_stub:
        yield from _narrowed(of, ["aio"])
    elif base is not None:
        test = imported(of.scope, "typing", "TYPE_CHECKING")
        yield ast.If(test, [each.header for each in _narrowed(of, ["aio", "_aio"])], [])
    yield constructor(of)
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
