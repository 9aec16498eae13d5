"""How each member of an async class is written in its twin.

What a member is, `syncline._twins.surface` says, for twins that are written as for those that `blocking` makes.

1. A call is written so that type checkers see through it. Where they can't, as of overloads, the result is declared.
2. What belongs to a class is asked of the async class; the rest, of the async object.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import layout
from .annotations import Nature, awaits, given, nature_of
from .conversions import Crossing
from .layout import flat
from .scope import Scope, as_written, class_name, imported, parts_of, type_parameters
from .signatures import Signature, copied, of_definition, of_function
from .source import Found, class_definition, definition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._twins.surface import Member

_NATURES: dict[str, Nature] = {
    "coroutine": "await",
    "generator": "generate",
    "iterable": "iterate",
    "manager": "enter",
    "async property": "await",
    "async cached property": "await",
}
_KEPT = frozenset({"deprecated", "final", "override"})
"""The decorators that say something of a method to its callers, or to a type checker."""


@dataclass
class Written:
    """A method or property of a twin."""

    header: ast.FunctionDef
    docstring: str | None = None
    body: list[ast.stmt] = field(default_factory=list[ast.stmt])
    """Empty for an overload."""


@dataclass(frozen=True)
class Class:
    """What a twin is written of."""

    cls: type
    name: str
    """Of the twin."""
    scope: Scope
    bound: dict[type, dict[Any, ast.expr]]
    """What stands for the type variables of its bases."""

    def scope_of(self, owner: type, function: Any = None) -> Scope:
        """Where the annotations of a member stand, or those of its function."""
        found = None if function is None else definition(function)
        where = class_definition(owner)
        source = found.source if found else where[0] if where else self.scope.source
        parameters = type_parameters(owner) if owner is self.cls else frozenset[str]()
        arguments = self.bound.get(owner, {})
        return replace(self.scope, source=source, owner=owner, parameters=parameters, arguments=arguments)


def constructor(of: Class) -> Written:
    """The twin's `__init__`: it makes the async object on the loop."""
    init: Any = inspect.getattr_static(of.cls, "__init__")
    owner = next(base for base in of.cls.__mro__ if "__init__" in vars(base))
    found = definition(init)
    if found is not None:
        signature = of_definition(found, of.scope_of(owner, init), is_bound=True)
    else:
        signature = of_function(of.cls, of.scope_of(owner), is_bound=False)
    aio = flat(class_name(of.cls, of.scope.names))
    body = ast.parse(f"self._make({aio}{passed_on(signature)})").body
    header = _header("__init__", signature.args, ast.Constant(None), "self")
    return Written(header, None if found is None else init.__doc__, body)


def method(of: Class, member: Member) -> Iterator[Written]:
    """A method, with its overloads before it."""
    scope = of.scope_of(member.owner, member.function)
    found = definition(member.function)
    is_bound = member.binding != "static"
    overloads: list[Found] = []
    if found is None:
        signature = of_function(member.function, scope, is_bound=is_bound)
    else:
        overloads, found = _definitions(found)
        signature = of_definition(found, scope, is_bound=is_bound)
    headers: dict[str, tuple[ast.FunctionDef, Signature]] = {}
    for overload in _fitting(overloads, scope):
        each = of_definition(overload, scope, is_bound=is_bound)
        header = _method_header(member, each, _nature(member, each), overload)
        headers.setdefault(layout.header(header, 0, is_stub=True), (header, each))
    if len(headers) == 1:
        # What is left of those that told sync from async callers: it says more than the definition does.
        ((_, overloaded),) = headers.values()
        _use_defaults(overloaded.args, signature.args)
        overloaded.is_hard, signature = True, overloaded
    else:
        for header, _ in headers.values():
            header.decorator_list.insert(0, imported(scope, "typing", "overload"))
            yield Written(header)
    nature = _nature(member, signature)
    holder = {"instance": "self", "class": "cls", "static": of.name}[member.binding]
    asked = "self._aio" if member.binding == "instance" else flat(class_name(of.cls, scope.names))
    body = Body(
        signature,
        nature,
        f"{asked}.{member.name}",
        holder,
        is_hard=signature.is_hard or bool(overloads) or _is_deprecated(found),
    )
    header = _method_header(member, signature, nature, found)
    made = body.statements(member, header)
    yield Written(header, member.function.__doc__, made)


