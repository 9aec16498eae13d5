"""Common mistakes: each message names the mistake and says what to write instead."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import syncline

OURS = str(Path(syncline.__file__).parent)
made: Any = syncline  # without its types, which know the mistakes, too


class Client:
    """An async client."""

    async def get(self, key: str) -> str:
        return key

    async def items(self) -> AsyncIterator[int]:
        yield 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...


class NoExit(syncline.DualContextManager[Any]):
    async def __aenter__(self) -> Any: ...


class NoThrow(syncline.DualGenerator[int, int]):
    async def asend(self, value: int) -> int:
        return value


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[int]:
    yield 1


ran: list[str] = []


def load(name: str = "") -> str:
    ran.append(name)
    return "result"


def rows() -> Iterator[int]:
    ran.append("rows")
    yield 1


client = Client()


def gather() -> Any:
    """As of coroutines where no loop runs; of futures, so that none is left un-awaited."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        return made.run(asyncio.gather(loop.create_future(), loop.create_future()))


def throw() -> None:
    generator = NoThrow()
    try:
        generator.throw(ValueError())
    finally:
        with contextlib.suppress(NotImplementedError):  # it can't be closed either
            generator.close()


def make_items() -> Any:
    return client.items()


def make_rows() -> Any:
    return rows()


def load_in_worker() -> Any:
    return load("from_thread")


async def from_a_worker(fn: Any) -> Any:
    return await syncline.to_thread(made.from_thread, fn)


