"""`resource`: objects that are opened at their first use and shared. Who opens them, and where."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from typing import Any, TypeVar

import pytest
import trio

import syncline
from neutral import CANCELLED, cleanup, sleep_forever, turn, with_asyncio
from resource_code import Client, Managed

R = TypeVar("R")
Inside = Callable[[Callable[[], R]], R]


def test_it_is_opened_at_its_first_use_and_closed_with_the_bridge(
    inside: Inside[None], each_bridge: syncline.Bridge
) -> None:
    """Sync and async code, in whatever place, get the same object of one loop, and the bridge's close closes it."""
    opened: list[Client] = []

    @each_bridge.resource
    async def client() -> AsyncIterator[Client]:
        await turn()
        opened.append(Client())
        yield opened[-1]
        await opened[-1].aclose()

    async def asks() -> Client:
        found = await client.aget()
        assert await found.ask() == "answer"
        assert await client.aget() is found
        return found

    def body() -> None:
        found = client.get()
        assert each_bridge.run_sync(found.ask) == "answer"
        assert client.get() is found
        assert each_bridge.run_sync(asks) is found

    assert not opened
    inside(body)
    assert len(opened) == 1
    assert opened[0].log == []
    each_bridge.close()
    assert opened[0].log == ["closed"]


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_worker_gets_it_where_its_next_call_goes(
    make_bridge: Callable[..., syncline.Bridge], scope: str
) -> None:
    """With `in_worker="sender"` that is the loop that sent the worker, and `close` closes the object of that loop."""
    bridge = make_bridge(scope=scope, in_worker="sender")
    opened: dict[asyncio.AbstractEventLoop, Client] = {}

    @bridge.resource
    async def client() -> AsyncIterator[Client]:
        loop = asyncio.get_running_loop()
        opened[loop] = Client()
        yield opened[loop]
        await opened[loop].aclose()

    async def sender_of_a_worker() -> None:
        sender = asyncio.get_running_loop()

        async def there() -> asyncio.AbstractEventLoop:
            return asyncio.get_running_loop()

        def worker() -> None:
            assert client.get() is opened[sender]
            assert bridge.run_sync(there) is sender
            client.close()

        await syncline.to_thread(worker)
        assert opened[sender].log == ["closed"]

    at_home = client.get()
    assert [*opened.values()] == [at_home]
    syncline.run_sync(sender_of_a_worker)
    assert len(opened) == 2
    assert at_home.log == []
    assert client.get() is at_home


