"""sync_compatible: the coroutine where a loop runs, the result elsewhere, and a warning where that is a trap."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import pickle
import sys
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest
import trio

import syncline

R = TypeVar("R")
Run = Callable[[Callable[[], Coroutine[Any, Any, R]]], R]
bridge = syncline.Bridge()
current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="unset")


@bridge.sync_compatible
async def add(a: int, b: int = 1) -> int:
    """Adds."""
    await anyio.lowlevel.checkpoint()
    return a + b


@bridge.sync_compatible
async def where() -> tuple[Any, threading.Thread]:
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), threading.current_thread()


class Client:
    """Has each kind of method."""

    def __init__(self, base: int) -> None:
        self.base = base

    @bridge.sync_compatible
    async def get(self, x: int) -> int:
        return self.base + x

    @staticmethod
    @bridge.sync_compatible
    async def static(x: int) -> int:
        return x

    @bridge.sync_compatible
    @staticmethod
    async def static_below(x: int) -> int:
        return x

    @classmethod
    @bridge.sync_compatible
    async def named(cls) -> str:
        return cls.__name__

    @bridge.sync_compatible
    @classmethod
    async def named_below(cls) -> str:
        return cls.__name__


def fresh() -> Any:
    """A function that has not warned yet."""

    @syncline.sync_compatible
    async def load(x: int = 1) -> int:
        await anyio.lowlevel.checkpoint()
        return x

    return load


@pytest.fixture(params=["asyncio", "uvloop", "our own loop", "trio"])
def run_anywhere(request: pytest.FixtureRequest) -> Run[Any]:
    """As `run_async`, and trio."""
    if request.param == "trio":
        return trio.run
    import uvloop

    return {
        "asyncio": lambda main: asyncio.run(main()),
        "uvloop": lambda main: uvloop.run(main()),
        "our own loop": syncline.run_sync,
    }[request.param]


def test_in_sync_code_a_call_gives_the_result() -> None:
    """From the bridge's own loop, so that what one call makes the next one can use."""
    assert add(1) == 2
    assert add(1, b=5) == 6
    assert where() == where() == bridge.run_sync(where.aio)


def test_in_a_running_loop_a_call_gives_the_coroutine(run_anywhere: Run[Any]) -> None:
    """To be awaited there; also in a comprehension, a lambda, a partial, and what awaits a function's result."""

    async def main() -> list[Any]:
        results: list[Any] = [await add(1), *[await call for call in [add(x) for x in (2, 3)]]]
        for call in (lambda: add(4), functools.partial(add, 5)):
            results.append(await call())
        results += await syncline.gather(lambda: add(6), functools.partial(add, 7))
        async with anyio.create_task_group() as group:
            group.start_soon(add, 8)
        return results

    assert run_anywhere(main) == [2, 3, 4, 5, 6, 7, 8]


def test_asyncio_may_be_given_the_function(run_async: Run[Any]) -> None:
    """In a generator expression, and on a bridge: no warning, as what they get is awaited."""

    async def main() -> Any:
        return await asyncio.gather(*(add(x) for x in range(3)))

    load = fresh()
    assert run_async(main) == [1, 2, 3]
    assert syncline.run_sync(load, 4) == 4
    with syncline.Bridge(loop_factory=__import__("uvloop").new_event_loop) as other:
        assert other.run_sync(load, 5) == 5


def test_sync_forces_either(run_anywhere: Run[Any]) -> None:
    """`_sync=True` gives the result in a running loop, also to a sync function (case 91); False the coroutine."""

    def helper() -> int:
        return add(1, _sync=True)

    async def main() -> Any:
        assert add(2, _sync=True) == 3
        assert await add(3, _sync=False) == 4
        assert await add.aio(4) == 5
        return helper()

    assert run_anywhere(main) == helper() == 2
    coro = add(5, _sync=False)
    assert inspect.iscoroutine(coro)
    assert asyncio.run(coro) == 6


def test_all_kinds_of_methods_work() -> None:
    """Above and below the other decorator, and `.aio` is bound as the method is."""
    client = Client(10)
    assert client.get(1) == Client.get(client, 1) == 11
    assert client.static(2) == Client.static(2) == client.static_below(2) == Client.static_below(2) == 2
    assert client.named() == Client.named() == client.named_below() == Client.named_below() == "Client"

    async def main() -> list[Any]:
        return [
            await client.get(1),
            await client.get.aio(1),
            await Client.static(2),
            await Client.named(),
            await Client.named_below.aio(),
            client.get(3, _sync=True),
        ]

    assert asyncio.run(main()) == [11, 11, 2, "Client", "Client", 13]


def test_aio_below_classmethod_is_what_the_language_makes_of_it() -> None:
    """From Python 3.13 on `@classmethod` binds by itself, so that `.aio` below it takes the class."""
    aio: Any = Client.named.aio
    assert asyncio.run(aio(Client) if sys.version_info >= (3, 13) else aio()) == "Client"


