"""The type variables of generic classes: how the written module says them, and what a subclass puts in their place."""

from __future__ import annotations

import ast
import sys
import typing
from typing import TYPE_CHECKING, Any

from .scope import Scope, as_written, imported, index_of, parts_of, type_parameters, unquoted, variables_of
from .source import class_definition

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .names import Names

Bound = dict[type, dict[Any, ast.expr]]


def own_variables(cls: type, names: Names) -> list[str]:
    """A class's own, as they stand in brackets."""
    said: list[str] = []
    has_syntax = bool(getattr(cls, "__type_params__", ()))
    for variable in variables_of(cls):
        name: str = variable.__name__
        name = name if has_syntax else names.imported(_module_of(variable, cls), name)
        said.append(f"*{name}" if isinstance(variable, typing.TypeVarTuple) else name)
    return said


def _module_of(variable: Any, cls: type) -> str:
    """The module that has a variable: what is compiled may not know that itself."""
    there: list[str] = [variable.__module__, *(base.__module__ for base in cls.__mro__)]
    having = (each for each in there if getattr(sys.modules.get(each), variable.__name__, None) is variable)
    return next(having, there[0])


def bound_by_bases(cls: type, scope: Scope) -> Bound:
    """What stands for the type variables of each generic base of a class."""
    found: Bound = {}

    def follow(of: type, arguments: dict[Any, ast.expr]) -> None:
        where = class_definition(of)
        source, node = where or (None, None)
        if source is None or node is None:
            return
        parameters = type_parameters(of) if of is cls else frozenset[str]()
        there = Scope(source, scope.names, scope.twins, of, parameters, arguments)
        for base in node.bases:
            value, parts = (
                (base.value, parts_of(base.slice)) if isinstance(base, ast.Subscript) else (base, [])
            )
            origin = there.meaning(value)
            origin = typing.get_origin(origin) or origin
            if not isinstance(origin, type) or origin is typing.Generic or origin in found:
                continue
            given = [as_written(unquoted(part), there) for part in parts]
            found[origin] = _given(origin, given, there)
            follow(origin, found[origin])

    follow(cls, {})
    return found


def _given(origin: type, given: list[ast.expr], scope: Scope) -> dict[Any, ast.expr]:
    """What stands for the variables of a generic class: what it is given, the defaults, or anything."""
    variables: Sequence[Any] = variables_of(origin)
    kinds = [isinstance(each, typing.TypeVarTuple) for each in variables]
    found: dict[Any, ast.expr] = {}
    rest = list(given)
    for at, variable in enumerate(variables):
        if not kinds[at]:
            found[variable] = rest.pop(0) if rest else _default(origin, variable, scope)
        elif given:
            count = max(0, len(rest) - len(variables[at + 1 :]))
            found[variable] = _tuple(rest[:count])
            del rest[:count]
        else:
            found[variable] = _default(origin, variable, scope)
    return found


def _tuple(items: list[ast.expr]) -> ast.expr:
    return ast.Subscript(ast.Name("tuple"), ast.Tuple(list(items)))


def _default(origin: type, variable: Any, scope: Scope) -> ast.expr:
    """What a variable stands for that is given nothing: its default as the class's source has it, or anything."""
    where = class_definition(origin)
    source, node = where or (None, None)
    for parameter in getattr(node, "type_params", ()):
        value = getattr(parameter, "default_value", None)
        if source is not None and parameter.name == variable.__name__ and value is not None:
            there = Scope(source, scope.names, scope.twins, origin)
            return as_written(value.value if isinstance(value, ast.Starred) else value, there)
    any_ = imported(scope, "typing", "Any")
    if isinstance(variable, typing.TypeVarTuple):
        return _tuple([any_, ast.Constant(...)])
    return ast.Constant(...) if isinstance(variable, typing.ParamSpec) else any_


def with_arguments(twin: str, base: type, bound: Bound, scope: Scope) -> ast.expr:
    """The twin of a generic base, with what the subclass puts in the place of its variables."""
    arguments: list[ast.expr] = []
    for variable, said in bound.get(base, {}).items():
        arguments += [ast.Starred(said)] if isinstance(variable, typing.TypeVarTuple) else [said]
    for part in (node for each in arguments for node in ast.walk(each)):
        if isinstance(part, ast.Name):
            scope.names.at_run_time(part.id)
    return ast.Subscript(ast.Name(twin), index_of(arguments)) if arguments else ast.Name(twin)


def anything(cls: type, names: Names) -> Iterator[str]:
    """What is said in brackets of a generic class of which nothing is known."""
    any_ = names.imported("typing", "Any")
    for variable in variables_of(cls):
        if isinstance(variable, typing.TypeVarTuple):
            yield f"*tuple[{any_}, ...]"
        else:
            yield "..." if isinstance(variable, typing.ParamSpec) else any_
