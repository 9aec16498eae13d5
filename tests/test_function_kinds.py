"""is_async_fn and is_async_gen_fn see through what functions are wrapped in; what is awaited otherwise is run, too."""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest import mock

import pytest

import syncline
from neutral import turn


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


@types.coroutine
def made_of_a_generator(value: int) -> Iterator[Any]:
    yield from turn().__await__()
    return value


class Waits:
    """Can be awaited, by what its `__await__` is given."""

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __await__(self) -> Any:
        return self.iterator


def test_what_types_coroutine_makes_is_run(each_bridge: syncline.Bridge, inside: Callable[..., Any]) -> None:
    """A generator function that it decorates counts as async, and its generators can be awaited, as in async code."""
    made: Any = made_of_a_generator

    async def nested() -> Any:
        return each_bridge.run_sync(made, 1), each_bridge.run(made(2))

    assert inside(lambda: each_bridge.run_sync(made, 1)) == 1
    assert inside(lambda: each_bridge.run(made(2), timeout=20)) == 2
    assert each_bridge.run_sync(nested) == (1, 2)
    assert list(each_bridge.map(made, range(2))) == [0, 1]
    with each_bridge.group() as group:
        started = group.start(made, 3)
    assert started.result() == 3


def test_await_that_returns_no_iterator_is_named(each_bridge: syncline.Bridge) -> None:
    """As by `await`; before, an AttributeError spoke of `send`."""
    for wrong in (5, []):
        with pytest.raises(TypeError, match=r"__await__\(\) must return an iterator"):
            each_bridge.run(Waits(wrong))
    assert each_bridge.run(Waits(iter(()))) is None
