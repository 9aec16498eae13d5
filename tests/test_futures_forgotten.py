"""An error of `submit` that nobody asks for is logged, once, as asyncio does it for tasks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import syncline
from child import DEV, eventually, run_script
from neutral import with_asyncio

Future = concurrent.futures.Future[Any]


class Lost(Exception):  # noqa: N818 -- an error that gets lost
    pass


async def fails() -> None:
    await asyncio.sleep(0)
    raise Lost


def ended(bridge: syncline.Bridge) -> Future:
    """The future of a call that failed, which nobody has asked yet."""
    future = bridge.submit(fails)
    assert not concurrent.futures.wait([future], 10).not_done
    return future


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged of it, once the last reference is surely gone: the loop's thread may have had it."""
    gc.collect()
    return [record for record in caplog.records if record.name == "syncline"]


@with_asyncio
def test_an_error_that_nobody_asks_for_is_logged_once(
    each_bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """When the future goes, with the coroutine's traceback; in each scope, and on uvloop."""
    future = ended(each_bridge)
    assert logged(caplog) == []
    gone = weakref.ref(future)
    del future
    assert eventually(lambda: gone() is None and bool(logged(caplog)))
    (record,) = logged(caplog)
    assert "never retrieved" in record.getMessage()
    assert record.exc_info
    assert record.exc_info[0] is Lost
    assert "in fails" in caplog.text


@with_asyncio
def test_it_is_logged_where_the_future_was_dropped_at_once(
    each_bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """Fire and forget."""
    # Order forced: the call ends after the caller has let go of its future.
    go = threading.Event()

    async def later() -> None:
        while not go.is_set():
            await asyncio.sleep(0)
        raise Lost

    each_bridge.submit(later)
    go.set()
    assert eventually(lambda: bool(logged(caplog)))
    assert len(logged(caplog)) == 1


def ask_result(future: Future) -> None:
    with pytest.raises(Lost):
        future.result()


def ask_in_a_loop(future: Future) -> None:
    async def main() -> None:
        with pytest.raises(Lost):
            await asyncio.wrap_future(future)

    asyncio.run(main())


ASKING: dict[str, Callable[[Future], Any]] = {
    "result": ask_result,
    "exception": lambda future: future.exception(),
    "as_completed": lambda future: [each.exception() for each in concurrent.futures.as_completed([future])],
    "a callback": lambda future: future.add_done_callback(lambda done: done.exception()),
    "wrap_future": ask_in_a_loop,
}


@with_asyncio
@pytest.mark.parametrize("way", ASKING)
def test_an_error_that_somebody_asked_for_is_not_logged(
    way: str, each_bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """In every way in which a future can be asked."""
    future = ended(each_bridge)
    ASKING[way](future)
    gone = weakref.ref(future)
    del future
    assert eventually(lambda: gc.collect() >= 0 and gone() is None)
    assert logged(caplog) == []


@with_asyncio
def test_a_wait_that_ran_out_has_not_asked(
    each_bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """TimeoutError is of the wait; the error comes later."""
    go = threading.Event()

    async def later() -> None:
        while not go.is_set():
            await asyncio.sleep(0)
        raise Lost

    future = each_bridge.submit(later)
    with pytest.raises(TimeoutError):
        future.result(0)
    go.set()
    assert not concurrent.futures.wait([future], 10).not_done
    del future
    assert eventually(lambda: bool(logged(caplog)))


def test_results_cancelled_calls_and_closed_bridges_are_no_errors(
    make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged of them."""
    for scope in ("process", "thread", "caller"):
        bridge = make_bridge(scope=scope)
        assert not concurrent.futures.wait([bridge.submit(asyncio.sleep, 0)], 10).not_done
        bridge.submit(asyncio.sleep, 60).cancel()
        bridge.submit(asyncio.sleep, 60)
        bridge.close()
    assert logged(caplog) == []


def test_what_the_exit_cuts_short_is_not_logged() -> None:
    """Nothing is printed of a call that nobody waits for."""
    script = """
        import asyncio, syncline
        future = syncline.submit(asyncio.sleep, 60)
        syncline.submit(asyncio.sleep, 60)
    """
    run_script(script, flags=DEV).assert_clean()


def test_a_call_that_another_bridge_refuses_at_exit_is_not_logged() -> None:
    """A submitted task uses a second bridge, which the exit closes, too; whichever is closed first."""
    # The task calls the other bridge all the time: so it does when the exit comes.
    script = """
        import asyncio, syncline
        one, two = syncline.Bridge(name="one"), syncline.Bridge(name="two")

        async def calls_two():
            while True:
                two.run_sync(asyncio.sleep, 0.0001)
                await asyncio.sleep(0)

        future = one.submit(calls_two)
        one.run_sync(asyncio.sleep, 0.05)
    """
    for _ in range(3):
        run_script(script, flags=DEV).assert_clean()
