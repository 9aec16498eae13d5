"""aiterate, aenter and threaded generator functions: sync iterables and managers in async code."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import syncline
from child import eventually

Run = Callable[[Callable[[], Any]], Any]
here = threading.get_ident
variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
LIMIT = 20
prefetches = pytest.mark.parametrize("prefetch", [0, 1, 4])


class Rows:
    """A generator that tells where its steps are made, and that it was closed."""

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.closed = threading.Event()
        self.closed_in = 0
        self.fetched = 0

    def __call__(self, count: int) -> Iterator[int]:
        try:
            for number in range(count):
                self.threads.append(here())
                self.fetched += 1
                yield number
        finally:
            self.closed_in = here()
            self.closed.set()

    def assert_one_thread(self) -> None:
        assert self.closed.wait(LIMIT)
        assert {*self.threads, self.closed_in} == {self.threads[0]} != {here()}


@prefetches
def test_all_steps_are_made_in_one_thread(anywhere: Run, prefetch: int) -> None:
    """In order, and none is lost; the thread is gone afterwards."""
    rows = Rows()

    async def main() -> None:
        seen = [number async for number in syncline.aiterate(rows(100), prefetch=prefetch)]
        assert seen == list(range(100))

    anywhere(main)
    rows.assert_one_thread()
    assert eventually(lambda: rows.closed_in not in [thread.ident for thread in threading.enumerate()])


def test_all_steps_see_one_context(anywhere: Run) -> None:
    """A copy of that of the task which takes the first item; what a step sets the next one sees, the task doesn't."""

    def steps() -> Iterator[int]:
        for _ in range(3):
            variable.set(variable.get() + 1)
            yield variable.get()

    async def main() -> None:
        variable.set(10)
        assert [value async for value in syncline.aiterate(steps())] == [11, 12, 13]
        assert variable.get() == 10

    anywhere(main)


@pytest.mark.parametrize("prefetch", [0, 3])
def test_no_more_is_fetched_ahead_than_allowed(anywhere: Run, prefetch: int) -> None:
    """0 is nothing: a step is made when its item is asked for."""
    rows = Rows()

    async def main() -> None:
        steps = syncline.aiterate(rows(100), prefetch=prefetch)
        assert await anext(steps) == 0
        if prefetch:
            with anyio.fail_after(LIMIT):
                while rows.fetched < prefetch:
                    await anyio.sleep(0.001)
        for _ in range(20):
            await anyio.sleep(0.001)
        # The item that was taken may have lain among them when they were fetched.
        assert max(1, prefetch) <= rows.fetched <= 1 + prefetch
        await steps.aclose()

    anywhere(main)
    rows.assert_one_thread()


def test_an_item_does_not_wait_for_the_next_one(anywhere: Run) -> None:
    """With prefetch, too: a source that takes its time is taken from as it comes."""
    go_on = threading.Semaphore(1)

    def slow() -> Iterator[int]:
        for number in range(3):
            assert go_on.acquire(timeout=LIMIT)
            yield number

    async def main() -> None:
        seen = []
        async for number in syncline.aiterate(slow(), prefetch=8):
            seen.append(number)
            go_on.release()
        assert seen == [0, 1, 2]

    anywhere(main)


@prefetches
def test_an_error_comes_after_the_items_before_it_and_is_the_same_object(
    anywhere: Run, prefetch: int
) -> None:
    """Then the iteration is over."""
    error = LookupError("gone")

    def fails() -> Iterator[int]:
        yield 1
        yield 2
        raise error

    async def main() -> None:
        seen = []
        steps = syncline.aiterate(fails(), prefetch=prefetch)

        async def take_all() -> None:
            async for number in steps:
                seen.append(number)

        with pytest.raises(LookupError) as caught:
            await take_all()
        assert caught.value is error
        assert seen == [1, 2]
        with pytest.raises(StopAsyncIteration):
            await anext(steps)

    anywhere(main)


@prefetches
def test_a_break_closes_the_generator(anywhere: Run, prefetch: int) -> None:
    """By its thread, though nobody waits for that."""
    rows = Rows()

    async def main() -> None:
        async for number in syncline.aiterate(rows(100), prefetch=prefetch):
            if number == 2:
                break
        gc.collect()
        with anyio.fail_after(LIMIT):
            while not rows.closed.is_set():
                await anyio.sleep(0.001)

    anywhere(main)
    rows.assert_one_thread()


@prefetches
def test_a_stop_async_iteration_is_an_error_and_no_end(anywhere: Run, prefetch: int) -> None:
    """It would end the `async for` as if there were no more items."""

    def stops() -> Iterator[int]:
        yield 1
        raise StopAsyncIteration("inner")

    async def main() -> None:
        steps = syncline.aiterate(stops(), prefetch=prefetch)
        assert await anext(steps) == 1
        with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
            await anext(steps)

    anywhere(main)


