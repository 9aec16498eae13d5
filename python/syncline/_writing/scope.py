"""What names mean where they stand in the source, and how the written module says them."""

from __future__ import annotations

import ast
import asyncio
import builtins
import collections.abc
import copy
import os
import re
import sys
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from .._kinds import type_of
from .layout import flat
from .names import Names, binding
from .source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

UNKNOWN = object()


@dataclass(frozen=True)
class Scope:
    """Where an annotation stands, and so what its names mean."""

    source: Source
    names: Names
    twins: dict[type, str]
    """By which names the written module knows the twins of classes."""
    owner: type | None = None
    """The class around it, if there is one."""
    parameters: frozenset[str] = frozenset()
    """Type parameters of the function and its class, from Python 3.12 on."""
    arguments: dict[Any, ast.expr] = field(default_factory=dict[Any, ast.expr])
    """What stands for type variables, already as it is written."""
    aliases: frozenset[tuple[str, str]] = frozenset()
    """Those that are being looked into, by module and name: a type may contain itself."""

    def meaning(self, node: ast.expr) -> Any:
        """The object that an expression names; `UNKNOWN` where that isn't known, or where it is no name."""
        match node:
            case ast.Name() if "stands_for" in vars(node):
                return vars(node)["stands_for"]
            case ast.Name(id=name) if name not in self.parameters:
                for parameter in getattr(self.owner, "__type_params__", ()):
                    if parameter.__name__ == name:
                        return parameter
                if self.owner is not None and name in vars(self.owner) and not _is_method(self.owner, name):
                    return vars(self.owner)[name]
                return meaning(self.source, name)
            case ast.Attribute(value=value, attr=name):
                holder = self.meaning(value)
                return UNKNOWN if holder is UNKNOWN else getattr(holder, name, UNKNOWN)
            case _:
                return UNKNOWN


def meaning(source: Source, name: str) -> Any:
    """The object that a module's name stands for."""
    found = binding(source, name)
    if found is None:
        return getattr(builtins, name, UNKNOWN)
    if found.for_checkers and found.what is not None:
        return getattr(sys.modules.get(found.module), found.what, UNKNOWN)
    return source.namespace.get(name, UNKNOWN)


def type_parameters(cls: type) -> frozenset[str]:
    """The names of a class's type parameters, from Python 3.12 on."""
    return frozenset(parameter.__name__ for parameter in getattr(cls, "__type_params__", ()))


def variables_of(cls: type) -> tuple[Any, ...]:
    """What a class is generic in, be it only by what it inherits from the standard library."""
    of_bases = (
        each for base in vars(cls).get("__orig_bases__", ()) for each in getattr(base, "__parameters__", ())
    )
    return getattr(cls, "__parameters__", ()) or tuple(dict.fromkeys(of_bases))


def standing_for(found: Any) -> ast.expr:
    """A name for an object that no source names here."""
    node = ast.Name(getattr(found, "__name__", None) or getattr(found, "_name", None) or "Any")
    vars(node)["stands_for"] = found
    return node


def class_name(cls: type, names: Names) -> ast.expr:
    """A class as the written module names it."""
    top, *inner = cls.__qualname__.split(".")
    node: ast.expr = ast.Name(names.imported(cls.__module__, top))
    for name in inner:
        node = ast.Attribute(node, name)
    return node


def bare(node: ast.expr, scope: Scope) -> ast.expr:
    """What stands before square brackets, with names as the written module has them."""
    return _Renaming(scope, at_run_time=False).bare(node)


def as_written(node: ast.expr, scope: Scope, *, at_run_time: bool = False) -> ast.expr:
    """A copy of an expression, with names as the written module has them (by 3)."""
    renamed: ast.expr = _Renaming(scope, at_run_time=at_run_time).visit(node)
    return renamed


