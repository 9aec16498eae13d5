"""The wrong thing given: what a function has made in the place of the function, something sync, something that is no
function. Each message names it and says what to write, and nothing that was refused is left un-awaited."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol
from unittest import mock

import pytest
import trio

import syncline
from child import eventually
from test_mistakes import check_message, frames_of_ours

made: Any = syncline  # without its types, which know the mistakes, too


class Client:
    """An async client."""

    async def get(self) -> None: ...

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *exc_info: object) -> None: ...


class Getting(Protocol):
    async def get(self) -> None: ...


async def fetch(key: str = "") -> str:
    return key


async def items() -> AsyncIterator[int]:
    yield 1


def load() -> str:
    return "result"


def rows() -> Iterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[int]:
    yield 1


@contextlib.contextmanager
def opened() -> Iterator[int]:
    yield 1


def returns_a_coroutine() -> Any:
    return fetch()


def dual() -> Any:
    return syncline.coroutine(fetch)()


def finalize(afn: Any) -> None:
    made.finalize(Client(), afn)


def awaited(call: Callable[[Any], Any], given: Any) -> Any:
    return asyncio.run(call(given))


ENTER = "an async context manager; enter it: with enter(session(...)) as value"
TAKES: dict[str, str] = {
    "run_sync": "run_sync(fetch, ...), where `fetch` is an async function",
    "submit": "submit(fetch, ...), where `fetch` is an async function",
    "run": "run(fetch(...)), or run_sync(fetch, ...), where `fetch` is an async function",
    "run_in_new_loop": "run_in_new_loop(fetch, ...), where `fetch` is an async function",
}
DECORATORS = ["synced", "coroutine", "iterator", "generator", "contextmanager", "sync_compatible"]
MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    **{
        f"a number for {name}": (functools.partial(getattr(made, name), 5), f"not int: {TAKES[name]}")
        for name in TAKES
    },
    "a list for run": (
        lambda: made.run([1]),
        "run() takes one awaitable, not list; for the results of several: run_sync(asyncio.gather, a(), b())",
    ),
    "a sync generator for run_sync": (
        lambda: made.run_sync(rows()),
        "run_sync() got a sync generator; iterate over it as it is: for item in rows(...)",
    ),
    "a future for run_sync": (lambda: made.run_sync(made.submit(fetch)), "wait for it: future.result()"),
    "a manager for run_sync": (lambda: made.run_sync(session()), f"run_sync() got {ENTER}"),
    "a manager for a nested call": (
        lambda: made.run_sync(nested, lambda: made.run_sync(session())),
        f"run_sync() got {ENTER}",
    ),
    "a manager and a function for run_sync": (
        lambda: made.run_sync(session(), fetch),
        f"run_sync() got {ENTER}",
    ),
    "a manager for submit": (lambda: made.submit(session()).result(), f"submit() got {ENTER}"),
    "a manager for call": (lambda: made.call(session()), f"call() got {ENTER}"),
    "a manager for synced": (lambda: made.synced(session()), f"synced() got {ENTER}"),
    "a manager of a class for run_sync": (
        lambda: made.run_sync(Client()),
        "with enter(Client(...)) as value",
    ),
    "a sync manager for run": (lambda: made.run(opened()), "a context manager; enter it as it is, by `with`"),
    "a dual manager for run_sync": (
        lambda: made.run_sync(made.contextmanager(items)()),
        "a context manager; enter it as it is, by `with`",
    ),
    "a dual iterator for run": (
        lambda: made.run(made.iterator(items)()),
        "iterate over it as it is, by `for`",
    ),
    "a synced generator function for run_sync": (
        lambda: made.run_sync(made.synced(items)),
        'run_sync() got "items", of which nothing has run; sync code iterates as it is: for item in items(...)',
    ),
    "a dual coroutine for run_sync": (lambda: made.run_sync(dual()), "or use run(fetch(...))"),
    "a dual coroutine and a limit for run": (lambda: made.run(dual(), 5), "run(fetch(...), timeout=5)"),
    "a partial for run_sync": (
        lambda: made.run_sync(functools.partial(load)),
        'run_sync() got the sync function "load"; call it directly: load(...)',
    ),
    "a partial for run": (lambda: made.run(functools.partial(fetch)), "use run_sync(fetch, ...)"),
    "a mock for run": (lambda: made.run(mock.AsyncMock()), 'got the function "AsyncMock"'),
    "an async generator function for call": (lambda: made.call(items), "for item in iterate(items(...))"),
    "a sync function for run_in_new_loop": (
        lambda: made.run_in_new_loop(load),
        'run_in_new_loop() got the sync function "load"; call it directly: load(...). This call of it has run',
    ),
    "a dual coroutine for run_in_new_loop": (
        lambda: made.run_in_new_loop(dual()),
        "give it the async function and its arguments: run_in_new_loop(fetch, ...)",
    ),
    **{
        f"a {kind} for {name}": (
            lambda name=name, make=make: getattr(made, name)(make()),
            f"{name}() got a coroutine; give it the async function itself: {name}(fetch)",
        )
        for name in DECORATORS
        for kind, make in (("coroutine", fetch), ("dual coroutine", dual))
    },
    **{
        f"an async generator for {name}": (
            functools.partial(getattr(made, name), items()),
            f"{name}() got an async generator; give it the function that makes it: {name}(items)",
        )
        for name in DECORATORS
    },
    **{
        f"a manager's function for {name}": (
            functools.partial(getattr(made, name), session),
            (
                f"{name}() got 'session', which makes an async context manager; use @syncline.contextmanager in "
                "the place of @asynccontextmanager"
            ),
        )
        for name in DECORATORS
        if name != "contextmanager"
    },
    **{
        f"a class in C for {name}": (
            functools.partial(getattr(made, name), int),
            f"{name}() got the class 'int', which has nothing async; call it as it is: int(...)",
        )
        for name in DECORATORS
    },
    "a subclass of one": (
        lambda: made.synced(LookupError),
        "the class 'LookupError', which has nothing async",
    ),
    "type itself": (lambda: made.synced(type), "the class 'type', which has nothing async"),
    "a protocol for synced": (
        lambda: made.synced(Getting),
        "for a class with the same methods, sync: blocking(",
    ),
    "a class with async methods for coroutine": (
        lambda: made.coroutine(Client),
        "coroutine() got the class 'Client'; decorate its async methods, one by one",
    ),
    "what returns coroutines for iterator": (
        made.iterator(returns_a_coroutine),
        "'returns_a_coroutine', whose call returned a coroutine (nothing of it has run); use syncline.coroutine",
    ),
    "what returns coroutines for contextmanager": (
        made.contextmanager(returns_a_coroutine),
        "whose call returned a coroutine (nothing of it has run); use syncline.coroutine",
    ),
    "a partial for coroutine": (
        lambda: made.coroutine(functools.partial(items)),
        "coroutine() got 'items', which is",
    ),
    "a coroutine for nestable": (
        lambda: made.nestable(fetch()),
        "nestable() got a coroutine; give it the async function: nestable(fetch)",
    ),
    "a number for nestable": (lambda: made.nestable(5), "nestable() takes a function, not int"),
    "a sync function for nestable": (
        lambda: asyncio.run(made.nestable(load)()),
        (
            "nestable() takes an async function, and 'load' is none: this call of it has run, and returned str; for "
            "sync code: await run_nestable(load, ...)"
        ),
    ),
    "a generator function for nestable": (
        lambda: asyncio.run(made.nestable(rows)()),
        "'rows' is a generator function, whose code has not run",
    ),
    "a mock for nestable": (
        lambda: asyncio.run(made.nestable(mock.MagicMock())()),
        "has run, and returned MagicMock",
    ),
    "a coroutine for run_nestable": (
        lambda: awaited(made.run_nestable, fetch()),
        "give it the function and its arguments: run_nestable(fetch, ...)",
    ),
    "a number for threaded": (lambda: made.threaded(5), "threaded() takes a function, not int"),
    "a coroutine for threaded": (
        lambda: made.threaded(fetch()),
        "threaded() got a coroutine; use it as it is: await fetch(...)",
    ),
    "a coroutine for to_thread": (
        lambda: awaited(made.to_thread, fetch()),
        "to_thread() takes a sync function and its arguments, and got a coroutine; use it as it is: await fetch(...)",
    ),
    "a number for to_thread": (
        lambda: awaited(made.to_thread, 5),
        "to_thread() takes a sync function and its arguments, not int",
    ),
    "a coroutine for to_caller": (
        lambda: made.run(made.to_caller(fetch())),
        "to_caller() takes a sync function and its arguments, and got a coroutine",
    ),
    "a coroutine for resource": (
        lambda: made.resource(fetch()),
        "resource() got a coroutine; give it the async function: resource(fetch)",
    ),
    "a manager for resource": (
        lambda: made.resource(session()),
        "resource() takes the function that makes the object, not the _AsyncGeneratorContextManager itself",
    ),
    "a coroutine for blocking": (lambda: made.blocking(fetch()), "not the coroutine 'fetch'; use run(...)"),
    "a manager's function for blocking": (lambda: made.blocking(session), "use enter(session, ...)"),
    "a coroutine for finalize": (
        lambda: finalize(fetch()),
        "give it the function: finalize(owner, fetch, ...)",
    ),
    "a number for finalize": (
        lambda: finalize(5),
        "finalize() takes an object and an async function, not int",
    ),
    "a coroutine for map": (lambda: made.map(fetch(), [1]), "give it the async function: map(fetch, ...)"),
    "a generator for map": (lambda: made.map(rows(), [1]), "items to call it with, not generator"),
    "a limit of none for map": (lambda: made.map(fetch, [1], limit=True), "a whole number, not True"),
    "a number for amap": (
        lambda: made.amap(5, [1]),
        "amap() takes an async function and items to call it with, not int",
    ),
    "a partial for aiterate": (
        lambda: made.aiterate(functools.partial(rows)),
        "aiterate() takes an iterable, not partial; call it: aiterate(rows(...))",
    ),
    "a coroutine for aiterate": (
        lambda: made.aiterate(fetch()),
        "iterate over its result: aiterate(await fetch(...))",
    ),
    "a manager's function for aenter": (
        lambda: made.aenter(opened),
        "not function; call it: aenter(opened(...))",
    ),
    "a coroutine for aenter": (lambda: made.aenter(fetch()), "await it: aenter(await fetch(...))"),
    "a partial for enter": (
        lambda: made.enter(functools.partial(load)).__enter__(),
        "enter() got 'load', which was called and returned str",
    ),
}


OPTIONS: dict[str, tuple[Callable[[], object], str]] = {
    **{
        f"{option} of {value!r}": (
            lambda option=option, value=value: made.Bridge(**{option: value}),
            f"{option} must be one of {choices}, not {value!r}",
        )
        for option, choices in {
            "scope": '"process", "thread", "caller"',
            "nested": '"switch", "thread", "error"',
            "context": '"share", "copy"',
            "backend": '"asyncio", "trio"',
            "in_worker": '"own", "sender"',
            "in_loop": '"block", "warn", "error"',
            "in_async": '"task", "home"',
        }.items()
        for value in ([None, 5, ["thread"]] if option != "nested" else [5])
    },
    "name": (lambda: made.Bridge(name=5), "name must be a string, not 5"),
    "cleanup_timeout": (
        lambda: made.Bridge(cleanup_timeout="1"),
        "cleanup_timeout must be a number of seconds, or math.inf for no limit, not '1'",
    ),
    "stall_after": (
        lambda: made.Bridge(stall_after=True),
        "stall_after must be a number of seconds or None, not True",
    ),
    "timeout of run": (
        lambda: made.run(fetch(), timeout="5"),
        "timeout must be a number of seconds or None, not '5'",
    ),
    "a flag as timeout of run": (lambda: made.run(fetch(), timeout=True), "or None, not True"),
    "timeout of a dual coroutine": (lambda: dual().run(timeout=[]), "or None, not []"),
    "timeout of group": (lambda: made.group(timeout="5"), "the seconds that its block may take, not '5'"),
    "a number as limiter": (
        lambda: made.threaded(load, limiter=4),
        (
            "limiter of threaded() is a ThreadLimiter or a Worker, not 4; for so many threads at a time: "
            "threaded(limiter=ThreadLimiter(4))"
        ),
    ),
    "no number as limiter": (lambda: made.threaded(load, limiter=0), "is a ThreadLimiter or a Worker, not 0"),
    "a flag for direct": (lambda: made.blocking(Client, direct=True), "direct=['close'], not True"),
    "a number for related": (lambda: made.blocking(Client, related=5), "related=['httpx'], not 5"),
    "no names": (lambda: made.blocking(Client, names=True), "names of blocking() maps names of the class"),
    "a name of a twin": (lambda: made.blocking(Client, name=1.5), "name of blocking() is a string, not 1.5"),
}


@pytest.mark.parametrize(("mistake", "words"), OPTIONS.values(), ids=OPTIONS)
def test_the_message_says_which_option_may_be_what(mistake: Callable[[], object], words: str) -> None:
    """In the message itself, not in a note; and no coroutine is left un-awaited."""
    test_the_message_says_what_to_write(mistake, words)


async def nested(call: Callable[[], Any]) -> Any:
    """In a task of ours, where the call awaits in place."""
    return call()


@pytest.mark.parametrize(("mistake", "words"), MISTAKES.values(), ids=MISTAKES)
def test_the_message_says_what_to_write(mistake: Callable[[], object], words: str) -> None:
    check_message(mistake, TypeError, words)


def test_whatever_can_be_awaited_can_be_made_nestable() -> None:
    """As what `run_sync` takes."""

    def futures() -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_result("of a future")
        return future

    assert asyncio.run(made.nestable(futures)()) == "of a future"
    assert asyncio.run(made.nestable(returns_a_coroutine)()) == ""
    assert asyncio.run(made.nestable(syncline.coroutine(fetch))("dual")) == "dual"


def test_a_sync_function_given_to_submit_is_told_of_though_nobody_asks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its error has no traceback, as no code has raised it: by that it was taken for that of a closed bridge."""
    done = threading.Event()
    future = made.submit(load)
    future.add_done_callback(lambda _: done.set())
    assert done.wait(10)
    del future
    assert eventually(lambda: bool(caplog.records))
    (record,) = caplog.records
    assert record.name == "syncline"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert "This call of it has run" in str(record.exc_info[1])


