"""`Bridge(in_async="home")`: `async for`, `async with` and `await` of any loop, with all steps on the bridge's loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

import syncline
from child import eventually
from neutral import cleanup, make_bridge_of, new_event, this_loop, this_task, turn
from places import in_thread
from remote_code import Anywhere, until

variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture(params=["process", "thread", "caller", "uvloop", "trio"])
def home(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """A bridge to whose loop async code's objects come."""
    with make_bridge_of(request.param, in_async="home") as bridge:
        yield bridge


class Steps:
    """Async objects that write down in which task and on which loop their steps are made."""

    def __init__(self) -> None:
        self.tasks: set[Any] = set()
        self.loops: set[int] = set()
        self.log: list[str] = []

    def note(self, what: str | None = None) -> None:
        self.tasks.add(this_task())
        self.loops.add(this_loop())
        if what:
            self.log.append(what)

    async def count(self, end: int) -> AsyncIterator[int]:
        try:
            with anyio.CancelScope():  # which belongs to one task
                for number in range(end):
                    self.note()
                    await turn()
                    yield number
        finally:
            await cleanup()
            self.note("closed")

    @asynccontextmanager
    async def group(self, value: str) -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:
            self.note("entered")
            try:
                yield value
            finally:
                await cleanup()
                self.note("left")
                group.cancel_scope.cancel()

    async def current(self) -> tuple[Any, int]:
        await turn()
        return this_task(), this_loop()


class Plain:
    """An async iterable and its iterator, that are no generators."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.left = steps, 3

    def __aiter__(self) -> Plain:
        return Plain(self.steps)

    async def __anext__(self) -> int:
        await turn()
        self.steps.note()
        self.left -= 1
        if self.left < 0:
            raise StopAsyncIteration
        if self.left == 1:
            raise LookupError("an item that can't be had")
        return self.left

    async def aclose(self) -> None:
        self.steps.note("closed")


@pytest.mark.parametrize("prefetch", [0, 1, 20])
def test_an_async_for_has_all_steps_made_in_one_task_of_the_bridge(
    anywhere: Anywhere, home: syncline.Bridge, prefetch: int
) -> None:
    """On whichever loop the `async for` is, which never is the generator's."""
    steps = Steps()

    async def main() -> list[int]:
        numbers = [number async for number in home.iterate(steps.count(40), prefetch=prefetch)]
        assert this_loop() not in steps.loops
        return numbers

    assert anywhere(main) == list(range(40))
    assert (len(steps.tasks), len(steps.loops), steps.log) == (1, 1, ["closed"])


def test_an_async_with_enters_and_leaves_in_one_task_of_the_bridge(
    anywhere: Anywhere, home: syncline.Bridge
) -> None:
    """Managers, functions that make one, and what `contextmanager` has decorated."""
    steps = Steps()
    decorated = home.contextmanager(steps.group.__wrapped__)  # type: ignore[attr-defined]

    async def main() -> None:
        for manager in [
            home.enter(steps.group("value")),
            home.enter(steps.group, "value"),
            decorated(steps, "value"),
        ]:
            async with manager as value:
                assert value == "value"
            assert (len(steps.tasks), this_loop() in steps.loops) == (1, False)
            steps.tasks.clear()

    anywhere(main)
    assert steps.log == ["entered", "left"] * 3
    assert len(steps.loops) == 1


def test_a_class_is_made_and_entered_on_the_bridges_loop(anywhere: Anywhere, home: syncline.Bridge) -> None:
    """As for what can be made only where a loop runs."""

    class Client:
        def __init__(self) -> None:
            self.loop = this_loop()

        async def __aenter__(self) -> int:
            await turn()
            return self.loop

        async def __aexit__(self, *exc_info: object) -> None:
            assert this_loop() == self.loop

    async def main() -> None:
        async with home.enter(Client) as loop:
            assert loop != this_loop()

    anywhere(main)


