"""Processes in which gevent or eventlet has put greenlets in the place of threads (cases 12, 13).

What the library has patched holds for the whole process, so each test is one of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from child import run_script

# What the refused calls get. Nothing is left behind: no coroutine un-awaited, no runner half started.
REFUSED = """
import asyncio
import gc

import syncline


async def nothing():
    pass


async def uses_worker():
    await syncline.to_thread(print, "not reached")


ways = [
    lambda: syncline.run_sync(nothing),
    lambda: syncline.run(nothing()),
    lambda: syncline.submit(nothing).result(),
    lambda: list(syncline.iterate(numbers())),
    lambda: asyncio.run(uses_worker()),
]


async def numbers():
    yield 1


for scope in "process", "thread":
    bridge = syncline.Bridge(scope=scope)
    ways.append(lambda bridge=bridge: bridge.run_sync(nothing))
for way in ways:
    try:
        way()
    except RuntimeError as error:
        message = str(error)
        assert EXPECTED in message, message
    else:
        raise AssertionError("that can't have worked")
gc.collect()
print(message)
"""

# The threads are real: while a call waits in one of gevent's own, the greenlets of the calling thread go on.
RECIPE = """
import asyncio
import threading

import syncline

main = threading.get_native_id()


async def asks_for_an_address():
    loop = asyncio.get_running_loop()
    assert await loop.getaddrinfo("localhost", 80)  # in a thread of the loop's executor
    return threading.get_native_id()


async def waits_for(event):
    await asyncio.to_thread(event.wait)
    return "told"


for scope in "process", "thread", "caller":
    with syncline.Bridge(scope=scope) as bridge:
        assert (bridge.run_sync(asks_for_an_address) == main) == (scope == "caller")
        event = threading.Event()
        # In the order that is forced here, the call waits before the greenlet is begun that ends its wait.
        waiting = spawn(lambda: in_thread(bridge.run_sync, waits_for, event))
        spawn(event.set)
        assert join(waiting) == "told"
print("done")
"""


class Library(NamedTuple):
    """One that patches, and what there is to be said of it."""

    name: str
    patching: str
    """A script that patches all, but for what its argument says."""
    needed: str
    """The arguments with which calls work."""
    call: str
    """The name of what has these arguments."""
    refusal: str
    """How the message begins where everything is patched."""
    pool: str
    """Where the message says that calls are to be made."""
    greenlets: str
    """A script with the names that `RECIPE` uses."""


GEVENT = Library(
    name="gevent",
    patching="""
from gevent import monkey
monkey.patch_all(%s)
import gevent
""",
    needed="thread=False, queue=False, select=False",
    call="patch_all",
    refusal="gevent has patched threading and queue and select",
    pool="threadpool.apply(",
    greenlets="""
def in_thread(fn, *args):
    return gevent.get_hub().threadpool.apply(fn, args)

def join(greenlet):
    return greenlet.get(timeout=20)

spawn = gevent.spawn
""",
)
EVENTLET = Library(
    name="eventlet",
    patching="""
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import eventlet
    import eventlet.tpool
    eventlet.monkey_patch(%s)
""",
    needed="thread=False, select=False",
    call="monkey_patch",
    refusal="eventlet has patched thread and select",
    pool="tpool.execute(",
    greenlets="""
in_thread = eventlet.tpool.execute
spawn = eventlet.spawn

def join(greenlet):
    return greenlet.wait()
""",
)
libraries = pytest.mark.parametrize("library", [GEVENT, EVENTLET], ids=["gevent", "eventlet"])


@libraries
def test_a_process_with_greenlets_for_threads_is_told_how_to_patch(library: Library) -> None:
    """A call says so at once, and what to do, and does not hang."""
    pytest.importorskip(library.name, exc_type=ImportError)
    script = library.patching % "" + f"EXPECTED = '{library.call}({library.needed})'" + REFUSED
    finished = run_script(script, flags=("-W", "error"))
    finished.assert_clean()
    assert library.refusal in finished.out
    assert library.pool in finished.out


def test_a_partly_patched_process_is_told_what_is_in_the_way() -> None:
    """Without gevent's queue the loop's executor works, with it not."""
    pytest.importorskip("gevent")
    script = (
        GEVENT.patching % "thread=False, select=False" + "EXPECTED = 'gevent has patched queue,'" + REFUSED
    )
    run_script(script, flags=("-W", "error")).assert_clean()


@libraries
def test_greenlets_go_on_while_a_call_waits_in_the_librarys_thread_pool(library: Library) -> None:
    """What the message says works, with sockets patched: in all scopes, and with the loop's own executor."""
    pytest.importorskip(library.name, exc_type=ImportError)
    script = library.patching % library.needed + library.greenlets + RECIPE
    finished = run_script(script, flags=("-W", "error"))
    finished.assert_clean()
    assert finished.lines == ["done"]
