"""Signatures of an async class's functions, as the methods of its twin have them.

1. A signature is taken from the source, where there is one, as it was written; else from the function itself.
2. What has no annotation gets `Any`: what is written passes strict type checkers.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import enum
import functools
import inspect
import re
import types
import typing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from .._kinds import type_of
from .._twins.objects import has_own
from .annotations import taken
from .decorated import leave_out_given
from .layout import flat, remember
from .scope import (
    Scope,
    as_written,
    class_name,
    every_part,
    imported,
    says_too_little,
    standing_for,
    unquoted,
    unsaid,
    variables_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .source import Def, Found

_MISSING = inspect.Parameter.empty


@dataclass
class Signature:
    """What a method takes and gives."""

    args: ast.arguments
    """With the twin's annotations and without `self`."""
    returns: ast.expr | None
    """As the source has it."""
    scope: Scope
    """Of the source's annotations."""
    annotations: dict[str, ast.expr]
    """Of the parameters, as the source has them."""
    own: ast.expr | None
    """The annotation of `self` that tells overloads apart by the class's type arguments."""
    parameters: list[ast.AST]
    """Type parameters, from Python 3.12 on."""
    is_hard: bool
    """Whether type checkers know too little of the function, or have to solve for type variables."""
    is_unpacked: bool
    """Whether it takes a typed dict as its keywords."""
    unwritable: list[str]
    """The parameters whose defaults can't be written."""
    says_all: bool = False
    """Whether `returns` is what a call gives, also of a function that is async."""


def of_definition(found: Found, scope: Scope, *, is_bound: bool, function: Any = None) -> Signature:
    """The signature of a function by its definition. Its first parameter is left out if it `is_bound`.

    function: has the defaults, where it is known.
    """
    node = found.node
    remember(node.args, found.source.lines)
    node = copy.copy(node)
    node.args = copied(node.args)
    _use_type_comment(node)
    args = node.args
    is_changed = leave_out_given(args, found, scope)
    positional = args.posonlyargs or args.args
    own: ast.arg | None = None
    if is_bound and positional:
        own = positional.pop(0)
        every = len(args.posonlyargs) + len(args.args)
        del args.defaults[: max(0, len(args.defaults) - every)]
    parameters: list[ast.AST] = list(getattr(node, "type_params", []))
    names = {cast("Any", parameter).name for parameter in parameters}
    scope = replace(scope, parameters=scope.parameters | names)
    if own is not None and own.annotation is not None:
        scope = _with_self(own.annotation, scope)
    annotations: dict[str, ast.expr] = {}
    is_hard = is_changed or bool(parameters) or node.returns is None or says_too_little(node.returns, scope)
    plain = _with_plain_defaults(args)
    for arg in _every(args):
        if arg.annotation is None:
            is_hard = True
            arg.annotation = imported(scope, "typing", "Any") if arg.arg in plain else unsaid(scope)
            continue
        if _is_of_bound_parameters(arg.annotation, scope):
            is_hard = True
            arg.annotation = imported(scope, "typing", "Any")
            continue
        annotations[arg.arg] = unquoted(arg.annotation)
        is_hard = is_hard or is_generic(arg.annotation, scope) or says_too_little(arg.annotation, scope)
        arg.annotation = taken(arg.annotation, scope)
    single = _single_objects(args, function)
    unwritable = [arg.arg for arg in _every(args) if arg.arg in single]

    def written(default: ast.expr) -> ast.expr:
        if any(default is each for each in single.values()):
            return imported(scope, "syncline.twins", "OMITTED")
        said = as_written(default, scope, at_run_time=True)
        return said if _is_accepted(default, found) else _as_any(said, scope)

    args.defaults = [written(default) for default in args.defaults]
    args.kw_defaults = [default and written(default) for default in args.kw_defaults]
    last = args.kwarg and annotations.get(args.kwarg.arg)
    is_unpacked = isinstance(last, ast.Subscript) and flat(last.value).rpartition(".")[2] == "Unpack"
    own_type = own.annotation if own is not None and _says_arguments(own.annotation, scope) else None
    own_type = own_type and taken(own_type, scope)
    is_hard = is_hard or bool(unwritable)
    return Signature(
        args, node.returns, scope, annotations, own_type, parameters, is_hard, is_unpacked, unwritable
    )


def _with_plain_defaults(args: ast.arguments) -> set[str]:
    """The parameters whose defaults say that they take no objects with twins."""
    return {
        name
        for name, default in _defaults(args)
        if isinstance(default, ast.Constant) and default.value not in (None, ...)
    }