def test_the_end_of_a_loop_of_others_has_one_cause(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has run it, it was stopped, or it was closed; and nothing is logged that the caller has been told."""
    loop = asyncio.new_event_loop()
    with pytest.raises(
        syncline.RunnerClosedError, match=r"^nobody runs the loop that the bridge \"never\" is onto"
    ) as error:
        syncline.Bridge(loop=loop, name="never").run_sync(fetch)
    assert "run it in another thread" in str(error.value)
    assert "a bridge without it runs one of its own" in str(error.value)
    assert len(frames_of_ours(error.value)) <= 1
    del error
    gc.collect()
    loop.run_until_complete(fetch())
    begun = threading.Event()

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    with syncline.Bridge(loop=loop, name="once") as bridge:
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        future = bridge.submit(forever)
        assert begun.wait(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        with pytest.raises(
            syncline.RunnerClosedError, match="was stopped before the call ended, and nobody runs it"
        ):
            future.result()
        late = bridge.submit(forever)
        loop.close()
        with pytest.raises(syncline.RunnerClosedError, match="was closed before the call ended"):
            late.result()
    gc.collect()
    assert not caplog.records


@pytest.mark.parametrize(
    ("backend", "wrong", "words"),
    [
        ("trio", asyncio.sleep, "this is asyncio's, and the call runs with trio; use trio's means"),
        (
            "asyncio",
            trio.sleep,
            "this is trio's, and the call runs with asyncio; use asyncio's means, or Bridge(",
        ),
    ],
)
def test_what_belongs_to_another_library_is_told_of(backend: Any, wrong: Any, words: str) -> None:
    """In a note: the error is that library's own."""
    with syncline.Bridge(backend=backend) as bridge, pytest.raises(RuntimeError) as caught:
        bridge.run_sync(wrong, 0.1)
    (note,) = caught.value.__notes__
    assert note.startswith(words)
