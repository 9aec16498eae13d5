"""Every example in AnySync's documents does what is printed there, with nothing but the imports changed.

That includes those that end in an error, and those that compare AnySync with asyncio.run and with Prefect.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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

ASYNCIO_RUN = """\
import asyncio


async def f():
    return 42


async def test_async():
    assert asyncio.run(f()) == 42


asyncio.run(test_async())
"""

PREFECT_IN_SYNC_CODE = """\
from prefect.utilities.asyncutils import sync_compatible


@sync_compatible
async def request():
    return "hello"


def work():
    response = request()
    return response.upper()


def test_sync():
    assert work() == "HELLO"


test_sync()
"""

PREFECT_IN_ASYNC_CODE = """

import asyncio


async def test_async():
    assert work() == "HELLO"  # AttributeError: 'coroutine' object has no attribute 'upper'


asyncio.run(test_async())
"""

IMPORTS = {
    r"^import anysync$": "from syncline.compat import anysync",
    r"^from anysync import": "from syncline.compat.anysync import",
    r"^from prefect.utilities.asyncutils import": "from syncline.compat.prefect import",
}


def run_example(example: str, flags: Sequence[str] = ("-W", "error")) -> Finished:
    """Run it in a fresh interpreter, with its one import changed and warnings as errors."""
    count = 0
    for theirs, ours in IMPORTS.items():
        example, changed = re.subn(theirs, ours, example, flags=re.MULTILINE)
        count += changed
    assert count == 1
    return run_script(example, flags=flags)


@pytest.mark.parametrize(
    "example",
    [
        *(
            FIRST,
            COROUTINES,
            ITERATORS,
            GENERATORS,
            CONTEXT_MANAGERS,
            SUBCLASS,
            IN_A_LOOP,
            ONE_THREAD,
            THREE_THREADS,
        ),
        PREFECT_IN_SYNC_CODE,
    ],
    ids=[
        *(
            "first",
            "coroutines",
            "iterators",
            "generators",
            "contextmanagers",
            "subclass",
            "in a loop",
            "one thread",
        ),
        *("three threads", "prefect"),
    ],
)
def test_the_examples_run_as_printed(example: str) -> None:
    """Their asserts hold, the numbers of threads included."""
    run_example(example).assert_clean()


def test_contextvars_do_not_propagate() -> None:
    """ "Given this, the following is not supported": its last line is the AssertionError that its comment says."""
    finished = run_example(CONTEXTVARS)
    assert finished.status == 1
    assert finished.err.splitlines()[-1] == "AssertionError"
    assert "assert var.get() == 42" in finished.err


def test_asyncio_run_can_not_do_it() -> None:
    """ "The following code will raise a RuntimeError": what ours is compared with."""
    finished = run_script(ASYNCIO_RUN, flags=("-W", "ignore"))
    assert finished.status == 1
    assert finished.err.splitlines()[-1].startswith("RuntimeError: asyncio.run() cannot be called")


def test_automatic_detection_gives_async_code_a_coroutine() -> None:
    """ "If we now call work() from an async context, the behavior changes": it fails as the comment says."""
    # Python itself warns of the coroutine that nobody awaits. Ours warns in the log only.
    flags = ("-W", "error", "-W", "ignore:coroutine 'request' was never awaited")
    finished = run_example(PREFECT_IN_SYNC_CODE + PREFECT_IN_ASYNC_CODE, flags=flags)
    assert finished.status == 1
    assert finished.err.splitlines()[-1] == "AttributeError: 'coroutine' object has no attribute 'upper'"