async def nested(call: Callable[[], Any]) -> Any:
    """In a task of ours, where the call awaits in place."""
    return call()


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a time limit for run_sync": (
        lambda: made.run_sync(client.get, "k", timeout=5),
        (
            "unexpected keyword argument 'timeout'; run_sync() passes all arguments on, so a time limit is set by "
            "run(get(...), timeout=5)"
        ),
    ),
    "a time limit for a nested call": (
        lambda: made.run_sync(nested, lambda: made.run_sync(client.get, "k", timeout=0.5)),
        "run(get(...), timeout=0.5)",
    ),
    "a time limit for a synced function": (
        lambda: made.synced(client.get)("k", timeout=5),
        "synced() passes all arguments on, so a time limit is set by run(get(...), timeout=5)",
    ),
    "a time limit for submit": (lambda: made.submit(client.get, "k", timeout=5), "run(get(...), timeout=5)"),
    "an async generator function for run_sync": (
        lambda: made.run_sync(client.items),
        (
            'run_sync() got the async generator function "items", which has no one result; iterate over what it '
            "makes: for item in iterate(items(...))"
        ),
    ),
    "one for a nested call": (
        lambda: made.run_sync(nested, lambda: made.run_sync(client.items)),
        'run_sync() got the async generator function "items"',
    ),
    "one for run": (lambda: made.run(client.items), "for item in iterate(items(...))"),
    "one for submit": (
        lambda: made.submit(client.items),
        'submit() got the async generator function "items"',
    ),
    "what returns one for run_sync": (
        lambda: made.run_sync(make_items),
        "in iterate(make_items(...))",
    ),
    "an async generator for run_sync": (lambda: made.run_sync(client.items()), "in iterate(items(...))"),
    "an async generator for run": (lambda: made.run(client.items()), "for item in iterate(items(...))"),
    "an async generator for submit": (
        lambda: made.submit(client.items()),
        "submit() got an async generator, which has no one result",
    ),
    "a coroutine for submit": (
        lambda: made.submit(client.get("k")),
        "submit() got a coroutine; give it the async function and its arguments: submit(get, ...)",
    ),
    "a context manager for run": (
        lambda: made.run(session()),
        "run() got an async context manager; enter it: with enter(session(...)) as value",
    ),
    "one of a class for run": (lambda: made.run(client), "with enter(Client(...)) as value"),
    "a manager's function for run_sync": (
        lambda: made.run_sync(session),
        "with enter(session(...)) as value",
    ),
    "a gathering for run": (gather, "run_sync(asyncio.gather, a(), b())"),
    "a class for synced": (lambda: made.synced(Client), "synced() got the class 'Client'"),
    "a class for sync_compatible": (
        lambda: made.sync_compatible(Client),
        "sync_compatible() got the class 'Client'",
    ),
    "a class for coroutine": (lambda: made.coroutine(Client), "coroutine() got the class 'Client'"),
    "a class for iterator": (lambda: made.iterator(Client), "iterator() got the class 'Client'"),
    "a class for contextmanager": (
        lambda: made.contextmanager(Client),
        "contextmanager() got the class 'Client'",
    ),
    "a sync function for enter": (
        lambda: made.enter(load).__enter__(),
        "enter() got 'load', which was called and returned str, no async context manager",
    ),
    "arguments for a manager, for enter": (
        lambda: made.enter(Client(), 1),
        "enter() got arguments for a function, and Client is none",
    ),
    "an async function for call": (
        lambda: made.call(client.get, "key"),
        'call() takes sync functions, and "get" is async (it was not called); use run_sync(get, ...)',
    ),
    "an async function behind another one, for call": (
        lambda: made.call(lambda: client.get("key")),
        "(what it returned is a coroutine, of which nothing has run)",
    ),
    "a coroutine for call": (
        lambda: made.call(client.get("key")),
        "call() takes a sync function and its arguments, and got a coroutine; use run_sync(get, ...)",
    ),
    "a generator function for call": (
        lambda: made.call(rows),
        'call() got the sync generator function "rows", whose code has not run',
    ),
    "a number for call": (lambda: made.call(5), "call() takes a sync function and its arguments, not int"),
    "a sync function for run_async": (
        lambda: asyncio.run(made.run_async(load)),
        'run_async() got the sync function "load"; call it directly: load(...). This call of it has run',
    ),
    "a coroutine for run_async": (
        lambda: asyncio.run(made.run_async(client.get("key"))),
        "give it the async function and its arguments: run_async(get, ...)",
    ),
    "a generator function for iterate": (lambda: made.iterate(client.items), "call it: items(...)"),
    "a scope without its keyword": (lambda: made.Bridge("thread"), 'Bridge(scope="thread")'),
    "any option without its keyword": (
        lambda: made.Bridge(5),
        'keywords only, such as scope="thread"; 5 has none',
    ),
    "a time limit without its name": (
        lambda: made.run(client.get("k"), 5),
        "run() takes the time limit by its name: run(get(...), timeout=5)",
    ),
    "several coroutines for run": (
        lambda: made.run(client.get("k"), client.get("l")),
        "run() takes one awaitable; for the results of several: run_sync(asyncio.gather, a(), b())",
    ),
    "a function and its arguments for run": (
        lambda: made.run(client.get, "k"),
        'run() takes an awaitable and got the function "get"; use run_sync(get, ...)',
    ),
    "a context manager for iterate": (
        lambda: made.iterate(session()),
        "enter it: with enter(session(...)) as value",
    ),
    "a coroutine for iterate": (
        lambda: made.iterate(client.get("k")),
        "await it, and iterate over its result: run(get(...))",
    ),
    "a list for iterate": (lambda: made.iterate([1]), "not list; it is a sync one: iterate over it as it is"),
    "a sync manager for enter": (
        lambda: made.enter(contextlib.closing(rows())),
        "not closing; it is a sync one: enter it as it is",
    ),
    "a sync manager that can be called, for enter": (
        lambda: made.enter(contextlib.suppress(OSError)),
        "not suppress; it is a sync one: enter it as it is",
    ),
    "a coroutine for enter": (
        lambda: made.enter(client.get("k")),
        "give the function and its arguments: enter(get, ...)",
    ),
    "an async generator for enter": (lambda: made.enter(client.items()), "for item in iterate(items(...))"),
    "a manager's function for contextmanager": (
        made.contextmanager(session),
        "'session' makes a context manager already: take the other decorator off",
    ),
    "a synced function for synced": (
        lambda: made.synced(made.synced(client.get)),
        "synced() got 'get', which it has made of the async function 'get'; use it as it is",
    ),
    "a coroutine for run_in_new_loop": (
        lambda: made.run_in_new_loop(client.get("k")),
        "give it the async function and its arguments: run_in_new_loop(get, ...)",
    ),
    "an async function for to_thread": (
        lambda: asyncio.run(made.to_thread(client.get, "k")),
        'to_thread() takes sync functions, and "get" is async (it was not called); use it as it is: await get(...)',
    ),
    "an async generator function for a limiter": (
        lambda: asyncio.run(made.ThreadLimiter(1).to_thread(Client.items, client)),
        "use it as it is: async for item in items(...)",
    ),
    "an async function for to_caller": (
        lambda: made.run(made.to_caller(client.get, "k")),
        'to_caller() takes sync functions, and "get" is async (it was not called)',
    ),
    "a manager without __aexit__": (lambda: NoExit().__enter__(), "NoExit must define __aexit__"),
    "a generator without athrow": (throw, "NoThrow must define athrow"),
    "an async function for threaded": (lambda: made.threaded(client.get), "'get' is async; call it as it is"),
}
HAS_RUN = "call it directly: load(...). This call of it has run"
SYNC_FUNCTIONS: dict[str, tuple[Callable[[], object], str]] = {
    "run_sync": (
        lambda: made.run_sync(load, "run_sync"),
        'run_sync() got the sync function "load"; ' + HAS_RUN,
    ),
    "submit": (
        lambda: made.submit(load, "submit").result(10),
        'submit() got the sync function "load"; ' + HAS_RUN,
    ),
    "synced": (lambda: made.synced(load)("synced"), 'synced() got the sync function "load"; ' + HAS_RUN),
    "nested": (lambda: made.run_sync(nested, lambda: made.run_sync(load, "nested")), HAS_RUN),
    "from_thread": (
        lambda: asyncio.run(from_a_worker(load_in_worker)),
        "This call of it has run",
    ),
    "coroutine": (
        lambda: made.coroutine(load)("coroutine"),
        "the sync function 'load', which has run and returned str",
    ),
}
GENERATOR_FUNCTIONS: dict[str, Callable[[], object]] = {
    "run_sync": lambda: made.run_sync(rows),
    "run": lambda: made.run(rows),
    "submit": lambda: made.submit(rows),
    "from_thread": lambda: asyncio.run(from_a_worker(rows)),
    "nested": lambda: made.run_sync(nested, lambda: made.run_sync(rows)),
    "what returns one": lambda: made.run_sync(make_rows),
}