@prefetches
def test_aclosing_waits_for_the_close_and_raises_its_error(anywhere: Run, prefetch: int) -> None:
    """A second time it does nothing."""
    closed: list[int] = []

    def fails_to_close() -> Iterator[int]:
        try:
            while True:
                yield here()
        finally:
            closed.append(here())
            raise LookupError("could not be closed")

    async def main() -> None:
        steps = syncline.aiterate(fails_to_close(), prefetch=prefetch)
        with pytest.raises(LookupError, match="could not be closed"):
            async with aclosing(steps):
                closed.append(await anext(steps))
        assert closed[0] == closed[1]
        await steps.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(steps)

    anywhere(main)


@prefetches
def test_a_task_that_is_cancelled_in_a_step_closes_the_generator_after_that_step(
    anywhere: Run, prefetch: int
) -> None:
    """The step can't be broken off; nothing comes after it."""
    rows, go_on = Rows(), threading.Event()

    def blocks() -> Iterator[int]:
        for number in rows(10):
            yield number
            assert go_on.wait(LIMIT)

    async def main() -> None:
        steps = syncline.aiterate(blocks(), prefetch=prefetch)
        assert await anext(steps) == 0
        with anyio.move_on_after(0.05) as scope:
            await anext(steps)
        assert scope.cancelled_caught
        assert not rows.closed.is_set()
        go_on.set()
        with pytest.raises(StopAsyncIteration):
            await anext(steps)

    anywhere(main)
    rows.assert_one_thread()
    assert rows.fetched <= 2


def test_two_tasks_that_take_items_at_once_are_told(anywhere: Run) -> None:
    """As with an async generator."""
    go_on = threading.Event()

    def blocks() -> Iterator[int]:
        assert go_on.wait(LIMIT)
        yield 1

    async def main() -> None:
        steps = syncline.aiterate(blocks())
        seen: list[int] = []

        async def take() -> None:
            seen.append(await anext(steps))

        async with anyio.create_task_group() as group:
            group.start_soon(take)
            await anyio.sleep(0.05)
            with pytest.raises(RuntimeError, match="another task waits"):
                await anext(steps)
            with pytest.raises(RuntimeError, match="a task waits"):
                await steps.aclose()
            go_on.set()
        assert seen == [1]

    anywhere(main)


def test_a_file_that_is_iterated_over_stays_open(tmp_path: Path) -> None:
    """It is the user's, as in a sync loop; and so is a cursor."""
    (tmp_path / "lines").write_text("a\nb\nc\n")

    async def main() -> list[str]:
        with (tmp_path / "lines").open() as file:
            line = await anext(syncline.aiterate(file))
            await asyncio.sleep(0.05)
            return [line, *file]

    assert asyncio.run(main()) == ["a\n", "b\n", "c\n"]


def test_a_threaded_generator_function(anywhere: Run) -> None:
    """Also a method; each call is an iteration of its own."""

    class Store:
        def __init__(self, count: int) -> None:
            self.count = count

        @syncline.threaded
        def rows(self, *, step: int = 1) -> Iterator[tuple[int, int]]:
            """The rows."""
            for number in range(0, self.count, step):
                yield number, here()

    async def main() -> None:
        rows = [row async for row in Store(5).rows(step=2)]
        assert [number for number, _ in rows] == [0, 2, 4]
        assert len({thread for _, thread in rows} - {here()}) == 1
        assert Store.rows.__doc__ == "The rows."

    anywhere(main)


def test_a_limiter_limits_iterations(anywhere: Run) -> None:
    """A token for as long as one lasts; by default none is used."""
    limiter = syncline.ThreadLimiter(1)

    @syncline.threaded(limiter=limiter)
    def rows() -> Iterator[int]:
        yield from range(3)

    async def main() -> None:
        async with aclosing(rows()) as first:
            assert await anext(first) == 0
            assert limiter.borrowed_tokens == 1
            with anyio.move_on_after(0.05) as scope:
                await anext(rows())
            assert scope.cancelled_caught
        assert limiter.borrowed_tokens == 0
        assert [row async for row in rows()] == [0, 1, 2]
        assert limiter.borrowed_tokens == 0
        async for _ in syncline.aiterate([1]):
            assert syncline.thread_limiter().borrowed_tokens == 0

    anywhere(main)


def test_a_manager_is_entered_and_left_in_one_thread_and_context(anywhere: Run) -> None:
    """The error of the block is told to it, and it may swallow that one."""
    seen: list[Any] = []

    @contextmanager
    def manager() -> Iterator[int]:
        token = variable.set(1)
        try:
            yield here()
        except LookupError as error:
            seen.append(error)
        finally:
            variable.reset(token)
            seen.append(here())

    async def main() -> None:
        async with syncline.aenter(manager()) as thread:
            assert thread != here()
        assert seen == [thread]
        error = LookupError()
        async with syncline.aenter(manager()):
            raise error
        assert seen[1] is error
        with pytest.raises(ValueError, match="mine"):
            async with syncline.aenter(manager()):
                raise ValueError("mine")
        lock = threading.RLock()  # which belongs to the thread that takes it
        async with syncline.aenter(lock):
            assert not lock.acquire(blocking=False)
        assert lock.acquire(blocking=False)

    anywhere(main)


