"""How what is read from an async object, without a call, is written in its twin: by properties."""

from __future__ import annotations

import ast
import typing
from typing import TYPE_CHECKING

from .annotations import nature_of, taken
from .layout import flat
from .members import Class, Written, given_out, result, taken_in
from .scope import Scope, class_name, imported, unquoted
from .source import class_definition, definition, set_by_init, variables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._twins.surface import Member


def readable(of: Class, member: Member) -> Iterator[Written | ast.stmt]:
    """What the twin has for a property or an attribute of the class."""
    scope = of.scope_of(member.owner, member.function)
    if member.kind == "attribute" and (constant := _constant(of, member)) is not None:
        yield constant
        return
    said, setter = _said(of, member, scope)
    is_awaited = member.kind in ("async property", "async cached property")
    docstring = None if member.function is None else member.value.__doc__
    yield from _reading(
        of, member.name, said, scope, setter, docstring, kind=member.kind, is_awaited=is_awaited
    )


def instance_attributes(of: Class, base: type | None, known: set[str]) -> Iterator[Written]:
    """Properties for what only `__init__` gives an object, of which its class knows nothing. What a `base` has is
    left out."""
    for owner in of.cls.__mro__:
        if base is not None and owner in base.__mro__:
            continue
        where = class_definition(owner)
        source, node = where or (None, None)
        if source is None or node is None:
            continue
        for name, said in set_by_init(source, node).items():
            if name.startswith("_") or name in known:
                continue
            known.add(name)
            scope = of.scope_of(owner)
            # What `__init__` takes may be narrower where it is set.
            any_ = imported(scope, "typing", "Any")
            is_vague = said is None or _is_vague(said)
            yield from _reading(of, name, said, scope, any_ if is_vague else said, None, is_hard=is_vague)


def _is_vague(said: ast.expr) -> bool:
    """Whether type checkers may take what was set for something narrower, or wider."""
    said = unquoted(said)
    return isinstance(said, ast.BinOp) or flat(said).partition("[")[0].endswith(
        ("Union", "Optional", "Literal")
    )


def _constant(of: Class, member: Member) -> ast.stmt | None:
    """What belongs to the class, and has a value there, is the twin class's, too."""
    where = class_definition(member.owner)
    source, node = where or (None, None)
    annotation, has_value = (
        variables(source, node).get(member.name, (None, False)) if source and node else (None, False)
    )
    if not (has_value and (annotation is None or "ClassVar" in flat(annotation))):
        return None
    there = f"{flat(class_name(of.cls, of.scope.names))}.{member.name}"
    return ast.parse(f"{member.name} = {there}").body[0]


def _said(of: Class, member: Member, scope: Scope) -> tuple[ast.expr | None, ast.expr | None]:
    """The annotations of what is read and of what is set; None for the second where nothing can be set."""
    any_ = imported(scope, "typing", "Any")
    if member.function is not None:
        found = definition(member.function)
        said = None if found is None else found.node.returns
        fset = getattr(member.value, "fset", None)
        if fset is None:
            return said, any_ if "cached" in member.kind and said is None else None
        setting = definition(fset)
        arguments = [] if setting is None else [*setting.node.args.posonlyargs, *setting.node.args.args][1:]
        return said, (arguments[0].annotation if arguments else None) or any_
    where = class_definition(member.owner)
    source, node = where or (None, None)
    said = None
    if source is not None and node is not None:
        said = variables(source, node).get(member.name, (None, False))[0] or set_by_init(source, node).get(
            member.name
        )
    if (
        said is not None
        and isinstance(said, ast.Subscript)
        and scope.meaning(said.value) in (typing.Final, typing.ClassVar)
    ):
        return said.slice, None
    frozen = getattr(getattr(member.owner, "__dataclass_params__", None), "frozen", False)
    return said, None if frozen or member.kind == "descriptor" else said or any_


def _reading(
    of: Class,
    name: str,
    said: ast.expr | None,
    scope: Scope,
    setter: ast.expr | None,
    docstring: str | None,
    *,
    kind: str = "attribute",
    is_awaited: bool = False,
    is_hard: bool = False,
) -> Iterator[Written]:
    nature = "await" if is_awaited else "plain" if said is None else nature_of(said, scope)
    nature = "plain" if nature == "perhaps" else nature
    returns = result(said, nature, scope)
    value = f"self._aio.{name}"
    lines = [f"aio: {scope.names.imported('typing', 'Any')} = self._aio"] * is_hard
    if is_hard:
        value = f"aio.{name}"
    if kind == "async cached property":
        is_hard = True
        value = f'self._bridge.run_sync({scope.names.imported("syncline.twins", "read_once")}, self._aio, "{name}")'
    elif nature == "await":
        value = f"self._bridge.run({value})"
    elif nature in ("iterate", "generate"):
        value = f"self._bridge.iterate({value})"
    elif nature == "enter":
        value = f"self._bridge.enter({value})"
    converted = given_out(returns, nature, scope, "self")
    if converted is not None:
        lines += [f"found = {value}", f"return {converted}"]
    elif is_hard and flat(returns) != "Any":
        lines += [f"found: {flat(returns)} = {value}", "return found"]
    else:
        lines.append(f"return {value}")
    body = ast.parse("\n".join(lines)).body
    yield Written(_accessor(name, "property", [ast.arg("self")], returns), docstring, body)
    if setter is None:
        return
    new = ast.arg("value", taken(setter, scope))
    set_to = f"self._aio.{name} = {taken_in(new.annotation, scope, 'value') or 'value'}"
    header = _accessor(name, f"{name}.setter", [ast.arg("self"), new], ast.Constant(None))
    yield Written(header, None, ast.parse(set_to).body)


def _accessor(name: str, decorator: str, args: list[ast.arg], returns: ast.expr) -> ast.FunctionDef:
    decorators = [ast.parse(decorator, mode="eval").body]
    return ast.FunctionDef(name, ast.arguments([], args, None, [], [], None, []), [], decorators, returns)
