"""Context managers and iterators whose tasks serve one after the other, and what each of them sees all the same.

They do where the last step does not suspend, and nobody remembers the task.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import random
import sys
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

import syncline
from session_code import Manager, Session, by_iterator, by_manager, session, stems
from spare_code import (
    VAR,
    address_here,
    context_here,
    in_new_thread,
    leave_mark,
    marks_here,
    name_here,
    task_here,
    tasks_begin_in_the_call,
    without_asgiref,
)

__all__ = ["session"]
pytestmark = without_asgiref


@pytest.fixture(params=["caller", "process", "thread"])
def bridge(make_bridge: Callable[..., syncline.Bridge], request: pytest.FixtureRequest) -> syncline.Bridge:
    return make_bridge(scope=request.param)


@tasks_begin_in_the_call
@in_new_thread
def test_sessions_one_after_the_other_have_one_task(bridge: syncline.Bridge, session: Session) -> None:
    """What the tests below are about."""
    assert len({session(bridge, address_here) for _ in range(5)}) == 1


@tasks_begin_in_the_call
@in_new_thread
def test_also_those_that_suspend_before_their_last_step(bridge: syncline.Bridge) -> None:
    """One that suspends there ends its task, as it has to, and the next one has a new one."""
    assert len(stems(bridge, "entering")) == 1
    assert len(stems(bridge, "leaving")) == 3
    assert len({by_iterator(bridge, name_here, "each").partition(".")[0] for _ in range(3)}) == 1


@tasks_begin_in_the_call
@in_new_thread
def test_sessions_that_are_open_at_once_have_a_task_each(bridge: syncline.Bridge) -> None:
    """Each is left to one of those that are open at once later."""
    found = []
    for _ in range(2):
        with ExitStack() as stack:
            found.append([stack.enter_context(bridge.enter(Manager(name_here))) for _ in range(12)])
    first, second = ([name.partition(".")[0] for name in names] for names in found)
    assert len(set(first)) == len(set(second)) == 12
    assert len(set(first) & set(second)) == 8  # no more are kept


def test_each_session_has_a_name_of_its_own(bridge: syncline.Bridge, session: Session) -> None:
    """No two tasks of a process have one name, unless somebody gave it to them."""
    assert len({session(bridge, name_here) for _ in range(20)}) == 20


def test_what_a_session_sets_on_its_task_the_next_one_does_not_see(
    bridge: syncline.Bridge, session: Session
) -> None:
    """A name, an attribute, a cancellation that was taken back, one that was not, one that was suppressed."""

    for how in ("name", "attribute", "cancelled", "uncancelled", "suppressed"):

        async def leaves(how: str = how) -> None:
            await leave_mark(how)
            if how == "suppressed":
                with pytest.raises(asyncio.CancelledError, match="mine"):
                    await asyncio.sleep(0)

        session(bridge, name_here)
        by_manager(bridge, leaves)
        assert session(bridge, marks_here) == (False, False, 0), how


def test_a_session_is_listed_while_it_is_open(bridge: syncline.Bridge) -> None:
    """Once, by its own task, between its steps, too; and not any more when it is over."""

    async def all_here() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - {await task_here()}

    for suspends in ("", "entering", ""):
        with bridge.enter(Manager(name_here, suspends)) as name:
            assert [task.get_name() for task in bridge.run_sync(all_here)] == [name]
        assert bridge.run_sync(all_here) == set()


def test_a_timeout_that_one_step_begins_ends_in_another(bridge: syncline.Bridge) -> None:
    """Timeouts and task groups belong to the session's task, from its first step to its last."""
    entered = []

    class Timed:
        async def __aenter__(self) -> asyncio.Timeout:
            entered.append(await address_here())
            self.timeout = asyncio.timeout(30)
            await self.timeout.__aenter__()
            self.group = await asyncio.TaskGroup().__aenter__()
            return self.timeout

        async def __aexit__(self, *error: object) -> None:
            assert await address_here() == entered[-1]
            await self.group.__aexit__(None, None, None)
            await self.timeout.__aexit__(None, None, None)

    for _ in range(3):
        with bridge.enter(Timed()) as timeout:
            assert not timeout.expired()
        by_manager(bridge, name_here)


def test_a_nested_call_in_a_session_awaits_in_its_task(bridge: syncline.Bridge, session: Session) -> None:
    """Below sync code, in a task that earlier sessions had."""

    async def inner() -> str:
        await asyncio.sleep(0)
        return await name_here()

    async def outer() -> tuple[str, str]:
        return await name_here(), bridge.run_sync(inner)

    for _ in range(3):
        own, nested = session(bridge, outer)
        assert own == nested


def test_sessions_see_what_the_caller_has_set(bridge: syncline.Bridge, session: Session) -> None:
    """Those with other variables have tasks of their own; what one of them sets the next one does not see."""

    async def get_and_set() -> int | None:
        before = VAR.get(None)
        VAR.set(17)
        return before

    def caller() -> list[int | None]:
        seen = []
        for value in (1, 2):
            token = VAR.set(value)
            seen.append(by_manager(bridge, get_and_set))
            VAR.reset(token)
            seen.append(contextvars.copy_context().run(session, bridge, get_and_set))
        return seen

    session(bridge, name_here)
    assert contextvars.copy_context().run(caller) == [1, None, 2, None]


