"""synced: an async function becomes a sync one, a method stays a method, a generator a generator."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import syncline

bridge = syncline.Bridge()


@bridge.synced
async def add(a: int, b: int = 1) -> int:
    """Adds."""
    await asyncio.sleep(0)
    return a + b


class Client:
    """Has each kind of method."""

    def __init__(self, base: int) -> None:
        self.base = base

    @bridge.synced
    async def get(self, x: int) -> int:
        return self.base + x

    @staticmethod
    @bridge.synced
    async def static(x: int) -> int:
        return x

    @bridge.synced
    @staticmethod
    async def static_below(x: int) -> int:
        return x

    @classmethod
    @bridge.synced
    async def named(cls) -> str:
        return cls.__name__

    @bridge.synced
    @classmethod
    async def named_below(cls) -> str:
        return cls.__name__

    @bridge.synced
    async def items(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield self.base + i


class Child(Client):
    @bridge.synced
    async def get(self, x: int) -> int:
        return 100 * await super().get.aio(x)


def test_a_function_is_called_as_a_sync_one() -> None:
    """With its arguments; the original is at hand."""
    assert add(1) == 2
    assert add(1, b=5) == 6
    assert asyncio.run(add.aio(2, 2)) == 4


def test_all_kinds_of_methods_work() -> None:
    """Instance, static and class methods, on the instance and on the class, above and below the decorator."""
    client = Client(10)
    assert client.get(1) == 11
    assert Client.get(client, 1) == 11
    assert asyncio.run(client.get.aio(1)) == 11
    assert client.static(2) == Client.static(2) == client.static_below(2) == Client.static_below(2) == 2
    assert client.named() == Client.named() == client.named_below() == Client.named_below() == "Client"
    assert Child.named() == Child.named_below() == "Child"
    assert list(client.items(3)) == [10, 11, 12]


def test_a_subclass_overrides_and_reaches_its_parent() -> None:
    """super() works through `.aio`."""
    assert Child(1).get(1) == 200


def test_tools_see_the_function() -> None:
    """Name, module, docstring and signature are the function's; it is no coroutine function any more."""
    assert (add.__name__, add.__qualname__, add.__module__) == ("add", "add", __name__)
    assert add.__doc__ == "Adds."
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert list(inspect.signature(Client(1).get).parameters) == ["x"]
    assert not inspect.iscoroutinefunction(add)
    assert inspect.iscoroutinefunction(add.aio)
    assert "add" in repr(add)


def test_it_pickles_by_reference() -> None:
    """The same object comes back; also one held by a class."""
    assert pickle.loads(pickle.dumps(add)) is add
    assert pickle.loads(pickle.dumps(Client.__dict__["get"])) is Client.__dict__["get"]


class Log:
    def __init__(self) -> None:
        self.lines: list[Any] = []

    async def agen(self) -> Any:
        self.lines.append("begun")
        loop = asyncio.get_running_loop()
        try:
            sent: Any = None
            while True:
                try:
                    sent = yield sent
                except KeyError as error:
                    sent = error
                self.lines.append(sent)
        finally:
            await asyncio.sleep(0)
            self.lines.append(
                "closed on its loop" if asyncio.get_running_loop() is loop else "closed elsewhere"
            )


@pytest.fixture(params=["process", "thread", "caller"])
def scoped(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    with syncline.Bridge(scope=request.param) as bridge:
        yield bridge


def test_a_generator_takes_send_throw_and_close(scoped: syncline.Bridge) -> None:
    """The whole protocol (case 39)."""
    log = Log()
    generator = scoped.synced(log.agen)()
    assert log.lines == []
    assert next(generator) is None
    assert generator.send(1) == 1
    error = KeyError("thrown")
    assert generator.throw(error) is error
    with pytest.raises(ValueError, match="unseen"):
        generator.throw(ValueError("unseen"))
    assert log.lines == ["begun", 1, error, "closed on its loop"]
    with pytest.raises(StopIteration):
        next(generator)


def test_an_early_break_closes_it_at_once(scoped: syncline.Bridge) -> None:
    """Its finally has run when the loop is left and the generator dropped (case 36), on its own loop."""
    log = Log()
    for _ in scoped.synced(log.agen)():
        break
    gc.collect()
    assert log.lines == ["begun", "closed on its loop"]


def test_nothing_is_fetched_ahead(scoped: syncline.Bridge) -> None:
    """Each item is made when it is asked for (case 37)."""
    made: list[int] = []

    async def count() -> AsyncIterator[int]:
        for i in range(10):
            made.append(i)
            yield i

    generator = scoped.synced(count)()
    assert [next(generator), next(generator)] == [0, 1]
    assert made == [0, 1]
    generator.close()


def test_an_error_in_it_arrives_as_itself(scoped: syncline.Bridge) -> None:
    """Not wrapped in a group (case 35)."""

    async def fail() -> AsyncIterator[int]:
        yield 1
        raise ValueError("mine")

    generator = scoped.synced(fail)()
    assert next(generator) == 1
    with pytest.raises(ValueError, match="mine"):
        next(generator)


def test_resuming_it_where_its_loop_waits_is_an_error_not_a_hang() -> None:
    """Sync code on the generator's own loop thread can't drive it: that loop is the one that has to move."""
    with syncline.Bridge() as bridge:

        async def count() -> AsyncIterator[int]:
            yield 1
            yield 2

        generator = bridge.synced(count)()
        assert next(generator) == 1

        async def resume() -> None:
            next(generator)

        with pytest.raises(syncline.DeadlockError, match="async for"):
            bridge.run_sync(resume)
