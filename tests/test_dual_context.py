"""All steps of one generator, and enter and exit of one manager, are in one task and one context.

So what is bound to either works across a `yield` and a `with`: tokens of contextvars, asyncio.timeout, task groups,
anyio's cancel scopes.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import anyio
import pytest

import syncline
from neutral import CANCELLED, Group, cleanup, sleep, this_task, turn, with_asyncio

Inside = Callable[[Callable[[], Any]], Any]
current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="unset")


def isolated(inside: Inside, body: Callable[[], Any]) -> Any:
    """Runs it in a copy of the context, so that tests don't see each other's values."""
    return contextvars.copy_context().run(inside, body)


def test_all_steps_are_in_one_task(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """The first, those that send and throw, and the one that closes."""
    tasks: list[Any] = []

    @each_bridge.generator
    async def watch() -> AsyncGenerator[None, None]:
        try:
            while True:
                tasks.append(this_task())
                try:
                    yield
                except KeyError:
                    tasks.append(this_task())
        finally:
            await cleanup()
            tasks.append(this_task())

    def body() -> None:
        generator = watch()
        next(generator)
        generator.send(None)
        generator.throw(KeyError())
        generator.close()

    inside(body)
    assert len(tasks) == 5
    assert None not in tasks
    assert len(set(tasks)) == 1


def test_enter_and_exit_are_in_one_task_and_context(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Also of a class that nobody decorated: the token of `__aenter__` resets in `__aexit__` (cases 28, 75)."""

    class Manager:
        async def __aenter__(self) -> None:
            await turn()
            self.task = this_task()
            self.token = current.set("entered")

        async def __aexit__(self, *_: object) -> None:
            await turn()
            assert current.get() == "entered"
            current.reset(self.token)
            assert this_task() is self.task

    def body() -> list[str]:
        current.set("before")
        with each_bridge.enter(Manager()):
            seen = [current.get()]
        return [*seen, current.get()]

    assert isolated(inside, body) == ["entered", "before"]


