"""Annotations of an async class, as its blocking twin has them.

1. What is awaited, iterated over or entered is said by its sync form: `Awaitable[X]` is `X`, `AsyncIterator[X]` is
   `Iterator[X]`, and so on; also below an alias, and for a class of the source's own that is awaited.
2. A class that has a twin is named by its twin wherever objects are converted: by itself, in unions and in containers.
   Not where async code gets it, as a callback does.
3. The rest is as it was written, with names as the written module has them.
"""

from __future__ import annotations

import ast
import asyncio
import collections.abc
import contextlib
import types
import typing
from dataclasses import replace
from typing import Any, Literal, cast

from .._twins.converting import is_awaited_only
from .._twins.shapes import derives
from .conversions import CONTAINERS
from .layout import flat, union_parts
from .names import binding
from .scope import (
    Scope,
    as_written,
    bare,
    class_name,
    imported,
    index_of,
    meant_by,
    parts_of,
    unquoted,
    variables_of,
)
from .source import class_definition, source_of

Nature = Literal["await", "perhaps", "iterate", "generate", "enter", "plain"]
"""What a twin does with what the async member gives. "perhaps": await it if it can be awaited."""

OPENED: frozenset[Nature] = frozenset({"iterate", "generate", "enter"})
"""What sync code gets as something to iterate over, or to enter."""

_SYNC: dict[object, tuple[str, str]] = {
    collections.abc.AsyncIterator: ("collections.abc", "Iterator"),
    collections.abc.AsyncIterable: ("collections.abc", "Iterable"),
    collections.abc.AsyncGenerator: ("collections.abc", "Generator"),
    contextlib.AbstractAsyncContextManager: ("contextlib", "AbstractContextManager"),
}
_NATURES: dict[object, Nature] = {
    collections.abc.AsyncIterator: "iterate",
    collections.abc.AsyncIterable: "iterate",
    collections.abc.AsyncGenerator: "generate",
    contextlib.AbstractAsyncContextManager: "enter",
}
AWAITED: dict[object, int] = {
    collections.abc.Awaitable: 0,
    collections.abc.Coroutine: 2,
    asyncio.Future: 0,
    asyncio.Task: 0,
}
"""And which of their arguments is what comes out."""
CALLABLE = cast("object", collections.abc.Callable)
_SELF: object = vars(typing)["Self"]
_OF_CODE: tuple[Any, ...] = (CALLABLE, type)
"""What async code gets as it is (by 2)."""


def taken(node: ast.expr, scope: Scope) -> ast.expr:
    """The annotation of what a twin's method takes."""
    return _converted(node, scope, awaits=False)


def given(node: ast.expr, scope: Scope) -> ast.expr:
    """The annotation of what a twin's method gives, of that of what the async one gives."""
    return _converted(node, scope, awaits=True)


def nature_of(said: ast.expr | None, scope: Scope) -> Nature:
    """What a result of this annotation is to sync code."""
    if said is None:
        return "perhaps"
    said = unquoted(said)
    if (members := _members(said, scope)) is not None:
        natures = {nature_of(member, scope) for member in members}
        return "perhaps" if natures & {"await", "perhaps"} else "plain"
    named = said.value if isinstance(said, ast.Subscript) else said
    found = scope.meaning(named)
    if found is Any:
        return "perhaps"
    if not meant_by(found):
        return "plain"
    origin = typing.get_origin(found) or found
    if origin in scope.twins:  # be it awaited, or iterated over
        return "plain"
    if origin in _NATURES:
        return _NATURES[origin]
    if origin in AWAITED:
        return "await"
    if isinstance(origin, type) and hasattr(origin, "__await__"):
        return "plain" if is_for_either(origin, scope) else "await"
    if (known := alias(named, found, scope)) is not None:
        return nature_of(*known)
    return "plain"


def _members(said: ast.expr, scope: Scope) -> list[ast.expr] | None:
    """Of a union, without the None of an `Optional`; None for what is none."""
    match said:
        case ast.BinOp(op=ast.BitOr()):
            return union_parts(said)
        case ast.Subscript(value=value, slice=index) if scope.meaning(value) in (
            typing.Union,
            typing.Optional,
        ):
            return parts_of(index)
        case _:
            return None


