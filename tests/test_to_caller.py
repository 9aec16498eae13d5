"""await to_caller(fn, ...): sync functions run by the thread that waits for the coroutine."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
import traceback
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest
import trio
import uvloop

import syncline
from neutral import of_kind

R = TypeVar("R")
Inside = Callable[[Callable[[], Any]], Any]
MakeBridge = Callable[..., syncline.Bridge]
number: contextvars.ContextVar[int] = contextvars.ContextVar("number")
here = threading.get_ident


async def ask(*, times: int = 1) -> set[int]:
    """In which threads the caller's functions run."""
    seen = set()
    for _ in range(times):
        seen.add(await syncline.to_caller(here))
        await anyio.lowlevel.checkpoint()
    return seen


def test_a_function_runs_in_the_thread_that_waits(inside: Inside, each_bridge: syncline.Bridge) -> None:
    """Wherever that is, in whatever scope: a plain thread, one whose loop the call blocks, a bridge's own."""
    inside(lambda: check_thread(each_bridge))


def check_thread(bridge: syncline.Bridge) -> None:
    assert bridge.run_sync(ask, times=3) == {here()}


def test_arguments_and_results_pass(each_bridge: syncline.Bridge) -> None:
    """All keywords are the function's."""

    async def main() -> Any:
        return await syncline.to_caller(lambda *args, **kwargs: (args, kwargs), 1, fn=2, args=3)

    assert each_bridge.run_sync(main) == ((1,), {"fn": 2, "args": 3})


def test_an_error_is_the_same_object_with_its_frames(each_bridge: syncline.Bridge) -> None:
    """The coroutine may catch it; what it lets pass reaches the caller."""
    error = LookupError("gone")

    def fails() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(LookupError) as caught:
            await syncline.to_caller(fails)
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names == ["main", "to_caller", "fails"]
        raise caught.value

    with pytest.raises(LookupError) as caught:
        each_bridge.run_sync(main)
    assert caught.value is error


def test_stop_iteration_becomes_a_runtime_error(each_bridge: syncline.Bridge) -> None:
    """It can't pass through a coroutine."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        each_bridge.run_sync(syncline.to_caller, next, iter(()))


def test_context_variables_flow_both_ways(each_bridge: syncline.Bridge) -> None:
    """The function sees the task's, the task what the function sets, and the caller what is left of both."""

    def add() -> int:
        number.set(number.get() + 1)
        return number.get()

    async def main() -> int:
        number.set(10)
        assert await syncline.to_caller(add) == 11
        number.set(number.get() + 5)
        return await syncline.to_caller(add)

    number.set(0)
    assert each_bridge.run_sync(main) == 17
    assert number.get() == 17
    assert [variable.name for variable in contextvars.copy_context() if "caller" in variable.name] == []


def test_a_context_that_is_copied_shows_the_caller_nothing(make_bridge: MakeBridge) -> None:
    """context="copy": what the function sets the task sees, and the caller doesn't."""

    async def main() -> int:
        await syncline.to_caller(number.set, 2)
        return number.get()

    number.set(1)
    assert make_bridge(context="copy").run_sync(main) == 2
    assert number.get() == 1


KINDS: dict[str, dict[str, Any]] = {
    **{kind: of_kind(kind) for kind in ("process", "thread", "caller", "trio")},
    "uvloop": {"loop_factory": uvloop.new_event_loop},
    "uvloop, driven": {"scope": "caller", "loop_factory": uvloop.new_event_loop},
}


@pytest.mark.parametrize("nested", ["switch", "thread"])
@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_many_tasks_run_one_by_one(kind: str, nested: str) -> None:
    """The tasks that the call starts, and those that these start, have the same caller; it runs one at a time."""
    running: list[int] = []

    def alone(index: int) -> int:
        running.append(index)
        assert running == [index]
        running.remove(index)
        return here()

    async def leaf(seen: list[int], index: int) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(await syncline.to_caller(alone, index))

    async def branch(seen: list[int], index: int) -> None:
        async with anyio.create_task_group() as group:
            for leaf_index in range(3):
                group.start_soon(leaf, seen, 10 * index + leaf_index)

    async def main() -> list[int]:
        seen: list[int] = []
        async with anyio.create_task_group() as group:
            for index in range(4):
                group.start_soon(branch, seen, index)
        return seen

    with syncline.Bridge(**KINDS[kind], nested=nested) as bridge:
        assert bridge.run_sync(main) == [here()] * 12