@pytest.mark.parametrize("moment", ["while it is entered", "while it is left"])
def test_a_manager_is_left_where_its_task_is_cancelled(anywhere: Run, moment: str) -> None:
    """Nobody waits for that, and its thread does it."""
    go_on, left = threading.Event(), threading.Event()

    @contextmanager
    def manager() -> Iterator[None]:
        if moment == "while it is entered":
            assert go_on.wait(LIMIT)
        try:
            yield
        finally:
            if moment == "while it is left":
                assert go_on.wait(LIMIT)
            left.set()

    async def main() -> None:
        with anyio.move_on_after(0.05) as scope:
            async with syncline.aenter(manager()):
                pass
        assert scope.cancelled_caught
        assert not left.is_set()
        go_on.set()

    anywhere(main)
    assert left.wait(LIMIT)


def test_a_worker_of_ones_own(anywhere: Run, tmp_path: Path) -> None:
    """sqlite3 checks the thread: connection, rows and transaction are used in one."""

    async def main() -> None:
        async with syncline.Worker() as worker:
            connection = await worker.to_thread(sqlite3.connect, tmp_path / "db")
            await worker.to_thread(connection.execute, "CREATE TABLE IF NOT EXISTS rows (value)")

            @syncline.threaded(limiter=worker)
            def add(value: int) -> None:
                connection.execute("INSERT INTO rows VALUES (?)", (value,))

            async with syncline.aenter(connection, worker=worker):
                for value in range(3):
                    await add(value)
            cursor = await worker.to_thread(connection.execute, "SELECT value FROM rows")
            assert [row async for row in syncline.aiterate(cursor, prefetch=2, worker=worker)] == [
                (0,),
                (1,),
                (2,),
            ]
            await worker.to_thread(connection.execute, "DELETE FROM rows")
            await worker.to_thread(connection.close)
            thread = await worker.to_thread(threading.current_thread)
            # Back to this loop, as in any worker.
            assert await worker.to_thread(syncline.from_thread, anyio.lowlevel.checkpoint) is None
        assert worker.closed
        with pytest.raises(RuntimeError, match="is closed"):
            await worker.to_thread(here)
        await anyio.to_thread.run_sync(thread.join, LIMIT)
        assert not thread.is_alive()

    anywhere(main)


def test_a_worker_does_one_thing_after_the_other(anywhere: Run) -> None:
    """Whoever asks; a call that its own function waits for can never begin, and says so."""
    running: list[int] = []

    def alone(number: int) -> None:
        running.append(number)
        assert running == [number]
        running.remove(number)

    async def main() -> None:
        with syncline.Worker() as worker:
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(worker.to_thread, alone, number)

            async def waits_for_itself() -> None:
                await worker.to_thread(alone, 1)

            with pytest.raises(syncline.DeadlockError):
                await worker.to_thread(syncline.from_thread, waits_for_itself)

    anywhere(main)


def test_what_a_closed_worker_was_asked_for_is_done() -> None:
    """Calls that queue when it is closed are made; then its thread ends."""
    go_on = threading.Event()

    async def main() -> None:
        worker = syncline.Worker()
        first = asyncio.create_task(worker.to_thread(go_on.wait, LIMIT))
        rest = [asyncio.create_task(worker.to_thread(str, number)) for number in range(3)]
        await asyncio.sleep(0.02)
        worker.close()
        go_on.set()
        assert await first
        assert await asyncio.gather(*rest) == ["0", "1", "2"]

    asyncio.run(main())


def test_a_worker_that_nobody_has_any_more_ends() -> None:
    """So does one that was never used, which has no thread."""
    worker = syncline.Worker()
    thread = asyncio.run(worker.to_thread(threading.current_thread))
    del worker
    syncline.Worker()
    gc.collect()
    assert eventually(lambda: not thread.is_alive())


def test_wrong_use_is_named() -> None:
    """And what to do instead."""

    async def asynchronous() -> Any:
        yield 1

    wrong: Any = syncline.aiterate
    with pytest.raises(TypeError, match="this async_generator is async: use `async for`"):
        wrong(asynchronous())
    with pytest.raises(TypeError, match=r"takes an iterable, not type; call it: aiterate\(Rows\(...\)\)"):
        wrong(Rows)
    with pytest.raises(TypeError, match="prefetch must be an int, not str"):
        wrong([], prefetch="1")
    with pytest.raises(ValueError, match="prefetch must be 0 or more"):
        wrong([], prefetch=-1)
    wrong = syncline.aenter
    with pytest.raises(TypeError, match="is async: use `async with`"):
        wrong(asyncio.Lock())
    with pytest.raises(TypeError, match=r"not the class 'Worker'; make one: aenter\(Worker\(...\)\)"):
        wrong(syncline.Worker)
    with pytest.raises(TypeError, match="not int"):
        wrong(1)
