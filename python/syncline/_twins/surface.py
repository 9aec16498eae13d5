"""What a class offers to its users, member by member, and what a twin of it offers in the place of each.

It only looks: nothing is called, no descriptor is asked, and no annotation is evaluated (shapes.py does that when
somebody asks). So a class can be looked at while its module is still being imported.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, Protocol

from .._kinds import inside, is_async_fn, is_async_gen_fn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# What a member is, by what a twin does with it:
# "coroutine": a method whose result is awaited: `async def`, or said to return an awaitable
# "generator": a method that is an async generator function: `for`, `send`, `throw`, `close`
# "iterable": a method that is said to return an async iterator, iterable or generator, and is none: `for`, and what
#     else a generator has if it returns one
# "manager": a method that makes an async context manager: `with`
# "method": any other method. What it returns may still be one of the above, which only its call, or the shape of its
#     result, shows
# "property", "async property": read, and what is read is awaited
# "cached property", "async cached property": the same with `functools.cached_property`
# "descriptor": another object that decides itself what reading it gives
# "attribute": a slot, a value of the class, or a name that is only annotated
Kind = Literal[
    "coroutine",
    "generator",
    "iterable",
    "manager",
    "method",
    "property",
    "async property",
    "cached property",
    "async cached property",
    "descriptor",
    "attribute",
]
Binding = Literal["instance", "class", "static"]

METHODS: Final[frozenset[Kind]] = frozenset({"coroutine", "generator", "iterable", "manager", "method"})
ASYNC: Final[frozenset[Kind]] = frozenset(
    {"coroutine", "generator", "iterable", "manager", "async property", "async cached property"}
)

# By these the language, or a convention that everybody keeps, knows an async method and its sync form.
SYNC_NAMES: Final = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "__await__": "run",
    "aclose": "close",
    "asend": "send",
    "athrow": "throw",
}

# Special methods that a twin has of its own, or that are about making, pickling and describing classes. (`__getattr__`
# and its like stay with the async object, which is asked by attribute as ever.)
OWN: Final = frozenset(
    {
        *(
            "__new__",
            "__init__",
            "__post_init__",
            "__del__",
            "__init_subclass__",
            "__set_name__",
            "__subclasshook__",
        ),
        *(
            "__getattribute__",
            "__getattr__",
            "__setattr__",
            "__delattr__",
            "__dir__",
            "__class__",
            "__sizeof__",
        ),
        *(
            "__reduce__",
            "__reduce_ex__",
            "__getstate__",
            "__setstate__",
            "__getnewargs__",
            "__getnewargs_ex__",
        ),
        *("__copy__", "__deepcopy__", "__replace__", "__class_getitem__", "__repr__", "__eq__", "__hash__"),
        "__signature__",
        *("__module__", "__qualname__", "__name__", "__doc__", "__dict__", "__weakref__", "__slots__"),
        *(
            "__annotations__",
            "__annotate__",
            "__annotate_func__",
            "__annotations_cache__",
            "__conditional_annotations__",
        ),
        *("__orig_bases__", "__parameters__", "__type_params__", "__static_attributes__", "__firstlineno__"),
        *("__abstractmethods__", "__protocol_attrs__", "__non_callable_proto_members__", "__classcell__"),
        *(
            "__classdict__",
            "__classdictcell__",
            "__dataclass_fields__",
            "__dataclass_params__",
            "__match_args__",
        ),
        *("__orig_class__", "__final__", "__attrs_attrs__", "__attrs_own_setattr__"),
    }
)

_NOT_OURS: Final = (object, Generic, Protocol)
_MADE_BY_CONTEXTLIB = contextlib.asynccontextmanager(lambda: None).__code__  # type: ignore[arg-type, return-value]
_BY_ANNOTATION: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("Awaitable", "Coroutine", "Future", "Task"), "coroutine"),
    **dict.fromkeys(("AsyncIterator", "AsyncIterable", "AsyncGenerator"), "iterable"),
    **dict.fromkeys(("AbstractAsyncContextManager", "AsyncContextManager"), "manager"),
}


@dataclass(frozen=True, slots=True)
class Member:
    """One thing that a class offers."""

    name: str
    """Its name in the async class."""
    sync_name: str
    """Its name in the twin."""
    kind: Kind
    binding: Binding
    owner: type
    """The class in whose body it stands."""
    value: Any
    """What that body holds; `MISSING` for a name that is only annotated."""
    function: Any
    """The function that it is made of, which has its docstring and its signature; None for "descriptor" and
    "attribute"."""

    @property
    def is_method(self) -> bool:
        return self.kind in METHODS

    @property
    def is_async(self) -> bool:
        """Whether sync code could do nothing with it."""
        return self.kind in ASYNC


MISSING: Final = inspect.Parameter.empty


def surface(cls: type, /, *, names: Mapping[str, str] | None = None) -> dict[str, Member]:
    """All that `cls` and its bases offer, by the names that a twin gives them, in the order in which they are defined:
    those of a base before those of what derives from it.

    names: maps names of the class to those that the twin has in their place.
    """
    return renamed(members(cls), names)


def has_async_members(cls: type, /) -> bool:
    """Whether there is something for a twin to do."""
    return any(
        member.is_async or _may_be_async(member)
        for owner in cls.__mro__
        if owner not in _NOT_OURS
        for member in _members(owner)
    )


def members(cls: type, /) -> dict[str, Member]:
    """The same by the names that they have in the class."""
    found: dict[str, Member] = {}
    for owner in reversed(cls.__mro__):
        if owner not in _NOT_OURS:
            found.update((member.name, member) for member in _members(owner))
    return found


def renamed(found: Mapping[str, Member], names: Mapping[str, str] | None = None) -> dict[str, Member]:
    """The members by their names in the twin.

    Those that users give come first, then those of `SYNC_NAMES`. An async method `aread` beside a sync method `read`
    that takes the same arguments is the async form of that, and takes its place in the twin. What loses its name is
    left out.
    """
    names = names or {}
    if unknown := sorted(names.keys() - found.keys()):
        raise ValueError(
            f"there is no {unknown[0]!r} to be renamed; names maps names of the async class to new ones"
        )
    ranked: dict[str, tuple[int, Member]] = {}
    for name, member in found.items():
        rank, sync_name = 3, name
        if name in names:
            rank, sync_name = 0, names[name]
        elif name in SYNC_NAMES:
            rank, sync_name = 1, SYNC_NAMES[name]
            if name == "__await__" and sync_name in found:
                continue  # the class's own `run`
        elif name[0] == "a" and _is_pair(member, found.get(name[1:])):
            rank, sync_name = 2, name[1:]
        if sync_name not in ranked or rank < ranked[sync_name][0]:
            ranked[sync_name] = rank, replace(member, sync_name=sync_name)
    return {name: member for name, (_, member) in ranked.items()}


def _is_pair(member: Member, sync: Member | None) -> bool:
    if (
        sync is None
        or sync.kind not in ("method", "manager")
        or member.kind not in ("coroutine", "generator", "manager")
    ):
        return False
    return sync.kind != member.kind and _parameters(member.function) == _parameters(sync.function)


def _parameters(function: Any) -> list[tuple[str, Any]] | None:
    try:
        return [
            (parameter.name, parameter.kind) for parameter in inspect.signature(function).parameters.values()
        ]
    except (TypeError, ValueError):
        return None


def _members(owner: type) -> Iterator[Member]:
    annotations = raw_annotations(owner)
    for name, value in vars(owner).items():
        if _is_offered(name) and not _is_for_init_only(annotations.get(name)):
            yield _member(owner, name, value)
    for name, annotation in annotations.items():
        if _is_offered(name) and name not in vars(owner) and not _is_for_init_only(annotation):
            yield Member(name, name, "attribute", "instance", owner, MISSING, None)


def _is_offered(name: str) -> bool:
    if name.startswith("__") and name.endswith("__"):
        return name not in OWN and "pydantic" not in name  # by which pydantic knows its own classes
    return not name.startswith("_")


def _is_for_init_only(annotation: Any) -> bool:
    """Whether it is that of a dataclass's parameter which no object keeps."""
    return type(annotation).__name__ == "InitVar" or _outermost(annotation) == "InitVar"


