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

from .layout import flat, union_parts
from .names import binding
from .scope import Scope, as_written, bare, imported, index_of, meant_by, parts_of, unquoted
from .source import class_definition, source_of

Nature = Literal["await", "perhaps", "iterate", "generate", "enter", "plain"]
"""What a twin does with what the async member gives. "perhaps": await it if it can be awaited."""

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
_AWAITED: dict[object, int] = {
    collections.abc.Awaitable: 0,
    collections.abc.Coroutine: 2,
    asyncio.Future: 0,
    asyncio.Task: 0,
}
"""And which of their arguments is what comes out."""
_OF_CODE: tuple[Any, ...] = (cast("Any", collections.abc.Callable), type)
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
    found: Any = None
    said = unquoted(said)
    match said:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _perhaps([left, right], scope)
        case ast.Subscript(value=value, slice=index):
            found = scope.meaning(value)
            if found in (typing.Union, typing.Optional):
                return _perhaps(parts_of(index), scope)
            named = value
        case _:
            found, named = scope.meaning(said), said
    if found is Any:
        return "perhaps"
    if not meant_by(found):
        return "plain"
    origin = typing.get_origin(found) or found
    if origin in _NATURES:
        return _NATURES[origin]
    if origin in _AWAITED or (isinstance(origin, type) and hasattr(origin, "__await__")):
        return "await"
    if (known := alias(named, found, scope)) is not None:
        return nature_of(*known)
    return "plain"


def _perhaps(parts: list[ast.expr], scope: Scope) -> Nature:
    natures = {nature_of(part, scope) for part in parts}
    return "perhaps" if natures & {"await", "perhaps"} else "plain"


def awaits(said: ast.expr | None, scope: Scope) -> bool:
    """Whether an annotation says of a result that it is awaited."""
    return said is not None and nature_of(said, scope) in ("await", "perhaps")


def _is_awaited(found: Any) -> bool:
    origin = typing.get_origin(found) or found
    if origin in (typing.Union, types.UnionType):
        return any(_is_awaited(part) for part in typing.get_args(found))
    return meant_by(origin) and (origin in _AWAITED or hasattr(origin, "__await__"))


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
    if not meant_by(found) or found in scope.arguments:
        return as_written(node, scope)
    if isinstance(found, type) and found in scope.twins:
        return ast.Name(scope.twins[found])
    origin = typing.get_origin(found) or found
    if (known := alias(node, found, scope)) is not None and _mentions(found, known[1], awaits=awaits):
        return _converted(*known, awaits=awaits)
    if awaits and origin in _AWAITED:
        return imported(scope, "typing", "Any")
    if awaits and origin in _SYNC:
        any_ = imported(scope, "typing", "Any")
        return ast.Subscript(imported(scope, *_SYNC[origin]), any_)
    if awaits and isinstance(found, type) and hasattr(found, "__await__"):
        return _awaited(found, [], scope) or as_written(node, scope)
    return as_written(node, scope)


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
    if awaits and origin in _AWAITED and _AWAITED[origin] < len(parts):
        return _converted(parts[_AWAITED[origin]], scope, awaits=False)
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
    return ast.Subscript(bare(value, scope), index_of(inner))


def _awaited(cls: type, arguments: list[ast.expr], scope: Scope) -> ast.expr | None:
    """What awaiting an object of a class gives, as the source of that class says it."""
    where = class_definition(cls)
    source, node = where or (None, None)
    if source is None or node is None:
        return None
    bound = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    there = Scope(source, scope.names, scope.twins, arguments=bound)
    for awaiting in source.named(node, "__await__"):
        match awaiting.node.returns:
            case ast.Subscript(slice=ast.Tuple(elts=[_, _, result])):
                return _converted(result, there, awaits=False)
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
        if meant_by(origin) and origin in _AWAITED and _AWAITED[origin] < len(parts):
            return _converted(parts[_AWAITED[origin]], there, awaits=False)
        if isinstance(origin, type) and hasattr(origin, "__await__"):
            inherited = _awaited(origin, [_converted(part, there, awaits=False) for part in parts], there)
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
        if there is None:
            return None
        if there is source and bound.what == name:
            break
        source, name = there, bound.what
    match source.defined.get(name):
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            pass
        case statement if isinstance(getattr(statement, "value", None), ast.expr):  # `type X = ...`
            value = getattr(statement, "value")  # noqa: B009 -- type checkers for Python 3.11 don't know it
        case _:
            return None
    return value, replace(scope, source=source, owner=None)


def _mentions(found: Any, scope: Scope, *, awaits: bool) -> bool:
    """Whether a type contains one that has a twin, or, if `awaits`, one that is awaited or iterated over."""
    if isinstance(found, (str, typing.ForwardRef)):
        text = found if isinstance(found, str) else found.__forward_arg__
        found = scope.meaning(ast.parse(text.strip(), mode="eval").body)
    found = getattr(found, "__value__", found)
    origin = typing.get_origin(found) or found
    if not meant_by(origin):
        return False
    if origin in scope.twins or (awaits and (origin in _SYNC or _is_awaited(origin))):
        return True
    is_union = origin in (typing.Union, types.UnionType)
    return any(_mentions(part, scope, awaits=awaits and is_union) for part in typing.get_args(found))


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
