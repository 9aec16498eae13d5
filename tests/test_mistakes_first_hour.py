"""Mistakes of the first hour: options that are not there, decorators that are called, managers that are used up, loops
in loops. Each message is ours, or says as much as Python's own, and shows one frame of ours at most."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import syncline
from syncline import _core
from syncline._options import NAMES
from test_mistakes import check_message, frames_of_ours

made: Any = syncline  # without its types, which know the mistakes, too
DECORATORS = ("synced", "sync_compatible", "coroutine", "iterator", "generator", "contextmanager", "nestable")


async def fetch(key: str = "") -> str:
    return key


async def items() -> AsyncIterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[int]:
    yield 1


def load() -> str:
    return "result"


def awaited(make: Callable[..., Any], *args: Any) -> Any:
    async def main() -> Any:
        return await make(*args)

    return asyncio.run(main())


def entered_twice() -> None:
    manager = made.enter(session())
    with manager:
        pass
    with manager:
        pass


def entered_by_two() -> None:
    opened = session()
    with made.enter(opened):
        pass
    with made.enter(opened):
        pass


def entered_twice_at_home() -> None:
    async def main(bridge: syncline.Bridge) -> None:
        manager = bridge.enter(session())
        async with manager:
            pass
        async with manager:
            pass

    with syncline.Bridge(in_async="home") as bridge:
        asyncio.run(main(bridge))


async def with_a_future() -> None:
    made.create_task(asyncio.get_running_loop().create_future())


def of_decorators(words: str, *args: Any) -> dict[str, tuple[Callable[[], object], type[Exception], str]]:
    return {
        f"{name}({', '.join(type(arg).__name__ for arg in args)})": (
            functools.partial(getattr(made, name), *args),
            TypeError,
            words.format(name=name),
        )
        for name in DECORATORS
    }


NO_REFERENCE = "finalize() keeps a weak reference to the object, and there can be none to one of the type int"
MISTAKES: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "an option with a typing error": (
        lambda: made.Bridge(scop="thread"),
        TypeError,
        "a bridge has no option 'scop'; did you mean 'scope'?",
    ),
    "another one": (lambda: made.Bridge(loopfactory=None), TypeError, "did you mean 'loop_factory'?"),
    "an option that is like none": (
        lambda: made.Bridge(threads=4),
        TypeError,
        "a bridge has no option 'threads'; it has backend, cleanup_timeout, context, in_async,",
    ),
    "a time limit as an option": (
        lambda: made.Bridge(timeout=5),
        TypeError,
        "a time limit is that of a call: run(fetch(...), timeout=5)",
    ),
    **of_decorators("{name}() was given no function; write @{name}, without parentheses, or {name}(fetch)"),
    "resource()": (
        lambda: made.resource(close=load),
        TypeError,
        "resource() was given no function that opens the object; write resource(open_it, close=...)",
    ),
    "synced above property": (
        lambda: made.synced(property(load)),
        TypeError,
        "synced() got a property; decorate the function in it: @property above @synced",
    ),
    "coroutine above cached_property": (
        lambda: made.coroutine(functools.cached_property(lambda self: fetch())),
        TypeError,
        "coroutine() got a cached_property; decorate the function in it: @cached_property above @coroutine",
    ),
    "what enter returned, twice": (
        entered_twice,
        RuntimeError,
        (
            'the DualContextManager of "session" was used already, and its generator is good for one `with`; call '
            "the function again"
        ),
    ),
    "the same manager for enter, twice": (entered_by_two, RuntimeError, "is good for one `with`"),
    "what enter returned, twice in async code": (
        entered_twice_at_home,
        RuntimeError,
        'of "session" was used already',
    ),
    "a lambda without the call": (
        lambda: made.run_sync(lambda: fetch),
        TypeError,
        'which has run and returned the async function "fetch" without calling it; use run_sync(fetch, ...)',
    ),
    "a function for create_task": (
        lambda: awaited(made.create_task, fetch),
        TypeError,
        "create_task() takes a coroutine, not the function 'fetch'; call it: create_task(fetch(...))",
    ),
    "a function for create_task, in sync code": (
        lambda: made.create_task(fetch),
        TypeError,
        "call it: create_task(fetch(...))",
    ),
    "a number for create_task": (lambda: made.create_task(5), TypeError, "not int: create_task(fetch(...))"),
    "what can be awaited for create_task": (
        lambda: awaited(with_a_future),
        TypeError,
        "not Future, which can be awaited as it is",
    ),
    "coroutines for gather": (
        lambda: awaited(made.gather, fetch(), fetch()),
        TypeError,
        "gather() takes async functions, and got what a call of 'fetch' returned",
    ),
    "a list for gather": (
        lambda: awaited(made.gather, [fetch]),
        TypeError,
        "gather() takes async functions, not list",
    ),
    "a number as the object of finalize": (lambda: made.finalize(5, fetch), TypeError, NO_REFERENCE),
    "one for a bridge's finalize": (
        lambda: syncline.default_bridge().finalize(5, fetch),
        TypeError,
        NO_REFERENCE,
    ),
    "a number for install": (
        lambda: made.install(5),
        TypeError,
        "install() takes an event loop of asyncio's, such as asyncio.get_running_loop(), not int",
    ),
    "a coroutine for install": (lambda: made.install(fetch()), TypeError, "not coroutine"),
    "no time for cleanup": (
        lambda: made.Bridge(cleanup_timeout=None),
        TypeError,
        "cleanup_timeout must be a number of seconds, or math.inf for no limit, not None",
    ),
    **{
        f"a word for {option}": (
            functools.partial(made.Bridge, **{option: "yes"}),
            TypeError,
            f"{option} must be True or False, not 'yes'",
        )
        for option in ("roams", "timed", "visible")
    },
    "a number as loop": (lambda: made.Bridge(loop=5), TypeError, "loop must be an event loop, such as"),
    "words as the time for a future": (
        lambda: made.submit(asyncio.sleep, 0.01).result("5"),
        TypeError,
        "timeout must be a number of seconds or None, not '5'",
    ),
    "no number for a limiter": (
        made.ThreadLimiter,
        TypeError,
        "ThreadLimiter.__new__() missing 1 required positional argument: 'total_tokens'",
    ),
    "a number for a worker": (
        lambda: made.Worker(4),
        TypeError,
        "Worker.__new__() takes 1 positional argument",
    ),
    "an option of map with a typing error": (
        lambda: made.map(fetch, [""], limt=5),
        TypeError,
        "Bridge.map() got an unexpected keyword argument 'limt'",
    ),
    "async for over map": (
        lambda: awaited(lambda: each_of(made.map(fetch, [""]))),
        TypeError,
        "__aiter__ method, got MapIterator",
    ),
}


async def each_of(results: Any) -> None:
    async for _ in results:
        pass


@pytest.mark.parametrize(("mistake", "kind", "words"), MISTAKES.values(), ids=MISTAKES)
def test_the_message_says_what_is_wrong(mistake: Callable[[], object], kind: Any, words: str) -> None:
    check_message(mistake, kind, words)


def test_all_options_of_a_bridge_are_known() -> None:
    """Those that are not are refused before the core sees them."""
    assert {name for name in NAMES if not name.startswith("_")} == set(
        inspect.signature(_core.Bridge).parameters
    )


def test_a_manager_of_ones_own_says_itself_what_it_lacks() -> None:
    """An AttributeError of the code that is entered stays what it is, also if its words are those of contextlib's."""

    class Broken:
        args: str

        async def __aenter__(self) -> None:
            raise AttributeError("'_AsyncGeneratorContextManager' object has no attribute 'args'")

        async def __aexit__(self, *exc_info: object) -> None: ...

    @contextlib.asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        _ = made.no_such_name
        yield

    with pytest.raises(AttributeError, match="attribute 'args'"):
        made.enter(Broken()).__enter__()
    with pytest.raises(AttributeError, match="no_such_name"):
        made.enter(broken()).__enter__()