def _member(owner: type, name: str, value: Any) -> Member:
    binding: Binding = "instance"
    kind: Kind
    function: Any = None
    held: object = value
    of = type(held)
    if of.__module__ == "pydantic._internal._decorators":  # around a computed field or a validator
        value = held = value.wrapped
        of = type(held)
    if issubclass(of, (staticmethod, classmethod)):
        binding = "static" if issubclass(of, staticmethod) else "class"
        function = inside(value)
        kind = kind_of(function)
    elif issubclass(of, property):
        function = value.fget
        kind = "async property" if function is not None and kind_of(function) == "coroutine" else "property"
    elif issubclass(of, functools.cached_property):
        function = value.func
        kind = "async cached property" if kind_of(function) == "coroutine" else "cached property"
    elif issubclass(of, (types.MemberDescriptorType, types.GetSetDescriptorType)) or not hasattr(
        of, "__get__"
    ):
        kind = "attribute"
    elif callable(value) or issubclass(of, (functools.partialmethod, functools.singledispatchmethod)):
        function = getattr(value, "func", value) if issubclass(of, functools.singledispatchmethod) else value
        kind = kind_of(function)
    else:
        kind = "descriptor"
    return Member(name, name, kind, binding, owner, value, function)


def kind_of(function: Any) -> Kind:
    """Which kind of method a function makes."""
    if isinstance(function, types.FunctionType):
        flags = function.__code__.co_flags
        if flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
            return "coroutine" if flags & inspect.CO_COROUTINE else "generator"
    if getattr(function, "__code__", None) is _MADE_BY_CONTEXTLIB:
        return "manager"
    if is_async_fn(function):
        return "coroutine"
    if is_async_gen_fn(function):
        return "generator"
    return _BY_ANNOTATION.get(_outermost(raw_annotations(function).get("return")), "method")