def _use_defaults(args: ast.arguments, others: ast.arguments) -> None:
    """Gives the parameters of an overload the defaults of the definition, where it says `...` only."""
    known: dict[str, ast.expr | None] = {}
    positional = [*others.posonlyargs, *others.args]
    known.update(zip((arg.arg for arg in reversed(positional)), reversed(others.defaults), strict=False))
    known.update(zip((arg.arg for arg in others.kwonlyargs), others.kw_defaults, strict=True))

    def default(arg: ast.arg, said: ast.expr | None) -> ast.expr | None:
        return known.get(arg.arg, said) if said is not None and flat(said) == "..." else said

    positional = [*args.posonlyargs, *args.args]
    with_default = positional[len(positional) - len(args.defaults) :]
    args.defaults = [
        default(arg, said) or said for arg, said in zip(with_default, args.defaults, strict=True)
    ]
    args.kw_defaults = [
        default(arg, said) for arg, said in zip(args.kwonlyargs, args.kw_defaults, strict=True)
    ]


def _method_header(
    member: Member, signature: Signature, nature: Nature, found: Found | None
) -> ast.FunctionDef:
    holder = {"instance": "self", "class": "cls", "static": ""}[member.binding]
    args = copied(signature.args)
    header = _header(member.sync_name, args, result(signature.returns, nature, signature.scope), holder)
    if holder and signature.own is not None:
        (args.posonlyargs or args.args)[0].annotation = signature.own
    binding = {"instance": "", "class": "classmethod", "static": "staticmethod"}[member.binding]
    header.decorator_list = [ast.Name(binding)] if binding else []
    if found is not None:
        header.decorator_list += _said(found, signature.scope)
    if signature.parameters:
        vars(header)["type_params"] = signature.parameters
    return header


def _is_deprecated(found: Found | None) -> bool:
    return found is not None and any("deprecated" in flat(each) for each in found.node.decorator_list)


def _definitions(found: Found) -> tuple[list[Found], Found]:
    """The overloads of a method, and the definition that says its signature: one for type checkers comes first."""
    if found.owner is None:
        return [], found
    every = found.source.named(found.owner, found.node.name)
    overloads = [each for each in every if _is_overload(each)]
    checked = [each for each in every if each.for_checkers and each not in overloads]
    return overloads, next(iter(checked), found)


def _is_overload(found: Found) -> bool:
    names = [flat(decorator).rpartition(".")[2] for decorator in found.node.decorator_list]
    return "overload" in names


def _fitting(overloads: list[Found], scope: Scope) -> list[Found]:
    """Those for async callers, where overloads tell sync and async ones apart by the type of `self`."""
    fitting = [
        each
        for each in overloads
        if isinstance(each.node, ast.AsyncFunctionDef) or awaits(each.node.returns, scope)
    ]
    first = [
        args[0].annotation
        for each in overloads
        if (args := each.node.args.posonlyargs or each.node.args.args)
    ]
    return fitting if fitting and any(first) else overloads


def _said(found: Found, scope: Scope) -> list[ast.expr]:
    """The decorators that are kept."""
    kept: list[ast.expr] = []
    for decorator in found.node.decorator_list:
        named = decorator.func if isinstance(decorator, ast.Call) else decorator
        if flat(named).rpartition(".")[2] in _KEPT:
            kept.append(as_written(decorator, scope, at_run_time=True))
    return kept


def _nature(member: Member, signature: Signature) -> Nature:
    """What becomes of what the async member gives: by its kind, or by what the annotation says of its result."""
    return _NATURES.get(member.kind) or nature_of(signature.returns, signature.scope)