def test_what_enter_made_of_a_function_is_entered_again() -> None:
    """It makes a manager each time."""
    manager = syncline.enter(session)
    for _ in range(2):
        with manager as entered:
            assert entered == 1


def nested_run() -> str:
    coroutine = fetch("nested")
    try:
        return asyncio.run(coroutine)
    finally:
        coroutine.close()


def nested_run_until_complete() -> str:
    coroutine = fetch("nested")
    try:
        return asyncio.get_running_loop().run_until_complete(coroutine)
    finally:
        coroutine.close()


def another_loop() -> str:
    coroutine = fetch("nested")
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        try:
            return loop.run_until_complete(coroutine)
        finally:
            coroutine.close()


class HeldUp(asyncio.SelectorEventLoop):
    """A loop whose end another thread can get into."""

    def __init__(self) -> None:
        super().__init__()
        self.closing, self.go_on = threading.Event(), threading.Event()

    def close(self) -> None:
        self.closing.set()
        assert self.go_on.wait(20)
        super().close()


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_factory_that_returns_a_loop_twice_is_refused(scope: Any) -> None:
    """Also while that loop is just being closed, by a thread of which nothing is seen any more: two threads would turn
    and close it. The order forced here: the first loop's end begins, the second call comes, the end goes on."""
    loop = HeldUp()
    again = "returned one that it has returned before; it has to make one each time"
    first = syncline.Bridge(loop_factory=lambda: loop, scope="process")
    second = syncline.Bridge(loop_factory=lambda: loop, scope=scope, cleanup_timeout=0)
    assert first.run_sync(fetch, "first") == "first"
    closer = threading.Thread(target=first.close)
    closer.start()
    assert loop.closing.wait(10)
    try:
        with pytest.raises(TypeError, match=again) as caught:
            second.run(fetch(), timeout=5)
        assert not frames_of_ours(caught.value)
    finally:
        loop.go_on.set()
        closer.join()
    second.close()


