"""The calls by which a twin's members use those of the async object, and what becomes of what they give.

1. A call is written so that type checkers see through it. Where they can't, as of overloads, the result is declared.
"""

from __future__ import annotations

import ast
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .annotations import OPENED, Nature, may_be_opened, nature_of
from .conversions import Crossing
from .layout import flat
from .scope import Scope, is_unsaid, parts_of
from .signatures import Signature

if TYPE_CHECKING:
    from .._twins.surface import Member


def is_special(member: Member) -> bool:
    """Whether it is one by which the language knows an object, and which is called where it is used."""
    return member.name.startswith("__") and member.name != "__call__"


@dataclass(frozen=True)
class Body:
    """What a twin's method does."""

    signature: Signature
    nature: Nature
    function: str
    """The async one."""
    holder: str
    """What has the bridge."""
    is_hard: bool
    """Whether type checkers don't see through a call of the function (by 1)."""

    def statements(self, member: Member, header: ast.FunctionDef) -> list[ast.stmt]:
        scope = self.signature.scope
        is_mixed = may_be_opened(self.signature.returns, scope)
        is_hard = self.is_hard or self.nature == "perhaps" or is_mixed
        asked, _, name = self.function.rpartition(".")
        aio, found = (free(name, header.args) for name in ("aio", "found"))
        value = self._value(member, f"{aio}.{name}" if is_hard else self.function)
        lines = [f"{aio}: {scope.names.imported('typing', 'Any')} = {asked}"] if is_hard else []
        opens = nature_of(self.signature.returns, scope) if self.nature == "await" else self.nature
        if opens in OPENED:
            lines += opening(value, opens, header, scope, self.holder, found, is_hard=is_hard)
            return ast.parse("\n".join(lines)).body
        assert header.returns is not None
        converted = None if is_mixed else given_out(header.returns, self.nature, scope, self.holder, found)
        if flat(header.returns) == "None" and converted is None:
            lines.append(value)
        else:
            what = f"{member.name}()"
            lines += giving(
                value,
                header.returns,
                scope,
                converted,
                what,
                found,
                is_hard=is_hard,
                is_mixed=is_mixed,
                give="self._give" if self.holder == "self" else f"{self.holder}._give_of_class",
            )
        return ast.parse("\n".join(lines)).body

    def _value(self, member: Member, function: str) -> str:
        bridge, passed = f"{self.holder}._bridge", passed_on(self.signature)
        if self.signature.unwritable:
            passed = _without_omitted(passed, self.signature)
        called = f"{function}({passed.removeprefix(', ')})"
        if self.signature.is_unpacked:  # which mypy doesn't understand in a call that hands it on
            function, passed = f"lambda: {called}", ""
        match self.nature:
            case "await":
                return f"{bridge}.run_sync({function}{passed})"
            case "perhaps":
                perhaps = self.signature.scope.names.imported("syncline.twins", "perhaps")
                return f"{bridge}.run_sync({perhaps}, {function}{passed})"
            case "plain":
                return called if is_special(member) else f"{bridge}.call({function}{passed})"
            case _:
                return called


def giving(
    value: str,
    returns: ast.expr,
    scope: Scope,
    converted: str | None,
    what: str,
    found: str = "found",
    *,
    is_hard: bool,
    is_mixed: bool,
    give: str = "self._give",
) -> list[str]:
    """The lines that give sync code what is neither iterated over nor entered, unless it `is_mixed` with such.

    value: what async code gets. converted: what is made of that. what: the member, for an error. give: what gives what
    only the object tells.
    """
    returned = flat(returns)
    if is_mixed:
        return [f"{found}: {returned} = {give}({value})", f"return {found}"]
    if converted is not None:
        return [f"{found} = {value}", f"return {converted}"]
    if scope.names.meaning(returns) in (typing.NoReturn, typing.Never):
        # That it does not return is not seen of a call that gives what another one gives.
        return [value, f"raise AssertionError({what + ' has returned'!r})"]
    if is_hard and returned != "Any":
        return [f"{found}: {returned} = {value}", f"return {found}"]
    return [f"return {value}"]


