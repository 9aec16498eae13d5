"""What mypy and pyright infer for `synced`; checked by them, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator
from typing import TypeVar, assert_type

import syncline

bridge = syncline.Bridge()
T = TypeVar("T")


@syncline.synced
async def page(number: int, *, size: int = 1) -> str:
    return str(number * size)


@bridge.synced
async def pages(count: int) -> AsyncGenerator[str, int]:
    for number in range(count):
        yield str(number)


@bridge.synced
async def lines(path: str) -> AsyncIterator[str]:
    yield path


assert_type(page(1, size=2), str)
assert_type(pages(2), Generator[str, int, None])
assert_type(pages.aio(2), AsyncGenerator[str, int])
assert_type(lines("path"), Generator[str, None, None])
assert_type(lines.aio("path"), AsyncIterator[str])
page("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
pages("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Client:
    @bridge.synced
    async def get(self, url: str, *, retries: int = 0) -> bytes:
        return url.encode() * retries

    @bridge.synced
    async def items(self, count: int) -> AsyncGenerator[int, None]:
        yield count

    @bridge.synced
    async def lines(self, count: int) -> AsyncIterator[str]:
        yield str(count)

    @classmethod
    @bridge.synced
    async def made(cls, n: int) -> Client:
        return cls()

    @bridge.synced
    @classmethod
    async def made_below(cls, n: int, *, size: int = 1) -> list[int]:
        return [n] * size

    @classmethod
    @syncline.synced
    async def all_items(cls, n: int) -> AsyncGenerator[int, str]:
        yield n

    @syncline.synced
    @classmethod
    async def all_lines(cls, n: int) -> AsyncIterator[str]:
        yield str(n)

    @bridge.synced
    @classmethod
    def later(cls, n: int) -> Awaitable[bytes]:
        raise NotImplementedError

    @staticmethod
    @bridge.synced
    async def static(n: int) -> int:
        return n

    @staticmethod
    @bridge.synced
    async def static_items(n: int) -> AsyncIterator[int]:
        yield n

    @bridge.synced
    @staticmethod
    async def static_below(n: int) -> int:
        return n

    @bridge.synced
    @staticmethod
    async def static_items_below(n: int) -> AsyncIterator[int]:
        yield n


class Child(Client):
    @bridge.synced
    async def get(  # pyright: ignore[reportIncompatibleVariableOverride]  # As of any descriptor that knows its `self`.
        self, url: str, *, retries: int = 0
    ) -> bytes:
        return await super().get.aio(url, retries=retries)


def on_the_instance(client: Client, child: Child) -> None:
    assert_type(client.get("url", retries=1), bytes)
    assert_type(client.items(1), Generator[int, None, None])
    assert_type(client.lines(1), Generator[str, None, None])
    assert_type(child.get("url", retries=1), bytes)
    assert_type(child.items(1), Generator[int, None, None])
    assert_type(child.lines(1), Generator[str, None, None])


# Static methods are called through the class: through an instance no type checker sees that they are static.
def on_the_class(client: Client, child: Child) -> None:
    assert_type(Client.get(client, "url"), bytes)
    assert_type(Client.items(client, 1), Generator[int, None, None])
    assert_type(Child.get(child, "url"), bytes)
    assert_type(Child.items(child, 1), Generator[int, None, None])
    assert_type(Client.static(1), int)
    assert_type(Client.static_items(1), Generator[int, None, None])
    assert_type(Client.static_below(1), int)
    assert_type(Client.static_items_below(1), Generator[int, None, None])
    assert_type(Child.static(1), int)
    assert_type(Child.static_below(1), int)
    assert_type(Child.static_items(1), Generator[int, None, None])
    assert_type(Child.static_items_below(1), Generator[int, None, None])


def class_methods(client: Client, child: Child) -> None:
    assert_type(Client.made(1), Client)
    assert_type(Child.made(1), Client)
    assert_type(client.made(1), Client)
    assert_type(Client.made_below(1, size=2), list[int])
    assert_type(child.made_below(1, size=2), list[int])
    assert_type(Client.all_items(1), Generator[int, str, None])
    assert_type(child.all_lines(1), Generator[str, None, None])
    assert_type(Child.later(1), bytes)


@bridge.synced
async def same(value: T) -> T:
    return value


@bridge.synced
async def make(kind: type[T], n: int) -> T:
    return kind()


@bridge.synced
async def unbound(cls: type[int], n: int) -> str:
    return cls.__name__


assert_type(same(1), int)
assert_type(same(int), type[int])
assert_type(make(int, 1), int)
assert_type(unbound(int, 1), str)


async def the_original(client: Client, child: Child) -> None:
    assert_type(await Client.made.aio(1), Client)
    assert_type(await child.made_below.aio(1, size=1), list[int])
    assert_type(Client.all_items.aio(1), AsyncGenerator[int, str])
    assert_type(Client.all_lines.aio(1), AsyncIterator[str])
    assert_type(await Client.later.aio(1), bytes)
    assert_type(await unbound.aio(int, 1), str)
    assert_type(await page.aio(1, size=2), str)
    assert_type(await client.get.aio("url"), bytes)
    assert_type(await child.get.aio("url"), bytes)
    assert_type(client.items.aio(1), AsyncGenerator[int, None])
    assert_type(child.lines.aio(1), AsyncIterator[str])
    assert_type(await Client.static.aio(1), int)
    assert_type(await Child.static_below.aio(1), int)


def wrong(client: Client, child: Child) -> None:
    client.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    child.get("url", retry=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Client.made("s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Child.made_below("s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Client.static("s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Child.static_below("s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
