"""What the client gives and takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypedDict, TypeVar

T = TypeVar("T")
Headers = dict[str, str]
TIMEOUT: Final = 5.0


class Options(TypedDict, total=False):
    """What every request takes."""

    headers: Headers
    timeout: float


class NotFoundError(Exception):
    """There is no such key."""


@dataclass
class Usage:
    """How much is stored."""

    keys: int
    tags: list[str] = field(default_factory=list[str])


class Page(Generic[T]):
    """Some items of many."""

    size = 2

    def __init__(self, items: Iterable[T]) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    async def first(self) -> T:
        """The first item."""
        return self.items[0]

    async def __aiter__(self) -> AsyncIterator[T]:
        for item in self.items:
            yield item