def opening(
    value: str,
    nature: Nature,
    header: ast.FunctionDef,
    scope: Scope,
    holder: str,
    found: str = "found",
    *,
    is_hard: bool,
) -> list[str]:
    """The lines that give sync code what is iterated over or entered; `value` is what async code gets."""
    bridge = f"{holder}._bridge"
    assert header.returns is not None
    converted = given_out(header.returns, nature, scope, holder, found)
    give = "" if converted is None else f", lambda {found}: {converted}"
    if nature == "generate" or converted is not None:
        if nature == "generate" and not give and _takes(header, scope):
            give = ", None"
        made = {"generate": "generated", "iterate": "iterated", "enter": "entered"}[nature]
        value = f"{scope.names.imported('syncline.twins', made)}({bridge}, {value}{give})"
    else:
        value = f"{bridge}.{nature}({value})"
    returned = flat(header.returns)
    if is_hard and returned != "Any":
        return [f"{found}: {returned} = {value}", f"return {found}"]
    return [f"return {value}"]


def _takes(header: ast.FunctionDef, scope: Scope) -> bool:
    """Whether what is sent into a generator is converted."""
    match header.returns:
        case ast.Subscript(slice=ast.Tuple(elts=[_, sent, *_])):
            return taken_in(sent, scope, "value") is not None
        case _:
            return False


def free(name: str, args: ast.arguments) -> str:
    """A name for a variable that no parameter has."""
    known = {arg.arg for arg in ast.walk(args) if isinstance(arg, ast.arg)}
    while name in known:
        name = f"{name}_"
    return name


def given_out(
    written: ast.expr, nature: Nature, scope: Scope, holder: str, value: str = "found"
) -> str | None:
    """The conversion of what a member gives, a variable; of an item, or of what is entered, by its `nature`."""
    if nature in OPENED and isinstance(written, ast.Subscript):
        written = parts_of(written.slice)[0]
    if is_unsaid(written):
        return f"self._give({value})" if holder == "self" else None
    return _crossing(scope, holder).of(written, value)


def taken_in(written: ast.expr | None, scope: Scope, value: str) -> str | None:
    """The conversion of an argument."""
    if written is not None and is_unsaid(written):
        return f"{scope.names.imported('syncline.twins', 'inside')}({value})"
    return None if written is None else _crossing(scope, None).of(written, value)


def _crossing(scope: Scope, holder: str | None) -> Crossing:
    return Crossing(scope.names, {name: cls for cls, name in scope.twins.items()}, holder)


def _without_omitted(passed: str, signature: Signature) -> str:
    """The arguments of a call without those that the caller has left out."""
    call = ast.parse(f"f({passed.removeprefix(', ')})", mode="eval").body
    assert isinstance(call, ast.Call)
    given = signature.scope.names.imported("syncline.twins", "given")
    positional = "".join(f", {flat(each)}" for each in call.args)
    named = ", ".join(
        f"{'**' if each.arg is None else f'{each.arg}='}{flat(each.value)}" for each in call.keywords
    )
    return f"{positional}, **{given}({named})"


def passed_on(signature: Signature) -> str:
    """The arguments of a call that hands all parameters on; begins with a comma if there are any."""
    args = signature.args

    def value(arg: ast.arg, name: str) -> str | None:
        return taken_in(arg.annotation, signature.scope, name)

    parts = [value(arg, arg.arg) or arg.arg for arg in args.posonlyargs]
    # Where an argument may be left out, those behind it need their names.
    names = [f"{arg.arg}=" if signature.unwritable else "" for arg in args.args]
    parts += [name + (value(arg, arg.arg) or arg.arg) for name, arg in zip(names, args.args, strict=True)]
    if args.vararg is not None:
        name, inner = args.vararg.arg, value(args.vararg, "item")
        parts.append(f"*{name}" if inner is None else f"*[{inner} for item in {name}]")
    parts += [f"{arg.arg}={value(arg, arg.arg) or arg.arg}" for arg in args.kwonlyargs]
    if args.kwarg is not None:
        name, inner = args.kwarg.arg, value(args.kwarg, "item")
        parts.append(f"**{name}" if inner is None else f"**{{key: {inner} for key, item in {name}.items()}}")
    return "".join(f", {part}" for part in parts)
