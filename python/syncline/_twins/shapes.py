"""What an annotation says about the values that cross from one side of a twin to the other.

An annotation is evaluated as far as it can be: a name that is only known to type checkers, or not defined yet, becomes
"unknown", and the rest of the annotation keeps its meaning.
"""

from __future__ import annotations

import builtins
import collections
import collections.abc
import contextlib
import functools
import inspect
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from .surface import Member, members, raw_annotations

# "plain": nothing in it can be an object with a twin: numbers, texts, None and so on
# "class": an object of `type`, whose class may have a twin
# "self": an object of the class itself
# "unknown": nothing is known; a value is looked at when it is there
# "union": one of several shapes, such as Optional
# "list": a list, set, deque or any other collection that can be made anew of its items; `of` is the shape of these
# "tuple": of as many shapes as there are items
# "mapping": `of` is the shapes of keys and values
# "awaitable", "iterator", "generator", "manager": what is awaited, iterated over or entered; `of` begins with the shape
#     of what comes out; in a generator, the shape of what is sent is second
# "callable": a function
ShapeKind = Literal[
    "plain",
    "class",
    "self",
    "unknown",
    "union",
    "list",
    "tuple",
    "mapping",
    "awaitable",
    "iterator",
    "generator",
    "manager",
    "callable",
]


def derives(cls: type, base: type) -> bool:
    """Whether a class is one of `base`'s. A base that can't be asked, as most protocols, has those that name it."""
    try:
        return issubclass(cls, base)
    except TypeError:
        return base in cls.__mro__


@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of a value."""

    kind: ShapeKind
    of: tuple[Shape, ...] = ()
    type: Any = None
    """The class that the annotation names, without what stands in brackets; None where it names none."""

    def __contains__(self, kind: ShapeKind) -> bool:
        """Whether something of this kind is in it, at whatever depth."""
        return self.kind == kind or any(kind in part for part in self.of)

    @property
    def is_plain(self) -> bool:
        """Whether a value can be passed on without a look."""
        return self.kind == "plain" or (
            self.kind in ("union", "list", "tuple", "mapping") and all(part.is_plain for part in self.of)
        )


PLAIN: Final = Shape("plain")
UNKNOWN: Final = Shape("unknown")
SELF: Final = Shape("self")

_PLAIN_TYPES: Final = frozenset(
    {
        *(
            type(None),
            bool,
            int,
            float,
            complex,
            str,
            bytes,
            bytearray,
            memoryview,
            range,
            slice,
            types.EllipsisType,
        ),
        *(type(NotImplemented), types.CodeType),
    }
)
# Looked up so, as it has no type that checkers know.
_SELF: Final[Any] = vars(typing)["Self"]
_LISTS: Final = (list, set, frozenset, collections.deque)


def returned(member: Member) -> Shape:
    """The shape of what a member gives: the result of a method as it stands in the annotation, so that of an
    `async def` is what comes out of the await; the value of a property or attribute."""
    name = "return" if member.function is not None else member.name
    of = member.owner if member.function is None else _annotated(member.function)
    return shape_of(_annotation(of, name), namespace_of(member))


def awaited(cls: type) -> Shape:
    """The shape of what awaiting an object of this class gives, as the annotation of its `__await__` says."""
    member = members(cls).get("__await__")
    if member is None:
        return UNKNOWN
    namespace = namespace_of(member)
    annotation = _annotation(_annotated(member.function), "return")
    if isinstance(annotation, str):
        try:
            annotation = eval(annotation, {}, namespace)
        except Exception:
            return UNKNOWN
    parts = typing.get_args(annotation)
    return shape_of(parts[2], namespace) if len(parts) == 3 else UNKNOWN


def parameters(member: Member) -> dict[str, Shape]:
    """The shapes of what a method takes, by name, without what is bound."""
    try:
        signature = inspect.signature(member.function)
    except (TypeError, ValueError):
        return {}
    names = list(signature.parameters)
    annotated, namespace = _annotated(member.function), namespace_of(member)
    if member.binding != "static":
        del names[:1]
    return {name: shape_of(_annotation(annotated, name), namespace) for name in names}


def _annotated(function: Any) -> Any:
    """The function whose annotations count."""
    while isinstance(function, (functools.partial, functools.partialmethod)):
        function = function.func
    return inspect.unwrap(function)


def _annotation(of: Any, name: str) -> Any:
    return raw_annotations(of).get(name, inspect.Parameter.empty)


class _Unknown:
    """Stands for a name that can't be looked up, in whatever an annotation does with it."""

    def __getitem__(self, item: Any) -> _Unknown:
        return self

    def __getattr__(self, name: str) -> _Unknown:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __or__(self, other: Any) -> Any:
        return typing.Union[self, other]  # noqa: UP007 -- there is no other way to say it with objects

    __ror__ = __or__

    def __call__(self, *args: Any, **kwargs: Any) -> _Unknown:  # typing takes only what can be called
        return self


