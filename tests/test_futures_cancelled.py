"""Futures of `submit` that were cancelled: `wait` and `as_completed` are told, and what cleanup raises is logged."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

import syncline
from child import eventually
from hosts import KINDS, hosted
from neutral import CANCELLED, cleanup, sleep_forever

LIMIT = 20
Future = concurrent.futures.Future[Any]


def waits(future: Future) -> set[Future]:
    return concurrent.futures.wait([future], LIMIT).done


def completes(future: Future) -> set[Future]:
    return {*concurrent.futures.as_completed([future], LIMIT)}


def fails_first(future: Future) -> set[Future]:
    done = concurrent.futures.wait([future], LIMIT, concurrent.futures.FIRST_COMPLETED).done
    return {*done}


ways = pytest.mark.parametrize("way", [waits, completes, fails_first])


class Held:
    """A coroutine that waits to be cancelled, and cleans up."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = threading.Event()
        self.has_cleaned_up = False
        self._error = error

    async def wait(self) -> None:
        self.begun.set()
        try:
            await sleep_forever()
        except CANCELLED:
            await cleanup()
            self.has_cleaned_up = True
            if self._error is not None:
                raise self._error from None
            raise


@ways
def test_a_future_that_was_cancelled_is_done_when_its_coroutine_is(
    each_bridge: syncline.Bridge, way: Callable[[Future], set[Future]]
) -> None:
    """It has cleaned up by then."""
    held = Held()
    future = each_bridge.submit(held.wait)
    assert held.begun.wait(LIMIT)
    assert future.cancel()
    assert way(future) == {future}
    assert held.has_cleaned_up
    assert waits(future) == {future}  # a second one finds it so


@ways
def test_who_waits_already_is_told_of_the_cancellation(
    each_bridge: syncline.Bridge, way: Callable[[Future], set[Future]]
) -> None:
    """The future is cancelled on its loop, while a thread waits for it."""
    held = Held()
    future = each_bridge.submit(held.wait)
    assert held.begun.wait(LIMIT)

    async def cancel() -> None:
        assert future.cancel()

    each_bridge.submit(cancel)
    assert way(future) == {future}


@ways
def test_a_future_that_was_cancelled_before_its_call_began_is_done(
    each_bridge: syncline.Bridge, way: Callable[[Future], set[Future]]
) -> None:
    """Something blocks the loop meanwhile."""
    blocks, go_on, held = threading.Event(), threading.Event(), Held()

    async def block() -> None:
        blocks.set()
        assert go_on.wait(LIMIT)

    each_bridge.submit(block)
    assert blocks.wait(LIMIT)
    future = each_bridge.submit(held.wait)
    assert future.cancel()
    go_on.set()
    assert way(future) == {future}
    assert not held.begun.is_set()


@ways
def test_a_future_that_was_cancelled_is_done_when_its_bridge_closes(
    make_bridge: Callable[..., syncline.Bridge], way: Callable[[Future], set[Future]]
) -> None:
    """Its coroutine refuses to end."""
    begun = threading.Event()

    async def refuse() -> None:
        begun.set()
        while True:
            with contextlib.suppress(*CANCELLED):
                await sleep_forever()

    bridge = make_bridge(cleanup_timeout=0.1)
    future = bridge.submit(refuse)
    assert begun.wait(LIMIT)
    assert future.cancel()
    bridge.close()
    assert way(future) == {future}


@pytest.mark.parametrize("kind", KINDS)
def test_a_future_that_was_cancelled_is_done_on_a_loop_of_somebody_elses(kind: str) -> None:
    held = Held()
    with hosted(kind) as host:
        bridge = syncline.Bridge(loop=host.loop)
        future = bridge.submit(held.wait)
        assert held.begun.wait(LIMIT)
        assert future.cancel()
        assert waits(future) == {future}
        bridge.close()


def test_what_cleanup_raises_after_its_future_was_cancelled_is_logged(
    each_bridge: syncline.Bridge, logged_errors: Callable[[], list[str]]
) -> None:
    """Nobody can get it by the future."""
    held = Held(OSError("cleanup"))
    future = each_bridge.submit(held.wait)
    assert held.begun.wait(LIMIT)
    assert future.cancel()
    assert waits(future) == {future}
    assert eventually(lambda: logged_errors() == ["cleanup"])