class _Renaming(ast.NodeTransformer):
    """By 3."""

    def __init__(self, scope: Scope, *, at_run_time: bool) -> None:
        self.scope = scope
        self.at_run_time = at_run_time

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._complete(self.bare(node), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return self._complete(self.bare(node), node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        found = UNKNOWN if self.at_run_time else self.scope.meaning(node.value)
        value = self.bare(node.value)
        if found is typing.Literal:
            return ast.Subscript(value, node.slice)
        if found is typing.Annotated and isinstance(node.slice, ast.Tuple):
            first, *metadata = node.slice.elts
            evaluated = _Renaming(self.scope, at_run_time=True)
            parts = [self.visit(first), *(evaluated.visit(part) for part in metadata)]
            return ast.Subscript(value, ast.Tuple(parts))
        return ast.Subscript(value, self.visit(node.slice))

    def bare(self, node: ast.expr) -> ast.expr:
        """What stands before square brackets."""
        match node:
            case ast.Name():
                return self._named(node, node.id)
            case ast.Attribute():
                chain = flat(node)
                root = node
                while isinstance(root.value, ast.Attribute):
                    root = root.value
                value = (
                    self._named(root.value, chain)
                    if isinstance(root.value, ast.Name)
                    else self.visit(root.value)
                )
                return _on(node, root, value)
            case _:
                written: ast.expr = self.visit(node)
                return written

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        return ast.BinOp(self.visit(node.left), node.op, self.visit(node.right))

    def visit_Tuple(self, node: ast.Tuple) -> ast.expr:
        return ast.Tuple([self.visit(part) for part in node.elts])

    def visit_List(self, node: ast.List) -> ast.expr:
        return ast.List([self.visit(part) for part in node.elts])

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return super().generic_visit(copy.deepcopy(node))

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        inner = node if self.at_run_time else unquoted(node)
        written: ast.expr = node if inner is node else self.visit(inner)
        return written

    def _complete(self, written: ast.expr, node: ast.expr) -> ast.expr:
        """A generic type of which nothing more is said is one of anything."""
        count = 0 if self.at_run_time else _arity(self.scope.meaning(node))
        if not count:
            return written
        any_ = imported(self.scope, "typing", "Any")
        anything = ast.Constant(...)
        if count is ...:
            return ast.Subscript(written, ast.Tuple([any_, anything]))
        parts: list[ast.expr] = [anything, any_] if count == "call" else [any_] * int(count)
        return ast.Subscript(written, index_of(parts))

    def _named(self, node: ast.Name, chain: str) -> ast.expr:
        scope, name = self.scope, node.id
        if name in scope.parameters:
            return node
        found = scope.meaning(node)
        if meant_by(found) and found in scope.arguments:
            return scope.arguments[found]
        if "stands_for" in vars(node):
            if isinstance(found, type) and found.__module__ != "builtins":
                return class_name(found, scope.names)
            module = "builtins" if isinstance(found, type) else getattr(found, "__module__", "typing")
            return ast.Name(name if module == "builtins" else scope.names.imported(module, name))
        if scope.owner is not None and name in vars(scope.owner) and not _is_method(scope.owner, name):
            return ast.Attribute(class_name(scope.owner, scope.names), name)
        return _chain(scope.names.of(scope.source, name, chain, at_run_time=self.at_run_time))


def _chain(name: str) -> ast.expr:
    """A name, or one with that of its module before it."""
    first, *rest = name.split(".")
    node: ast.expr = ast.Name(first)
    for each in rest:
        node = ast.Attribute(node, each)
    return node


def says_too_little(node: ast.expr, scope: Scope) -> bool:
    """Whether a generic type stands in an annotation without what it is generic in."""
    node = unquoted(node)
    match node:
        case ast.Subscript(value=value, slice=index):
            if scope.meaning(value) in (typing.Literal, typing.Annotated):
                return False
            return any(says_too_little(part, scope) for part in parts_of(index))
        case ast.List(elts=parts):
            return any(says_too_little(part, scope) for part in parts)
        case ast.BinOp(left=left, right=right):
            return says_too_little(left, scope) or says_too_little(right, scope)
        case _:
            return bool(_arity(scope.meaning(node)))


def _on(node: ast.expr, root: ast.expr, value: ast.expr) -> ast.expr:
    """A chain of attributes with another root."""
    assert isinstance(node, ast.Attribute)
    return ast.Attribute(value if node is root else _on(node.value, root, value), node.attr)


def _arity(found: Any) -> Any:
    """How many types a generic type takes; "call" for `Callable`, `...` for tuples, 0 for what isn't generic."""
    if not meant_by(found):
        return 0
    if typing.get_args(found):  # an alias may be generic
        variables: tuple[object, ...] = getattr(found, "__parameters__", ())
        return len(variables) if all(isinstance(each, typing.TypeVar) for each in variables) else 0
    origin = typing.get_origin(found) or found
    if origin in _ARITIES:
        return _ARITIES[origin]
    if not isinstance(origin, type):
        return 0
    return len(variables_of(origin))


_abc = collections.abc
_ARITIES: dict[Any, Any] = {
    tuple: ...,
    cast("Any", _abc.Callable): "call",
    **dict.fromkeys(
        (list, set, frozenset, collections.deque, asyncio.Future, asyncio.Task, asyncio.Queue), 1
    ),
    **dict.fromkeys(
        (_abc.Iterable, _abc.Iterator, _abc.AsyncIterable, _abc.AsyncIterator, _abc.Awaitable), 1
    ),
    **dict.fromkeys((_abc.Collection, _abc.Sequence, _abc.MutableSequence, _abc.Set, _abc.MutableSet), 1),
    **dict.fromkeys((re.Pattern, re.Match, os.PathLike), 1),
    **dict.fromkeys(
        (dict, collections.defaultdict, collections.OrderedDict, _abc.Mapping, _abc.MutableMapping), 2
    ),
    **dict.fromkeys((_abc.Generator, _abc.Coroutine), 3),
    _abc.AsyncGenerator: 2,
    collections.Counter: 1,
}
"""Of generic types that don't say so themselves."""


def every_part(node: ast.expr) -> Iterator[ast.AST]:
    """An annotation and all that is in it, in quotes or not."""
    for part in ast.walk(node):
        inner = unquoted(part) if isinstance(part, ast.Constant) else part
        if inner is part:
            yield part
        elif isinstance(inner, ast.expr):
            yield from every_part(inner)


def unquoted(node: ast.expr) -> ast.expr:
    """An annotation that stands in quotes without them."""
    match node:
        case ast.Constant(value=str() as text):
            try:
                return ast.parse(text.strip(), mode="eval").body
            except SyntaxError:
                return node
        case _:
            return node


def parts_of(index: ast.expr) -> list[ast.expr]:
    return list(index.elts) if isinstance(index, ast.Tuple) else [index]


def index_of(parts: list[ast.expr]) -> ast.expr:
    return parts[0] if len(parts) == 1 else ast.Tuple(parts)


def imported(scope: Scope, module: str, what: str) -> ast.expr:
    return ast.Name(scope.names.imported(module, what))


def unsaid(scope: Scope) -> ast.expr:
    """What is written for an annotation that isn't there: whatever is there may have a twin."""
    node = imported(scope, "typing", "Any")
    vars(node)["is_unsaid"] = True
    return node


def is_unsaid(node: ast.expr) -> bool:
    return "is_unsaid" in vars(node)


def _is_method(owner: type, name: str) -> bool:
    """Methods and properties are no types: a class that has a method `list` means the builtin one in its annotations,
    or errs."""
    value = vars(owner)[name]
    return not isinstance(value, type) and (callable(value) or hasattr(type_of(value), "__get__"))


def meant_by(found: Any) -> bool:
    """Whether it can be looked up what an object means."""
    return isinstance(found, collections.abc.Hashable)
