"""Makes the twin of a class.

1. A twin's bases are the twins of the class's bases, so that `isinstance` and `super()` hold on both sides. Bases
   of the standard library have none: what a class inherits from them, its twin has itself.
2. A class has one twin a bridge.
"""

from __future__ import annotations

import atexit
import inspect
import sys
import types
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, cast
from weakref import WeakSet

from .._converted import standing_for
from .._kinds import type_of
from . import methods
from .aio import Sides
from .converting import Family
from .declared import filled
from .objects import Twin, has_own, make, taken, twin_of
from .surface import METHODS, Member, members, surface, twin_name

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .._core import Bridge

# What describes the fields of a class to tools.
_DESCRIPTIONS = ("__dataclass_fields__", "__dataclass_params__", "__match_args__", "__attrs_attrs__")


@dataclass(frozen=True)
class Terms:
    """What the user says of one twin."""

    name: str
    module: str
    names: Mapping[str, str]
    direct: Collection[str]


def family_of(bridge: Bridge) -> Family:
    """The bridge's twins."""
    known: Family | None = vars(bridge).get("_twins")
    if known is not None:
        return known

    def make_twin(cls: type) -> type[Twin]:
        return _twin(family, cls, _usual(cls), is_asked=False)

    def adapt(twin: Twin, name: str, value: Any) -> Any:
        return methods.adapted(family, twin, name, value)

    def aio(twin: Twin) -> Any:
        return sides.of(twin)

    family = Family(bridge, make_twin, adapt, aio)
    sides = Sides(family)
    _with_twins.add(bridge)
    kept: Family = vars(bridge).setdefault("_twins", family)
    return kept


_with_twins: WeakSet[Bridge] = WeakSet()


@atexit.register
def _part() -> None:
    """Lets go of the twins of all bridges: their functions know the main module's names, whose objects Python frees at
    its end, if nothing that lives longer leads to them."""
    for bridge in list(_with_twins):
        vars(bridge).pop("_twins", None)


def _usual(cls: type) -> Terms:
    return Terms(twin_name(cls.__name__), cls.__module__, {}, ())


def blocking(bridge: Bridge, given: Any, of: type | None, **terms: Any) -> Any:
    """See `Bridge.blocking`."""
    if of is not None:
        twin = class_twin(bridge, of, **terms)

        def decorate(statement: type) -> type[Twin]:
            return declared(statement, twin)

        return decorate
    if isinstance(given, type):
        return class_twin(bridge, given, **terms)
    family_of(bridge).relate(terms["related"])
    return object_twin(bridge, given)


def declared(statement: type, twin: type[Twin]) -> type[Twin]:
    """The twin that a class statement declares."""
    made = filled(statement, twin)
    twin._twin_family.add(twin._twin_class, made)
    return made


def class_twin(
    bridge: Bridge,
    cls: type[Any],
    module: str,
    name: str | None = None,
    names: Mapping[str, str] | None = None,
    direct: Iterable[str] = (),
    related: Iterable[str] = (),
) -> type[Twin]:
    """The twin of a class; of a twin, one whose objects live on this bridge."""
    family = family_of(bridge)
    family.relate(related)
    if Twin in cls.__mro__:
        return _moved(bridge, cls)
    direct = (direct,) if isinstance(direct, str) else tuple(direct)
    _check(cls, names or {}, direct)
    known = family.twins.get(cls)
    if known is not None and name in (None, known.__name__) and not names and not direct:
        family.unasked.discard(cls)
        return known
    return _twin(family, cls, Terms(name or twin_name(cls.__name__), module, dict(names or {}), direct))


def _check(cls: type, names: Mapping[str, str], direct: Iterable[str]) -> None:
    for name in direct:
        member = members(cls).get(name)
        if member is None or member.kind != "method":
            raise ValueError(f"{cls.__name__} has no sync method {name!r} to be called directly")
    if "aio" not in names and any("aio" in vars(base) for base in cls.__mro__):
        raise ValueError(
            f"{cls.__name__} has an attribute 'aio', where its twin has the async side; give it another name: "
            'names={"aio": "..."}'
        )