def test_a_value_set_before_a_yield_is_there_after_it(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """And the caller sees it between the steps, since contexts are shared (case 38)."""

    @each_bridge.iterator
    async def steps() -> AsyncIterator[str]:
        for step in ("one", "two", "three"):
            current.set(step)
            yield step
            await turn()
            assert current.get() == step

    def body() -> list[tuple[str, str]]:
        current.set("mine")
        return [(step, current.get()) for step in steps()]

    assert isolated(inside, body) == [("one", "one"), ("two", "two"), ("three", "three")]


def test_with_copied_contexts_changes_stay_in_the_generator(inside: Inside) -> None:
    """context="copy": its next step sees them, the caller doesn't (case 38)."""
    with syncline.Bridge(context="copy") as bridge:

        @bridge.iterator
        async def steps() -> AsyncIterator[str]:
            seen = current.get()
            for step in ("one", "two"):
                current.set(step)
                yield seen
                seen = current.get()

        def body() -> list[tuple[str, str]]:
            current.set("mine")
            return [(seen, current.get()) for seen in steps()]

        assert isolated(inside, body) == [("mine", "mine"), ("one", "mine")]


def test_a_token_of_one_step_resets_in_another(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Tokens belong to one Context object, which all steps have: in the finally of a break, too (cases 38, 75)."""

    @each_bridge.iterator
    async def scoped() -> AsyncIterator[str]:
        token = current.set("inside")
        try:
            while True:
                await turn()
                yield current.get()
        finally:
            current.reset(token)

    def body() -> list[str]:
        current.set("before")
        it = scoped()
        seen = [next(it), next(it), current.get()]
        it.close()
        return [*seen, current.get()]

    assert isolated(inside, body) == ["inside", "inside", "inside", "before"]


def test_a_value_that_a_manager_unsets_is_unset_for_the_caller(
    each_bridge: syncline.Bridge, inside: Inside
) -> None:
    """Resetting the first token leaves no value, and the caller sees that, too (case 75)."""
    fresh: contextvars.ContextVar[str] = contextvars.ContextVar("fresh")

    @each_bridge.contextmanager
    async def scoped() -> AsyncIterator[None]:
        token = fresh.set("inside")
        yield
        await turn()
        fresh.reset(token)

    def body() -> list[str]:
        with scoped():
            seen = fresh.get("none")
        return [seen, fresh.get("none")]

    assert isolated(inside, body) == ["inside", "none"]


def test_steps_that_several_tasks_make_are_in_one_context() -> None:
    """Sync code in different tasks of a running loop drives one generator, which notices nothing (case 41)."""
    tasks: list[Any] = []

    @syncline.generator
    async def scoped() -> AsyncGenerator[str, None]:
        token = current.set("inside")
        try:
            while True:
                tasks.append(this_task())
                yield current.get()
        finally:
            current.reset(token)

    async def main() -> list[str]:
        generator = scoped()

        async def step() -> str:
            await turn()
            return next(generator)

        seen = await asyncio.gather(*(step() for _ in range(5)))
        generator.close()
        return seen

    assert asyncio.run(main()) == ["inside"] * 5
    assert len(tasks) == 5
    assert len(set(tasks)) == 1


@with_asyncio
def test_asyncio_timeout_reaches_across_yields(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """One that isn't reached is left in order; one that is cancels the step that waits."""

    @each_bridge.iterator
    async def limited(delay: float) -> AsyncIterator[int]:
        async with asyncio.timeout(None) as limit:
            yield 1
            limit.reschedule(asyncio.get_running_loop().time() + delay)
            yield 2
            if delay < 1:
                await asyncio.Event().wait()

    def body() -> list[int]:
        items = list(limited(600))
        it = limited(0.02)
        items += [next(it), next(it)]
        with pytest.raises(TimeoutError):
            next(it)
        return [*items, *it]

    assert inside(body) == [1, 2, 1, 2]


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # a TaskGroup groups GeneratorExit, too
def test_a_task_group_lives_across_yields(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Its children get on during the steps, and are done when the generator is; breaking off cancels them."""
    log: list[str] = []

    async def child(number: int) -> None:
        try:
            await sleep(0 if number < 10 else 3600)
            log.append(f"done {number}")
        except CANCELLED:
            log.append(f"cancelled {number}")
            raise

    @each_bridge.iterator
    async def spawn(first: int) -> AsyncIterator[int]:
        async with Group() as start:
            for number in range(first, first + 2):
                start(child, number)
                await turn()
                yield number

    def body() -> list[int]:
        items = list(spawn(0))
        for number in spawn(10):
            items.append(number)
            break
        return items

    assert inside(body) == [0, 1, 10]
    assert sorted(log[:2]) == ["done 0", "done 1"]
    assert log[2:] == ["cancelled 10"]


@pytest.mark.parametrize("library", ["its own", "anyio"])
def test_a_failing_child_is_an_error_at_the_exit_of_its_group(
    each_bridge: syncline.Bridge, inside: Inside, library: str
) -> None:
    """The group's own ExceptionGroup, with no scope corrupted: the same again works (case 29)."""
    problem = ValueError("child")
    left: list[bool] = []

    async def fail() -> None:
        await turn()
        raise problem

    @each_bridge.contextmanager
    async def group() -> AsyncIterator[None]:
        try:
            if library == "its own":
                async with Group() as start:
                    start(fail)
                    yield
            else:
                async with anyio.create_task_group() as scope:
                    scope.start_soon(fail)
                    yield
        finally:
            await cleanup()
            left.append(True)

    def body() -> None:
        for _ in range(2):
            with pytest.raises(ExceptionGroup) as caught, group():
                pass
            assert caught.value.exceptions == (problem,)

    inside(body)
    assert left == [True, True]


def test_a_cancel_scope_reaches_across_yields(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """anyio's scopes must be left in the task that entered them; cancelling one ends what is in it."""

    @each_bridge.iterator
    async def scoped() -> AsyncIterator[str]:
        with anyio.CancelScope() as scope:
            yield "in the scope"
            scope.cancel()
            await anyio.sleep_forever()
        yield f"cancelled {scope.cancelled_caught}"
        with anyio.move_on_after(0.02):
            yield "in a time limit"
            await anyio.sleep_forever()
        with anyio.fail_after(600):
            yield "in another"

    assert inside(lambda: list(scoped())) == [
        "in the scope", "cancelled True", "in a time limit", "in another",
    ]  # fmt: skip


def test_a_cancel_scope_is_held_by_a_with(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Around the body and what it calls no more: a step of something else isn't in it (case 28)."""

    @each_bridge.contextmanager
    async def limited() -> AsyncIterator[anyio.CancelScope]:
        with anyio.CancelScope() as scope:
            yield scope

    def body() -> bool:
        with limited() as scope:
            each_bridge.run_sync(anyio.sleep, 0)
        return scope.cancelled_caught

    assert inside(body) is False


def test_an_error_of_the_body_cancels_the_children(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """And arrives as the group makes it: in the group's ExceptionGroup, next to nothing of ours (case 29)."""
    problem = KeyError("body")
    log: list[str] = []

    async def wait() -> None:
        try:
            await sleep(3600)
        finally:
            await cleanup()
            log.append("cleaned up")

    @each_bridge.contextmanager
    async def group() -> AsyncIterator[None]:
        async with Group() as start:
            start(wait)
            await turn()  # into its try
            yield

    def body() -> None:
        with group():
            raise problem

    with pytest.raises(ExceptionGroup) as caught:
        inside(body)
    assert caught.value.exceptions == (problem,)
    assert log == ["cleaned up"]
