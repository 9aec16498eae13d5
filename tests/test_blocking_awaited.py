"""Twins of what can be awaited and can do more: requests that are entered, connections that pools lend, cursors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import aiosqlite
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

import syncline
from neutral import turn

T_co = TypeVar("T_co", covariant=True)


class Lent:
    """A connection: no manager itself."""

    def __init__(self) -> None:
        self.home = asyncio.get_running_loop()
        self.is_lent = True

    async def ask(self) -> str:
        assert asyncio.get_running_loop() is self.home
        await turn()
        return "answer"


class Lending:
    """What asyncpg's `pool.acquire()` returns: it is awaited, or entered."""

    def __init__(self) -> None:
        self.lent: Lent | None = None

    async def _lend(self) -> Lent:
        await turn()
        self.lent = Lent()
        return self.lent

    def __await__(self) -> Generator[Any, Any, Lent]:
        return self._lend().__await__()

    async def __aenter__(self) -> Lent:
        return await self._lend()

    async def __aexit__(self, *exc_info: object) -> None:
        await turn()
        assert self.lent is not None
        self.lent.is_lent = False


class Rows:
    """What asyncpg's `connection.cursor()` returns: it is awaited, or iterated over."""

    def __await__(self) -> Generator[Any, Any, str]:
        yield from turn().__await__()
        return "cursor"

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in range(3):
            await turn()
            yield number


class Page:
    """Some items, which can be iterated over."""

    data = (0, 1)

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in (0, 1, 2, 3):
            await turn()
            yield number


PageT = TypeVar("PageT", bound="Page")


class Paginator(Generic[PageT]):
    """What openai's `client.models.list()` returns: it is iterated over, or awaited for its first page."""

    def __init__(self, page: PageT) -> None:
        self._page = page

    def __await__(self) -> Generator[Any, Any, PageT]:
        yield from turn().__await__()
        return self._page

    async def __aiter__(self) -> AsyncIterator[int]:
        async for number in await self:
            yield number


class Asking(Coroutine[Any, Any, Lent]):
    """What aiohttp's `session.get()` returns: a coroutine that can be entered as well."""

    def __init__(self, coroutine: Coroutine[Any, Any, Lent]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, Lent]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *args: Any) -> Any:
        return self._coroutine.throw(*args)

    def close(self) -> None:
        self._coroutine.close()

    async def __aenter__(self) -> Lent:
        self.lent = await self._coroutine
        return self.lent

    async def __aexit__(self, *exc_info: object) -> None:
        await turn()
        self.lent.is_lent = False


def asking(fn: Callable[[Any], Coroutine[Any, Any, Lent]]) -> Callable[[Any], Asking]:
    """As the decorator of aiosqlite's methods: whoever looks through it sees an async function."""

    def call(self: Any) -> Asking:
        return Asking(fn(self))

    vars(call)["__wrapped__"] = fn
    return call


class Handle:
    """Of a job: awaited for its result, asked for how it does."""

    def __await__(self) -> Generator[Any, Any, str]:
        yield from turn().__await__()
        return "done"

    async def state(self) -> str:
        await turn()
        return "runs"


class Pool:
    """Has one of each."""

    def acquire(self) -> Lending:
        return Lending()

    def cursor(self) -> Rows:
        return Rows()

    def list(self) -> Paginator[Page]:
        return Paginator(Page())

    def get(self) -> Asking:
        return Asking(self._get())

    @asking
    async def execute(self) -> Lent:
        return await self._get()

    async def _get(self) -> Lent:
        await turn()
        return Lent()

    def start(self) -> Handle:
        return Handle()

    async def find(self) -> Handle:
        return Handle()

    async def release(self, lent) -> bool:  # type: ignore[no-untyped-def]
        was_lent, lent.is_lent = lent.is_lent, False
        return isinstance(lent, Lent) and was_lent


@pytest.fixture
def pool(make_bridge: Callable[..., syncline.Bridge]) -> Any:
    bridge = make_bridge()
    bridge.blocking(Lent)
    return bridge.blocking(Pool)()


