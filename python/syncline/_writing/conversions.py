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
from .scope import class_name, parts_of

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
_MAPPINGS: tuple[Any, ...] = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


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
            return f"{value}._aio"
        named = twin or self.holder
        if twin is not None and (count := len(getattr(self.twins[twin], "__parameters__", ()))):
            # Else type checkers would know less than nothing of it: a type that they call unknown.
            named = f"{twin}[{', '.join([self.names.imported('typing', 'Any')] * count)}]"
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
            return f"{{{keys or key}: {values or item} for {key}, {item} in {value}.items()}}"
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
            return f"{self.names.imported('collections', 'deque')}({each})"
        return f"[{each}]"

    def _of_tuple(self, args: list[ast.expr], value: str, item: str, depth: int) -> str | None:
        if len(args) == 2 and flat(args[1]) == "...":
            inner = self.of(args[0], item, depth + 1)
            return None if inner is None else f"tuple({inner} for {item} in {value})"
        each = [self.of(arg, f"{value}[{at}]", depth + 1) for at, arg in enumerate(args)]
        if not any(each):
            return None
        parts = [one or f"{value}[{at}]" for at, one in enumerate(each)]
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
            else:
                made = f"{one} if isinstance({value}, {self._test(member)}) else {made}"
        return made

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
