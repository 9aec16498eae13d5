"""What mypy and pyright infer for AnySync's names; checked by them, never run. "AnySync works with type checkers"."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import assert_type

from syncline.compat import anysync


@anysync.coroutine
async def add(a: int, *, b: int) -> int:
    return a + b


@anysync.iterator
async def words() -> AsyncIterator[str]:
    yield "a"


@anysync.generator
async def echo() -> AsyncGenerator[int, str]:
    text = yield 1
    yield len(text)


@anysync.contextmanager
async def session() -> AsyncIterator[bytes]:
    yield b""


class Manager(anysync.AnySyncContextManager[int]):
    async def __aenter__(self) -> int:
        return 42

    async def __aexit__(self, *_exc_info: object) -> None: ...


assert_type(add(1, b=2).run(), int)
assert_type(add(1, b=2).run(timeout=5), int)
assert_type(anysync.run(add(1, b=2)), int)
assert_type(list(words()), list[str])
assert_type(echo().send("text"), int)
with session() as opened, Manager() as entered:
    assert_type(opened, bytes)
    assert_type(entered, int)
add("1", b=2).run()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def main() -> None:
    assert_type(await add(1, b=2), int)
    async for word in words():
        assert_type(word, str)
    async with session() as opened, Manager() as entered:
        assert_type(opened, bytes)
        assert_type(entered, int)