def test_a_function_may_call_the_bridge_again(each_bridge: syncline.Bridge) -> None:
    """Sync, async, sync, async ...: each level's functions run in the one thread that began."""

    def sync_part(depth: int) -> list[int]:
        return [here(), *(each_bridge.run_sync(async_part, depth - 1) if depth else [])]

    async def async_part(depth: int) -> list[int]:
        await anyio.lowlevel.checkpoint()
        return await syncline.to_caller(sync_part, depth)

    assert each_bridge.run_sync(async_part, 20) == [here()] * 21


def test_in_scope_caller_the_function_and_its_calls_have_the_thread_and_its_loop(
    make_bridge: MakeBridge,
) -> None:
    """No loop runs in the thread meanwhile; a call from there is driven by the thread itself, on the same loop, where
    the first call's client lives. That the first call ends meanwhile does not end the second."""
    bridge = make_bridge(scope="caller")
    may_end = []

    async def loop_of() -> asyncio.AbstractEventLoop:
        may_end[0].set()
        for _ in range(5):
            await asyncio.sleep(0)
        return asyncio.get_running_loop()

    def sync_part() -> asyncio.AbstractEventLoop:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return bridge.run_sync(loop_of)

    async def main() -> asyncio.AbstractEventLoop:
        may_end.append(asyncio.Event())
        asking = asyncio.create_task(syncline.to_caller(sync_part))
        await may_end[0].wait()
        found.append(asking)
        return asyncio.get_running_loop()

    found: list[asyncio.Task[asyncio.AbstractEventLoop]] = []
    loop = bridge.run_sync(main)

    async def wait() -> asyncio.AbstractEventLoop:
        return await found[0]

    assert bridge.run_sync(wait) is loop
    assert bridge.stats()["runners"] == 1


def test_a_nested_call_that_awaits_in_place_has_the_loops_thread(make_bridge: MakeBridge) -> None:
    """There the sync code that waits is in the loop's thread, and its function is called at once; what the outer call
    and its tasks send goes to the outer caller all the same."""
    bridge = make_bridge()

    async def children() -> list[int]:
        return await asyncio.gather(ask_one(), ask_one())

    async def ask_one() -> int:
        await asyncio.sleep(0)
        return await syncline.to_caller(here)

    async def main() -> None:
        outer = await syncline.to_caller(here)
        assert bridge.run_sync(ask, times=2) == {here()}
        assert bridge.run_sync(children) == [here()] * 2
        assert await children() == [outer] * 2
        assert await syncline.to_caller(here) == outer != here()

    bridge.run_sync(main)


def test_a_nested_call_on_another_thread_has_the_outer_loops_thread(make_bridge: MakeBridge) -> None:
    """nested="thread": the outer loop's thread waits, and runs the function."""
    bridge = make_bridge(nested="thread")

    async def main() -> None:
        outer = await syncline.to_caller(here)
        assert bridge.run_sync(ask) == {here()}
        assert await syncline.to_caller(here) == outer != here()

    bridge.run_sync(main)


def test_in_a_nestable_task_of_another_loop_the_function_is_called_at_once() -> None:
    """The sync code waits in that task, in the loop's thread."""

    def sync_code() -> set[int]:
        return syncline.run_sync(ask)

    async def main() -> set[int]:
        return await syncline.run_nestable(sync_code)

    assert asyncio.run(main()) == {here()}


@pytest.mark.parametrize("name", ["from_thread", "in_worker"])
def test_a_worker_that_called_back_runs_the_function(
    anywhere: Inside, make_bridge: MakeBridge, name: str
) -> None:
    """from_thread, and run_sync of a bridge with in_worker="sender": the worker waits, and is the caller."""
    bridge = make_bridge(in_worker="sender")
    call = syncline.from_thread if name == "from_thread" else bridge.run_sync

    async def main() -> None:
        assert await syncline.to_thread(lambda: call(ask) == {here()})

    anywhere(main)


