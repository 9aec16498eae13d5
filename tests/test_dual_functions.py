"""What the four decorators return: plain functions, which bind, pickle, and look like the ones they were made of."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

import syncline

bridge = syncline.Bridge()


@bridge.coroutine
async def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


@bridge.iterator
async def count(a: int, b: int = 1) -> AsyncIterator[int]:
    """Counts."""
    for number in range(a, b):
        yield number


@bridge.generator
async def echo(a: int, b: int = 1) -> AsyncGenerator[int, int]:
    """Echoes."""
    while True:
        a = (yield a) or b


@bridge.contextmanager
async def hold(a: int, b: int = 1) -> AsyncIterator[int]:
    """Holds."""
    yield a + b


def value(dual: Any) -> Any:
    """Uses a dual object in sync code: its value, or its first item."""
    if isinstance(dual, syncline.DualCoroutine):
        return dual.run()
    if isinstance(dual, syncline.DualContextManager):
        with dual as entered:
            return entered
    return next(iter(dual))


async def plain(self: Any, x: int) -> Any:
    """A method of each kind, of which only the decorator differs."""
    return self, x


async def agen(self: Any, x: int) -> AsyncGenerator[Any, None]:
    """The same for the other decorators."""
    yield self, x


async def static(x: int) -> Any:
    return None, x


async def static_agen(x: int) -> AsyncGenerator[Any, None]:
    yield None, x


kinds = pytest.mark.parametrize(
    ("decorator", "method", "function"),
    [
        (bridge.coroutine, plain, static),
        (bridge.iterator, agen, static_agen),
        (bridge.generator, agen, static_agen),
        (bridge.contextmanager, agen, static_agen),
    ],
    ids=["coroutine", "iterator", "generator", "contextmanager"],
)


@kinds
def test_methods_bind(decorator: Callable[[Any], Any], method: Any, function: Any) -> None:
    """Instance, static and class methods, on the instance and on the class, above and below the decorator."""

    class Client:
        get = decorator(method)
        static = staticmethod(decorator(function))
        static_below = decorator(staticmethod(function))
        named = classmethod(decorator(method))
        named_below = decorator(classmethod(method))

    class Child(Client):
        def get(self, x: int) -> Any:
            return super().get(10 * x)

    client, child = Client(), Child()
    assert value(client.get(1)) == value(Client.get(client, 1)) == (client, 1)
    assert value(child.get(1)) == (child, 10)
    for owner in (client, Client):
        assert value(owner.static(2)) == value(owner.static_below(2)) == (None, 2)
        assert value(owner.named(3)) == value(owner.named_below(3)) == (Client, 3)
    assert value(Child.named(4)) == value(Child.named_below(4)) == (Child, 4)


async def held(a: int, b: int = 1) -> AsyncIterator[int]:
    """Holds."""
    yield a + b


@pytest.mark.parametrize(
    ("decorator", "original"),
    [
        (bridge.coroutine, add.__wrapped__),
        (bridge.iterator, count.__wrapped__),
        (bridge.generator, echo.__wrapped__),
        (bridge.contextmanager, held),
    ],
    ids=["coroutine", "iterator", "generator", "contextmanager"],
)
def test_tools_see_a_plain_function(decorator: Callable[[Any], Any], original: Any) -> None:
    """Name, module, docstring and signature are the original's; it is no coroutine function any more."""
    function = decorator(original)
    assert inspect.isfunction(function)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__annotations__"):
        assert getattr(function, name) == getattr(original, name)
    assert function.__doc__ in ("Adds.", "Counts.", "Echoes.", "Holds.")
    assert inspect.signature(function) == inspect.signature(original)
    assert inspect.getsource(function) == inspect.getsource(original)
    assert not inspect.iscoroutinefunction(function)
    assert not inspect.isasyncgenfunction(function)


@pytest.mark.parametrize("function", [add, count, echo, hold])
def test_it_pickles_by_reference(function: Any) -> None:
    """The same object comes back."""
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("function", [add, count, echo, hold])
def test_a_missing_argument_is_the_functions_own_error(function: Any) -> None:
    """At the call, as if the function were called directly."""
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'a'"):
        function()


@pytest.mark.parametrize(
    ("function", "cls"),
    [
        (add, syncline.DualCoroutine),
        (count, syncline.DualIterator),
        (echo, syncline.DualGenerator),
        (hold, syncline.DualContextManager),
    ],
)
def test_it_returns_an_object_of_its_class(function: Any, cls: type) -> None:
    """Which `iterate` and `enter` return too."""
    made = function(1, b=3)
    assert isinstance(made, cls)
    assert value(made) in (1, 4)
    assert isinstance(syncline.iterate(count.__wrapped__(1)), syncline.DualIterator)
    assert isinstance(syncline.enter(asyncio.Lock()), syncline.DualContextManager)


def test_functions_that_only_behave_like_functions_work() -> None:
    """Partials, callable objects and bound methods."""

    class Adder:
        async def __call__(self, x: int) -> int:
            return x

        async def agen(self, x: int) -> AsyncIterator[int]:
            yield x

    assert bridge.coroutine(functools.partial(add.__wrapped__, 1))(2).run() == 3
    assert bridge.coroutine(Adder())(5).run() == 5
    assert list(bridge.iterator(Adder().agen)(6)) == [6]
