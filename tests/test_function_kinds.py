"""is_async_fn and is_async_gen_fn see through what functions are wrapped in."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import syncline


async def fetch() -> int:
    return 1


async def numbers() -> AsyncIterator[int]:
    yield 1


def load() -> int:
    return 1


def lines() -> Iterator[str]:
    yield ""


def wrapped(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A sync wrapper, as decorators make them."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


class Client:
    async def get(self) -> int:
        return 1

    @staticmethod
    async def static() -> int:
        return 1

    @classmethod
    async def named(cls) -> int:
        return 1

    async def items(self) -> AsyncIterator[int]:
        yield 1

    def close(self) -> None: ...


class Caller:
    async def __call__(self) -> int:
        return 1


class Producer:
    async def __call__(self) -> AsyncIterator[int]:
        yield 1


class Plain:
    def __call__(self) -> int:
        return 1


ASYNC = {
    "function": fetch,
    "bound method": Client().get,
    "method": Client.get,
    "static method": Client.static,
    "class method": Client.named,
    "staticmethod": Client.__dict__["static"],
    "object": Caller(),
    "its __call__": Caller().__call__,
    "mock": mock.AsyncMock(),
    "coroutine": syncline.coroutine(fetch),
    "sync_compatible": syncline.sync_compatible(fetch),
    "aio of synced": syncline.synced(fetch).aio,
}
GENERATORS = {
    "function": numbers,
    "bound method": Client().items,
    "method": Client.items,
    "object": Producer(),
    "iterator": syncline.iterator(numbers),
    "asynccontextmanager": contextlib.asynccontextmanager(numbers),
}
SYNC = {
    "function": load,
    "generator": lines,
    "lambda": lambda: fetch,
    "bound method": Client().close,
    "class": Client,
    "class of async objects": Caller,
    "object": Plain(),
    "builtin": len,
    "partial itself": functools.partial,
    "mock": mock.Mock(),
    "contextmanager": contextlib.contextmanager(lines),
    "synced": syncline.synced(fetch),
    "synced generator": syncline.synced(numbers),
    "number": 5,
    "None": None,
}
LAYERS: list[Callable[[Any], Any]] = [
    lambda fn: fn,
    functools.partial,
    wrapped,
    lambda fn: wrapped(functools.partial(wrapped(functools.partial(fn)))),
]
layers = pytest.mark.parametrize("layer", LAYERS, ids=["as it is", "partial", "wraps", "all of it"])


@layers
@pytest.mark.parametrize("fn", ASYNC.values(), ids=ASYNC)
def test_async_functions_are_known(fn: Any, layer: Callable[[Any], Any]) -> None:
    """Functions, methods, callable objects, mocks, our own decorators."""
    assert syncline.is_async_fn(layer(fn))
    assert not syncline.is_async_gen_fn(layer(fn))


def test_an_unbound_class_method_is_known() -> None:
    """What a decorator gets that stands above `@classmethod`."""
    assert syncline.is_async_fn(Client.__dict__["named"])


@layers
@pytest.mark.parametrize("fn", GENERATORS.values(), ids=GENERATORS)
def test_async_generator_functions_are_known(fn: Any, layer: Callable[[Any], Any]) -> None:
    """A wrapper counts as what it wraps, as in Prefect."""
    assert syncline.is_async_gen_fn(layer(fn))
    assert not syncline.is_async_fn(layer(fn))


@pytest.mark.parametrize("fn", SYNC.values(), ids=SYNC)
def test_all_else_is_sync(fn: Any) -> None:
    """What `synced` makes gives results, though it wraps an async function; a class is not its objects."""
    assert not syncline.is_async_fn(fn)
    assert not syncline.is_async_gen_fn(fn)


def test_the_outermost_layer_that_is_async_decides() -> None:
    """An async function that wraps an async generator function gives coroutines."""

    @functools.wraps(numbers)
    async def collect() -> list[int]:
        return [number async for number in numbers()]

    @functools.wraps(fetch)
    def stream() -> Iterator[int]:
        yield 1

    assert syncline.is_async_fn(collect)
    assert not syncline.is_async_gen_fn(collect)
    assert not syncline.is_async_fn(stream)


def test_wrappers_that_go_round_in_circles_are_sync() -> None:
    """Instead of an endless search."""
    wrapper: Any = wrapped(load)
    wrapper.__wrapped__ = functools.partial(wrapper)
    assert not syncline.is_async_fn(wrapper)
