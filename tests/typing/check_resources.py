"""What type checkers know of resources."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Self, assert_type

import syncline


class Client:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def shut(self) -> None: ...


class Plain:
    def close(self) -> None: ...


@syncline.resource
async def yielded() -> AsyncIterator[int]:
    yield 1


@syncline.resource
@asynccontextmanager
async def managed() -> AsyncGenerator[int, None]:
    yield 1


@syncline.resource
async def awaited() -> Plain:
    return Plain()


assert_type(yielded, syncline.Resource[int])
assert_type(managed, syncline.Resource[int])
assert_type(awaited, syncline.Resource[Plain])
assert_type(syncline.resource(Client), syncline.Resource[Client])
assert_type(syncline.resource(Client, close=Client.shut), syncline.Resource[Client])
assert_type(syncline.resource(Plain), syncline.Resource[Plain])
assert_type(yielded.get(timeout=1), int)


async def in_async_code() -> None:
    assert_type(await yielded.aget(), int)
    await yielded.aclose()