def test_coroutines_and_generators_of_the_decorators_run_there(
    anywhere: Anywhere, home: syncline.Bridge
) -> None:
    """`await`, and the whole protocol of generators."""
    steps = Steps()

    @home.generator
    async def echo() -> Any:
        sent: Any = "begun"
        while True:
            steps.note()
            try:
                sent = yield sent
            except KeyError as error:
                sent = error

    async def main() -> None:
        _, loop = await home.coroutine(steps.current)()
        assert loop != this_loop()
        talk = echo()
        assert await talk.asend(None) == "begun"
        assert await talk.asend(1) == 1
        known = KeyError("known")
        assert await talk.athrow(known) is known
        assert await anext(talk) is None
        with pytest.raises(LookupError):
            await talk.athrow(LookupError)
        with pytest.raises(StopAsyncIteration):
            await talk.asend(2)
        with pytest.raises(IndexError):
            await talk.athrow(IndexError)  # it has ended: as with a native one
        await talk.aclose()
        other = echo()
        await anext(other)
        await other.aclose()
        await other.aclose()
        assert [item async for item in other] == []
        assert steps.loops == {loop}

    anywhere(main)


def test_on_the_bridges_own_loop_they_are_used_in_the_task_itself(home: syncline.Bridge) -> None:
    """With nothing of ours in between: `in_async` is for other loops."""
    steps = Steps()

    async def main() -> None:
        assert [number async for number in home.iterate(steps.count(3))] == [0, 1, 2]
        async with home.enter(steps.group("value")):
            pass
        assert (await home.coroutine(steps.current)())[0] is this_task()
        assert steps.tasks == {this_task()}

    home.run_sync(main)


def test_by_default_async_code_uses_them_in_its_own_task(
    anywhere: Anywhere, each_bridge: syncline.Bridge
) -> None:
    """Whichever bridge made them."""
    steps = Steps()

    async def main() -> None:
        assert [number async for number in each_bridge.iterate(steps.count(3))] == [0, 1, 2]
        async with each_bridge.enter(steps.group("value")):
            pass
        assert steps.tasks == {this_task()}

    anywhere(main)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_context_variables_flow_both_ways(home: syncline.Bridge, prefetch: int) -> None:
    """With each step; a token made in one step is good in a later one. What runs ahead keeps to itself."""

    async def change() -> AsyncIterator[str]:
        for number in range(3):
            token = variable.set(f"step {number}")
            yield variable.get()
            variable.reset(token)

    @home.contextmanager
    async def changed() -> AsyncIterator[str]:
        token = variable.set("inside")
        yield "value"
        variable.reset(token)

    async def main() -> None:
        variable.set("mine")
        number = 0
        async for value in home.iterate(change(), prefetch=prefetch):
            assert value == f"step {number}"
            assert variable.get() == ("mine" if prefetch else value)
            number += 1
        assert variable.get() == "mine"
        async with changed():
            assert variable.get() == "inside"
        assert variable.get() == "mine"

    asyncio.run(main())


@pytest.mark.parametrize("prefetch", [0, 2])
def test_errors_are_the_same_objects(anywhere: Anywhere, home: syncline.Bridge, prefetch: int) -> None:
    """Of a generator after its items, of entering, and of the body, which the manager sees."""
    known, seen = KeyError("known"), list[object]()

    async def fails() -> AsyncIterator[int]:
        yield 1
        await turn()
        raise known

    @home.contextmanager
    async def takes(swallows: bool) -> AsyncIterator[None]:
        try:
            yield
        except KeyError as error:
            seen.append(error)
            if not swallows:
                raise

    async def main() -> None:
        failing = home.iterate(fails(), prefetch=prefetch)
        assert await anext(failing) == 1
        with pytest.raises(KeyError) as caught:
            await anext(failing)
        assert caught.value is known
        async with takes(True):
            raise known
        with pytest.raises(KeyError) as caught:
            async with takes(False):
                raise known
        assert caught.value is known

    anywhere(main)
    assert seen == [known, known]


def test_what_is_no_generator_goes_on_after_an_error(anywhere: Anywhere, home: syncline.Bridge) -> None:
    """As where it is iterated over directly."""
    steps = Steps()

    async def main() -> None:
        numbers = home.iterate(Plain(steps))
        assert await anext(numbers) == 2
        with pytest.raises(LookupError):
            await anext(numbers)
        assert [number async for number in numbers] == [0]

    anywhere(main)
    assert len(steps.tasks) == 1


