"""The names of AnySync in `syncline.compat.anysync`: those that its documents' examples don't use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Any

import pytest

from syncline.compat import anysync


async def forty_two() -> int:
    await asyncio.sleep(0)
    return 42


async def count() -> AsyncIterator[int]:
    yield 1
    yield 2


async def echo() -> AsyncGenerator[int, int]:
    value = yield 1
    yield value


class Manager:
    async def __aenter__(self) -> int:
        return 42

    async def __aexit__(self, *_: object) -> None: ...


def in_a_loop(body: Any) -> Any:
    async def main() -> Any:
        return body()

    return asyncio.run(main())


places = pytest.mark.parametrize("inside", [lambda body: body(), in_a_loop], ids=["plain", "in a loop"])


@places
def test_run_and_the_wrap_functions_take_undecorated_objects(inside: Any) -> None:
    """Coroutines, iterators, generators and managers."""

    def body() -> None:
        assert anysync.run(forty_two()) == 42
        assert anysync.wrap_coroutine(forty_two()).run(timeout=30) == 42
        assert list(anysync.wrap_async_iterator(count())) == [1, 2]
        generator = anysync.wrap_async_generator(echo())
        assert (next(generator), generator.send(42)) == (1, 42)
        generator.close()
        with anysync.wrap_async_context_manager(Manager()) as value:
            assert value == 42

    inside(body)


def test_the_wrap_functions_return_what_is_wrapped_already() -> None:
    """The very object, of the class that the name says."""
    for wrap, made, cls in (
        (anysync.wrap_coroutine, anysync.coroutine(forty_two)(), anysync.AnySyncCoroutine),
        (anysync.wrap_async_iterator, anysync.iterator(count)(), anysync.AnySyncIterator),
        (anysync.wrap_async_generator, anysync.generator(echo)(), anysync.AnySyncGenerator),
        (anysync.wrap_async_context_manager, anysync.contextmanager(count)(), anysync.AnySyncContextManager),
    ):
        assert isinstance(made, cls)
        assert wrap(made) is made  # type: ignore[operator]
        if isinstance(made, anysync.AnySyncCoroutine):
            assert made.run() == 42


@places
def test_the_classes_can_be_subclassed(inside: Any) -> None:
    """As AnySync's, by defining the async methods only."""

    class Co(anysync.AnySyncCoroutine):  # type: ignore[type-arg]
        def __init__(self) -> None: ...

        def __await__(self) -> Generator[Any, Any, int]:
            return forty_two().__await__()

    class It(anysync.AnySyncIterator):  # type: ignore[type-arg]
        left = 2

        def __aiter__(self) -> It:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    class Gen(anysync.AnySyncGenerator):  # type: ignore[type-arg]
        def __aiter__(self) -> Gen:
            return self

        async def __anext__(self) -> int:
            return await self.asend(None)

        async def asend(self, value: int | None) -> int:
            return value or 0

        async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> int:
            raise val or typ

    def body() -> None:
        assert Co().run() == 42
        assert list(It()) == [1, 0]
        generator = Gen()
        assert (next(generator), generator.send(5)) == (0, 5)
        with pytest.raises(KeyError):
            generator.throw(KeyError("mine"))

    inside(body)


def test_anysync_is_the_coroutine_decorator() -> None:
    """Two names of one function."""
    assert anysync.anysync is anysync.coroutine


@places
def test_errors_are_not_wrapped_in_groups(inside: Any) -> None:
    """AnySync's `for` raises an ExceptionGroup; ours raises the error itself (case 35)."""

    @anysync.iterator
    async def fail() -> AsyncIterator[int]:
        yield 1
        raise ValueError("mine")

    def body() -> None:
        with pytest.raises(ValueError, match="mine"):
            list(fail())

    inside(body)


def test_a_timeout_holds_outside_of_a_loop_too() -> None:
    """AnySync ignores it there; ours cancels the coroutine (case 50)."""
    with pytest.raises(TimeoutError):
        anysync.wrap_coroutine(asyncio.sleep(3600)).run(timeout=0.02)
