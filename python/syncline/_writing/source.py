"""What stands in the source of a class: definitions as they were written, and what the names in them mean.

1. Modules are found among those that are imported. None is imported, and none is run.
2. What a condition excludes on this Python, such as `if sys.version_info < (3, 12):`, isn't there. What stands under
   `TYPE_CHECKING` is, and comes before what is there at run time: it is more exact.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Def = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """What binds a name: `import module as name` where `what` is None, `from module import what as name` elsewhere."""

    module: str
    what: str | None
    for_checkers: bool


@dataclass(frozen=True)
class Found:
    """A function's definition, where it stands, and whether only type checkers see it."""

    node: Def
    source: Source
    owner: ast.ClassDef | None
    for_checkers: bool


def _no_members() -> dict[tuple[ast.ClassDef | None, str], list[Found]]:
    return {}


@dataclass
class Source:
    """A module as it was written, and as it is."""

    name: str
    path: Path
    lines: list[bytes]
    namespace: dict[str, Any]
    imports: dict[str, list[Import]] = field(default_factory=dict[str, list[Import]])
    defined: dict[str, ast.stmt] = field(default_factory=dict[str, ast.stmt])
    passed_on: set[str] = field(default_factory=set[str])
    """What is imported `as` what it is called, and so offered to others."""
    stars: list[str] = field(default_factory=list[str])
    functions: dict[int, Found] = field(default_factory=dict[int, Found])
    """By their first line, as code objects have it."""
    classes: dict[str, list[ast.ClassDef]] = field(default_factory=dict[str, list[ast.ClassDef]])
    """By their qualified name."""

    members: dict[tuple[ast.ClassDef | None, str], list[Found]] = field(default_factory=_no_members)
    """The functions by their class and name."""

    def named(self, owner: ast.ClassDef, name: str) -> list[Found]:
        """The definitions of a name in a class, in order."""
        return self.members.get((owner, name), [])


def source_of(module: str) -> Source | None:
    """The source of an imported module; None if it has none that can be read."""
    found = sys.modules.get(module)
    return None if found is None else _read(found)


@functools.cache
def _read(module: types.ModuleType) -> Source | None:
    path = getattr(module, "__file__", None)
    if path is None or not path.endswith(".py"):
        return None
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    try:
        tree = ast.parse(text, type_comments=True)
    except SyntaxError:  # of a comment that only looks like one about types
        tree = ast.parse(text)
    source = Source(module.__name__, Path(path), text.encode().splitlines(), vars(module))
    _note(source, tree.body, [], for_checkers=False)
    return source


def definition(function: Any) -> Found | None:
    """Where a function was defined, by its code; what decorators have put around it is taken off."""
    inner = inspect.unwrap(function)
    code: types.CodeType | None = getattr(inner, "__code__", None)
    if code is None:
        return None
    # Some packages have their functions say that they are of a module that offers them.
    for module in (inner.__module__, getattr(inner, "__globals__", {}).get("__name__")):
        source = source_of(module) if isinstance(module, str) else None
        if source is not None and str(source.path) == code.co_filename:
            return source.functions.get(code.co_firstlineno)
    return None


@functools.cache
def class_definition(cls: type) -> tuple[Source, ast.ClassDef] | None:
    """Where a class was defined: by its functions, whatever module it says that it is of; else by its name."""
    for member in vars(cls).values():
        function = inspect.unwrap(member) if isinstance(member, types.FunctionType) else None
        found = definition(function) if isinstance(function, types.FunctionType) else None
        if found is not None and found.owner is not None and found.owner.name == cls.__name__:
            return found.source, found.owner
    source = source_of(cls.__module__)
    nodes = [] if source is None else source.classes.get(cls.__qualname__, [])
    line = vars(cls).get("__firstlineno__")  # Python 3.13 and newer
    node = next((node for node in nodes if first_line(node) == line), nodes[0] if nodes else None)
    return None if source is None or node is None else (source, node)


def first_line(node: ast.AST) -> int | None:
    """Of a definition: that of its first decorator, if it has any."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return None


def _note(
    source: Source, body: Iterable[ast.stmt], owners: list[ast.ClassDef], *, for_checkers: bool
) -> None:
    """Notes the definitions of a module or class, and of the classes in it."""
    for node, only_checked in _reached(body, for_checkers=for_checkers):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                owner = owners[-1] if owners else None
                line = first_line(node)
                assert line is not None
                found = Found(node, source, owner, only_checked)
                source.functions[line] = found
                source.members.setdefault((owner, node.name), []).append(found)
                if not owners:
                    source.defined.setdefault(node.name, node)
            case ast.ClassDef():
                qualified = ".".join([*(owner.name for owner in owners), node.name])
                source.classes.setdefault(qualified, []).append(node)
                if not owners:
                    source.defined.setdefault(node.name, node)
                _note(source, node.body, [*owners, node], for_checkers=only_checked)
            case _ if owners:
                pass
            case ast.Import(names=names):
                for alias in names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    source.imports.setdefault(bound, []).append(Import(alias.name, None, only_checked))
            case ast.ImportFrom(names=names):
                module = _absolute(source, node)
                for alias in names:
                    if alias.name == "*":
                        source.stars.append(module)
                    else:
                        bound = alias.asname or alias.name
                        source.passed_on |= {bound} if alias.asname == alias.name else set()
                        source.imports.setdefault(bound, []).append(Import(module, alias.name, only_checked))
            case _:
                for name in _assigned(node):
                    source.defined.setdefault(name, node)


def _assigned(node: ast.stmt) -> Iterator[str]:
    match node:
        case ast.Assign(targets=targets):
            for target in targets:
                for part in ast.walk(target):
                    if isinstance(part, ast.Name):
                        yield part.id
        case ast.AnnAssign(target=ast.Name(id=name)):
            yield name
        case _:
            # `type X = ...`, from Python 3.12 on.
            alias = getattr(node, "name", None)
            if isinstance(alias, ast.Name):
                yield alias.id


def _reached(body: Iterable[ast.stmt], *, for_checkers: bool) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements of a body and of the blocks in it, and whether only type checkers see them (by 2)."""
    for node in body:
        match node:
            case ast.If(test=test, body=then, orelse=other):
                checked, run = _holds(test, checking=True), _holds(test, checking=False)
                if checked is not False:
                    yield from _reached(then, for_checkers=for_checkers or run is False)
                if run is not True:
                    yield from _reached(other, for_checkers=for_checkers)
            case ast.Try(body=then, handlers=handlers, orelse=other, finalbody=last):
                for block in (then, *(handler.body for handler in handlers), other, last):
                    yield from _reached(block, for_checkers=for_checkers)
            case ast.With(body=then):
                yield from _reached(then, for_checkers=for_checkers)
            case _:
                yield node, for_checkers