def object_twin(bridge: Bridge, of: Any) -> Twin:
    """The twin of an object that is there already."""
    family = family_of(bridge)
    cls = type_of(of)
    family.unasked.discard(cls)
    known = next((family.twins[base] for base in cls.__mro__ if base in family.twins), None)
    return twin_of(of, known or _twin(family, cls, _usual(cls)), family.home(bridge))


def _twin(family: Family, cls: type, terms: Terms, *, is_asked: bool = True) -> type[Twin]:
    made: Any = family.mirrors.get(cls)
    if terms.names or terms.direct:
        made = family.mirrors[cls] = _mirror(family, cls, terms)
    elif made is None:
        # Another thread may have been quicker.
        made = family.mirrors.setdefault(cls, _mirror(family, cls, terms))
    else:  # as the base of another one
        made.__name__, made.__qualname__, made.__module__ = terms.name, terms.name, terms.module
        if not _is_protocol(cls):
            made._twin_recipe = _recipe(family, cls, terms)
    family.add(cls, made, is_asked=is_asked)
    return cast("type[Twin]", made)


def _moved(bridge: Bridge, twin: type[Twin]) -> type[Twin]:
    if vars(twin._twin_bridge) is vars(bridge):
        return twin
    body = {
        "__slots__": (),
        "__module__": twin.__module__,
        "__doc__": twin.__doc__,
        "__qualname__": twin.__qualname__,
    }
    made = cast(
        "type[Twin]", types.new_class(twin.__name__, (twin,), exec_body=lambda space: space.update(body))
    )
    made._twin_bridge = bridge
    made._twin_recipe = (_made_again, bridge, twin, twin.__module__)
    return made


def _recipe(family: Family, cls: type, terms: Terms) -> tuple[Any, ...]:
    return _made_again, family.bridge, cls, terms.module, terms.name, terms.names, terms.direct


def _made_again(bridge: Bridge, cls: type, module: str, *terms: Any) -> type[Twin]:
    """What `_twin_recipe` calls: the twin that this process has of the class, or a new one."""
    known = family_of(bridge).twins.get(cls)
    return class_twin(bridge, cls, module, *terms) if known is None else known


def _mirror(family: Family, cls: type, terms: Terms) -> type[Twin]:
    """The twin of `cls`, with those of its bases (by 1)."""
    bases, inherited = _bases(family, cls)
    found = surface(cls, names=terms.names)
    is_protocol = _is_protocol(cls)
    body: dict[str, Any] = {
        "__slots__": (),
        "__module__": terms.module,
        "__qualname__": terms.name,
        "__doc__": cls.__doc__,
        **{name: vars(cls)[name] for name in _DESCRIPTIONS if name in vars(cls)},
    }
    for name, member in found.items():
        if inherited.get(name) != (member.name, member.owner):
            is_direct = member.name in terms.direct
            body[name] = _named(_made(cls, member, family, is_direct=is_direct), terms, name)
    if not is_protocol:
        body.update(_special(cls, family, terms))
    made: Any = types.new_class(terms.name, bases, exec_body=lambda space: space.update(body))
    if is_protocol:
        # Nothing of ours in it: what a protocol has, its implementations would have to have.
        return cast("type[Twin]", typing.runtime_checkable(made) if _is_checkable(cls) else made)
    if hasattr(cls, "__class_getitem__") and not hasattr(made, "__class_getitem__"):
        made.__class_getitem__ = classmethod(types.GenericAlias)  # a base of the standard library brought it
    made._twin_class, made._twin_family, made._twin_bridge = cls, family, family.bridge
    made._twin_recipe = _recipe(family, cls, terms)
    made._twin_lost = {
        member.name: name
        for name, member in found.items()
        if name != member.name and member.name not in found
    }
    return cast("type[Twin]", made)


def _is_protocol(cls: type) -> bool:
    return bool(getattr(cls, "_is_protocol", False))


