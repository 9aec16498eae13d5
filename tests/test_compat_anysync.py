"""Every example in AnySync's documents runs against `syncline.compat.anysync`, with nothing but the import changed.

What doesn't use AnySync (asyncio.run, Prefect) is left out. Where the documents show what AnySync can't do, or the
number of threads it starts, ours differs; those two examples have tests that say how.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from typing import Any

import pytest

from child import Finished, run_script
from syncline.compat import anysync

FIRST = """\
import asyncio

from anysync import anysync


@anysync
async def f():
    return 42


assert f().run() == 42


async def main():
    assert await f() == 42


asyncio.run(main())
"""

COROUTINES = """\
import anysync


@anysync.coroutine
async def f():
    return 42


assert f().run() == 42
"""

ITERATORS = """\
import anysync


@anysync.iterator
async def gen():
    yield 1
    yield 2
    yield 3


assert list(gen()) == [1, 2, 3]
"""

GENERATORS = """\
import anysync


@anysync.generator
async def gen():
    value = yield 1
    yield value


g = gen()
assert next(g) == 1
assert g.send(42) == 42
"""

CONTEXT_MANAGERS = """\
import anysync


@anysync.contextmanager
async def cm():
    yield 42


with cm() as x:
    assert x == 42
"""

SUBCLASS = """\
from anysync import AnySyncContextManager


class CM(AnySyncContextManager):
    async def __aenter__(self):
        return 42

    async def __aexit__(self, exc_type, exc, tb):
        pass


with CM() as x:
    assert x == 42
"""

IN_A_LOOP = """\
import asyncio

from anysync import anysync


@anysync
async def f():
    return 42


async def test_async():
    assert f().run() == 42


asyncio.run(test_async())
"""

ONE_THREAD = """\
from threading import current_thread

import anysync

threads = set()


@anysync.coroutine
async def f():
    threads.add(current_thread())  # runs in the main thread
    return g().run()


@anysync.coroutine
async def g():
    threads.add(current_thread())  # runs in anysync's global background thread
    return 42


f().run()
f().run()

main_thread = current_thread()
assert len(threads - {main_thread}) == 1
"""

THREE_THREADS = """\
from threading import current_thread

import anysync

threads = set()


@anysync.coroutine
async def f():
    threads.add(current_thread())  # runs in the main thread
    return g().run()


@anysync.coroutine
async def g():
    threads.add(current_thread())  # runs in anysync's global background thread
    return h().run()


@anysync.coroutine
async def h():
    threads.add(current_thread())  # runs in a new thread each time
    return 42


f().run()
f().run()

main_thread = current_thread()
assert len(threads - {main_thread}) == 3
"""

CONTEXTVARS = """\
from contextvars import ContextVar

from anysync import anysync

var = ContextVar("var", default=0)


@anysync
async def f():
    var.set(42)


f().run()
assert var.get() == 42  # AssertionError: 0 != 42
"""

IMPORT = re.compile(r"^(?:import anysync|from anysync import (\w+))$", re.MULTILINE)


def run_example(example: str) -> Finished:
    """Run it in a fresh interpreter, with its one import changed and warnings as errors."""

    def ours(match: re.Match[str]) -> str:
        if match[1]:
            return f"from syncline.compat.anysync import {match[1]}"
        return "from syncline.compat import anysync"

    changed, count = IMPORT.subn(ours, example)
    assert count == 1
    return run_script(changed, flags=("-W", "error"))


@pytest.mark.parametrize(
    "example",
    [
        FIRST, COROUTINES, ITERATORS, GENERATORS, CONTEXT_MANAGERS, SUBCLASS, IN_A_LOOP, ONE_THREAD, CONTEXTVARS,
    ],
    ids=[
        "first", "coroutines", "iterators", "generators", "contextmanagers", "subclass", "in a loop", "one thread",
        "contextvars",
    ],
)  # fmt: skip
def test_the_examples_run_as_printed(example: str) -> None:
    """Also the one about contextvars, whose last line AnySync says is an AssertionError: ours come back."""
    run_example(example).assert_clean()


def test_where_the_documents_count_three_threads_we_start_two() -> None:
    """A level that was reached once is kept and reached again without a new thread."""
    example, changed = re.subn(r"^assert (len\(.*\)) == 3$", r"print(\1)", THREE_THREADS, flags=re.MULTILINE)
    assert changed == 1
    finished = run_example(example)
    finished.assert_clean()
    assert finished.lines == ["2"]


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
