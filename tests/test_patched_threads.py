"""Processes in which gevent or eventlet has put greenlets in the place of threads (cases 12, 13).

What the library has patched holds for the whole process, so each test is one of its own.
"""

from __future__ import annotations

import textwrap

import pytest

from child import run_script

# What the refused calls get. Nothing is left behind: no coroutine un-awaited, no runner half started.
REFUSED = """
import asyncio
import gc
import threading

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

GEVENT = """
from gevent import monkey
monkey.patch_all(%s)
import gevent
"""

EVENTLET = """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import eventlet
    import eventlet.tpool
    eventlet.monkey_patch(%s)
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


def test_a_process_with_gevents_threads_is_told_how_to_patch() -> None:
    """patch_all() as it is makes greenlets of threads: a call says so at once, and what to do, and does not hang."""
    pytest.importorskip("gevent")
    script = GEVENT % "" + "EXPECTED = 'patch_all(thread=False, queue=False, select=False)'" + REFUSED
    finished = run_script(script, flags=("-W", "error"))
    finished.assert_clean()
    assert "gevent has patched threading and queue and select" in finished.out
    assert "threadpool.apply(" in finished.out


def test_a_process_with_eventlets_threads_is_told_how_to_patch() -> None:
    """The same for eventlet."""
    pytest.importorskip("eventlet", exc_type=ImportError)
    script = EVENTLET % "" + "EXPECTED = 'monkey_patch(thread=False, select=False)'" + REFUSED
    finished = run_script(script, flags=("-W", "error"))
    finished.assert_clean()
    assert "eventlet has patched thread and select" in finished.out
    assert "tpool.execute(" in finished.out


def test_a_partly_patched_process_is_told_what_is_in_the_way() -> None:
    """Without gevent's queue the loop's executor works, with it not."""
    pytest.importorskip("gevent")
    script = GEVENT % "thread=False, select=False" + "EXPECTED = 'gevent has patched queue,'" + REFUSED
    run_script(script, flags=("-W", "error")).assert_clean()


def test_greenlets_of_gevent_go_on_while_a_call_waits_in_its_thread_pool() -> None:
    """What the message says works, with sockets patched: in all scopes, and with the loop's own executor."""
    pytest.importorskip("gevent")
    names = """
    def in_thread(fn, *args):
        return gevent.get_hub().threadpool.apply(fn, args)

    def join(greenlet):
        return greenlet.get(timeout=20)

    spawn = gevent.spawn
    """
    patched = GEVENT % "thread=False, queue=False, select=False"
    finished = run_script(patched + textwrap.dedent(names) + RECIPE, flags=("-W", "error"))
    finished.assert_clean()
    assert finished.lines == ["done"]


def test_greenlets_of_eventlet_go_on_while_a_call_waits_in_its_thread_pool() -> None:
    """The same for eventlet."""
    pytest.importorskip("eventlet", exc_type=ImportError)
    names = """
    in_thread = eventlet.tpool.execute
    spawn = eventlet.spawn

    def join(greenlet):
        return greenlet.wait()
    """
    patched = EVENTLET % "thread=False, select=False"
    finished = run_script(patched + textwrap.dedent(names) + RECIPE, flags=("-W", "error"))
    finished.assert_clean()
    assert finished.lines == ["done"]