def _defaults(args: ast.arguments) -> Iterator[tuple[str, ast.expr]]:
    positional = [*args.posonlyargs, *args.args]
    for arg, default in zip(reversed(positional), reversed(args.defaults), strict=False):
        yield arg.arg, default
    for arg, kw_default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        if kw_default is not None:
            yield arg.arg, kw_default


def _is_accepted(default: ast.expr, found: Found) -> bool:
    """Whether type checkers take a default for one of the parameter's type: its line does not say that they don't."""
    line = found.source.lines[(default.end_lineno or default.lineno) - 1]
    return not re.search(rb"#\s*(type|pyright):\s*ignore", line)


def _as_any(node: ast.expr, scope: Scope) -> ast.expr:
    return ast.Call(imported(scope, "typing", "cast"), [ast.Constant("Any"), node], [])


def _single_objects(args: ast.arguments, function: Any) -> dict[str, ast.expr]:
    """The parameters whose defaults are calls that give an object which is equal to itself only, and may be compared
    with: to write the call would make another one."""
    function = inspect.unwrap(function) if function is not None else None
    positional = [*args.posonlyargs, *args.args]
    values: dict[str, Any] = dict(getattr(function, "__kwdefaults__", None) or {})
    known = getattr(function, "__defaults__", None) or ()
    values.update(zip([arg.arg for arg in reversed(positional)], reversed(known), strict=False))
    return {
        name: default
        for name, default in _defaults(args)
        if isinstance(default, ast.Call) and name in values and not has_own(type_of(values[name]), "__eq__")
    }


def copied(args: ast.arguments) -> ast.arguments:
    """Parameters that can be changed without changing those."""
    return ast.arguments(
        [copy.copy(arg) for arg in args.posonlyargs],
        [copy.copy(arg) for arg in args.args],
        copy.copy(args.vararg),
        [copy.copy(arg) for arg in args.kwonlyargs],
        list(args.kw_defaults),
        copy.copy(args.kwarg),
        list(args.defaults),
    )


def _use_type_comment(node: Def) -> None:
    """Turns comments about types into annotations."""
    for arg in _every(node.args):
        if arg.annotation is None and arg.type_comment is not None:
            arg.annotation = ast.parse(arg.type_comment, mode="eval").body
    if node.type_comment is None:
        return
    try:
        signature = ast.parse(node.type_comment, mode="func_type")
    except SyntaxError:  # `# type: ignore` and the like
        return
    node.returns = node.returns or signature.returns
    every = list(_every(node.args))
    said = signature.argtypes
    if [flat(each) for each in said] == ["..."]:
        return
    for arg, annotation in zip(every[len(every) - len(said) :], said, strict=False):
        arg.annotation = arg.annotation or (
            annotation.value if isinstance(annotation, ast.Starred) else annotation
        )


def _every(args: ast.arguments) -> list[ast.arg]:
    """All parameters, in order."""
    stars = [[args.vararg] if args.vararg else [], [args.kwarg] if args.kwarg else []]
    return [*args.posonlyargs, *args.args, *stars[0], *args.kwonlyargs, *stars[1]]


def _with_self(annotation: ast.expr, scope: Scope) -> Scope:
    """The scope of a method whose `self` is annotated by a type variable: that is `Self`."""
    if isinstance(annotation, ast.Subscript):
        if scope.meaning(annotation.value) not in (type, typing.Type):  # noqa: UP006 -- the source may say so
            return scope
        annotation = annotation.slice
    found = scope.meaning(annotation)
    if not isinstance(found, typing.TypeVar):
        return scope
    itself = imported(scope, "typing", "Self")
    return replace(scope, arguments={**scope.arguments, found: itself})


def _says_arguments(own: ast.expr | None, scope: Scope) -> bool:
    """Whether an annotation of `self` is the class with type arguments."""
    own = own and unquoted(own)
    return isinstance(own, ast.Subscript) and scope.meaning(own.value) is scope.owner


def _is_of_bound_parameters(annotation: ast.expr, scope: Scope) -> bool:
    """Whether it is `P.args` or `P.kwargs` of a ParamSpec in whose place a subclass has put something."""
    if not isinstance(annotation, ast.Attribute):
        return False
    found = scope.meaning(annotation.value)
    return isinstance(found, typing.ParamSpec) and found in scope.arguments


def is_generic(annotation: ast.expr, scope: Scope) -> bool:
    """Whether there are type variables in an annotation of which its class knows nothing."""
    own: set[Any] = {*variables_of(scope.owner or object), *scope.arguments}
    for part in every_part(annotation):
        if isinstance(part, ast.Name):
            found = scope.meaning(part)
            if (
                isinstance(found, (typing.TypeVar, typing.ParamSpec, typing.TypeVarTuple))
                and found not in own
            ):
                return True
    return False