def _outermost(annotation: Any) -> str:
    """The last name of an annotation without what stands in brackets, be it a text or an object. A union has none."""
    names = _names_of(annotation)
    return names[0] if len(names) == 1 else ""


def _names_of(annotation: Any) -> list[str]:
    """Those of the members of a union that is written with `|`, or the one of another annotation."""
    if not isinstance(annotation, str):
        annotation = getattr(annotation, "__name__", None) or getattr(annotation, "_name", None) or ""
    outside, depth = "", 0
    for character in str(annotation):
        depth += (character == "[") - (character == "]")
        outside += character if not depth else ""
    return [part.rpartition(".")[2].strip("] ") for part in outside.split("|")]


def _may_be_async(member: Member) -> bool:
    """Whether a method is said to return something async or something else."""
    if member.kind != "method":
        return False
    return not _BY_ANNOTATION.keys().isdisjoint(_names_of(raw_annotations(member.function).get("return")))


def raw_annotations(of: Any) -> Mapping[str, Any]:
    """The annotations of a function or class as they stand there, as far as that is known without a NameError."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(of, format=annotationlib.Format.FORWARDREF)
    try:
        return inspect.get_annotations(of)
    except TypeError:
        return {}


def twin_name(name: str) -> str:
    """What the twin of a class of that name is called, where nobody says otherwise: `AsyncClient` gives `Client`,
    `Client` gives `BlockingClient`."""
    for short in (name.removeprefix("Async"), name.removesuffix("Async")):
        if short and short != name and short[0].isupper():
            return short
    return f"Blocking{name}"
