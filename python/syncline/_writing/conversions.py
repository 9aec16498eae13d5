"""What a written twin does with the objects that cross: an async object with a twin comes out as that, and a twin goes
in as its async object, by itself, in unions and in containers, as the annotation says.

An annotation is here as it is written in the twin. Each conversion is an expression around the name of a value; None
stands for: pass it on as it is.
"""

from __future__ import annotations

import ast
import collections
import collections.abc
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .layout import flat
from .scope import class_name, parts_of, variables_of
from .variables import anything

if TYPE_CHECKING:
    from .names import Names

_SETS: tuple[Any, ...] = (set, frozenset, collections.abc.Set, collections.abc.MutableSet)
_LISTS: tuple[Any, ...] = (
    list,
    collections.deque,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Collection,
    collections.abc.Iterable,
    collections.abc.Iterator,
)
_MAPPINGS: tuple[Any, ...] = (
    dict,
    collections.OrderedDict,
    collections.defaultdict,
    collections.abc.Mapping,
    collections.abc.MutableMapping,
)
CONTAINERS: tuple[Any, ...] = (*_SETS, *_LISTS, *_MAPPINGS, tuple)
"""What is made anew where its items are converted."""


@dataclass(frozen=True)
class Crossing:
    """Values that cross in a module of twins."""

    names: Names
    twins: dict[str, type]
    """The async classes by the names of their twins."""
    holder: str | None
    """For what comes out: the first parameter of the method that gives it."""

    def of(self, written: ast.expr, value: str, depth: int = 0) -> str | None:
        """The conversion of a value of this annotation."""
        union = self._members(written)
        if union is not None:
            return self._of_union(union, value, depth)
        args = parts_of(written.slice) if isinstance(written, ast.Subscript) else []
        written = written.value if isinstance(written, ast.Subscript) else written
        if isinstance(written, ast.Name) and written.id in self.twins:
            return self._one(written.id, value)
        found = self.names.meaning(written)
        if found is typing.Self:
            return self._one(None, value)
        if found is typing.Annotated and args:
            return self.of(args[0], value, depth)
        return self._of_container(typing.get_origin(found) or found, args, value, depth)

    def _one(self, twin: str | None, value: str) -> str:
        if self.holder is None:
            if twin is not None and any(base in self.twins.values() for base in self.twins[twin].__mro__[1:]):
                # Its twin says itself of which class `_aio` is, and so keeps that to itself.
                return f"{self.names.imported('syncline.twins', 'inside')}({value})"
            return f"{value}._aio"
        named = twin or self.holder
        if twin is not None and (said := list(anything(self.twins[twin], self.names))):
            # Else type checkers would know less than nothing of it: a type that they call unknown.
            named = f"{twin}[{', '.join(said)}]"
        return f"{named}._of({value}, {self.holder}._bridge)"

    def _of_container(self, origin: Any, args: list[ast.expr], value: str, depth: int) -> str | None:
        item, key = f"item{depth or ''}", f"key{depth or ''}"
        if origin is tuple and args:
            return self._of_tuple(args, value, item, depth)
        if not isinstance(origin, type):
            return None
        if origin in _MAPPINGS and len(args) == 2:
            keys, values = self.of(args[0], key, depth + 1), self.of(args[1], item, depth + 1)
            if not (keys or values):
                return None
            made = f"{{{keys or key}: {values or item} for {key}, {item} in {value}.items()}}"
            if origin in (collections.OrderedDict, collections.defaultdict):
                kind = self.names.imported("collections", origin.__name__)
                factory = ""
                if origin is collections.defaultdict:  # it makes what the async side has
                    cast, any_ = (self.names.imported("typing", name) for name in ("cast", "Any"))
                    factory = f'{cast}("{any_}", {value}.default_factory), '
                return f"{kind}({factory}{made})"
            return made
        if (
            origin not in (*_SETS, *_LISTS)
            or not args
            or (inner := self.of(args[0], item, depth + 1)) is None
        ):
            return None
        each = f"{inner} for {item} in {value}"
        if origin in _SETS:
            return f"frozenset({each})" if origin is frozenset else f"{{{each}}}"
        if origin is collections.abc.Iterator:
            return f"({each})"
        if origin is collections.deque:
            return f"{self.names.imported('collections', 'deque')}([{each}], {value}.maxlen)"
        return f"[{each}]"

    def _of_tuple(self, args: list[ast.expr], value: str, item: str, depth: int) -> str | None:
        if len(args) == 2 and flat(args[1]) == "...":
            inner = self.of(args[0], item, depth + 1)
            return None if inner is None else f"tuple({inner} for {item} in {value})"
        rest = next((at for at, arg in enumerate(args) if _is_of_many(arg)), len(args))
        behind = len(args) - rest - 1  # what stands behind those is counted from the end
        places = [f"{value}[{at if at <= rest else at - len(args)}]" for at in range(len(args))]
        each = [None if at == rest else self.of(arg, places[at], depth + 1) for at, arg in enumerate(args)]
        if not any(each):
            return None
        if rest < len(args):
            places[rest] = f"*{value}[{rest}:{-behind or ''}]"
        parts = [one or place for one, place in zip(each, places, strict=True)]
        return f"({', '.join(parts)}{',' * (len(parts) == 1)})"

    def _of_union(self, members: list[ast.expr], value: str, depth: int) -> str | None:
        converted = {
            flat(member): one for member in members if (one := self.of(member, value, depth)) is not None
        }
        others = [flat(member) for member in members if flat(member) not in converted]
        if not converted:
            return None
        made = value
        for number, member in enumerate(reversed([each for each in members if flat(each) in converted])):
            one = converted[flat(member)]
            if number == 0 and others in ([], ["None"]):
                made = one if not others else f"None if {value} is None else {one}"
            elif one != made:
                one = self._untold(member, value, one)
                made = f"{one} if isinstance({value}, {self._test(member)}) else {made}"
        return made

    def _untold(self, member: ast.expr, value: str, made: str) -> str:
        """The conversion of a value that a test has told to be of a generic class: a checker knows of what since then
        that it doesn't know."""
        named = member.value if isinstance(member, ast.Subscript) else member
        if self.holder is None or not (isinstance(named, ast.Name) and named.id in self.twins):
            return made
        if not variables_of(self.twins[named.id]):
            return made
        cast, _ = (self.names.imported("typing", name) for name in ("cast", "Any"))
        return made.replace(f"_of({value},", f'_of({cast}("Any", {value}),')

    def _test(self, member: ast.expr) -> str:
        """A class by which a member of a union is known at run time."""
        named = member.value if isinstance(member, ast.Subscript) else member
        if isinstance(named, ast.Name) and named.id in self.twins:
            return named.id if self.holder is None else flat(class_name(self.twins[named.id], self.names))
        found = self.names.meaning(named)
        if found is typing.Self:
            return "type(self)" if self.holder is None else f"type({self.holder}._aio)"
        origin = typing.get_origin(found) or found
        if origin in _SETS:
            return "(set, frozenset)"
        return "dict" if origin in _MAPPINGS else "tuple" if origin is tuple else "list"

    def _members(self, node: ast.expr) -> list[ast.expr] | None:
        """Of a union; None for what is none."""
        match node:
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return [*(self._members(left) or [left]), *(self._members(right) or [right])]
            case ast.Subscript(value=value, slice=index):
                found = self.names.meaning(value)
                if found is typing.Union:
                    return parts_of(index)
                return [index, ast.Constant(None)] if found is typing.Optional else None
            case _:
                return None


def _is_of_many(arg: ast.expr) -> bool:
    """Whether what stands in a tuple's annotation are several items, be it none."""
    return isinstance(arg, ast.Starred) or flat(arg).partition("[")[0].endswith("Unpack")
