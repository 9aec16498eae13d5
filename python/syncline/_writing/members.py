"""How each member of an async class is written in its twin.

What a member is, `syncline._twins.surface` says, for twins that are written as for those that `blocking` makes.

What belongs to a class is asked of the async class; the rest, of the async object.
"""

from __future__ import annotations

import ast
import functools
import inspect
import types
import typing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from . import layout
from .annotations import OPENED, Nature, awaited, awaits, given, nature_of, taken, with_twins
from .calls import Body, free, is_special, passed_on
from .decorated import changed_result, is_vaguely_decorated
from .layout import flat
from .scope import (
    Scope,
    as_written,
    class_name,
    imported,
    type_parameters,
    unsaid,
    variables_of,
)
from .signatures import Signature, copied, is_generic, of_definition, of_function
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
_KEPT = frozenset({"deprecated", "final"})
"""The decorators that say something of a method to its callers, or to a type checker."""


_ASKING = frozenset({"__lt__", "__le__", "__gt__", "__ge__", "__ne__", "__contains__"})
"""What answers at once, whatever it says."""


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

    def is_of_twins(self, owner: type) -> bool:
        """Whether a generic base is one of classes that have twins, here: what it gives then comes as those."""
        arguments = self.bound.get(owner, {}).values()
        return any(flat(with_twins(each, self.scope)) != flat(each) for each in arguments)

    def says_more_than(self, base: type | None, owner: type) -> bool:
        """Whether the members of a generic class give twins here, of which the twin of a `base` knows nothing."""
        return base is not None and bool(variables_of(base)) and self.is_of_twins(owner)

    def scope_of(self, owner: type, function: Any = None) -> Scope:
        """Where the annotations of a member stand, or those of its function."""
        found = None if function is None else definition(function)
        where = class_definition(owner)
        source = found.source if found else where[0] if where else self.scope.source
        parameters = type_parameters(owner) if owner is self.cls else frozenset[str]()
        arguments = self.bound.get(owner, {})
        return replace(self.scope, source=source, owner=owner, parameters=parameters, arguments=arguments)


def constructor(of: Class) -> Iterator[Written]:
    """The twin's `__init__`, with its overloads before it: it makes the async object on the loop."""
    init: Any = inspect.getattr_static(of.cls, "__init__")
    owner = next(base for base in of.cls.__mro__ if "__init__" in vars(base))
    is_synthesized = _is_synthesized(of.cls, owner)
    found = None if is_synthesized else definition(init)
    overloads: list[Found] = []
    if found is not None:
        scope = of.scope_of(owner, init)
        overloads, found = _definitions(found)
        signature = of_definition(found, scope, is_bound=True, function=init)
        for overload in overloads:
            args = of_definition(overload, scope, is_bound=True).args
            header = _header("__init__", args, ast.Constant(None), "self")
            header.decorator_list = [imported(scope, "typing", "overload")]
            yield Written(header)
    else:
        signature = of_function(of.cls, of.scope_of(owner), is_bound=False, sees_omitted=is_synthesized)
    aio, passed = flat(class_name(of.cls, of.scope.names)), passed_on(signature)
    if signature.is_unpacked:
        aio, passed = f"lambda: {aio}({passed.removeprefix(', ')})", ""
    lines = [f"self._make({aio}{passed})"]
    if (
        overloads
        or any(not isinstance(each, typing.TypeVar) for each in variables_of(of.cls))
        or any(is_generic(said, signature.scope) for said in signature.annotations.values())
    ):
        # Type checkers don't see through these, nor through what is generic in parameters, or by itself.
        any_ = of.scope.names.imported("typing", "Any")
        name = free("aio", signature.args)
        lines = [f"{name}: {any_} = {aio}", f"self._make({name}{passed})"]
    body = ast.parse("\n".join(lines)).body
    header = _header("__init__", signature.args, ast.Constant(None), "self")
    yield Written(header, None if found is None else init.__doc__, body)


def _is_synthesized(cls: type, owner: type) -> bool:
    """Whether type checkers take the fields of a class for the parameters of its constructor, whose one `__init__` is
    that of the first class of this kind: pydantic's, for one."""
    made_by: Any = type(cls)
    if not any("__dataclass_transform__" in vars(each) for each in made_by.__mro__):
        return False
    return owner is [base for base in cls.__mro__ if isinstance(base, made_by)][-1]


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
        signature = of_definition(found, scope, is_bound=is_bound, function=member.function)
        if (changed := changed_result(found, signature.scope)) is not None:
            signature.returns, signature.scope = changed
            signature.says_all = True
            if member.kind == "coroutine" and (inner := awaited(*changed)) is not None:
                signature.returns, signature.says_all = inner, False
    if is_special(member) and member.name != "__exit__":
        _leave_open(signature)
    headers: dict[str, tuple[ast.FunctionDef, Signature]] = {}
    for overload in _fitting(overloads, scope):
        each = of_definition(overload, scope, is_bound=is_bound)
        # One that is not async itself says what callers get of an async generator, whatever decorators make of it.
        each.says_all = member.kind == "generator" and isinstance(overload.node, ast.FunctionDef)
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
        is_hard=signature.is_hard
        or bool(overloads)
        or (member.binding != "instance" and _is_generic(of.cls))
        or is_deprecated(found)
        or is_wrapped(member, scope)
        or _is_vague(member, signature),
    )
    header = _method_header(member, signature, nature, found)
    made = body.statements(member, header)
    yield Written(header, _docstring(member.function), made)


