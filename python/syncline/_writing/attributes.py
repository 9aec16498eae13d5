"""How what is read from an async object, without a call, is written in its twin: by properties."""

from __future__ import annotations

import ast
import types
import typing
from typing import TYPE_CHECKING, Any, cast

from .annotations import OPENED, callable_result, may_be_opened, nature_of, taken
from .calls import given_out, giving, opening, taken_in
from .layout import flat
from .members import Class, Written, is_deprecated, is_wrapped, result
from .scope import Scope, class_name, imported, unquoted
from .source import class_definition, definition, set_by_methods, variables

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
    # Only what it gives is known of an object that decides itself what reading it gives.
    is_hard = "property" not in member.kind and member.kind != "attribute"
    if member.function is not None:
        found = definition(member.function)
        is_hard = is_deprecated(found) or is_wrapped(member, scope)
    deleted = isinstance(member.value, property) and member.value.fdel is not None
    yield from _reading(
        of,
        member.name,
        said,
        scope,
        setter,
        docstring,
        kind=member.kind,
        is_awaited=is_awaited,
        is_hard=is_hard,
        is_deleted=deleted,
    )


def instance_attributes(of: Class, base: type | None, known: set[str]) -> Iterator[Written]:
    """Properties for what only methods give an object, of which its class knows nothing. What a `base` has is left
    out."""
    for owner in of.cls.__mro__:
        if base is not None and owner in base.__mro__ and not of.says_more_than(base, owner):
            continue
        where = class_definition(owner)
        source, node = where or (None, None)
        if source is None or node is None:
            continue
        fields = {each.name: None for each in vars(owner).get("__attrs_attrs__", ())}
        for name, said in {**fields, **set_by_methods(source, node)}.items():
            if name.startswith("_") or name in known:
                continue
            known.add(name)
            scope = of.scope_of(owner)
            # What a method takes may be narrower where it is set.
            any_ = imported(scope, "typing", "Any")
            is_vague = said is None or _is_vague(said)
            yield from _reading(of, name, said, scope, any_ if is_vague else said, None, is_hard=is_vague)


def dynamic(of: Class) -> Written | None:
    """The twin's `__getattr__`, if the async class has one that type checkers know of."""
    owner = next((base for base in of.cls.__mro__ if "__getattr__" in vars(base)), None)
    function = None if owner is None else vars(owner)["__getattr__"]
    found = None if function is None else definition(function)
    if owner is None or found is None:
        return None
    scope = of.scope_of(owner, function)
    said = found.node.returns
    if said is not None and (inner := callable_result(said, scope)) is not None:
        said = inner
    returns = result(said, "plain", scope)
    args = [ast.arg("self"), ast.arg("name", ast.Name("str"))]
    header = ast.FunctionDef("__getattr__", ast.arguments([], args, None, [], [], None, []), [], [], returns)
    body = f"found: {flat(returns)} = self._find(name)\nreturn found"
    return Written(
        header,
        function.__doc__,
        ast.parse("return self._find(name)" if flat(returns) == "Any" else body).body,
    )


def _is_vague(said: ast.expr) -> bool:
    """Whether type checkers may take what was set for something narrower, or wider."""
    said = unquoted(said)
    return isinstance(said, ast.BinOp) or flat(said).partition("[")[0].endswith(
        ("Union", "Optional", "Literal")
    )


def _constant(of: Class, member: Member) -> ast.stmt | None:
    """What belongs to the class, and has a value there, is the twin class's, too."""
    if isinstance(member.value, types.MemberDescriptorType):
        return None
    annotation, has_value, is_nested = _in_the_body(member.owner, member.name)
    for base in of.cls.__mro__:  # which may be the one that says whose a variable is
        annotation = annotation or _in_the_body(base, member.name)[0]
    has_value = has_value or (annotation is not None and member.name in vars(member.owner))
    if not (is_nested or (has_value and _is_of_the_class(annotation, member.owner))):
        return None
    there = f"{flat(class_name(of.cls, of.scope.names))}.{member.name}"
    return ast.parse(f"{member.name} = {there}").body[0]


