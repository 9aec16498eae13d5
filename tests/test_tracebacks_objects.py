"""Tracebacks of twins, resources, and sync things in async code: the user's code, and one frame of this package."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import pytest

import syncline
from neutral import entered, items_of
from test_mistakes import frames_of_ours


class AsyncClient:
    def __init__(self, *, fails: bool = False) -> None:
        if fails:
            raise LookupError("the user's")

    @property
    def kind(self) -> str:
        raise LookupError("the user's")

    @property
    async def name(self) -> str:
        raise LookupError("the user's")

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[int]:
        if self is not None:
            raise LookupError("the user's")
        yield 1

    async def get(self) -> None:
        raise LookupError("the user's")

    async def pages(self) -> AsyncIterator[int]:
        yield 1
        raise LookupError("the user's")

    async def closing(self) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            raise LookupError("the user's")

    @contextlib.asynccontextmanager
    async def leaving(self) -> AsyncIterator[int]:
        yield 1
        raise LookupError("the user's")

    async def __aenter__(self) -> Self:
        raise LookupError("the user's")

    async def __aexit__(self, *exc_info: object) -> None: ...


async def failing() -> AsyncIterator[int]:
    if asyncio.get_running_loop():
        raise LookupError("the user's")
    yield 1


def failing_items() -> Iterator[int]:
    yield 1
    raise LookupError("the user's")


@contextlib.contextmanager
def failing_manager() -> Iterator[int]:
    if asyncio is not None:
        raise LookupError("the user's")
    yield 1


async def sent(items: Any) -> None:
    await anext(items)
    await items.asend(1)


async def thrown(items: Any) -> None:
    await anext(items)
    await items.athrow(LookupError("the user's"))


async def closed(items: Any) -> None:
    """Its `aclose` raises."""
    await anext(items)
    await items.aclose()


def used(manager: Any) -> None:
    with manager:
        pass


Client: Any = syncline.blocking(AsyncClient)


class Derived(Client):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(fails=True)


WAYS: dict[str, Callable[[], object]] = {
    "making a twin": lambda: Client(fails=True),
    "a constructor with other arguments": lambda: Client(1, 2),
    "making a class derived from a twin": Derived,
    "a property": lambda: Client().kind,
    "an async property": lambda: Client().name,
    "a manager's method": lambda: used(Client().session()),
    "a twin that is entered": lambda: used(Client()),
    "a method in async code": lambda: asyncio.run(Client().aio.get()),
    "items in async code": lambda: asyncio.run(items_of(Client().aio.pages())),
    "a value sent in async code": lambda: asyncio.run(sent(Client().aio.pages())),
    "an error thrown in async code": lambda: asyncio.run(thrown(Client().aio.pages())),
    "items that fail as they are closed in async code": lambda: asyncio.run(closed(Client().aio.closing())),
    "a manager's method in async code": lambda: asyncio.run(entered(Client().aio.session())),
    "a twin that is entered in async code": lambda: asyncio.run(entered(Client().aio)),
    "an exit in async code": lambda: asyncio.run(entered(Client().aio.leaving())),
    "a resource": lambda: syncline.resource(failing).get(),
    "aiterate": lambda: asyncio.run(items_of(syncline.aiterate(failing_items()))),
    "aenter": lambda: asyncio.run(entered(syncline.aenter(failing_manager()))),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_one_frame_of_ours_is_shown(way: Callable[[], object]) -> None:
    """At most; and the error is the user's."""
    with pytest.raises((LookupError, TypeError)) as caught:
        way()
    assert len(frames_of_ours(caught.value)) <= 1
    assert "the user's" in str(caught.value) or "argument" in str(caught.value)
