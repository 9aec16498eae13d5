"""Every example in AnySync's documents runs against `syncline.compat.anysync`, with nothing but the import changed.

What doesn't use AnySync (asyncio.run, Prefect) is left out. Where the documents show what AnySync can't do, or the
number of threads it starts, ours differs; those two examples have tests that say how.
"""

from __future__ import annotations

import re

import pytest

from child import Finished, run_script

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