def may_be_opened(said: ast.expr | None, scope: Scope) -> bool:
    """Whether only the object tells what sync code gets: an annotation is a union of which some members are iterated
    over or entered, and others are not, or what it names is awaited or entered, as sync code likes."""
    if said is None:
        return False
    said = unquoted(said)
    if (members := _members(said, scope)) is not None:
        return any(nature_of(member, scope) in OPENED or may_be_opened(member, scope) for member in members)
    found = scope.meaning(said.value if isinstance(said, ast.Subscript) else said)
    if not meant_by(found):
        return False
    return is_for_either(typing.get_origin(found) or found, scope)


def is_for_either(cls: object, scope: Scope) -> bool:
    """Whether objects of a class are awaited or entered, as async code likes, such as what a pool of connections gives.
    Not those that have a twin, or that give themselves, or as much, when they are awaited."""
    if not (isinstance(cls, type) and hasattr(cls, "__await__") and hasattr(cls, "__aenter__")):
        return False
    if cls in scope.twins or is_awaited_only(cls):
        return False
    result, there, owner = _result_of_await(cls, [], scope) or (None, scope, cls)
    if result is None:
        return False
    found = there.meaning(result.value if isinstance(result, ast.Subscript) else result)
    if isinstance(found, typing.TypeVar):
        return found in variables_of(owner)
    return found is not _SELF and not (isinstance(found, type) and derives(cls, found))


def awaits(said: ast.expr | None, scope: Scope) -> bool:
    """Whether an annotation says of a result that it is awaited."""
    return said is not None and nature_of(said, scope) in ("await", "perhaps")


def callable_result(said: ast.expr, scope: Scope) -> ast.expr | None:
    """A `Callable[...]` that gives what its result awaited gives; None for another type."""
    said = unquoted(said)
    parts = callable_parts(said, scope)
    inner = None if parts is None else awaited(parts[1], scope)
    if parts is None or inner is None:
        return None
    assert isinstance(said, ast.Subscript)
    return ast.Subscript(said.value, ast.Tuple([parts[0], inner]))


def callable_parts(said: ast.expr, scope: Scope) -> tuple[ast.expr, ast.expr] | None:
    """What a `Callable[...]` takes and what it gives; None for another type."""
    said = unquoted(said)
    if isinstance(said, ast.Subscript) and len(parts := parts_of(said.slice)) == 2:
        found = scope.meaning(said.value)
        if (typing.get_origin(found) or found) is CALLABLE:
            return parts[0], parts[1]
    return None


def awaited(said: ast.expr, scope: Scope) -> ast.expr | None:
    """What awaiting something of this annotation gives, if that is all that can be done with it."""
    said = unquoted(said)
    if isinstance(said, ast.Subscript):
        found = scope.meaning(said.value)
        at = AWAITED.get(typing.get_origin(found) or found) if meant_by(found) else None
        if at is not None and at < len(parts := parts_of(said.slice)):
            return parts[at]
    return None


def _is_awaited(found: Any) -> bool:
    origin = typing.get_origin(found) or found
    if origin in (typing.Union, types.UnionType):
        return any(_is_awaited(part) for part in typing.get_args(found))
    return meant_by(origin) and (origin in AWAITED or hasattr(origin, "__await__"))


def _converted(node: ast.expr, scope: Scope, *, awaits: bool) -> ast.expr:
    """An annotation by 1, if `awaits`, and by 2."""
    node = unquoted(node)
    match node:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            parts = [_converted(part, scope, awaits=awaits) for part in (left, right)]
            return _either(parts)
        case ast.Subscript(value=value, slice=index):
            return _subscript(node, value, parts_of(index), scope, awaits=awaits)
        case _:
            found = scope.meaning(node)
            return _name(node, found, scope, awaits=awaits)


