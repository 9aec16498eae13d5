"""`finalize`: async cleanup when an object is collected, on the loop where it lives."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

import syncline
from child import eventually
from places import OPTIONS, in_asyncio, in_thread
from syncline import _finalizing


class Owner:
    """Something that has to be cleaned up."""

    other: Any = None


class Seen:
    """Notes where cleanups run."""

    def __init__(self) -> None:
        self.calls: list[object] = []
        self.places: list[tuple[int, asyncio.AbstractEventLoop]] = []
        self.happened = threading.Event()

    async def clean(self, *what: object) -> str:
        await asyncio.sleep(0)
        self.calls.append(what[0] if what else None)
        self.places.append((threading.get_ident(), asyncio.get_running_loop()))
        self.happened.set()
        return "cleaned"

    def wait(self) -> None:
        assert self.happened.wait(10)


@pytest.fixture
def seen() -> Seen:
    """What cleanups have noted."""
    return Seen()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, which must be empty of what the test doesn't take out of it."""
    with caplog.at_level(logging.DEBUG, "syncline"):
        yield caplog


async def place() -> tuple[int, asyncio.AbstractEventLoop]:
    return threading.get_ident(), asyncio.get_running_loop()


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_cleanup_runs_on_the_bridges_loop(
    kind: str, seen: Seen, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Once, when the object is collected; in scope "caller" with the thread's next call."""
    bridge = make_bridge(**OPTIONS[kind])
    owner = Owner()
    finalizer = bridge.finalize(owner, seen.clean, "it")
    assert finalizer.alive
    del owner
    assert not finalizer.alive
    if kind == "caller":
        bridge.run_sync(asyncio.sleep, 0.01)
    seen.wait()
    assert (seen.calls, seen.places) == (["it"], [bridge.run_sync(place)])
    bridge.close()
    assert seen.calls == ["it"]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_the_modules_function_uses_the_running_loop(run: Any, seen: Seen) -> None:
    """In a task and in a callback; where no loop runs, the default bridge's."""

    async def main() -> None:
        owner = Owner()
        syncline.finalize(owner, seen.clean, "task")
        del owner

        def callback() -> None:
            owner = Owner()
            syncline.finalize(owner, seen.clean, "callback")

        asyncio.get_running_loop().call_soon(callback)
        while len(seen.calls) < 2:
            await asyncio.sleep(0)
        assert seen.places == [await place()] * 2

    run(main())
    seen.happened.clear()
    owner = Owner()
    syncline.finalize(owner, seen.clean)
    del owner
    seen.wait()
    assert seen.places[-1] == syncline.run_sync(place)


def test_a_bridges_own_loop_is_its_home_also_in_callbacks(seen: Seen, make_bridge: Any) -> None:
    """With nested="thread" and in a callback, too, where a call would go to another loop."""
    for nested in ("switch", "thread"):
        bridge = make_bridge(nested=nested)

        async def main(bridge: syncline.Bridge = bridge) -> None:
            done = asyncio.Event()

            def callback() -> None:
                owner = Owner()
                bridge.finalize(owner, seen.clean)
                done.set()

            asyncio.get_running_loop().call_soon(callback)
            await done.wait()
            callback()

        bridge.run_sync(main)
        assert eventually(lambda: len(seen.places) == 2)
        assert seen.places == [bridge.run_sync(place)] * 2
        seen.places.clear()


def test_objects_in_cycles_are_cleaned_up_by_the_collector(seen: Seen, make_bridge: Any) -> None:
    """In whatever thread it runs."""
    bridge = make_bridge()

    def make() -> None:
        one, two = Owner(), Owner()
        one.other, two.other = two, one
        for owner in (one, two):
            bridge.finalize(owner, seen.clean)

    make()
    assert not seen.happened.is_set()
    in_thread(gc.collect)
    assert eventually(lambda: len(seen.calls) == 2)


def test_an_object_may_go_anywhere(seen: Seen, make_bridge: Any) -> None:
    """While threading's and logging's locks are held, and on the loop's own thread: nothing is waited for there."""
    bridge = make_bridge()
    owners = [Owner() for _ in range(3)]
    for number, owner in enumerate(owners):
        bridge.finalize(owner, seen.clean, number)
    del owner
    with threading._active_limbo_lock, logging._lock:  # type: ignore[attr-defined]
        owners.pop()
        gc.collect()

    async def on_the_loop() -> None:
        owners.pop()
        gc.collect()
        while len(seen.calls) < 2:
            await asyncio.sleep(0)

    bridge.run_sync(on_the_loop)
    owners.pop()
    assert eventually(lambda: sorted(seen.calls) == [0, 1, 2])  # type: ignore[type-var]


def test_a_cleanup_that_takes_long_blocks_nobody(make_bridge: Any) -> None:
    """Neither who drops the object, nor the loop, nor other cleanups."""
    bridge, gate, order = make_bridge(), threading.Event(), list[str]()
    begun = threading.Event()

    async def slow(opened: asyncio.Event) -> None:
        begun.set()
        await opened.wait()
        order.append("slow")
        gate.set()

    async def quick() -> None:
        order.append("quick")

    opened = asyncio.Event()
    for owner, cleanup in ((Owner(), lambda: slow(opened)), (Owner(), quick)):
        bridge.finalize(owner, cleanup)
        del owner
    assert begun.wait(10)
    assert eventually(lambda: order == ["quick"])

    async def opens() -> None:
        opened.set()

    bridge.run_sync(opens)
    assert gate.wait(10)


def test_thousands_of_objects_leave_nothing(seen: Seen, make_bridge: Any) -> None:
    """Neither finalizers nor arguments nor tasks; detached ones are forgotten at once."""
    bridge = make_bridge()

    class Argument:
        pass

    arguments: list[weakref.ref[Argument]] = []
    for number in range(5000):
        owner, argument = Owner(), Argument()
        arguments.append(weakref.ref(argument))
        finalizer = bridge.finalize(owner, seen.clean, argument)
        if number % 2:
            finalizer.detach()
    del owner, argument, finalizer
    assert eventually(lambda: len(seen.calls) == 2500)
    seen.calls.clear()
    home = _finalizing._homes[bridge.run_sync(place)[1]]
    assert eventually(lambda: not (home.left or home.due or home._tasks))
    bridge.run_sync(asyncio.sleep, 0)
    gc.collect()
    assert [each() for each in arguments] == [None] * 5000
    bridge.close()
    assert home not in _finalizing._homes.values()


def test_a_finalizer_is_used_as_weakrefs(seen: Seen, make_bridge: Any) -> None:
    """Callable once, with the result; alive, peek, detach and atexit."""
    bridge = make_bridge()
    owner = Owner()
    finalizer = bridge.finalize(owner, seen.clean, "called")
    assert finalizer.peek() == (owner, seen.clean, ("called",), {})
    assert "clean" in repr(finalizer)
    assert finalizer() == "cleaned"
    assert (finalizer(), finalizer.alive, finalizer.peek(), finalizer.detach()) == (None, False, None, None)
    assert "dead" in repr(finalizer)
    detached = bridge.finalize(owner, seen.clean, "detached")
    assert detached.detach() == (owner, seen.clean, ("detached",), {})
    assert (detached(), detached.alive) == (None, False)
    kept = bridge.finalize(owner, seen.clean, "kept")
    kept.atexit = False
    bridge.finalize(owner, seen.clean, "closed")
    bridge.close()
    assert seen.calls == ["called", "closed"]
    assert kept.alive


def test_what_is_left_runs_when_the_loop_ends(seen: Seen) -> None:
    """The latest first, on that loop: at the end of asyncio.run, of a bridge, of a thread with a loop of its own."""
    owner = Owner()

    async def main() -> tuple[int, asyncio.AbstractEventLoop]:
        for number in range(3):
            syncline.finalize(owner, seen.clean, number)
        return await place()

    assert asyncio.run(main()) == seen.places[0]
    with syncline.Bridge() as bridge:
        bridge.finalize(owner, seen.clean, "bridge")
    per_thread = syncline.Bridge(scope="thread")
    in_thread(lambda: per_thread.finalize(owner, seen.clean, "thread"))
    assert eventually(lambda: len(seen.calls) == 5)
    per_thread.close()
    assert seen.calls == [2, 1, 0, "bridge", "thread"]


def test_a_closed_bridge_takes_no_finalizer(seen: Seen) -> None:
    """RunnerClosedError; and one of before has run."""
    owner = Owner()
    with syncline.Bridge() as bridge:
        finalizer = bridge.finalize(owner, seen.clean)
    assert seen.calls == [None]
    assert finalizer() is None
    with pytest.raises(syncline.RunnerClosedError):
        bridge.finalize(owner, seen.clean)


def test_errors_are_logged_and_stop_nothing(
    seen: Seen, log: pytest.LogCaptureFixture, make_bridge: Any
) -> None:
    """With the function's name; SystemExit, too; and those of a cleanup that somebody waits for are that one's."""
    bridge = make_bridge()

    async def fails(error: BaseException) -> None:
        raise error

    for error in (ValueError("first"), SystemExit(1)):
        owner = Owner()
        bridge.finalize(owner, fails, error)
        del owner
    assert eventually(lambda: len(log.records) == 2)
    assert ["fails" in record.getMessage() for record in log.records] == [True, True]
    assert bridge.run_sync(asyncio.sleep, 0, "goes on") == "goes on"
    owner, mine = Owner(), ValueError("mine")
    with pytest.raises(ValueError, match="mine") as caught:
        bridge.finalize(owner, fails, mine)()
    assert caught.value is mine
    assert len(log.records) == 2


def test_a_collected_objects_cleanup_that_can_never_run_is_logged(log: pytest.LogCaptureFixture) -> None:
    """Its loop was closed without shutdown_asyncgens: nothing is said in the finalizer's frame, but at exit."""
    loop = asyncio.new_event_loop()
    owner = Owner()

    async def main(owner: Owner) -> None:
        syncline.finalize(owner, asyncio.sleep, 0)

    loop.run_until_complete(main(owner))
    loop.close()
    home = _finalizing._homes.pop(loop)
    del owner
    assert not log.records
    home.finish_at_exit(0.0)
    assert "1 collected objects" in log.text
    assert "shutdown_asyncgens" in log.text


def test_the_cleanup_has_the_context_of_its_registration(make_bridge: Any) -> None:
    """Not that of whoever happens to drop the object."""
    bridge, variable = make_bridge(), contextvars.ContextVar[str]("variable")
    found: list[str] = []

    async def clean() -> None:
        found.append(variable.get())

    variable.set("registered")
    owner = Owner()
    bridge.finalize(owner, clean)
    variable.set("dropped")
    del owner
    assert eventually(lambda: found == ["registered"])


def test_async_code_awaits_a_finalizer(seen: Seen, make_bridge: Any) -> None:
    """On the home's loop in place, on another one as a task there, which is cancelled with its waiter."""
    bridge = make_bridge()
    owner = Owner()
    cancelled = threading.Event()

    async def main() -> None:
        assert await bridge.finalize(owner, seen.clean, "there").aio() == "cleaned"
        own = syncline.finalize(owner, seen.clean, "here")
        assert (await own.aio(), await own.aio()) == ("cleaned", None)
        assert seen.places[1] == await place() != seen.places[0]

        async def waits() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        begun = threading.Event()
        task = asyncio.create_task(bridge.finalize(owner, waits).aio())
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert cancelled.wait(10)


def test_sync_code_on_the_home_loop_calls_it_where_it_can_await(seen: Seen) -> None:
    """In place in a task that opted in; elsewhere it would block that loop, and DeadlockError says what to write."""

    async def main() -> None:
        owner = Owner()
        finalizer = syncline.finalize(owner, seen.clean)
        with pytest.raises(syncline.DeadlockError, match="aio"):
            finalizer()
        assert finalizer.alive
        assert await syncline.run_nestable(lambda: finalizer()) == "cleaned"  # noqa: PLW0108 -- a sync function
        assert seen.places == [await place()]

    asyncio.run(main())


def test_a_loop_that_does_not_run_is_not_waited_for(seen: Seen) -> None:
    """RunnerClosedError, and the finalizer stays alive until the loop ends."""
    owner = Owner()
    loop = asyncio.new_event_loop()

    async def main() -> Any:
        return syncline.finalize(owner, seen.clean)

    finalizer = loop.run_until_complete(main())
    with pytest.raises(syncline.RunnerClosedError, match="does not run"):
        finalizer()
    assert finalizer.alive
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert seen.calls == [None]


def test_mistakes_are_named() -> None:
    """What keeps its object alive, what can't be referred to, and what isn't a function."""

    class Client(Owner):
        async def aclose(self) -> None: ...

    owner = Client()
    with pytest.raises(TypeError, match="keeps its object alive"):
        syncline.finalize(owner, owner.aclose)
    with pytest.raises(TypeError, match="keeps its object alive"):
        syncline.finalize(owner, Client.aclose, owner)
    with pytest.raises(TypeError, match="weak reference"):
        syncline.finalize(1, asyncio.sleep, 0)
    with pytest.raises(TypeError, match=r"finalize\(owner, sleep, ...\)"):
        syncline.finalize(owner, asyncio.sleep(0))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="async function, not int"):
        syncline.finalize(owner, 1)  # type: ignore[arg-type]


def test_a_sync_function_is_named_when_it_has_run() -> None:
    """It can be told from an async one only by what it returns."""
    owner, closed = Owner(), []
    finalizer: Any = syncline.finalize(owner, closed.append, 1)  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"got the sync function 'list.append', which has run.*weakref\.finalize"
    ):
        finalizer()
    assert closed == [1]


def test_a_foreign_loops_home_is_not_the_bridges(seen: Seen, make_bridge: Any) -> None:
    """Inside of asyncio.run a bridge's finalizer is at home on the bridge's loop all the same."""
    bridge = make_bridge()

    def body() -> None:
        owner = Owner()
        bridge.finalize(owner, seen.clean)

    in_asyncio(body)
    seen.wait()
    assert seen.places == [bridge.run_sync(place)]
