"""What mypy and pyright infer for synced functions, methods and generators; checked by them, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar, assert_type

import syncline

T = TypeVar("T")
bridge = syncline.Bridge(scope="thread", nested="error", context="copy", name="typed", cleanup_timeout=1)


@bridge.synced
async def page(number: int, *, title: str = "") -> str:
    return title * number


assert_type(page(1), str)
assert_type(page(1, title="t"), str)
assert_type(page.aio(1, title="t"), Coroutine[Any, Any, str])
page()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
page(1, "t")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
page(1, titel="t")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
page.aio()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

as_function: Callable[[int], str] = page
as_wrong_function: Callable[[str], str] = page  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


async def plain(text: str) -> bytes:
    return text.encode()


def awaits(text: str) -> Awaitable[bytes]:
    return plain(text)


assert_type(bridge.synced(plain)("a"), bytes)
assert_type(bridge.synced(awaits)("a"), bytes)
assert_type(bridge.synced(awaits).aio("a"), Awaitable[bytes])


def load() -> int:
    return 1


bridge.synced(load)  # type: ignore[arg-type,type-var]  # pyright: ignore[reportCallIssue, reportArgumentType]


class Base:
    @bridge.synced
    async def get(self, url: str, *, retries: int = 0) -> bytes:
        return url.encode() * retries

    @staticmethod
    @bridge.synced
    async def static(n: int) -> int:
        return n

    @bridge.synced
    async def items(self, count: int) -> AsyncGenerator[int, str]:
        for n in range(count):
            yield n

    @bridge.synced
    async def lines(self) -> AsyncIterator[str]:
        yield ""

    async def own(self, url: str) -> str:
        return str(await self.get.aio(url))


class Derived(Base):
    def both(self) -> bytes:
        return super().get("a") + self.get("b", retries=1)

    async def both_async(self) -> bytes:
        return await super().get.aio("a") + await self.get.aio("b")


derived = Derived()
assert_type(derived.get("url", retries=1), bytes)
assert_type(Derived.get(derived, "url"), bytes)
assert_type(derived.get.aio("url"), Coroutine[Any, Any, bytes])
assert_type(Derived.static(1), int)
assert_type(derived.static(1), int)
assert_type(derived.items(1), Generator[int, str, None])
assert_type(derived.items.aio(1), AsyncGenerator[int, str])
assert_type(derived.items(1).send("s"), int)
assert_type(derived.lines(), Generator[str, None, None])
assert_type(derived.lines.aio(), AsyncIterator[str])
for item in derived.items(3):
    assert_type(item, int)
derived.get()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
derived.get(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
derived.get("url", retries="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
derived.items("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Derived.static("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