def _name(node: ast.expr, found: Any, scope: Scope, *, awaits: bool) -> ast.expr:
    if meant_by(found) and found in scope.arguments:
        return with_twins(scope.arguments[found], scope)
    if not meant_by(found):
        return as_written(node, scope)
    if isinstance(found, type) and found in scope.twins:
        return ast.Name(scope.twins[found])
    origin = typing.get_origin(found) or found
    if (known := alias(node, found, scope)) is not None and _mentions(found, known[1], awaits=awaits):
        return _converted(*known, awaits=awaits)
    if awaits and origin in AWAITED:
        return imported(scope, "typing", "Any")
    if awaits and origin in _SYNC:
        any_ = imported(scope, "typing", "Any")
        return ast.Subscript(imported(scope, *_SYNC[origin]), any_)
    if awaits and isinstance(found, type) and hasattr(found, "__await__"):
        return _awaited(found, [], scope) or as_written(node, scope)
    return as_written(node, scope)


def with_twins(node: ast.expr, scope: Scope) -> ast.expr:
    """What stands for a type variable of a base, with twins in the place of their classes (by 2)."""
    match node:
        case ast.Name() | ast.Attribute():
            said = flat(node)
            twins = (name for cls, name in scope.twins.items() if flat(class_name(cls, scope.names)) == said)
            return next(map(ast.Name, twins), node)
        case ast.Subscript(value=value, slice=index):
            origin = scope.names.meaning(value)
            if (typing.get_origin(origin) or origin) not in CONTAINERS:
                return node
            return ast.Subscript(value, index_of([with_twins(part, scope) for part in parts_of(index)]))
        case ast.BinOp(left=left, op=op, right=right):
            return ast.BinOp(with_twins(left, scope), op, with_twins(right, scope))
        case _:
            return node


def _subscript(
    node: ast.Subscript, value: ast.expr, parts: list[ast.expr], scope: Scope, *, awaits: bool
) -> ast.expr:
    found = scope.meaning(value)
    origin = typing.get_origin(found) or found
    if found is typing.Union:
        return _either([_converted(part, scope, awaits=awaits) for part in parts], bare(value, scope))
    if found is typing.Optional:
        return ast.Subscript(bare(value, scope), _converted(parts[0], scope, awaits=awaits))
    if found is typing.Annotated:
        as_before = as_written(node, scope)
        assert isinstance(as_before, ast.Subscript)
        assert isinstance(as_before.slice, ast.Tuple)
        as_before.slice.elts[0] = _converted(parts[0], scope, awaits=awaits)
        return as_before
    if found is typing.Literal or origin in _OF_CODE:
        return as_written(node, scope)
    if not meant_by(origin):
        return as_written(node, scope)
    if awaits and origin in AWAITED and AWAITED[origin] < len(parts):
        return _converted(parts[AWAITED[origin]], scope, awaits=False)
    inner = [_converted(part, scope, awaits=False) for part in parts]
    if awaits and origin in _SYNC:
        if origin is collections.abc.AsyncGenerator:
            inner = [*inner, *[ast.Constant(None)] * (3 - len(inner))]
        else:
            del inner[1:]
        return ast.Subscript(imported(scope, *_SYNC[origin]), index_of(inner))
    if isinstance(found, type) and found in scope.twins:
        return ast.Subscript(ast.Name(scope.twins[found]), index_of(inner))
    if awaits and isinstance(found, type) and hasattr(found, "__await__"):
        return _awaited(found, inner, scope) or as_written(node, scope)
    if (known := alias(value, found, scope)) is not None and _mentions(found, known[1], awaits=awaits):
        expression, there = known
        bound = dict(zip(getattr(found, "__parameters__", ()), inner, strict=False))
        return _converted(expression, replace(there, arguments=bound), awaits=awaits)
    if origin not in CONTAINERS:  # what is in it stays as it is
        return as_written(node, scope)
    return ast.Subscript(bare(value, scope), index_of(inner))