def _holds(test: ast.expr, *, checking: bool) -> bool | None:
    """Whether a condition holds, here and for a type checker or not; None if that can't be told."""
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return checking
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = _holds(operand, checking=checking)
            return None if inner is None else not inner
        case ast.BoolOp(op=op, values=values):
            decides = isinstance(op, ast.Or)
            known = [_holds(value, checking=checking) for value in values]
            return decides if decides in known else None if None in known else not decides
        case ast.Compare(left=ast.Attribute(value=ast.Name(id="sys"), attr="version_info" | "platform")):
            try:
                return bool(eval(compile(ast.Expression(test), "", "eval"), {"sys": sys}))
            except Exception:
                return None
        case _:
            return None


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    package = source.name if source.path.name == "__init__.py" else source.name.rpartition(".")[0]
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


def variables(source: Source, cls: ast.ClassDef) -> dict[str, tuple[ast.expr | None, bool]]:
    """What the body of a class says of its attributes: each one's annotation, and whether it has a value."""
    found: dict[str, tuple[ast.expr | None, bool]] = {}
    for node, _ in _reached(cls.body, for_checkers=False):
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=value):
                found[name] = annotation, value is not None
            case ast.Assign(targets=targets):
                comment = ast.parse(node.type_comment, mode="eval").body if node.type_comment else None
                found.update(
                    (target.id, (comment, True)) for target in targets if isinstance(target, ast.Name)
                )
            case _:
                pass
    return found


def set_by_methods(source: Source, cls: ast.ClassDef) -> dict[str, ast.expr | None]:
    """The attributes that methods give an object, with the annotations that they say: by themselves, or as those of the
    parameter that they take the value from. Those of `__init__` and what it calls come first."""
    methods = {name: found for (owner, name), found in source.members.items() if owner is cls}
    first = [name for name in _INITIALIZERS if name in methods]
    found: dict[str, ast.expr | None] = {}
    made: dict[str, set[str | None]] = {}
    for method in (each for name in dict.fromkeys([*first, *methods]) for each in methods[name]):
        arguments = method.node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        annotations = {arg.arg: arg.annotation for arg in every}
        for node in ast.walk(method.node):
            match node:
                case ast.AnnAssign(
                    target=ast.Attribute(value=ast.Name(id="self"), attr=name), annotation=annotation
                ):
                    found[name] = annotation
                case ast.Assign(targets=targets, value=value):
                    said = annotations.get(value.id) if isinstance(value, ast.Name) else _kind_of(value)
                    called = _class_called(source, value)
                    kind = None if called is None else ast.dump(called)
                    for target in targets:
                        match target:
                            case ast.Attribute(value=ast.Name(id="self"), attr=name):
                                found.setdefault(name, said or called)
                                made.setdefault(name, set()).add(kind)
                            case _:
                                pass
                case _:
                    pass
    # What is made of one class here and there of another one has more types than one.
    mixed = {name for name, kinds in made.items() if len(kinds) > 1 and kinds != {None}}
    return {name: None if name in mixed and _is_class(source, said) else said for name, said in found.items()}


_INITIALIZERS = ("__new__", "__init__", "__post_init__", "__attrs_post_init__")


def _class_called(source: Source, value: ast.expr) -> ast.expr | None:
    """The class of which a call makes an object, one that is not generic."""
    match value:
        case ast.Call(func=ast.Name() | ast.Attribute() as function) if _is_class(source, function):
            return function
        case _:
            return None


def _is_class(source: Source, said: ast.expr | None) -> bool:
    match said:
        case ast.Name(id=name):
            found: object = source.namespace.get(name)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute):
            found = getattr(source.namespace.get(name), attribute, None)
        case _:
            return False
    if not isinstance(found, type) or type(found) is not type or hasattr(found, "__class_getitem__"):
        return False
    return not any("__new__" in vars(base) for base in found.__mro__[:-1])


def _kind_of(value: ast.expr) -> ast.expr | None:
    """The type of a literal."""
    match value:
        case ast.Constant(value=bool() | int() | float() | str() | bytes() as known):
            return ast.Name(type(known).__name__)
        case _:
            return None


def gives_itself(function: Any) -> bool:
    """Whether a method returns `self`, and nothing else."""
    found = definition(function)
    if found is None:
        return False
    returned = [node.value for node in ast.walk(found.node) if isinstance(node, ast.Return)]
    return bool(returned) and all(isinstance(value, ast.Name) and value.id == "self" for value in returned)