@pytest.mark.parametrize("prefetch", [0, 2])
def test_what_is_left_early_is_closed_on_its_loop(
    anywhere: Anywhere, home: syncline.Bridge, prefetch: int
) -> None:
    """By `aclose` at once, and soon after the last reference is gone: in the task that made the steps."""
    steps = Steps()

    async def main() -> None:
        async with aclosing(home.iterate(steps.count(10), prefetch=prefetch)) as numbers:
            async for _ in numbers:
                break
        assert steps.log == ["closed"]
        async with aclosing(home.iterate(Plain(steps), prefetch=prefetch)) as numbers:
            assert await anext(numbers) == 2
        assert steps.log == ["closed"] * 2
        async for _ in home.iterate(steps.count(10), prefetch=prefetch):
            break
        await until(lambda: len(steps.log) == 3)

    anywhere(main)
    assert (steps.log, len(steps.tasks)) == (["closed"] * 3, 3)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_of_two_loops_has_its_own_steps_at_the_same_time(
    backend: str, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """They meet on the bridge's loop: each item of one waits for one of the other."""
    home = make_bridge(backend=backend, in_async="home")
    turns = [home.call(new_event) for _ in range(10)]

    async def alternate(mine: int) -> AsyncIterator[int]:
        for number in range(mine, len(turns), 2):
            if number:
                await turns[number - 1].wait()
            turns[number].set()
            yield number

    results: dict[int, list[int]] = {}

    def run(mine: int) -> None:
        async def main() -> None:
            results[mine] = [number async for number in home.iterate(alternate(mine), prefetch=mine)]

        asyncio.run(main())

    threads = [threading.Thread(target=run, args=(mine,)) for mine in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {mine: list(range(mine, len(turns), 2)) for mine in range(2)}


def test_one_task_uses_it_at_a_time(anywhere: Anywhere, home: syncline.Bridge) -> None:
    """As a native generator says, too; the one in the middle of a step goes on."""
    begun, go_on = threading.Event(), threading.Event()

    async def waits() -> AsyncIterator[int]:
        begun.set()
        await until(go_on.is_set)
        yield 1

    async def main() -> None:
        numbers = home.iterate(waits())
        results: list[int] = []

        async def first() -> None:
            results.append(await anext(numbers))

        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await until(begun.is_set)
            with pytest.raises(RuntimeError, match="is already running"):
                await anext(numbers)
            go_on.set()
        assert results == [1]

    anywhere(main)


def test_the_other_world_is_refused(home: syncline.Bridge) -> None:
    """What async code has begun, sync code can't go on with, nor the other way round."""
    steps = Steps()
    begun_in_async, begun_in_sync = home.iterate(steps.count(3)), home.iterate(steps.count(3))

    async def main() -> None:
        assert await anext(begun_in_async) == 0
        with pytest.raises(RuntimeError, match="is in use in sync code"):
            await anext(begun_in_sync)
        await begun_in_async.aclose()

    assert next(begun_in_sync) == 0
    asyncio.run(main())
    with pytest.raises(RuntimeError, match="is in use in async code"):
        next(begun_in_async)
    begun_in_sync.close()


def test_a_manager_can_be_entered_again_from_another_loop(home: syncline.Bridge) -> None:
    """But only one at a time holds it; one of a generator is good for one use."""
    steps = Steps()
    lock = home.enter(anyio.Lock)
    once = home.contextmanager(steps.count)(1)

    async def main() -> None:
        async with lock:
            with pytest.raises(RuntimeError, match="is entered already"):
                await lock.__aenter__()
        async with lock:
            pass

    for _ in range(2):
        in_thread(lambda: asyncio.run(main()))

    async def use() -> None:
        async with once:
            pass

    asyncio.run(use())
    with pytest.raises(RuntimeError, match="was used already"):
        asyncio.run(use())


def test_aclose_of_what_async_code_uses_directly(run_async: Anywhere, each_bridge: syncline.Bridge) -> None:
    """An iterator of any bridge has it: it closes the generator, if it is one."""
    steps = Steps()

    class Bare:
        def __aiter__(self) -> Bare:
            return self

        async def __anext__(self) -> int:
            return 1

    async def main() -> None:
        async with aclosing(each_bridge.iterate(steps.count(3))) as numbers:
            assert await anext(numbers) == 0
        assert steps.log == ["closed"]
        async with aclosing(each_bridge.iterate(Bare())) as bare:
            assert await anext(bare) == 1

    run_async(main)
    assert eventually(lambda: steps.log == ["closed"])


def test_a_wrong_word_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match='in_async must be one of "task", "home", not "no"'):
        syncline.Bridge(in_async="no")  # type: ignore[arg-type]
