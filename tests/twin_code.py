"""Async classes, and their twins, for the tests of `blocking`: a shop of which each kind of member is used."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

import syncline

bridge = syncline.Bridge(name="twins")


class AsyncItem:
    """Something in the shop."""

    __slots__ = ("__weakref__", "number", "parent")

    def __init__(self, number: int, parent: AsyncItem | None = None) -> None:
        asyncio.get_running_loop()
        self.number = number
        self.parent = parent

    async def double(self) -> int:
        """Twice the number."""
        await asyncio.sleep(0)
        return 2 * self.number

    async def part(self) -> AsyncItem:
        return AsyncItem(self.number + 100, self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncItem) and self.number == other.number

    def __hash__(self) -> int:
        return self.number

    def __lt__(self, other: AsyncItem) -> bool:
        return self.number < other.number


class AsyncShop:
    """A shop.

    It sells items.
    """

    country = "NL"
    owner: str
    "Only annotated."

    def __init__(self, name: str, *, size: int = 3) -> None:
        self.name = name
        self.loop = asyncio.get_running_loop()
        self.log: list[str] = []
        self.is_open = False
        self.given_numbers: list[int] = []
        self._shelf = [AsyncItem(number) for number in range(size)]

    async def __aenter__(self) -> Self:
        self.task = asyncio.current_task()
        self.is_open = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self.task is asyncio.current_task()
        await self.aclose()

    async def aclose(self) -> None:
        """Closes it."""
        await asyncio.sleep(0)
        self.is_open = False

    async def get(self, number: int, *, default: int | None = None) -> AsyncItem | None:
        """One item.

        Or None."""
        assert asyncio.get_running_loop() is self.loop
        await asyncio.sleep(0)
        return next((item for item in self._shelf if item.number == number), None)

    async def number(self, x: int) -> int:
        return x + 1

    async def fail(self) -> None:
        raise LookupError("no such thing")

    async def add(self, item: AsyncItem) -> bool:
        self._shelf.append(item)
        return isinstance(item, AsyncItem)

    async def add_all(self, items: Iterable[AsyncItem], **named: AsyncItem) -> int:
        both = [*items, *named.values()]
        assert all(isinstance(item, AsyncItem) for item in both)
        self._shelf += both
        return len(both)

    async def items(self) -> list[AsyncItem]:
        return list(self._shelf)

    async def by_number(self) -> dict[int, AsyncItem]:
        return {item.number: item for item in self._shelf}

    async def pair(self) -> tuple[str, AsyncItem]:
        return self.name, self._shelf[0]

    async def whatever(self, value: Any) -> Any:
        return value

    async def numbers(self) -> list[int]:
        return self.given_numbers

    async def browse(self) -> AsyncIterator[AsyncItem]:
        try:
            for item in self._shelf:
                await asyncio.sleep(0)
                yield item
        finally:
            self.log.append("left" if asyncio.get_running_loop() is self.loop else "left elsewhere")

    async def echo(self) -> AsyncIterator[Any]:
        got: Any = None
        while True:
            try:
                got = yield got
            except KeyError as error:
                got = error

    def stream(self) -> AsyncIterator[AsyncItem]:
        return self.browse()

    @asynccontextmanager
    async def basket(self, first: AsyncItem) -> AsyncIterator[list[AsyncItem]]:
        task = asyncio.current_task()
        yield [first, self._shelf[-1]]
        assert asyncio.current_task() is task
        self.log.append("basket left")

    def later(self, x: int) -> Awaitable[int]:
        return self.number(x)

    def unsaid(self, x: int):  # type: ignore[no-untyped-def]
        return self.number(x)

    def touch(self) -> bool:
        """Needs the loop."""
        return asyncio.get_running_loop() is self.loop

    def first(self) -> AsyncItem:
        return self._shelf[0]

    @property
    def motto(self) -> str:
        """What it says."""
        return f"{self.name}!"

    @motto.setter
    def motto(self, value: str) -> None:
        self.name = value.rstrip("!")

    @property
    def best(self) -> AsyncItem:
        return self._shelf[-1]

    @property
    async def total(self) -> int:
        await asyncio.sleep(0)
        return sum(item.number for item in self._shelf)

    @functools.cached_property
    def sign(self) -> AsyncItem:
        return AsyncItem.__new__(AsyncItem)

    @functools.cached_property
    async def slow_sign(self) -> AsyncItem:
        self.log.append("slow")
        await asyncio.sleep(0)
        return AsyncItem(7)

    @classmethod
    def small(cls) -> Self:
        return cls("small", size=1)

    @classmethod
    async def found(cls, name: str) -> Self:
        return cls(name)

    @staticmethod
    async def add_up(x: int, y: int) -> int:
        return x + y

    def __len__(self) -> int:
        return len(self._shelf)

    def __getitem__(self, at: int) -> AsyncItem:
        return self._shelf[at]

    def __contains__(self, item: object) -> bool:
        return item in self._shelf

    async def __aiter__(self) -> AsyncIterator[AsyncItem]:
        for item in self._shelf:
            yield item

    async def __call__(self, x: int) -> int:
        return x * 10


class AsyncTicker:
    """An async iterator, and something to await."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        await asyncio.sleep(0)
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left

    def __await__(self) -> Any:
        return self._waited().__await__()

    async def _waited(self) -> str:
        await asyncio.sleep(0)
        return "waited"


Item = bridge.blocking(AsyncItem)
Shop = bridge.blocking(AsyncShop)
Ticker = bridge.blocking(AsyncTicker)
