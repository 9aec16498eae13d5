"""`bridge.call`: sync functions and constructors on the loop's thread; `enter` with a function."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Self

import anyio
import pytest

import syncline
from neutral import turn, with_asyncio
from places import in_asyncio, in_thread, in_trio, in_uvloop
from remote_code import Cleaning

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class NeedsALoop:
    """As many libraries' clients, it can be made only where a loop runs, and in a task."""

    def __init__(self, name: str = "none") -> None:
        self.loop = asyncio.get_running_loop()
        self.task = asyncio.current_task()
        self.thread = threading.get_ident()
        self.name = name

    async def __aenter__(self) -> Self:
        assert asyncio.get_running_loop() is self.loop
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert asyncio.get_running_loop() is self.loop


async def own_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@with_asyncio
def test_an_object_is_made_on_the_loop(inside: Callable[[Callable[[], Any]], Any], each_bridge: Any) -> None:
    """In a task, and on the loop on which later calls use it; from everywhere."""

    def make() -> tuple[NeedsALoop, Any]:
        return each_bridge.call(NeedsALoop, name="given"), each_bridge.run_sync(own_loop)

    made, loop = inside(make)
    assert (made.name, made.loop) == ("given", loop)
    assert made.task is not None


@pytest.mark.parametrize("run", [in_asyncio, in_uvloop, in_trio, in_thread])
def test_it_is_the_bridges_own_loop_wherever_the_caller_is(run: Callable[..., Any]) -> None:
    """Below a running loop, too."""
    with syncline.Bridge() as bridge:
        home = bridge.run_sync(own_loop)
        assert run(lambda: bridge.call(NeedsALoop)).loop is home


def test_an_event_of_the_loop_is_set_from_another_thread(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """`event.set` is no coroutine function, and not to be called in another thread than the loop's."""
    bridge = make_bridge(loop_factory=debugged)
    event = bridge.call(asyncio.Event)
    waiting = bridge.submit(event.wait)
    bridge.call(event.set)
    assert waiting.result(10) is True


def debugged() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_debug(True)
    return loop


def test_what_can_be_awaited_is_given_as_it_is(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """A task that was made is the result, and not waited for."""
    bridge = make_bridge()
    task = bridge.call(asyncio.ensure_future, asyncio.sleep(60))
    assert isinstance(task, asyncio.Task)
    assert not task.done()
    assert bridge.call(task.cancel) is True


def test_errors_and_context_variables_come_back(each_bridge: syncline.Bridge) -> None:
    """As the same object; a StopIteration, too, which a coroutine could not raise."""
    raised = [KeyError("known"), StopIteration(1), SystemExit(3)]

    def fail(error: BaseException) -> None:
        raise error

    for error in raised:
        with pytest.raises(type(error)) as caught:
            each_bridge.call(fail, error)
        assert caught.value is error
    each_bridge.call(variable.set, "set there")
    assert variable.get() == "set there"
    assert each_bridge.call(tuple, (1, 2)) == (1, 2)


@pytest.mark.parametrize("nested", ["switch", "thread", "error"])
def test_on_the_loops_own_thread_it_is_called_at_once(
    make_bridge: Callable[..., syncline.Bridge], nested: str
) -> None:
    """There is nothing to wait for: not even `no_switch` and nested="error" are in the way; nor is a callback."""
    bridge = make_bridge(nested=nested)
    made: list[NeedsALoop] = []

    async def outer() -> asyncio.AbstractEventLoop:
        await turn()
        with syncline.no_switch():
            made.append(bridge.call(NeedsALoop))
        done = asyncio.Event()

        def callback() -> None:
            made.append(bridge.call(NeedsALoop))
            done.set()

        asyncio.get_running_loop().call_soon(callback)
        await done.wait()
        return asyncio.get_running_loop()

    home = bridge.run_sync(outer)
    assert [each.loop for each in made] == [home, home]


def test_what_is_thrown_into_a_nested_call_arrives_there(each_bridge: syncline.Bridge) -> None:
    """Below a sync function, before there is any coroutine of the call's own: one of `call`, or one whose result is
    awaited."""

    async def gives_up() -> bool:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        return scope.cancelled_caught

    assert each_bridge.call(lambda: each_bridge.run_sync(gives_up))

    def begins() -> Coroutine[Any, Any, None]:
        assert each_bridge.run_sync(gives_up)
        return turn()

    each_bridge.run_sync(begins)


def test_a_cancellation_reaches_a_nested_call_below_a_sync_function(each_bridge: syncline.Bridge) -> None:
    """Whose coroutine cleans up."""
    cleaning = Cleaning(0)

    def begins() -> Coroutine[Any, Any, None]:
        each_bridge.run_sync(cleaning)
        return turn()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(each_bridge.run_async, begins)
            await cleaning.began()
            group.cancel_scope.cancel()

    anyio.run(main)
    assert cleaning.is_clean


def test_a_copied_context_keeps_changes_to_itself(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """With context="copy", from outside and on the loop's own thread."""
    bridge = make_bridge(context="copy")
    before = variable.get()

    async def outer() -> str:
        bridge.call(variable.set, "lost")
        return variable.get()

    bridge.call(variable.set, "lost")
    assert (variable.get(), bridge.run_sync(outer)) == (before, before)


def test_a_closed_bridge_says_so() -> None:
    """And calls nothing."""
    bridge = syncline.Bridge()
    bridge.close()
    with pytest.raises(syncline.RunnerClosedError, match="is closed"):
        bridge.call(pytest.fail, "called")


@with_asyncio
def test_enter_makes_the_manager_on_the_loop(each_bridge: syncline.Bridge) -> None:
    """Of a class with its arguments, and of functions that return a manager, or one when awaited."""
    with each_bridge.enter(NeedsALoop, name="given") as made:
        assert (made.name, made.loop) == ("given", each_bridge.run_sync(own_loop))

    async def later() -> NeedsALoop:
        await turn()
        return NeedsALoop()

    @asynccontextmanager
    async def generated(number: int) -> AsyncIterator[int]:
        asyncio.get_running_loop()
        yield number

    with each_bridge.enter(later) as made, each_bridge.enter(generated, 42) as number:
        assert made.loop is each_bridge.run_sync(own_loop)
        assert number == 42


def test_a_manager_that_enter_makes_serves_async_code_and_is_made_anew() -> None:
    """There it is made on the running loop, each time that it is entered."""

    async def main() -> None:
        manager = syncline.enter(NeedsALoop)
        async with manager as one:
            assert one.loop is asyncio.get_running_loop()
        async with manager as two:
            assert two is not one

    asyncio.run(main())


def test_a_real_server_is_entered_by_its_function(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """`asyncio.start_server` is a coroutine function, whose result is a manager."""
    bridge = make_bridge()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return answer

    with bridge.enter(asyncio.start_server, serve, "127.0.0.1", 0) as server:
        assert bridge.run_sync(ask, server.sockets[0].getsockname()[1]) == b"hello\n"
    assert not server.is_serving()