def test_what_is_awaited_or_entered_is_entered(pool: Any) -> None:
    """A connection that is no manager itself goes back at the end of the block; or `run` awaits it."""
    with pool.acquire() as lent:
        assert lent.ask() == "answer"
        assert lent.is_lent
    assert not lent.is_lent
    waiting = pool.acquire()
    with pytest.raises(AttributeError) as caught:
        waiting.ask()
    assert "run()" in caught.value.__notes__[0]
    assert waiting.run().ask() == "answer"


def test_what_is_awaited_or_iterated_over_is_iterated_over(pool: Any) -> None:
    """And `run` awaits it."""
    assert list(pool.cursor()) == [0, 1, 2]
    assert pool.cursor().run() == "cursor"


def test_what_is_awaited_for_something_that_does_as_much_is_awaited(pool: Any) -> None:
    """A page that can be iterated over as its paginator can; async code does either."""
    page = pool.list()
    assert (page.data, list(page), list(pool.list())) == ((0, 1), [0, 1, 2, 3], [0, 1, 2, 3])

    async def main() -> None:
        assert [number async for number in pool.aio.list()] == [0, 1, 2, 3]
        page = await pool.aio.list()
        assert (page.data, [number async for number in page]) == ((0, 1), [0, 1, 2, 3])

    asyncio.run(main())
    assert pool.list().data == (0, 1)


def test_a_coroutine_that_can_be_entered_is_awaited(pool: Any) -> None:
    """Sync code gets its result; what its manager would do at the end is left to that."""
    assert pool.get().ask() == "answer"
    assert pool.execute().ask() == "answer"


@pytest.mark.parametrize("method", ["get", "execute", "acquire"])
def test_async_code_awaits_it_or_enters_it(pool: Any, method: str) -> None:
    """On another loop, by `.aio`: both are done where the pool lives, and what comes out is an async side."""

    async def main() -> list[Any]:
        begin = getattr(pool.aio, method)
        lent = await begin()
        async with begin() as entered:
            seen = [await lent.ask(), await entered.ask(), entered.is_lent]
        seen.append(entered.is_lent)
        if method != "acquire":
            seen.append(await (await asyncio.create_task(begin())).ask())
        return seen

    assert asyncio.run(main())[:4] == ["answer", "answer", True, False]


def test_what_is_never_awaited_is_said(pool: Any) -> None:
    """By Python, as of any coroutine; entering it closes the other one quietly, as warnings are errors."""

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="never awaited"):
            pool.aio.execute()

    asyncio.run(main())


