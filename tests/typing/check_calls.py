"""What mypy and pyright infer for calls; checked by them, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator
from concurrent.futures import Future
from typing import assert_type

import syncline


async def fetch(url: str, *, retries: int = 1) -> bytes:
    return url.encode() * retries


def make() -> Awaitable[int]:
    raise NotImplementedError


assert_type(syncline.run_sync(fetch, "url", retries=2), bytes)
assert_type(syncline.run_sync(make), int)
assert_type(syncline.run(fetch("url")), bytes)
assert_type(syncline.run(fetch("url"), timeout=1), bytes)
assert_type(syncline.submit(fetch, "url"), Future[bytes])
assert_type(syncline.Bridge(scope="caller").run_sync(fetch, "url"), bytes)
assert_type(syncline.call(len, "url"), int)
assert_type(syncline.call(dict, name=1), dict[str, int])
assert_type(syncline.finalize(object(), fetch, "url")(), bytes | None)
assert_type(syncline.Bridge().finalize(object(), fetch, "url", retries=2)(), bytes | None)


async def elsewhere() -> None:
    assert_type(await syncline.run_async(fetch, "url", retries=2), bytes)
    await syncline.run_async(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


syncline.call(len, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
syncline.run_sync(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
syncline.finalize(object(), fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
syncline.run_sync(fetch, "url", retry=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
syncline.Bridge(scope="planet")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@syncline.synced
async def page(number: int) -> str:
    return str(number)


@syncline.synced
async def pages(count: int) -> AsyncGenerator[str, int]:
    for number in range(count):
        yield str(number)


@syncline.synced
async def lines() -> AsyncIterator[str]:
    yield "line"


assert_type(page(1), str)
assert_type(pages(2), Generator[str, int, None])
assert_type(pages.aio(2), AsyncGenerator[str, int])
assert_type(lines(), Generator[str, None, None])
page("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Client:
    @syncline.synced
    async def get(self, url: str) -> bytes:
        return url.encode()

    @staticmethod
    @syncline.synced
    async def static(n: int) -> int:
        return n

    @classmethod
    @syncline.synced
    async def named(cls, suffix: str) -> str:
        return cls.__name__ + suffix

    @syncline.synced
    async def items(self) -> AsyncGenerator[int, None]:
        yield 1


client = Client()
assert_type(client.get("url"), bytes)
assert_type(Client.static(1), int)
assert_type(client.items(), Generator[int, None, None])
client.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def in_async_code() -> None:
    assert_type(await page.aio(1), str)
    assert_type(await client.get.aio("url"), bytes)
    await page.aio("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


assert_type(syncline.doctor().has_problems, bool)
assert_type([finding.what for finding in syncline.doctor().findings], list[str])
