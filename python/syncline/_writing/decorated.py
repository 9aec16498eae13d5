"""What decorators make of a method: the parameters whose arguments they give themselves, and another result.

Only their annotations say so: one that takes `Callable[Concatenate[A, B, P], R]`, and returns
`Callable[Concatenate[A, P], list[R]]`, gives the second argument, and a list.
"""

from __future__ import annotations

import ast
import collections.abc
import copy
import inspect
import sys
import typing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._twins.shapes import derives
from .annotations import AWAITED, CALLABLE, callable_parts, taken
from .layout import flat
from .scope import Scope, every_part, imported, parts_of, standing_for, unquoted
from .source import definition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .source import Found


@dataclass(frozen=True)
class _Decorator:
    """A function by which another one is decorated, as its annotations have it."""

    takes: ast.expr | None
    gives: ast.expr | None
    scope: Scope


def leave_out_given(args: ast.arguments, found: Found, scope: Scope) -> bool:
    """Takes out of a function's parameters those that its decorators give. True if there were any."""
    first = len(args.posonlyargs) + len(args.args)
    for decorator in _decorators(found, scope):
        taken, given = (
            _before_the_rest(each, decorator.scope) for each in (decorator.takes, decorator.gives)
        )
        if taken is not None and given is not None:
            for position in reversed(range(given, taken)):
                _remove(args, position)
    return len(args.posonlyargs) + len(args.args) < first


def changed_result(found: Found, scope: Scope) -> tuple[ast.expr, Scope] | None:
    """What a function gives whose decorators change that, and where the names in it stand; None if none does."""
    said = found.node.returns
    if said is None:
        return None
    if isinstance(found.node, ast.AsyncFunctionDef) and not _yields(found.node):
        any_ = imported(scope, "typing", "Any")
        said = ast.Subscript(standing_for(collections.abc.Coroutine), ast.Tuple([any_, any_, said]))
    result, is_changed = (said, scope), False
    for decorator in _decorators(found, scope):
        takes, gives = (_result(each, decorator.scope) for each in (decorator.takes, decorator.gives))
        if takes is None or gives is None or flat(takes) == flat(gives):
            continue
        solved: dict[Any, ast.expr] = {}
        if not _solve(takes, decorator.scope, *result, solved) or _is_open(gives, decorator.scope, solved):
            return None
        result, is_changed = (gives, replace(decorator.scope, arguments=solved)), True
    return result if is_changed else None


def _solve(node: ast.expr, scope: Scope, given: ast.expr, there: Scope, solved: dict[Any, ast.expr]) -> bool:
    """Finds out what stands for the type variables of an annotation, from that of what is given for it. False where
    that can't be told."""
    node, given = unquoted(node), unquoted(given)
    found = scope.meaning(node)
    if isinstance(found, typing.TypeVar):
        solved[found] = taken(given, there)
        return True
    if not isinstance(node, ast.Subscript):
        return not _is_open(node, scope, {})
    if not isinstance(given, ast.Subscript):
        return False
    parts, others = parts_of(node.slice), parts_of(given.slice)
    origin, other = (
        typing.get_origin(each) or each for each in (scope.meaning(node.value), there.meaning(given.value))
    )
    if origin in AWAITED and other in AWAITED and len(others) > AWAITED[other]:
        return _solve(parts[AWAITED[origin]], scope, others[AWAITED[other]], there, solved)
    if not (isinstance(origin, type) and isinstance(other, type) and derives(other, origin)):
        return False
    return all(_solve(part, scope, each, there, solved) for part, each in zip(parts, others, strict=False))


def _is_open(node: ast.expr, scope: Scope, solved: dict[Any, ast.expr]) -> bool:
    """Whether there are type variables in an annotation of which nothing is known."""
    found = (scope.meaning(part) for part in every_part(node) if isinstance(part, ast.Name))
    return any(isinstance(each, typing.TypeVar) and each not in solved for each in found)


def _yields(node: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(part, ast.Yield) for part in ast.walk(node))


def is_vaguely_decorated(found: Found, scope: Scope) -> bool:
    """Whether one of a function's decorators does not say that it returns a function, or what it was given."""
    for decorator in _decorators(found, scope):
        gives, there = decorator.gives, decorator.scope
        if gives is None or not any(
            isinstance(each := there.meaning(part), typing.TypeVar)
            or (typing.get_origin(each) or each) is CALLABLE
            for part in every_part(gives)
            if isinstance(part, ast.expr)
        ):
            return True
    return False


def _decorators(found: Found, scope: Scope) -> Iterator[_Decorator]:
    """Those of a function that are functions themselves, the innermost first; the standard library's say in stubs what
    they do."""
    around = Scope(found.source, scope.names, scope.twins)
    for node in reversed(found.node.decorator_list):
        is_made = isinstance(node, ast.Call)
        function = around.meaning(node.func if isinstance(node, ast.Call) else node)
        where = definition(function) if inspect.isfunction(function) else None
        if where is None or where.source.name.partition(".")[0] in sys.stdlib_module_names:
            continue
        there = Scope(where.source, scope.names, scope.twins)
        arguments = where.node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        takes = positional[0].annotation if positional else None
        gives = where.node.returns
        if is_made and gives is not None:
            takes, gives = callable_parts(gives, there) or (None, gives)
            takes = takes.elts[0] if isinstance(takes, ast.List) and takes.elts else None
        known = {each.__name__: each for each in getattr(function, "__type_params__", ())}
        yield _Decorator(_with(takes, known), _with(gives, known), there)


def _with(node: ast.expr | None, parameters: dict[str, Any]) -> ast.expr | None:
    """An annotation whose names stand for type parameters, from Python 3.12 on."""
    if node is None or not parameters:
        return node
    node = copy.deepcopy(unquoted(node))
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id in parameters:
            vars(part)["stands_for"] = parameters[part.id]
    return node


def _result(node: ast.expr | None, scope: Scope) -> ast.expr | None:
    """That of a `Callable[...]`; None for another type."""
    said = None if node is None else callable_parts(node, scope)
    return None if said is None else said[1]


def _before_the_rest(node: ast.expr | None, scope: Scope) -> int | None:
    """How many parameters a `Callable[...]` has before a ParamSpec; None for another type."""
    said = None if node is None else callable_parts(node, scope)
    match said and said[0]:
        case ast.Subscript(value=value, slice=index) if scope.meaning(value) is typing.Concatenate:
            return len(parts_of(index)) - 1
        case ast.Name():
            return 0
        case _:
            return None


def _remove(args: ast.arguments, position: int) -> None:
    """Removes a positional parameter, and its default."""
    every = [*args.posonlyargs, *args.args]
    if position >= len(every):
        return
    without = len(every) - len(args.defaults)
    if position >= without:
        del args.defaults[position - without]
    args.posonlyargs = [arg for arg in args.posonlyargs if arg is not every[position]]
    args.args = [arg for arg in args.args if arg is not every[position]]