@in_new_thread
def test_nothing_of_what_a_caller_has_set_is_kept(bridge: syncline.Bridge, session: Session) -> None:
    """The value of a context variable is freed as soon as its caller lets go of it."""

    class Value:
        pass

    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
    session(bridge, name_here)  # a thread's loop keeps what is set when it is made
    value = Value()
    alive = weakref.ref(value)
    token = variable.set(value)
    session(bridge, name_here)
    variable.reset(token)
    del value, token
    session(bridge, name_here)
    gc.collect()
    assert alive() is None


@in_new_thread
def test_in_debug_mode_each_session_has_a_new_task(bridge: syncline.Bridge) -> None:
    """Also where earlier ones have left theirs."""

    async def debug(enabled: bool) -> None:
        asyncio.get_running_loop().set_debug(enabled)

    shared = sys.version_info >= (3, 12)
    for enabled in (False, True, False):
        bridge.run_sync(debug, enabled)
        assert (len(stems(bridge)) == 1) is (shared and not enabled)


def test_a_task_factory_makes_the_task_of_each_session(bridge: syncline.Bridge, session: Session) -> None:
    """Also one that is set when sessions have left theirs."""
    made: list[asyncio.Task[Any]] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(asyncio.Task(coro, loop=loop, **options))
        return made[-1]

    async def use(factory: Any) -> None:
        asyncio.get_running_loop().set_task_factory(factory)

    session(bridge, name_here)
    bridge.run_sync(use, factory)
    names = [session(bridge, name_here) for _ in range(3)]
    assert [task.get_name() for task in made] == names
    bridge.run_sync(use, None)
    session(bridge, name_here)
    assert len(made) == 4  # the call that took it away was the last one


@tasks_begin_in_the_call
@in_new_thread
def test_a_context_belongs_to_one_session_also_where_a_task_factory_came_between(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """Interleaving: the factory comes when a session has its context and before it has its task."""
    bridge = make_bridge(scope="caller")
    by_manager(bridge, name_here)

    async def use(factory: Any) -> None:
        asyncio.get_running_loop().set_task_factory(factory)

    class Late(Manager):
        """Has the factory set where its method is looked up."""

        def __getattribute__(self, name: str) -> Any:
            if name == "__aenter__":
                bridge.run_sync(use, lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
            return super().__getattribute__(name)

    with bridge.enter(Late(context_here)) as context:
        bridge.run_sync(use, None)
        for _ in range(2):
            assert by_manager(bridge, context_here) is not context


@tasks_begin_in_the_call
@in_new_thread
def test_a_session_without_a_step_gives_the_task_back(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """It is refused, as it would block a loop that runs here."""
    bridge = make_bridge(in_loop="error")
    (before,) = stems(bridge)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="blocks the event loop"), bridge.enter(Manager(name_here)):
            pass

    asyncio.run(main())
    bridge.run_sync(name_here)  # the refused session is freed by the loop's thread
    assert stems(bridge) == {before}


def test_a_bridge_that_ends_leaves_no_task_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a message about one that was destroyed, nor the object."""
    left: list[weakref.ref[Any]] = []

    class Freed:
        def __call__(self) -> Any:
            return self.leave()

        async def leave(self) -> None:
            left.append(weakref.ref(asyncio.get_running_loop()))
            left.append(weakref.ref(self))

    with caplog.at_level(logging.DEBUG):
        with syncline.Bridge(scope="caller") as bridge:
            for _ in range(3):
                by_manager(bridge, Freed())
        gc.collect()
    assert [alive() for alive in left] == [None] * 6
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@in_new_thread
def test_sessions_of_all_kinds_in_any_order(bridge: syncline.Bridge) -> None:
    """Whoever keeps a task has that session's own, and all that are kept are done."""
    seed = int(os.environ.get("SYNCLINE_SEED", random.SystemRandom().randrange(2**32)))
    chosen = random.Random(seed)
    kept: dict[int, tuple[str, asyncio.Task[Any]]] = {}
    names = []

    def odd() -> bool:
        return chosen.random() < 0.1

    async def step() -> str:
        task = await task_here()
        if odd():
            assert id(task) not in kept or kept[id(task)][1] is task
            kept[id(task)] = task.get_name(), task
        if odd():
            VAR.set(chosen.random())
        if odd():
            assert bridge.run_sync(name_here) == task.get_name()
        if odd():
            await asyncio.sleep(0)
        assert await task_here() is task
        if odd():
            raise LookupError(task.get_name())
        return task.get_name()

    async def leave() -> None:
        if odd():
            await asyncio.sleep(0)

    class Odd(Manager):
        async def __aexit__(self, *error: object) -> None:
            await leave()

    def run(depth: int) -> None:
        try:
            if odd():
                names.append(by_iterator(bridge, step))
                return
            with bridge.enter(Odd(step)) as name:
                names.append(name)
                if depth < 10 and chosen.random() < 0.5:
                    run(depth + 1)
        except LookupError as error:
            names.append(error.args[0])

    for _ in range(150):
        contextvars.copy_context().run(run, 0)
    assert len(set(names)) == len(names), seed
    # A session that suspends as it is left tells its caller before its task has ended.
    bridge.run_sync(asyncio.sleep, 0)
    assert all(task.done() and task.get_name() == name for name, task in kept.values()), seed
