"""How the methods by which the language knows async objects are written in a twin."""

from __future__ import annotations

import ast
import typing
from typing import TYPE_CHECKING

from .annotations import OPENED, given, nature_of
from .calls import given_out, opening
from .layout import flat
from .members import Class, Written
from .scope import imported, standing_for, unquoted, variables_of
from .signatures import of_definition
from .source import definition, gives_itself

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._twins.surface import Member
    from .scope import Scope


def protocol(of: Class, member: Member) -> Written | None:
    """The sync form of such a method; None for any other one."""
    write = _WRITERS.get(member.name)
    return None if write is None else write(of, member)


def _entering(of: Class, member: Member) -> Written:
    said, scope = _returns(of, member)
    if said is None and gives_itself(member.function):
        scope.names.imported("typing", "Self")
        said = standing_for(typing.Self)
    given = "self._enter(self._aio, lambda found: {})"
    return _written(of, member, said, scope, "self._enter(self._aio)", "__enter__(self)", given)


def _leaving(of: Class, member: Member) -> Written:
    said, scope = _returns(of, member)
    names = scope.names
    error, trace = "BaseException", names.imported("types", "TracebackType")
    header = f"__exit__(self, exc_type: type[{error}] | None, exc_value: {error} | None, traceback: {trace} | None, /)"
    if any(name == "type" for name in dir(of.cls)):  # in the class body that is not the builtin one
        header = "__exit__(self, exc_type: Any, exc_value: BaseException | None, traceback: Any, /)"
        names.imported("typing", "Any")
    returns = "None" if said is not None and flat(unquoted(said)) == "None" else "bool | None"
    call = "self._leave(exc_type, exc_value, traceback)"
    made = ast.parse(f"def {header} -> {returns}: {'' if returns == 'None' else 'return '}{call}").body[0]
    assert isinstance(made, ast.FunctionDef)
    return Written(made, member.function.__doc__, made.body)


def _iterating(of: Class, member: Member) -> Written:
    said, scope = _returns(of, member)
    if gives_itself(member.function) and any(
        isinstance(each, typing.TypeVarTuple) for each in variables_of(of.cls)
    ):  # of which pyright does not see that it stands for any types
        scope.names.imported("typing", "Self")
        said = standing_for(typing.Self)
    nature = nature_of(said, scope)
    value = "self._bridge.iterate(self._aio)"
    if nature in OPENED:
        value = "self._aio.__aiter__()" if nature == "generate" else "self._aio"
    elif (
        said is not None
        and nature == "plain"
        and given_out(given(said, scope), nature, scope, "self") is not None
    ):
        value = "self._aio.__aiter__()"
    return _written(of, member, said, scope, value, "__iter__(self)")


def _stepping(of: Class, member: Member) -> Written:
    said, scope = _returns(of, member)
    return _written(of, member, said, scope, "self._next(self._aio)", "__next__(self)")


def _running(of: Class, member: Member) -> Written:
    said, scope = _returns(of, member)
    match unquoted(said) if said is not None else None:
        case ast.Subscript(slice=ast.Tuple(elts=[_, _, inner])):
            said = inner
        case _:
            said = None
    call = "self._bridge.run(self._aio, timeout=timeout)"
    return _written(of, member, said, scope, call, "run(self, timeout: float | None = None)")


def _returns(of: Class, member: Member) -> tuple[ast.expr | None, Scope]:
    found = definition(member.function)
    scope = of.scope_of(member.owner, member.function)
    if found is None:
        return None, scope
    signature = of_definition(found, scope, is_bound=True)
    return signature.returns, signature.scope


def _written(
    of: Class,
    member: Member,
    said: ast.expr | None,
    scope: Scope,
    value: str,
    header: str,
    within: str | None = None,
) -> Written:
    """within: the call that makes of what it found, itself, what it gives."""
    returns = imported(scope, "typing", "Any") if said is None else given(said, scope)
    nature = "plain" if said is None else nature_of(said, scope)
    made = ast.parse(f"def {header} -> {flat(returns)}: ...").body[0]
    assert isinstance(made, ast.FunctionDef)
    converted = given_out(returns, nature, scope, "self")
    if nature in OPENED:
        if within is None:
            lines = opening(value, nature, made, scope, "self", is_hard=False)
        else:
            [line] = opening("found", nature, made, scope, "self", "given", is_hard=False)
            lines = [f"return {within.format(line.removeprefix('return '))}"]
    elif converted is not None and within is not None:
        lines = [f"return {within.format(converted)}"]
    elif converted is not None:
        lines = [f"found = {value}", f"return {converted}"]
    else:
        lines = [value if flat(returns) == "None" else f"return {value}"]
    return Written(made, member.function.__doc__, ast.parse("\n".join(lines)).body)


_WRITERS: dict[str, Callable[[Class, Member], Written]] = {
    "__aenter__": _entering,
    "__aexit__": _leaving,
    "__aiter__": _iterating,
    "__anext__": _stepping,
    "__await__": _running,
}