def _is_checkable(cls: type) -> bool:
    return bool(getattr(cls, "_is_runtime_protocol", False))


def _bases(family: Family, cls: type) -> tuple[tuple[Any, ...], dict[str, tuple[str, type]]]:
    """The twin's bases, and where each member comes from that they have."""
    bases: list[Any] = []
    inherited: dict[str, tuple[str, type]] = {}
    has_twin = _is_protocol(cls)
    for base in reversed(vars(cls).get("__orig_bases__", cls.__bases__)):
        origin = typing.get_origin(base) or base
        if origin in (Generic, Protocol):
            bases.append(base)
        elif isinstance(origin, type) and not _is_of_the_standard_library(origin):
            twin: Any = family.mirrors.get(origin)
            if twin is None:
                twin = family.mirrors.setdefault(origin, _mirror(family, origin, _usual(origin)))
            bases.append(twin if origin is base else twin[typing.get_args(base)])
            has_twin = has_twin or issubclass(twin, Twin)
            inherited.update((name, (member.name, member.owner)) for name, member in surface(origin).items())
    bases.reverse()
    if not has_twin:
        bases.append(Twin)
    return tuple(bases), inherited


def _is_of_the_standard_library(cls: type) -> bool:
    return cls.__module__.partition(".")[0] in sys.stdlib_module_names


def _made(cls: type, member: Member, family: Family, *, is_direct: bool) -> Any:
    """What the twin's body has for a member."""
    if member.kind not in METHODS:
        return (
            methods.Attribute(member, family)
            if member.kind == "attribute"
            else methods.readable(member, family)
        )
    match member.binding:
        case "instance":
            return methods.method(member, family, is_direct=is_direct)
        case "class":
            return methods.class_method(member, family, is_direct=is_direct)
        case "static":
            return methods.static_method(cls, member, family, is_direct=is_direct)


def _named(made: Any, terms: Terms, name: str) -> Any:
    function = getattr(made, "__func__", made)
    if inspect.isfunction(function):
        function.__name__, function.__qualname__ = name, f"{terms.name}.{name}"
        function.__module__ = terms.module
    return made


def _special(cls: type, family: Family, terms: Terms) -> dict[str, Any]:
    """What a twin needs of special methods that are about the object itself."""
    special: dict[str, Any] = {}
    if inspect.isfunction(vars(cls).get("__init__")):
        special["__init__"] = _named(_constructor(cls, family), terms, "__init__")
    if has_own(cls, "__eq__"):
        special["__eq__"] = _equal
        special["__hash__"] = None if cls.__hash__ is None else _hash
    if hasattr(cls, "__del__"):
        special["__del__"] = _dropped
    if any("__signature__" in vars(base) for base in cls.__mro__):
        special["__signature__"] = _Signature(cls)
    if "__class_getitem__" in vars(cls):
        special["__class_getitem__"] = classmethod(types.GenericAlias)
    return special


class _Signature:
    """That of a class which says itself how it is called, as pydantic's do once all of their fields are known."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def __get__(self, twin: Twin | None, owner: type) -> inspect.Signature:
        if twin is not None:
            raise AttributeError("__signature__")
        return inspect.signature(self._cls)


def _constructor(cls: type, family: Family) -> Any:
    init = vars(cls)["__init__"]
    converting = methods.Converting(
        Member("__init__", "__init__", "method", "instance", cls, init, init), family
    )
    begin = make  # taken into the closure, as in methods.py

    def init_twin(self: Twin, *args: Any, **kwargs: Any) -> None:
        if converting.take is not None:
            args, kwargs = converting.take(args, kwargs)
        begin(self, args, kwargs)

    return standing_for(init, init_twin)


def _equal(self: Twin, other: object) -> Any:
    return self._twin_object == taken(other)


def _hash(self: Twin) -> int:
    return hash(self._twin_object)


def _dropped(self: Twin) -> None:
    held = [self._twin_object] if hasattr(self, "_twin_object") else []
    home = self._twin_home if held else None
    if home is not None:
        del self._twin_object
        home.drop(held)
