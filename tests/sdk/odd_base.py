"""The base of one of the classes in odd.py, in another module, with names that only type checkers know."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar, TypeVarTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from decimal import Decimal as Dec

T = TypeVar("T")
K = TypeVar("K", bound="str | bytes")
Ts = TypeVarTuple("Ts")


class AsyncBase(Generic[T, *Ts]):
    """Its first line has a \\ and a \t."""

    kind: ClassVar[str] = "base"

    def __init__(self, item: T, *rest: *Ts, factor: Dec | None = None) -> None:
        self.item = item
        self._rest = rest
        self._factor = factor

    async def scaled(self, by: Dec) -> Dec | None:
        return self._factor and self._factor * by

    async def apply(self, function: Callable[[T], Awaitable[K]]) -> K:
        return await function(self.item)

    async def rest(self) -> tuple[T, *Ts]:
        return (self.item, *self._rest)