def frames_of_ours(error: BaseException) -> list[str]:
    return [
        frame.name for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(OURS)
    ]


def check_message(mistake: Callable[[], object], kinds: Any, words: str) -> None:
    """It says so, and the traceback shows one frame of ours at most. What is left un-awaited would be a warning, which
    is an error."""
    with pytest.raises(kinds) as caught:
        mistake()
    assert words in str(caught.value)
    assert len(frames_of_ours(caught.value)) <= 1
    del caught
    gc.collect()


@pytest.mark.parametrize(("mistake", "words"), MISTAKES.values(), ids=MISTAKES)
def test_the_message_says_what_to_write(mistake: Callable[[], object], words: str) -> None:
    check_message(mistake, (TypeError, NotImplementedError), words)


def test_install_says_that_no_loop_runs() -> None:
    """And how it is given one."""
    with pytest.raises(RuntimeError, match=r"in async code, or give it the loop: install\(loop\)"):
        syncline.install()


@pytest.mark.parametrize(("call", "words"), SYNC_FUNCTIONS.values(), ids=SYNC_FUNCTIONS)
def test_a_sync_function_that_had_to_be_called_has_run_and_the_message_says_so(
    call: Callable[[], object], words: str
) -> None:
    """Who follows the advice calls it a second time, and should know that."""
    ran.clear()
    with pytest.raises(TypeError) as caught:
        call()
    assert words in str(caught.value)
    assert len(ran) == 1


@pytest.mark.parametrize("call", GENERATOR_FUNCTIONS.values(), ids=GENERATOR_FUNCTIONS)
def test_a_sync_generator_function_has_not_run(call: Callable[[], object]) -> None:
    """Calling one runs nothing of it, and the message says so."""
    ran.clear()
    with pytest.raises(TypeError, match="whose code has not run; iterate over what it makes: for item in "):
        call()
    assert not ran


class Awaitable:
    """A class whose objects can be awaited."""

    def __init__(self, result: str) -> None:
        self.result = result

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return self.result


def returns_a_coroutine(key: str) -> Coroutine[Any, Any, str]:
    return client.get(key)


@pytest.mark.parametrize("fn", [returns_a_coroutine, functools.partial(returns_a_coroutine), Awaitable])
@pytest.mark.parametrize("way", ["run_sync", "submit", "synced", "coroutine"])
def test_whatever_returns_an_awaitable_goes_on_working(fn: Any, way: str) -> None:
    """Sync functions and classes, too: only what a call returns tells what they are."""
    ways: dict[str, Callable[[], object]] = {
        "run_sync": lambda: made.run_sync(fn, "key"),
        "submit": lambda: made.submit(fn, "key").result(10),
        "synced": lambda: made.synced(fn)("key"),
        "coroutine": lambda: made.coroutine(fn)("key").run(),
    }
    assert ways[way]() == "key"


def test_a_keyword_called_timeout_reaches_the_function_that_takes_it() -> None:
    """And an error of its own code about it is left alone."""

    async def wait(*, timeout: float) -> float:  # noqa: ASYNC109 -- that is what this is about
        return timeout

    async def other(**options: Any) -> None:
        await client.get(**options)

    assert syncline.run_sync(wait, timeout=5) == 5
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'timeout'$"):
        syncline.run_sync(other, key="key", timeout=5)


def test_the_module_shows_its_public_names_only() -> None:
    """And its version."""
    names = {name for name in dir(syncline) if not (name.startswith("__") and name.endswith("__"))}
    assert names - {"compat", "jupyter", "telemetry", "twins", "waiting"} == set(syncline.__all__) - {
        "__version__"
    }
    assert syncline.__version__.count(".") == 2
