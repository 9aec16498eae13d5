"""`aiterate` and `aenter`: what sync code raises in its thread when its task has gone on without it is logged, as for
`to_thread`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

import syncline
from child import eventually
from neutral import entered, items_of

Run = Callable[[Callable[[], Any]], Any]
LIMIT = 20
prefetches = pytest.mark.parametrize("prefetch", [0, 1, 4])


class Blocked:
    """Where sync code waits until the test lets it go on, and then raises."""

    def __init__(self) -> None:
        self.is_there, self.may_go_on = threading.Event(), threading.Event()

    def fail(self) -> None:
        self.is_there.set()
        assert self.may_go_on.wait(LIMIT)
        raise LookupError("the user's")

    async def cancel_there(self, uses: Callable[[], Any]) -> None:
        """Cancels the task that uses it while the thread is in `fail`, and lets that raise when the task has gone."""
        async with anyio.create_task_group() as group:
            group.start_soon(uses)
            while not self.is_there.is_set():
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
        self.may_go_on.set()


def failing_step(blocked: Blocked) -> Iterator[int]:
    blocked.fail()
    yield 1


def failing_end(blocked: Blocked) -> Iterator[int]:
    """Cancelled in a step, it fails as it is closed."""
    try:
        blocked.is_there.set()
        assert blocked.may_go_on.wait(LIMIT)
        yield 1
    finally:
        blocked.fail()


@contextmanager
def failing_enter(blocked: Blocked) -> Iterator[None]:
    blocked.fail()
    yield


@contextmanager
def failing_exit(blocked: Blocked) -> Iterator[None]:
    yield
    blocked.fail()


WAYS: dict[str, Callable[[Blocked], Any]] = {
    "a step": lambda blocked: items_of(syncline.aiterate(failing_step(blocked))),
    "a step with prefetch": lambda blocked: items_of(syncline.aiterate(failing_step(blocked), prefetch=2)),
    "the end of a generator": lambda blocked: items_of(syncline.aiterate(failing_end(blocked))),
    "a threaded generator": lambda blocked: items_of(syncline.threaded(failing_step)(blocked)),
    "an entry": lambda blocked: entered(syncline.aenter(failing_enter(blocked))),
    "an exit": lambda blocked: entered(syncline.aenter(failing_exit(blocked))),
    "to_thread": lambda blocked: syncline.to_thread(blocked.fail),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_error_that_comes_after_its_task_was_cancelled_is_logged(
    anywhere: Run, logged_errors: Callable[[], list[str]], way: Callable[[Blocked], Any]
) -> None:
    """Once."""
    blocked = Blocked()

    async def main() -> None:
        await blocked.cancel_there(lambda: way(blocked))

    anywhere(main)
    assert eventually(lambda: logged_errors() == ["the user's"])


@prefetches
def test_an_error_of_a_generator_that_nobody_holds_any_more_is_logged(
    anywhere: Run, logged_errors: Callable[[], list[str]], prefetch: int
) -> None:
    """It is closed in its thread."""

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise LookupError("the user's")

    async def main() -> None:
        assert await anext(syncline.aiterate(items(), prefetch=prefetch)) == 1

    anywhere(main)
    assert eventually(lambda: logged_errors() == ["the user's"])


def test_an_error_of_an_item_that_nobody_has_asked_for_is_dropped_with_the_items(
    anywhere: Run, logged_errors: Callable[[], list[str]]
) -> None:
    """Fetched ahead, and never reached; its thread has nothing left to do when the test looks."""
    has_failed = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        has_failed.set()
        raise LookupError("the user's")

    async def main() -> None:
        async with syncline.Worker() as worker:
            steps = syncline.aiterate(items(), prefetch=4, worker=worker)
            assert await anext(steps) == 1
            while not has_failed.is_set():
                await anyio.sleep(0.001)
            del steps
            await worker.to_thread(int)  # after all that the iterator has left to be done

    anywhere(main)
    assert not logged_errors()


def test_what_asks_whether_it_is_still_wanted_ends_without_a_word(
    anywhere: Run, logged_errors: Callable[[], list[str]]
) -> None:
    """`check_cancelled` raises in the step, and that is what the task was told as well."""
    blocked, raised = Blocked(), []

    def items() -> Iterator[int]:
        blocked.is_there.set()
        assert blocked.may_go_on.wait(LIMIT)
        try:
            syncline.check_cancelled()
        except BaseException as error:
            raised.append(error)
            raise
        yield 1

    async def main() -> None:
        async with syncline.Worker() as worker:
            await blocked.cancel_there(lambda: items_of(syncline.aiterate(items(), worker=worker)))
            await worker.to_thread(int)

    anywhere(main)
    assert len(raised) == 1
    assert not logged_errors()