def _in_the_body(cls: type, name: str) -> tuple[ast.expr | None, bool, bool]:
    """What the body of a class says of a name: its annotation, and whether it has a value there, or is a class."""
    where = class_definition(cls)
    if where is None:
        return None, False, False
    annotation, has_value = variables(*where).get(name, (None, False))
    return (
        annotation,
        has_value,
        any(isinstance(each, ast.ClassDef) and each.name == name for each in where[1].body),
    )


def _is_of_the_class(annotation: ast.expr | None, owner: type) -> bool:
    """Whether a variable with a value in the body of a class is the class's own."""
    if annotation is None:
        return True
    said = flat(unquoted(annotation)).partition("[")[0].rpartition(".")[2]
    # In a dataclass a final variable is a field.
    return said == "ClassVar" or (said == "Final" and not hasattr(owner, "__dataclass_fields__"))


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
        said = variables(source, node).get(member.name, (None, False))[0] or set_by_methods(source, node).get(
            member.name
        )
    if (
        said is not None
        and isinstance(said, ast.Subscript)
        and scope.meaning(said.value) in (typing.Final, typing.ClassVar)
    ):
        return said.slice, None
    if said is not None and (
        scope.meaning(said) in (typing.Final, typing.ClassVar) or _is_descriptor(said, scope)
    ):
        return None, None  # it is for type checkers to find out
    is_fixed = member.kind == "descriptor" or _is_frozen(member.owner)
    return said, None if is_fixed else said or any_


def _is_descriptor(said: ast.expr, scope: Scope) -> bool:
    """Whether an attribute is one that decides itself what reading it gives."""
    said = unquoted(said)
    found = scope.meaning(said.value if isinstance(said, ast.Subscript) else said)
    return isinstance(found, type) and hasattr(found, "__get__")


def _is_frozen(cls: type) -> bool:
    """Whether its objects' attributes can't be set: in dataclasses, attrs's and pydantic's classes, and msgspec's."""
    options = [getattr(cls, name, None) for name in ("__dataclass_params__", "__struct_config__")]
    config: object = getattr(cls, "model_config", None)
    return (
        any(getattr(each, "frozen", False) for each in options)
        or (isinstance(config, dict) and bool(cast("dict[str, Any]", config).get("frozen")))
        or cls.__setattr__.__name__ == "_frozen_setattrs"
    )


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
    is_deleted: bool = False,
) -> Iterator[Written]:
    nature = "await" if is_awaited else "plain" if said is None else nature_of(said, scope)
    nature = "plain" if nature == "perhaps" else nature
    returns = result(said, nature, scope)
    is_mixed = may_be_opened(said, scope)
    is_hard = is_hard or is_mixed
    value = f"self._aio.{name}"
    lines = [f"aio: {scope.names.imported('typing', 'Any')} = self._aio"] * is_hard
    if is_hard:
        value = f"aio.{name}"
    if kind == "async cached property":
        is_hard = True
        value = f'self._bridge.run_sync({scope.names.imported("syncline.twins", "read_once")}, self._aio, "{name}")'
    elif nature == "await":
        value = f"self._bridge.run({value})"
    opens = nature_of(said, scope) if nature == "await" else nature
    header = _accessor(name, "property", [ast.arg("self")], returns)
    converted = given_out(returns, nature, scope, "self")
    if opens in OPENED:
        lines += opening(value, opens, header, scope, "self", is_hard=is_hard)
    else:
        lines += giving(value, returns, scope, converted, name, is_hard=is_hard, is_mixed=is_mixed)
    yield Written(header, docstring, ast.parse("\n".join(lines)).body)
    if setter is not None:
        new = ast.arg("value", taken(setter, scope))
        set_to = f"self._aio.{name} = {taken_in(new.annotation, scope, 'value') or 'value'}"
        header = _accessor(name, f"{name}.setter", [ast.arg("self"), new], ast.Constant(None))
        yield Written(header, None, ast.parse(set_to).body)
    if is_deleted:
        header = _accessor(name, f"{name}.deleter", [ast.arg("self")], ast.Constant(None))
        yield Written(header, None, ast.parse(f"del self._aio.{name}").body)


def _accessor(name: str, decorator: str, args: list[ast.arg], returns: ast.expr) -> ast.FunctionDef:
    decorators = [ast.parse(decorator, mode="eval").body]
    return ast.FunctionDef(name, ast.arguments([], args, None, [], [], None, []), [], decorators, returns)