def of_function(function: Any, scope: Scope, *, is_bound: bool, sees_omitted: bool = False) -> Signature:
    """The signature of a function whose definition isn't there (by 1), such as a dataclass's `__init__`.

    sees_omitted: it makes a difference whether an argument is left out, or has the value of its default.
    """
    if functools.partialmethod in type(function).__mro__ and scope.owner is not None:
        function, is_bound = function.__get__(None, scope.owner), True
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        is_bound = False
        signature = inspect.Signature(
            [
                inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
                inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
            ]
        )
    args = ast.arguments([], [], None, [], [], None, [])
    annotations: dict[str, ast.expr] = {}
    unwritable: list[str] = []
    for parameter in list(signature.parameters.values())[int(is_bound) :]:
        said = written_annotation(parameter.annotation, scope)
        if said is not None:
            annotations[parameter.name] = said
        arg = ast.arg(parameter.name, unsaid(scope) if said is None else taken(said, scope))
        default: ast.expr | None = None
        if parameter.default is not _MISSING:
            default = None if sees_omitted else _written_value(parameter.default, scope)
            if default is None:
                unwritable.append(parameter.name)
                default = imported(scope, "syncline.twins", "OMITTED")
        _put(args, parameter, arg, default)
    returns = written_annotation(signature.return_annotation, scope)
    return Signature(args, returns, scope, annotations, None, [], True, False, unwritable)


def _put(args: ast.arguments, parameter: inspect.Parameter, arg: ast.arg, default: ast.expr | None) -> None:
    match parameter.kind:
        case inspect.Parameter.POSITIONAL_ONLY:
            args.posonlyargs.append(arg)
        case inspect.Parameter.POSITIONAL_OR_KEYWORD:
            args.args.append(arg)
        case inspect.Parameter.VAR_POSITIONAL:
            args.vararg = arg
        case inspect.Parameter.KEYWORD_ONLY:
            args.kwonlyargs.append(arg)
            args.kw_defaults.append(default)
        case inspect.Parameter.VAR_KEYWORD:
            args.kwarg = arg
    if default is not None and parameter.kind in (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    ):
        args.defaults.append(default)


def written_annotation(annotation: Any, scope: Scope) -> ast.expr | None:
    """The expression of an annotation that is a text or an object; None where there is none."""
    if annotation is _MISSING:
        return None
    if annotation is None or annotation is type(None):
        return ast.Constant(None)
    if type(annotation).__name__ == "InitVar":
        return _of_type(annotation.type)
    if isinstance(annotation, str):
        try:
            said = ast.parse(annotation, mode="eval").body
        except SyntaxError:
            return None
        is_for_init = isinstance(said, ast.Subscript) and scope.meaning(said.value) is dataclasses.InitVar
        return said.slice if is_for_init and isinstance(said, ast.Subscript) else said
    return _of_type(annotation)


def _of_type(annotation: Any) -> ast.expr:
    """The expression of a type."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is ...:
        return ast.Constant(...)
    if annotation is None or annotation is type(None):
        return ast.Constant(None)
    if isinstance(annotation, (str, typing.ForwardRef)):
        text = annotation if isinstance(annotation, str) else annotation.__forward_arg__
        return ast.parse(text, mode="eval").body
    if list in type(annotation).__mro__:  # of what a callable takes
        return ast.List([_of_type(each) for each in annotation])
    if origin is None:
        return standing_for(annotation)
    if origin in (typing.Union, types.UnionType):
        first, *rest = map(_of_type, args)
        for each in rest:
            first = ast.BinOp(first, ast.BitOr(), each)
        return first
    if origin is typing.Literal or origin is typing.Annotated:
        values = [ast.Constant(each) for each in (args if origin is typing.Literal else ())]
        return ast.Subscript(standing_for(origin), ast.Tuple(list(values))) if values else _of_type(args[0])
    inner = [_of_type(each) for each in args]
    return ast.Subscript(standing_for(origin), inner[0] if len(inner) == 1 else ast.Tuple(inner))


def _written_value(value: object, scope: Scope) -> ast.expr | None:
    """The expression of a default; None where there is none."""
    if (
        isinstance(value, enum.Enum)
        and not type(value).__name__.startswith("_")
        and value.name not in ("name", "value")  # which type checkers take for the properties
    ):
        return ast.Attribute(class_name(type(value), scope.names), value.name)
    if value is None or value is ... or type(value) in (bool, int, str, bytes, float) or value == ():
        text = repr(value)
        # Infinity and what is no number have no literals.
        return ast.parse(text if text[-1] not in "fn" else f'float("{text}")', mode="eval").body
    return None