def _awaited(cls: type, arguments: list[ast.expr], scope: Scope) -> ast.expr | None:
    """What awaiting an object of a class gives sync code, as the source of that class says it; or entering it, where
    that can be done instead."""
    known = _result_of_await(cls, arguments, scope)
    if known is None:
        return None
    result = _converted(known[0], known[1], awaits=False)
    if is_for_either(cls, scope):
        return ast.Subscript(imported(scope, "syncline.twins", "Opened"), result)
    return result


def _result_of_await(
    cls: type, arguments: list[ast.expr], scope: Scope
) -> tuple[ast.expr, Scope, type] | None:
    """What awaiting an object of a class gives, where that is written, and the class that says it."""
    where = class_definition(cls)
    source, node = where or (None, None)
    if source is None or node is None:
        return None
    bound = dict(zip(variables_of(cls), arguments, strict=False))
    there = Scope(source, scope.names, scope.twins, arguments=bound)
    for awaiting in source.named(node, "__await__"):
        match awaiting.node.returns:
            case ast.Subscript(slice=ast.Tuple(elts=[_, _, result])):
                return unquoted(result), there, cls
            case _:
                pass
    for base in node.bases:
        match base:
            case ast.Subscript(value=value, slice=index):
                parts = parts_of(index)
            case _:
                value, parts = base, []
        found = there.meaning(value)
        origin: Any = typing.get_origin(found) or found
        if meant_by(origin) and origin in AWAITED and AWAITED[origin] < len(parts):
            return unquoted(parts[AWAITED[origin]]), there, cls
        if isinstance(origin, type) and hasattr(origin, "__await__"):
            inherited = _result_of_await(
                origin, [_converted(part, there, awaits=False) for part in parts], there
            )
            if inherited is not None:
                return inherited
    return None


def alias(node: ast.expr, found: Any, scope: Scope) -> tuple[ast.expr, Scope] | None:
    """What an alias stands for, and where that is written; None for what is none."""
    if isinstance(found, type) or not isinstance(node, ast.Name):
        return None
    if typing.get_origin(found) is None and not hasattr(found, "__value__"):
        return None
    source, name = scope.source, node.id
    while (bound := binding(source, name)) is not None and bound.what is not None:
        there = source_of(bound.module)
        if there is None or there.name == "typing":
            return None
        if there is source and bound.what == name:
            break
        source, name = there, bound.what
    if (source.name, name) in scope.aliases:
        return None
    match source.defined.get(name):
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            pass
        case statement if isinstance(getattr(statement, "value", None), ast.expr):  # `type X = ...`
            value = getattr(statement, "value")  # noqa: B009 -- type checkers for Python 3.11 don't know it
        case _:
            return None
    return value, replace(scope, source=source, owner=None, aliases=scope.aliases | {(source.name, name)})


def _mentions(found: Any, scope: Scope, *, awaits: bool, seen: tuple[Any, ...] = ()) -> bool:
    """Whether a type contains one that has a twin, or, if `awaits`, one that is awaited or iterated over."""
    if any(found is each for each in seen):  # it contains itself
        return False
    seen = (*seen, found)
    if isinstance(found, (str, typing.ForwardRef)):
        text = found if isinstance(found, str) else found.__forward_arg__
        found = scope.meaning(ast.parse(text.strip(), mode="eval").body)
    found = getattr(found, "__value__", found)
    origin = typing.get_origin(found) or found
    if (
        not meant_by(origin) or origin is typing.Literal
    ):  # whose arguments are texts that are no names of types
        return False
    if origin in scope.twins or (awaits and (origin in _SYNC or _is_awaited(origin))):
        return True
    is_union = origin in (typing.Union, types.UnionType)
    awaits = awaits and is_union
    return any(_mentions(part, scope, awaits=awaits, seen=seen) for part in typing.get_args(found))


def _either(parts: list[ast.expr], union: ast.expr | None = None) -> ast.expr:
    """A union of annotations, without those that are said twice."""
    if union is None:
        parts = [each for part in parts for each in union_parts(part)]
    different = list({flat(part): part for part in parts}.values())
    if union is not None and len(different) > 1:
        return ast.Subscript(union, index_of(different))
    node, *rest = different
    for part in rest:
        node = ast.BinOp(node, ast.BitOr(), part)
    return node