def test_loops_of_a_factory_that_are_gone_are_forgotten() -> None:
    """A new loop may lie where another one has lain."""
    for _ in range(20):
        with syncline.Bridge(loop_factory=asyncio.new_event_loop, scope="caller") as bridge:
            assert bridge.run_sync(fetch, "key") == "key"


@pytest.fixture(params=["process", "thread", "caller"])
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    with syncline.Bridge(scope=request.param) as bridge:
        yield bridge


@pytest.mark.parametrize("way", [nested_run, nested_run_until_complete, another_loop])
def test_a_loop_in_a_loop_is_told_of_the_means_that_nest(
    bridge: syncline.Bridge, way: Callable[[], str]
) -> None:
    """In one note: the error is asyncio's own, and names none that works."""

    async def below() -> str:
        return bridge.run_sync(outer)

    async def outer() -> str:
        return way()

    with pytest.raises(RuntimeError) as caught:
        bridge.run_sync(below)
    (note,) = caught.value.__notes__
    assert "by syncline.run_sync(fn, ...), or run(fn(...)), in the place of asyncio.run" in note


def test_a_file_that_a_trace_can_not_write_is_named(tmp_path: Path) -> None:
    """As `open` names it, with its number."""
    path = tmp_path / "missing" / "out.json"
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*out\.json'$") as caught:
        syncline.trace(path).start()
    assert caught.value.filename == str(path)
    assert caught.value.errno == 2
    with pytest.raises(IsADirectoryError):
        syncline.trace(tmp_path).start()


def test_a_result_that_is_late_says_that_its_call_goes_on() -> None:
    """concurrent.futures' own error has no words."""
    never = syncline.submit(asyncio.Event().wait)
    with pytest.raises(
        TimeoutError, match=r"no result within 0\.01 s; the call goes on, and cancel\(\) ends it"
    ):
        never.result(0.01)
    with pytest.raises(TimeoutError, match="the call goes on") as caught:
        never.exception(0.01)
    assert len(frames_of_ours(caught.value)) <= 1
    never.cancel()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "bench"),
        (["--version"], 0, f"syncline {syncline.__version__}"),
        (["--help"], 0, "say what calls depend on here"),
        (["docter"], 2, "doctor"),
        (["doctor", "no.such.module"], 2, "importing 'no.such.module' failed"),
        (["ps", "0"], 2, "0 is no process"),
    ],
)
def test_the_command_says_what_it_takes(arguments: list[str], status: int, words: str) -> None:
    """Without arguments, too: all commands, with what each does."""
    command = [sys.executable, "-m", "syncline", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert words in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
