"""What mypy and pyright infer for dual objects, in both worlds; checked by them, never run (case 90)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, assert_type

import syncline
from syncline import DualContextManager, DualCoroutine, DualGenerator, DualIterator
from syncline.compat import anysync


@syncline.coroutine
async def page(number: int, *, retries: int = 1) -> str:
    return str(number * retries)


@syncline.iterator
async def lines(count: int) -> AsyncIterator[str]:
    for number in range(count):
        yield str(number)


@syncline.iterator
async def numbers() -> AsyncGenerator[int, None]:
    yield 1


@syncline.generator
async def echo(first: str) -> AsyncGenerator[str, int]:
    yield first


@syncline.contextmanager
async def session(url: str) -> AsyncIterator[bytes]:
    yield url.encode()


@syncline.contextmanager
async def transaction() -> AsyncGenerator[int, None]:
    yield 1


_ = assert_type(page(1), DualCoroutine[str])
assert_type(page(1, retries=2).run(), str)
assert_type(page(1).run(timeout=1.5), str)
assert_type(lines(2), DualIterator[str])
assert_type(next(lines(2)), str)
assert_type(list(lines(2)), list[str])
assert_type(list(numbers()), list[int])
assert_type(echo("a"), DualGenerator[str, int])
assert_type(next(echo("a")), str)
assert_type(echo("a").send(1), str)
assert_type(echo("a").throw(ValueError()), str)
assert_type(list(echo("a")), list[str])
lines(2).close()
echo("a").close()
with session("url") as data, transaction() as number:
    assert_type(data, bytes)
    assert_type(number, int)

wrong = page("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
lines("two")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
echo(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
echo("a").send("b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
session(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def in_async_code() -> None:
    assert_type(await page(1), str)
    assert_type([line async for line in lines(2)], list[str])
    assert_type(await anext(lines(2)), str)
    assert_type([item async for item in echo("a")], list[str])
    assert_type(await echo("a").asend(1), str)
    assert_type(await echo("a").athrow(ValueError()), str)
    await echo("a").aclose()
    async with session("url") as data, transaction() as number:
        assert_type(data, bytes)
        assert_type(number, int)


class Client:
    @syncline.coroutine
    async def get(self, url: str) -> bytes:
        return url.encode()

    @syncline.iterator
    async def items(self, count: int) -> AsyncIterator[int]:
        yield count

    @staticmethod
    @syncline.coroutine
    async def static(number: int) -> int:
        return number

    @classmethod
    @syncline.contextmanager
    async def connect(cls, url: str) -> AsyncIterator[Client]:
        yield cls()


client = Client()
assert_type(client.get("url").run(), bytes)
assert_type(list(client.items(1)), list[int])
assert_type(Client.static(1).run(), int)
with Client.connect("url") as connected:
    assert_type(connected, Client)
unused = client.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@asynccontextmanager
async def undecorated() -> AsyncGenerator[int, None]:
    yield 1


async def agen() -> AsyncGenerator[int, str]:
    yield 1


async def fetch() -> bytes:
    return b""


assert_type(syncline.iterate(agen()), DualIterator[int])
assert_type(list(syncline.iterate(agen(), prefetch=10)), list[int])
assert_type(syncline.enter(undecorated()), DualContextManager[int])
with syncline.enter(undecorated()) as one:
    assert_type(one, int)
with syncline.enter(undecorated) as made:
    assert_type(made, int)
syncline.iterate([1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
syncline.enter(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]

bridge = syncline.Bridge(scope="caller")
other = assert_type(bridge.coroutine(fetch)(), DualCoroutine[bytes])
assert_type(bridge.iterator(agen)(), DualIterator[int])
assert_type(bridge.generator(agen)(), DualGenerator[int, str])
assert_type(list(bridge.iterate(agen())), list[int])
with bridge.enter(undecorated()) as two:
    assert_type(two, int)
syncline.Bridge(backend="trio")
syncline.Bridge(backend="curio")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(DualCoroutine(fetch()).run(), bytes)
assert_type(next(DualIterator(agen(), prefetch=1)), int)
assert_type(DualGenerator(agen()).send("x"), int)
with DualContextManager(undecorated()) as three:
    assert_type(three, int)


class Request(DualCoroutine[int]):
    bridge = bridge

    def __init__(self, url: str) -> None:
        self.url = url

    def __await__(self) -> Generator[Any, Any, int]:
        yield
        return 1


class Countdown(DualIterator[int]):
    def __init__(self, start: int) -> None:
        self.left = start

    async def __anext__(self) -> int:
        self.left -= 1
        return self.left


class Session(DualContextManager[bytes]):
    def __init__(self) -> None:
        self.open = False

    async def __aenter__(self) -> bytes:
        self.open = True
        return b""

    async def __aexit__(self, *exc_info: object) -> None:
        self.open = False


class Transaction(DualContextManager[list[str]]):
    async def __aenter__(self) -> list[str]:
        return []

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Rows(DualIterator[int]):
    async def __aiter__(self) -> AsyncIterator[int]:
        yield 1


class Echo(DualGenerator[int, str]):
    async def asend(self, value: str) -> int:
        return len(value)

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None, /) -> int:
        raise typ


assert_type(Request("url").run(), int)
assert_type(list(Rows()), list[int])
assert_type(Echo().send("a"), int)
with Transaction() as statements:
    assert_type(statements, list[str])
assert_type(list(Countdown(1)), list[int])
with Session() as entered:
    assert_type(entered, bytes)


@anysync.coroutine
async def compat_page() -> str:
    return ""


@anysync.generator
async def compat_echo() -> AsyncGenerator[str, int]:
    yield ""


assert_type(compat_page().run(), str)
assert_type(compat_echo().send(1), str)
assert_type(anysync.run(fetch()), bytes)
assert_type(anysync.wrap_coroutine(fetch()).run(), bytes)


@session("url")
def decorated(number: int, *, more: str = "") -> list[str]:
    return [more] * number


@transaction()
async def decorated_async(number: int) -> int:
    return number


assert_type(decorated(1, more="a"), list[str])


async def awaits_decorated() -> None:
    assert_type(await decorated_async(1), int)