def test_tools_see_the_function() -> None:
    """Name, docstring and signature; `.aio` is the very function that was decorated; it pickles by reference."""

    async def plain() -> None: ...

    assert (add.__name__, add.__doc__, add.__module__) == ("add", "Adds.", __name__)
    assert list(inspect.signature(add).parameters) == ["a", "b"]
    assert syncline.sync_compatible(plain).aio is plain
    assert syncline.is_async_fn(add)
    assert "add" in repr(add)
    assert pickle.loads(pickle.dumps(add)) is add


def test_in_a_worker_thread_the_loop_that_sent_it_is_used(run_async: Run[Any]) -> None:
    """That loop, not the bridge's; and nobody is warned."""

    async def main() -> None:
        loop, thread = await syncline.to_thread(where)
        assert loop is asyncio.get_running_loop()
        assert thread is threading.current_thread()

    run_async(main)


def test_in_a_thread_that_is_only_marked_the_bridge_is_used() -> None:
    """Nobody sent it."""
    assert syncline.call_with_mark(where) == where()


@pytest.mark.parametrize("context", ["share", "copy"])
def test_in_a_worker_thread_the_bridge_says_whose_context_it_is(run_async: Run[Any], context: Any) -> None:
    """What the coroutine sets shows in its caller, but for context="copy", as in any other thread."""

    @syncline.Bridge(context=context).sync_compatible
    async def change() -> str:
        before = current.get()
        current.set("changed")
        return before

    def work() -> tuple[str, str]:
        current.set("the caller's")
        return change(), current.get()

    async def main() -> None:
        seen = await syncline.to_thread(work)
        assert seen == ("the caller's", "changed" if context == "share" else "the caller's")

    run_async(main)


def test_an_error_in_a_worker_thread_is_the_functions_own(run_async: Run[Any]) -> None:
    """A RuntimeError that the function raises doesn't make it run again."""
    calls = []

    @syncline.sync_compatible
    async def fails() -> None:
        calls.append(1)
        raise RuntimeError("mine")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="mine"):
            await syncline.to_thread(fails)

    run_async(main)
    assert calls == [1]


def test_a_worker_that_outlives_its_request_blocks_no_loop(run_async: Run[Any]) -> None:
    """The await is cancelled while the worker needs the loop: that goes on, and the worker is told (case 8)."""
    load = fresh()
    begun, released = threading.Event(), threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[BaseException | None] = loop.create_future()

        def work() -> None:
            begun.set()
            assert released.wait(20)
            error = None
            try:
                load(7)
            except asyncio.CancelledError as caught:
                error = caught
            loop.call_soon_threadsafe(told.set_result, error)

        request = asyncio.create_task(syncline.to_thread(work))
        while not begun.is_set():
            await asyncio.sleep(0)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        released.set()
        assert isinstance(await asyncio.wait_for(told, 20), asyncio.CancelledError)

    run_async(main)


def test_contextvars_come_back_in_sync_code() -> None:
    """As with run_sync."""

    @syncline.sync_compatible
    async def change() -> None:
        current.set("changed")

    def body() -> str:
        change()
        return current.get()

    assert contextvars.copy_context().run(body) == "changed"


def test_a_sync_function_in_a_loop_is_warned_once(run_anywhere: Run[Any]) -> None:
    """It gets the coroutine, and a warning with the reason and what to do, at its own line (case 91)."""
    load = fresh()

    def helper() -> Any:
        return load(3)

    async def main() -> None:
        with pytest.warns(RuntimeWarning) as caught:
            coro = helper()
        assert await coro == 3
        assert await helper() == 3  # warnings are errors in our tests
        (warning,) = caught
        text = str(warning.message)
        assert "load() was called by the sync function" in text
        assert "helper" in text
        assert "_sync=True" in text
        assert "load.aio(...)" in text
        assert warning.filename == __file__

    run_anywhere(main)
    assert helper() == 3


def test_a_method_warns_once_for_all_objects() -> None:
    """Not once for each."""

    class Service:
        @syncline.sync_compatible
        async def get(self) -> int:
            return 1

    def helper() -> Any:
        return Service().get()

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="helper"):
            await helper()
        await helper()

    asyncio.run(main())


def test_a_warning_that_is_an_error_comes_each_time() -> None:
    """And leaves no coroutine un-awaited."""
    load = fresh()

    def helper() -> Any:
        return max([1], key=lambda x: load(x + 1))

    async def main() -> None:
        for _ in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with pytest.raises(RuntimeWarning, match="helper"):
                    helper()

    asyncio.run(main())


def test_an_async_generator_is_a_direct_caller() -> None:
    """As a coroutine is."""
    load = fresh()

    async def items() -> AsyncIterator[int]:
        yield await load(5)

    async def main() -> list[int]:
        return [item async for item in items()]

    assert asyncio.run(main()) == [5]


def test_async_generator_functions_are_refused() -> None:
    """With what serves both worlds instead (case 43); also behind a wrapper."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    for wrong in (numbers, functools.partial(numbers)):
        with pytest.raises(TypeError, match=r"generator function .*syncline\.iterator.*syncline\.synced"):
            syncline.sync_compatible(wrong)


def test_sync_functions_are_refused() -> None:
    """There is nothing to decide."""

    def load() -> None: ...

    for wrong in (load, staticmethod(load), 5):
        with pytest.raises(TypeError, match="takes an async function"):
            syncline.sync_compatible(wrong)