@pytest.mark.parametrize("kind", ["iterator", "generator"])
def test_each_step_of_an_object_has_the_thread_that_makes_it(each_bridge: syncline.Bridge, kind: str) -> None:
    """The steps are calls; another thread may make the next one."""

    async def threads() -> AsyncGenerator[int, None]:
        while True:
            yield await syncline.to_caller(here)

    def step() -> None:
        seen.append((next(made), here()))

    seen: list[tuple[int, int]] = []
    made: Any = each_bridge.iterate(threads()) if kind == "iterator" else each_bridge.generator(threads)()
    step()
    step()
    if each_bridge.scope == "process":
        other = threading.Thread(target=step)
        other.start()
        other.join()
    made.close()
    assert all(ran == stepped for ran, stepped in seen)


def test_a_managers_ends_have_the_thread_that_enters_and_leaves(each_bridge: syncline.Bridge) -> None:
    """Each end is a call."""
    seen: list[int] = []

    @each_bridge.contextmanager
    async def manager() -> AsyncGenerator[int, None]:
        yield await syncline.to_caller(here)
        seen.append(await syncline.to_caller(here))

    with manager() as entered:
        assert entered == here()
    assert seen == [here()]


def test_a_connection_of_sqlites_and_thread_locals_are_used_where_they_belong(
    each_bridge: syncline.Bridge,
) -> None:
    """sqlite3 checks the thread by itself."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE rows (value)")
    local = threading.local()
    local.name = "mine"

    async def save(value: int) -> str:
        await anyio.lowlevel.checkpoint()
        await syncline.to_caller(connection.execute, "INSERT INTO rows VALUES (?)", (value,))
        return await syncline.to_caller(getattr, local, "name")

    async def main() -> None:
        for value in range(3):
            assert await save(value) == "mine"

    with connection:
        each_bridge.run_sync(main)
    assert connection.execute("SELECT value FROM rows").fetchall() == [(0,), (1,), (2,)]
    connection.close()


def test_where_no_sync_code_waits_the_error_says_what_to_do() -> None:
    """A program of its own, a submitted call, in asyncio and in trio."""
    with pytest.raises(RuntimeError, match=r"no sync code is known to wait.*to_thread"):
        asyncio.run(ask())
    with pytest.raises(RuntimeError, match="no sync code is known to wait"):
        trio.run(ask)
    with pytest.raises(RuntimeError, match=r"no sync code is known to wait.*submit"):
        syncline.submit(ask).result(10)


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_task_that_outlives_its_call_has_no_caller(make_bridge: MakeBridge, scope: str) -> None:
    """Also while the same thread waits in another call: what it does there is another matter."""
    bridge = make_bridge(scope=scope)

    async def later() -> set[int]:
        await go_on[0].wait()
        return await ask()

    async def start() -> asyncio.Task[set[int]]:
        go_on.append(asyncio.Event())
        return asyncio.create_task(later())

    async def let_go(task: asyncio.Task[set[int]]) -> None:
        go_on[0].set()
        with pytest.raises(RuntimeError, match="has ended, and its thread has gone on"):
            await task
        assert await ask() == {thread}

    go_on: list[asyncio.Event] = []
    thread = here()
    bridge.run_sync(let_go, bridge.run_sync(start))


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_what_came_before_the_end_of_the_call_is_run(make_bridge: MakeBridge, scope: str) -> None:
    """A task that nobody awaits has handed its function over, and the call ends in the same turn."""
    bridge = make_bridge(scope=scope)
    ran: list[int] = []

    async def main() -> None:
        task = asyncio.create_task(syncline.to_caller(lambda: ran.append(here())))
        kept.append(task)
        await asyncio.sleep(0)

    kept: list[Any] = []
    bridge.run_sync(main)
    assert ran == [here()]
