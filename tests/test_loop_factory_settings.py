"""What a loop_factory gave its loop stays as it is, and is told where it can't work."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

import syncline

MakeBridge = Callable[..., syncline.Bridge]
kinds = pytest.mark.parametrize(
    "new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
LIMIT = 20.0
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


async def fails_in_the_background() -> None:
    async def fails() -> None:
        raise ValueError("background")

    task = asyncio.get_running_loop().create_task(fails())
    await asyncio.wait([task])
    del task


@kinds
@scopes
def test_its_exception_handler_is_kept(
    make_bridge: MakeBridge, new_loop: Any, scope: str, caplog: Any
) -> None:
    """Errors that nobody saw go where the user has sent them, and nowhere else."""
    seen: list[Any] = []

    def factory() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = new_loop()
        loop.set_exception_handler(lambda loop, what: seen.append(what["exception"]))
        return loop

    bridge = make_bridge(loop_factory=factory, scope=scope)
    with caplog.at_level(logging.DEBUG, "syncline"):
        bridge.run_sync(fails_in_the_background)
        gc.collect()
    assert [str(error) for error in seen] == ["background"]
    assert caplog.records == []


@kinds
@scopes
def test_a_loop_without_one_tells_our_logger(
    make_bridge: MakeBridge, new_loop: Any, scope: str, caplog: Any
) -> None:
    """As our own loops do."""
    bridge = make_bridge(loop_factory=new_loop, scope=scope)
    with caplog.at_level(logging.ERROR, "syncline"):
        bridge.run_sync(fails_in_the_background)
        gc.collect()
    assert [str(record.exc_info[1]) for record in caplog.records] == ["background"]


@kinds
@scopes
def test_a_closed_loop_is_refused(make_bridge: MakeBridge, new_loop: Any, scope: str, caplog: Any) -> None:
    """A factory that gives one loop again and again is told to make a new one each time; closing works all the same."""
    loop = new_loop()
    loop.close()
    bridge = make_bridge(loop_factory=lambda: loop, scope=scope)
    for _ in range(2):
        with pytest.raises(TypeError, match="returned one that is closed; it has to make one each time"):
            bridge.run_sync(asyncio.sleep, 0)
    bridge.close()
    assert caplog.records == []


def forgets_the_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
    coro.close()


def gives_something_else(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
    coro.close()
    return loop.create_future()


def has_no_return(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
    asyncio.Task(coro, loop=loop, **options)


def with_task_factory(new_loop: Any, make_task: Any) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes loops whose tasks `make_task` makes."""

    def make() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = new_loop()
        loop.set_task_factory(make_task)
        return loop

    return make


async def number() -> int:
    await asyncio.sleep(0)
    return 1


async def numbers() -> AsyncIterator[int]:
    yield await number()


@kinds
@scopes
@pytest.mark.parametrize("factory", [forgets_the_task, gives_something_else, has_no_return])
def test_a_task_factory_that_returns_no_task_ends_each_call(
    make_bridge: MakeBridge, new_loop: Any, scope: str, factory: Any
) -> None:
    """By an error, which tells what the factory has to return where nothing has ended the call yet."""
    faulty = True

    def make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        return factory(loop, coro, **options) if faulty else asyncio.Task(coro, loop=loop, **options)

    bridge = make_bridge(loop_factory=with_task_factory(new_loop, make_task), scope=scope)
    calls: list[Callable[[], Any]] = [
        lambda: bridge.run_sync(number),
        lambda: bridge.run(number(), timeout=LIMIT),
    ]
    if factory is not has_no_return:  # what it leaves of an iterator's task can't even be closed
        calls.append(lambda: [*bridge.iterate(numbers())])
    for call in calls:
        with pytest.raises((TypeError, syncline.RunnerClosedError), match=r"task factory|loop was stopped"):
            call()
    faulty = False
    assert [call() for call in calls] == [1, 1, [1]][: len(calls)]


@kinds
@scopes
@pytest.mark.parametrize("error", [ValueError("mine"), SystemError("mine")], ids=repr)
def test_what_a_task_factory_raises_reaches_the_caller(
    make_bridge: MakeBridge, new_loop: Any, scope: str, error: Exception
) -> None:
    """As it is: not every SystemError in the main thread hides a Ctrl-C that asyncio has lost."""

    def make_task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        if is_faulty:
            raise error
        return asyncio.Task(coro, loop=loop, **options)

    is_faulty = True
    bridge = make_bridge(loop_factory=with_task_factory(new_loop, make_task), scope=scope)
    with pytest.raises(type(error), match="mine"):
        bridge.run_sync(number)
    is_faulty = False
    assert bridge.run_sync(number) == 1


@pytest.mark.parametrize("scope", ["process", "caller"])
def test_a_class_in_the_place_of_a_loop_is_named(make_bridge: MakeBridge, scope: str) -> None:
    """A lambda around what could have been given itself: the error said that `is_running()` lacks an argument."""
    bridge = make_bridge(loop_factory=lambda: asyncio.SelectorEventLoop, scope=scope)
    with pytest.raises(TypeError, match=r"returned the class .*; return _UnixSelectorEventLoop\(\), or give"):
        bridge.run_sync(asyncio.sleep, 0)