def _leave_open(signature: Signature) -> None:
    """A special method that takes any object takes those with twins, too."""
    for arg in ast.walk(signature.args):
        if (
            isinstance(arg, ast.arg)
            and arg.annotation is not None
            and flat(arg.annotation) in ("object", "Any")
        ):
            arg.annotation = ast.Name("object")
            vars(arg.annotation)["is_unsaid"] = True


def _docstring(function: Any) -> str | None:
    """A function's own one; what is none may have that of its class."""
    said: str | None = function.__doc__
    return None if said is type(function).__doc__ else said


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
    returns = result(signature.returns, nature, signature.scope)
    if _is_awaited_once(member, signature):
        assert signature.returns is not None
        returns = taken(signature.returns, signature.scope)
    header = _header(member.sync_name, args, returns, holder)
    if holder and signature.own is not None:
        (args.posonlyargs or args.args)[0].annotation = signature.own
    binding = {"instance": "", "class": "classmethod", "static": "staticmethod"}[member.binding]
    header.decorator_list = [ast.Name(binding)] if binding else []
    if found is not None:
        header.decorator_list += _said(found, signature.scope)
    if signature.parameters:
        vars(header)["type_params"] = signature.parameters
    return header


def _is_generic(cls: type) -> bool:
    """Whether a type checker that sees a class asks what it is generic in."""
    return bool(variables_of(cls))


def is_deprecated(found: Found | None) -> bool:
    """Whether type checkers object to a use of it."""
    return found is not None and any("deprecated" in flat(each) for each in found.node.decorator_list)


def is_wrapped(member: Member, scope: Scope) -> bool:
    """Whether type checkers may take a member for something else than what its definition says: it is one of another
    class, or something is around it of which they know nothing, or too much."""
    found = definition(member.function)
    held: object = inspect.getattr_static(member.owner, member.name, member.value)
    if type(held) not in _METHODS:
        return True
    if found is None:
        return False
    where = class_definition(member.owner)
    return (
        found.owner is not None and where is not None and found.owner is not where[1]
    ) or is_vaguely_decorated(found, scope)


_METHODS = (types.FunctionType, staticmethod, classmethod, property, functools.cached_property)


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
    if member.name in _ASKING:
        return "plain"
    said = nature_of(signature.returns, signature.scope)
    if member.kind == "iterable" and said == "generate":
        return said
    if member.kind == "generator" and signature.says_all and said not in ("iterate", "generate"):
        return said
    return _NATURES.get(member.kind) or said


def _is_awaited_once(member: Member, signature: Signature) -> bool:
    """Whether what comes out of the await of an async method is to be awaited itself: sync code gets it as it is."""
    said, scope = signature.returns, signature.scope
    return said is not None and nature_of(said, scope) == "await" and _is_async(member, signature)


def _is_vague(member: Member, signature: Signature) -> bool:
    """Whether an object is awaited whose class does not say what that gives."""
    said, scope = signature.returns, signature.scope
    if said is None or nature_of(said, scope) != "await" or _is_async(member, signature):
        return False
    return flat(given(said, scope)) == flat(as_written(said, scope))


def _is_async(member: Member, signature: Signature) -> bool:
    """Whether its annotation says what awaiting its result gives."""
    return not signature.says_all and inspect.iscoroutinefunction(inspect.unwrap(member.function))


def result(said: ast.expr | None, nature: Nature, scope: Scope) -> ast.expr:
    """The annotation of what a twin's member gives."""
    if said is None and nature not in OPENED:
        return unsaid(scope)
    made = unsaid(scope) if said is None else given(said, scope)
    if nature not in ("enter", "generate") and said is not None:
        return made
    item: ast.expr = unsaid(scope)
    match made:
        case ast.Subscript(slice=ast.Tuple(elts=[first, *_])) | ast.Subscript(slice=first):
            item = first
        case _:
            pass
    if nature == "enter":
        return ast.Subscript(imported(scope, "contextlib", "AbstractContextManager"), item)
    if nature == "iterate":
        return ast.Subscript(imported(scope, "collections.abc", "Iterator"), item)
    if isinstance(made, ast.Subscript) and isinstance(made.slice, ast.Tuple):
        return made
    generator = imported(scope, "collections.abc", "Generator")
    return ast.Subscript(generator, ast.Tuple([item, ast.Constant(None), ast.Constant(None)]))


def _header(name: str, args: ast.arguments, returns: ast.expr, holder: str) -> ast.FunctionDef:
    if holder:
        (args.posonlyargs or args.args).insert(0, ast.arg(holder))
    return ast.FunctionDef(name, args, [], [], returns)