def result(said: ast.expr | None, nature: Nature, scope: Scope) -> ast.expr:
    """The annotation of what a twin's member gives."""
    if said is None:
        return imported(scope, "typing", "Any")
    made = given(said, scope)
    if nature not in ("enter", "generate"):
        return made
    item: ast.expr = imported(scope, "typing", "Any")
    match made:
        case ast.Subscript(slice=ast.Tuple(elts=[first, *_])) | ast.Subscript(slice=first):
            item = first
        case _:
            pass
    if nature == "enter":
        return ast.Subscript(imported(scope, "contextlib", "AbstractContextManager"), item)
    if isinstance(made, ast.Subscript) and isinstance(made.slice, ast.Tuple):
        return made
    generator = imported(scope, "collections.abc", "Generator")
    return ast.Subscript(generator, ast.Tuple([item, ast.Constant(None), ast.Constant(None)]))


def _header(name: str, args: ast.arguments, returns: ast.expr, holder: str) -> ast.FunctionDef:
    if holder:
        (args.posonlyargs or args.args).insert(0, ast.arg(holder))
    return ast.FunctionDef(name, args, [], [], returns)


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
        scope, is_hard = self.signature.scope, self.is_hard or self.nature == "perhaps"
        asked, _, name = self.function.rpartition(".")
        value = self._value(member, f"aio.{name}" if is_hard else self.function)
        lines = [f"aio: {scope.names.imported('typing', 'Any')} = {asked}"] if is_hard else []
        second = nature_of(self.signature.returns, scope) if self.nature == "await" else "plain"
        if second in ("iterate", "generate", "enter"):
            value = self._opened(second, value)
        opens = second if second in ("iterate", "generate", "enter") else self.nature
        assert header.returns is not None
        returned = flat(header.returns)
        converted = given_out(header.returns, opens, scope, self.holder)
        if converted is not None and opens == "enter":
            lines += [f"with {value} as found:", f"    yield {converted}"]
            header.decorator_list.append(imported(scope, "contextlib", "contextmanager"))
            assert isinstance(header.returns, ast.Subscript)
            generator = imported(scope, "collections.abc", "Generator")
            nothing = ast.Constant(None)
            header.returns = ast.Subscript(generator, ast.Tuple([header.returns.slice, nothing, nothing]))
        elif converted is not None and opens in ("iterate", "generate"):
            lines += [f"for found in {value}:", f"    yield {converted}"]
        elif converted is not None:
            lines += [f"found = {value}", f"return {converted}"]
        elif returned == "None":
            lines.append(value)
        elif is_hard and returned != "Any":
            lines += [f"found: {returned} = {value}", "return found"]
        else:
            lines.append(f"return {value}")
        return ast.parse("\n".join(lines)).body

    def _value(self, member: Member, function: str) -> str:
        bridge, passed = f"{self.holder}._bridge", passed_on(self.signature)
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
                is_special = member.name.startswith("__") and member.name != "__call__"
                return called if is_special else f"{bridge}.call({function}{passed})"
            case _:
                return self._opened(self.nature, called)

    def _opened(self, nature: Nature, value: str) -> str:
        bridge = f"{self.holder}._bridge"
        match nature:
            case "iterate":
                return f"{bridge}.iterate({value})"
            case "enter":
                return f"{bridge}.enter({value})"
            case _:
                return (
                    f"{self.signature.scope.names.imported('syncline.twins', 'generated')}({bridge}, {value})"
                )


def given_out(written: ast.expr, nature: Nature, scope: Scope, holder: str) -> str | None:
    """The conversion of what a member gives, called `found`; of an item, or of what is entered, by its `nature`."""
    if nature in ("iterate", "generate", "enter") and isinstance(written, ast.Subscript):
        written = parts_of(written.slice)[0]
    return _crossing(scope, holder).of(written, "found")


def taken_in(written: ast.expr | None, scope: Scope, value: str) -> str | None:
    """The conversion of an argument."""
    return None if written is None else _crossing(scope, None).of(written, value)


def _crossing(scope: Scope, holder: str | None) -> Crossing:
    return Crossing(scope.names, {name: cls for cls, name in scope.twins.items()}, holder)


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