def test_handles_of_a_related_package_come_as_twins(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """A sync method's is awaited, each time; an async method's can be asked, and run."""
    shop = make_bridge().blocking(Pool, related=__name__)()
    for _ in range(2):
        assert shop.start() == "done"
        handle = shop.find()
        assert handle.state() == "runs"
        assert handle.run() == "done"


def test_a_handle_whose_class_has_a_twin_comes_as_that(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """From both kinds of methods, also if it was known before as the class of a related package."""
    bridge = make_bridge()
    shop = bridge.blocking(Pool, related=__name__)()
    assert shop.find().state() == "runs"
    handle = bridge.blocking(Handle)
    assert isinstance(shop.start(), handle)
    assert shop.start().run() == "done"


def test_twins_go_in_where_nothing_is_annotated(pool: Any) -> None:
    """As their objects: an async method that checks what it gets finds its own."""
    with pool.acquire() as lent:
        assert pool.release(lent)
        assert not pool.release(lent=lent)


class Startable(Awaitable[T_co], AbstractAsyncContextManager["Startable[T_co]"]):
    """Generic by what it inherits from the standard library alone."""

    async def start(self) -> int:
        return 1

    def __await__(self) -> Generator[Any, Any, T_co]:
        raise NotImplementedError

    async def __aexit__(self, *exc_info: object) -> None: ...


class Started(Startable["Started"]):
    """Gives the parameter."""


class Both(Startable[T_co], Generic[T_co]):
    """Says it again."""


def test_parameters_that_come_from_the_standard_library_are_kept(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """A class can be generic without a base of its own that says so."""
    bridge = make_bridge()
    assert bridge.blocking(Started)().start() == 1
    assert bridge.blocking(Both)[int]().start() == 1
    assert bridge.blocking(Startable)[int].__origin__ is bridge.blocking(Startable)


def test_sqlalchemy_s_connections_are_entered(
    tmp_path: Path, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """They can be awaited as well; what they lead to comes as twins."""
    bridge = make_bridge()
    made = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/base.db")
    bridge.blocking(type(made), related="sqlalchemy")
    engine = bridge.blocking(made)
    with engine.begin() as connection:
        connection.execute(text("create table numbers (number int)"))
        connection.execute(text("insert into numbers values (1), (2)"))
    with engine.connect() as connection:
        assert connection.scalar(text("select sum(number) from numbers")) == 3
        with connection.stream(text("select number from numbers")) as rows:
            assert [row[0] for row in rows] == [1, 2]
    engine.dispose()


def test_aiosqlite_s_statements_are_entered_by_async_code(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """On another loop than the connection's."""
    bridge = make_bridge()
    bridge.blocking(aiosqlite.Connection, related="aiosqlite")
    connection = bridge.blocking(bridge.call(aiosqlite.connect, ":memory:"))

    async def main() -> list[int]:
        async with connection.aio.execute("select 1 union select 2") as cursor:
            return [row[0] async for row in cursor]

    with connection:
        assert asyncio.run(main()) == [1, 2]


class Callee:
    """As grpc's multicallables: a sync `__call__` makes something async."""

    def __call__(self, number: int) -> Rows:
        return Rows()


class Stub:
    """As those that are generated for grpc: nothing in it is async but what its attributes make."""

    def __init__(self) -> None:
        self.list = Callee()


def test_stubs_of_a_related_package_call_what_their_attributes_make(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """As a class, and as an object that is there; also where its attributes were looked at before."""
    bridge = make_bridge()
    pool = bridge.blocking(Pool)()
    pool._twin_object.callee = Callee()
    assert isinstance(pool.callee, Callee)
    with pytest.raises(TypeError, match="nothing async"):
        bridge.blocking(Stub())
    assert list(bridge.blocking(Stub(), related=__name__).list(1)) == [0, 1, 2]
    assert list(bridge.blocking(Stub, related=__name__)().list(1)) == [0, 1, 2]
    assert list(pool.callee(1)) == [0, 1, 2]


def test_what_is_said_of_a_class_is_refused_with_an_object(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """Instead of being overlooked."""
    with pytest.raises(TypeError, match=r"names is said of a class: blocking\(Pool, names=...\)"):
        make_bridge().blocking(Pool(), names={"get": "fetch"})  # type: ignore[call-overload]


class Asked(Protocol):
    """A protocol that can't be asked what is one."""

    async def ask(self) -> str: ...


@runtime_checkable
class Known(Protocol):
    """Neither can one with attributes, though it says so."""

    is_lent: bool


class Enterable(Protocol):
    """As aioftp's: what its `download_stream` returns is awaited for it, or entered."""

    async def __aenter__(self) -> Lent: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


@pytest.mark.parametrize("protocol", [Asked, Known, Enterable])
def test_an_await_may_give_what_a_protocol_describes(
    make_bridge: Callable[..., syncline.Bridge], protocol: Any
) -> None:
    """It is entered, or awaited where that gives as much."""

    class Waiting(Lending):
        def __await__(self) -> Generator[Any, Any, Any]:
            yield from turn().__await__()
            return self

    Waiting.__await__.__annotations__["return"] = Generator[Any, Any, protocol]

    class Client:
        def connect(self) -> Lending:
            return Waiting()

        async def close(self) -> None: ...

    bridge = make_bridge()
    bridge.blocking(Lent)
    with bridge.blocking(Client)().connect() as lent:
        assert lent.ask() == "answer"