def test_threads_that_come_first_together_open_it_once(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """The opening, which the first one began, goes on until all of them wait for it."""
    bridge = make_bridge()
    opened: list[Client] = []
    asked: list[None] = []

    @bridge.resource
    async def client() -> Client:
        while len(asked) < 8:
            await turn()
        opened.append(Client())
        return opened[-1]

    async def asks() -> Client:
        asked.append(None)
        return await client.aget()

    got: list[Client] = []
    threads = [threading.Thread(target=lambda: got.append(bridge.run_sync(asks))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert got == opened * 8


def test_after_an_error_the_next_use_tries_again(each_bridge: syncline.Bridge) -> None:
    """The error is the very object, with the user's frames; nothing of the attempt is left."""
    errors = [OSError("no route"), SystemExit(3)]

    @each_bridge.resource
    async def client() -> Client:
        await turn()
        if errors:
            raise errors[-1]
        return Client()

    for kind in (SystemExit, OSError):
        with pytest.raises(kind) as caught:
            client.get()
        assert caught.value is errors.pop()
        names = [entry.name for entry in caught.traceback]
        assert names[-1] == "client"
        assert len(names) <= 4
    assert each_bridge.run_sync(client.get().ask) == "answer"


def test_an_error_makes_no_ring_of_references(each_bridge: syncline.Bridge) -> None:
    """What a failed opening had is freed at once, without the collector."""

    class ProblemError(Exception):
        pass

    @each_bridge.resource
    async def client() -> None:
        await turn()
        raise ProblemError

    def fails() -> weakref.ref[ProblemError]:
        try:
            client.get()
        except ProblemError as error:
            return weakref.ref(error)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        reference = fails()
        each_bridge.run_sync(turn)  # the loop lets go of the ended tasks
        assert reference() is None
    finally:
        gc.enable()


def test_all_who_wait_for_an_opening_that_fails_get_its_error(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """And it was tried once."""
    bridge = make_bridge()
    tries: list[str] = []

    async def both() -> list[Any]:
        both_wait = asyncio.Event()

        @bridge.resource
        async def client() -> Client:
            tries.append("tried")
            await both_wait.wait()
            raise OSError("no route")

        asks = [asyncio.create_task(client.aget()) for _ in range(2)]
        await turn()
        both_wait.set()
        return await asyncio.gather(*asks, return_exceptions=True)

    first, second = bridge.run_sync(both)
    assert first is second
    assert isinstance(first, OSError)
    assert tries == ["tried"]


def test_the_last_who_stops_waiting_ends_the_opening(each_bridge: syncline.Bridge) -> None:
    """It is cancelled, and cleans up before the caller goes on; the next use opens anew."""
    log: list[str] = []

    @each_bridge.resource
    async def client() -> Client:
        if log:
            return Client()
        try:
            await sleep_forever()
        except CANCELLED:
            await cleanup()
            log.append("cleaned up")
            raise
        raise AssertionError

    with pytest.raises(TimeoutError):
        client.get(timeout=0.05)
    assert log == ["cleaned up"]
    assert each_bridge.run_sync(client.get(timeout=20).ask) == "answer"


def test_who_stops_waiting_leaves_the_opening_to_others(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """One of two is cancelled; the other one gets the object."""
    bridge = make_bridge()

    async def both() -> None:
        may_open = asyncio.Event()

        @bridge.resource
        async def client() -> Client:
            await may_open.wait()
            return Client()

        first, second = (asyncio.create_task(client.aget()) for _ in range(2))
        await turn()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        may_open.set()
        assert await (await second).ask() == "answer"

    bridge.run_sync(both)


def test_who_comes_while_an_opening_is_given_up_gets_a_new_one(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """The second caller comes while the first one's opening cleans up."""
    bridge = make_bridge()
    tries: list[str] = []

    async def both() -> None:
        cleans_up, may_end = asyncio.Event(), asyncio.Event()

        @bridge.resource
        async def client() -> Client:
            tries.append("tried")
            if len(tries) == 1:
                try:
                    await sleep_forever()
                finally:
                    cleans_up.set()
                    await may_end.wait()
            return Client()

        first = asyncio.create_task(client.aget())
        await turn()
        first.cancel()
        await cleans_up.wait()
        second = asyncio.create_task(client.aget())
        await turn()
        assert tries == ["tried"]
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await (await second).ask() == "answer"

    bridge.run_sync(both)
    assert len(tries) == 2


def test_a_resource_may_use_another_one_and_is_closed_before_it(each_bridge: syncline.Bridge) -> None:
    """What was opened last is closed first, when the loop ends."""
    log: list[str] = []

    @each_bridge.resource
    async def pool() -> AsyncIterator[str]:
        log.append("pool opens")
        yield "pool"
        await cleanup()
        log.append("pool closes")

    @each_bridge.resource
    async def store() -> AsyncIterator[str]:
        yield f"store on {await pool.aget()}"
        await cleanup()
        log.append("store closes")

    assert store.get() == "store on pool"
    each_bridge.close()
    assert log == ["pool opens", "store closes", "pool closes"]


def test_resources_that_need_each_other_are_told_so(each_bridge: syncline.Bridge) -> None:
    """Instead of waiting for ever."""
    first: syncline.Resource[object]

    @each_bridge.resource
    async def second() -> object:
        return await first.aget()

    @each_bridge.resource
    async def first_one() -> object:
        return await second.aget()

    first = first_one
    with pytest.raises(syncline.DeadlockError, match=r"'([\w.<>]+)' needs '([\w.<>]+)' needs '\1'"):
        second.get(timeout=20)


def test_it_is_opened_in_the_context_in_which_it_was_made(each_bridge: syncline.Bridge) -> None:
    """Not in that of the request that happens to come first; and no context sees what the opening sets."""
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: list[str] = []

    @each_bridge.resource
    async def client() -> AsyncIterator[Client]:
        seen.append(user.get())
        user.set("the resource")
        yield Client()
        seen.append(user.get())

    user.set("ann")
    client.get()
    client.close()
    assert seen == ["nobody", "the resource"]
    assert user.get() == "ann"


@with_asyncio
def test_it_holds_a_task_group_open(each_bridge: syncline.Bridge) -> None:
    """Which is entered and left in one task, whoever asks for it and closes it."""

    @each_bridge.resource
    async def group() -> AsyncIterator[asyncio.TaskGroup]:
        async with asyncio.TaskGroup() as group:
            yield group

    async def start() -> asyncio.Task[str]:
        return (await group.aget()).create_task(Client().ask())

    async def wait_for(task: asyncio.Task[str]) -> str:
        return await task

    assert each_bridge.run_sync(wait_for, each_bridge.run_sync(start)) == "answer"
    group.close()


def test_in_scope_thread_each_thread_has_its_own(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """And it is closed when the thread ends."""
    bridge = make_bridge(scope="thread")
    client = bridge.resource(Client)
    mine = client.get()
    theirs: list[Client] = []
    thread = threading.Thread(target=lambda: theirs.append(client.get()))
    thread.start()
    thread.join()
    assert theirs[0] is not mine
    assert (theirs[0].log, mine.log) == (["closed"], [])


@pytest.mark.parametrize("run", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"])
def test_async_code_on_another_loop_has_its_own(
    make_bridge: Callable[..., syncline.Bridge], run: Callable[[Any], Any]
) -> None:
    """A library's async callers use it on the loop of the application; it is left when that ends, as it is closed."""
    client = make_bridge().resource(Managed)

    async def main() -> Managed:
        found = await client.aget()
        assert await client.aget() is found
        assert await found.ask() == "answer"
        return found

    mine = client.get()
    theirs = run(main())
    assert theirs is not mine
    assert (theirs.log, mine.log) == (["entered", "left"], ["entered"])