class Namespace(dict[str, Any]):
    """Where the names of an annotation are looked up: in the class, in its module, among the builtins."""

    def __init__(self, *places: Mapping[str, Any]) -> None:
        super().__init__()
        self._places = (*places, vars(builtins))
        self.looked_into: set[Any] = set()
        """The texts and aliases that are being looked into: a type may contain itself."""

    def __missing__(self, name: str) -> Any:
        for place in self._places:
            # Methods and properties are no types: a class that has one called `list` means the builtin one.
            if name in place and not isinstance(place[name], (types.FunctionType, property)):
                return place[name]
        return _Unknown()


def namespace_of(member: Member) -> Namespace:
    """The namespace in which a member's annotations are evaluated."""
    function = None if member.function is None else _annotated(member.function)
    module = getattr(function, "__globals__", None)
    if module is None:
        module = vars(sys.modules.get(member.owner.__module__, types.ModuleType("")))
    of = [function, member.owner]
    type_parameters = {p.__name__: p for each in of for p in getattr(each, "__type_params__", ())}
    return Namespace(type_parameters, vars(member.owner), {member.owner.__name__: member.owner}, module)


def shape_of(annotation: Any, namespace: Namespace) -> Shape:
    """The shape that an annotation says, be it a text or an object."""
    if isinstance(annotation, typing.ForwardRef):
        annotation = annotation.__forward_arg__
    if not isinstance(annotation, str) and not _is_alias(annotation):
        return _shape_of(annotation, namespace)
    if annotation in namespace.looked_into:
        return UNKNOWN
    namespace.looked_into.add(annotation)
    try:
        if not isinstance(annotation, str):
            return shape_of(annotation.__value__, namespace)
        return shape_of(eval(annotation, {}, namespace), namespace)
    except Exception:
        return UNKNOWN
    finally:
        namespace.looked_into.discard(annotation)


def _is_alias(annotation: Any) -> bool:
    return sys.version_info >= (3, 12) and isinstance(annotation, typing.TypeAliasType)


def _shape_of(annotation: Any, namespace: Namespace) -> Shape:
    if annotation is None or (isinstance(annotation, type) and annotation in _PLAIN_TYPES):
        return PLAIN
    if annotation in (typing.Any, inspect.Parameter.empty):
        return UNKNOWN
    if annotation is _SELF:
        return SELF
    if isinstance(annotation, typing.TypeVar):
        bound = annotation.__bound__
        return UNKNOWN if bound is None else shape_of(bound, namespace)
    if isinstance(annotation, typing.NewType):
        return shape_of(annotation.__supertype__, namespace)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is None:
        return _of_class(annotation, (), namespace) if isinstance(annotation, type) else UNKNOWN
    if origin in (typing.Annotated, typing.ClassVar, typing.Final, typing.Required, typing.NotRequired):
        return shape_of(args[0], namespace)
    if origin is typing.Literal:
        return PLAIN
    if origin in (typing.Union, types.UnionType):
        return Shape("union", tuple(shape_of(arg, namespace) for arg in args))
    return _of_class(origin, args, namespace) if isinstance(origin, type) else UNKNOWN


def _of_class(cls: type, args: tuple[Any, ...], namespace: Namespace) -> Shape:
    def of(*positions: int) -> tuple[Shape, ...]:
        return tuple(shape_of(args[at], namespace) if at < len(args) else UNKNOWN for at in positions)

    if cls is tuple:
        if len(args) == 2 and args[1] is ...:
            return Shape("list", of(0), tuple)
        return Shape("tuple", of(*range(len(args))), tuple) if args else Shape("list", (UNKNOWN,), tuple)
    if cls.__name__ == "Callable" and cls.__module__ == "collections.abc":
        return Shape("callable", (), cls)
    if cls is object:
        return UNKNOWN
    abc = collections.abc
    # What is narrower comes first: a list is iterable, a coroutine awaitable.
    for kind, base, positions in (
        ("generator", abc.AsyncGenerator, (0, 1)),
        ("iterator", abc.AsyncIterable, (0,)),
        ("awaitable", abc.Coroutine, (2,)),
        ("awaitable", abc.Awaitable, (0,)),
        ("manager", contextlib.AbstractAsyncContextManager, (0,)),
    ):
        if cls is base or (kind == "iterator" and cls is abc.AsyncIterator):
            return Shape(kind, of(*positions), cls)  # type: ignore[arg-type]
    if cls.__module__ in ("asyncio", "_asyncio", "asyncio.futures", "asyncio.tasks") and cls.__name__ in (
        "Future",
        "Task",
    ):
        return Shape("awaitable", of(0), cls)
    if args or cls in _LISTS or issubclass(cls, dict):
        if issubclass(cls, abc.Mapping):
            # A typed dict can't be asked what is one.
            return Shape("mapping", of(0, 1), dict if "__total__" in cls.__dict__ else cls)
        if cls in _LISTS or cls.__module__ == "collections.abc":
            return Shape("list", of(0), cls)
    return Shape("class", tuple(shape_of(arg, namespace) for arg in args), cls)
