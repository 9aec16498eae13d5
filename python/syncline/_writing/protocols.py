"""How the methods by which the language knows async objects are written in a twin."""

from __future__ import annotations

import ast
import typing
from typing import TYPE_CHECKING

from .annotations import given, nature_of
from .layout import flat
from .members import Class, Written, given_out
from .scope import imported, standing_for, unquoted
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
    return _written(of, member, said, scope, "self._enter(self._aio)", "__enter__(self)")


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
    return _of_text(header, returns, call if returns == "None" else f"return {call}", member)


def _iterating(of: Class, member: Member) -> Written:
    said, scope = _returns(of, member)
    nature = nature_of(said, scope)
    if (
        said is not None
        and nature == "plain"
        and given_out(given(said, scope), nature, scope, "self") is not None
    ):
        return _written(of, member, said, scope, "self._aio.__aiter__()", "__iter__(self)")
    return _written(of, member, said, scope, "self._bridge.iterate(self._aio)", "__iter__(self)")


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
    of: Class, member: Member, said: ast.expr | None, scope: Scope, value: str, header: str
) -> Written:
    returns = imported(scope, "typing", "Any") if said is None else given(said, scope)
    nature = "plain" if said is None else nature_of(said, scope)
    converted = given_out(returns, nature, scope, "self")
    if converted is not None and nature in ("iterate", "generate"):
        body = f"for found in {value}:\n    yield {converted}"
    elif converted is not None:
        body = f"found = {value}\nreturn {converted}"
    else:
        body = value if flat(returns) == "None" else f"return {value}"
    return _of_text(header, flat(returns), body, member)


def _of_text(header: str, returns: str, body: str, member: Member) -> Written:
    node = ast.parse(f"def {header} -> {returns}: ...").body[0]
    assert isinstance(node, ast.FunctionDef)
    return Written(node, member.function.__doc__, ast.parse(body).body)


_WRITERS: dict[str, Callable[[Class, Member], Written]] = {
    "__aenter__": _entering,
    "__aexit__": _leaving,
    "__aiter__": _iterating,
    "__anext__": _stepping,
    "__await__": _running,
}
