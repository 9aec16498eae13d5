"""Dual objects used wrongly: every mistake is an error that names it, and none hangs.

Warnings are errors in our tests, so these also show that no coroutine is left un-awaited.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import syncline

MAKERS = ["iterator", "generator", "iterate"]
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


async def numbers() -> AsyncGenerator[int, None]:
    yield 1
    yield 2


def make(bridge: Any, maker: str, function: Any) -> Any:
    """A dual object over what the async generator function returns; `bridge` may be the module."""
    return bridge.iterate(function()) if maker == "iterate" else getattr(bridge, maker)(function)()


def load() -> int:
    return 1


def items() -> list[int]:
    return [1]


async def fetch() -> int:
    return 1


@pytest.mark.parametrize(
    ("decorator", "wrong"),
    [
        ("coroutine", load), ("coroutine", numbers),
        ("iterator", load), ("iterator", items), ("iterator", fetch),
        ("generator", load), ("generator", items), ("generator", fetch),
        ("contextmanager", load), ("contextmanager", items), ("contextmanager", fetch),
    ],
)  # fmt: skip
def test_a_decorator_says_what_it_can_not_make_of_a_function(
    decorator: str, wrong: Callable[[], Any]
) -> None:
    """Sync functions, and the wrong kind of async ones: TypeError, at the first use at the latest."""

    def use() -> Any:
        made: Any = getattr(syncline, decorator)(wrong)()
        if decorator == "coroutine":
            return made.run()
        if decorator == "contextmanager":
            with made:
                return None
        return list(made)

    with pytest.raises(TypeError, match=wrong.__name__):
        use()


@pytest.mark.parametrize("decorator", ["coroutine", "iterator", "generator", "contextmanager"])
def test_a_sync_function_is_told_to_be_called_directly(decorator: str) -> None:
    """The message shows the right call."""
    with pytest.raises(TypeError, match=r"load.*call it directly: load\(\.\.\.\)"):
        getattr(syncline, decorator)(load)()


@pytest.mark.parametrize("decorator", ["coroutine", "iterator", "generator", "contextmanager"])
def test_a_decorator_takes_a_function(decorator: str) -> None:
    """Not something that can't be called; said at the decoration."""
    with pytest.raises(TypeError, match=rf"{decorator}.* int"):
        getattr(syncline, decorator)(5)


@pytest.mark.parametrize("wrong", [[1, 2], 5, None, numbers])
def test_iterate_takes_an_async_iterable(wrong: Any) -> None:
    """A list is told so, and a function that nobody called."""
    with pytest.raises(TypeError, match=type(wrong).__name__):
        syncline.iterate(wrong)


@pytest.mark.parametrize("wrong", [threading.Lock(), 5, None])
def test_enter_takes_an_async_context_manager(wrong: Any) -> None:
    """A sync one is told so."""
    with pytest.raises(TypeError, match=type(wrong).__name__):
        syncline.enter(wrong)


@pytest.fixture
def busy() -> Iterator[Any]:
    """Steps something in another thread, and returns when that step is in progress; ends it after the test."""
    begun = threading.Event()
    held: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    threads: list[threading.Thread] = []
    results: list[Any] = []

    async def hold() -> None:
        event = asyncio.Event()
        held.append((asyncio.get_running_loop(), event))
        begun.set()
        await event.wait()

    def start(step: Callable[[], Any]) -> None:
        threads.append(threading.Thread(target=lambda: results.append(step())))
        threads[0].start()
        assert begun.wait(20)

    def finish() -> Any:
        loop, event = held[0]
        loop.call_soon_threadsafe(event.set)
        threads[0].join()
        return results[0]

    start.hold, start.finish = hold, finish  # type: ignore[attr-defined]
    yield start
    if threads and threads[0].is_alive():
        finish()


@scopes
@pytest.mark.parametrize("maker", MAKERS)
def test_two_threads_at_once_are_refused(scope: Any, maker: str, busy: Any) -> None:
    """ValueError, as of a native generator, for the second; the first one's step goes on to its end."""

    async def slow() -> AsyncGenerator[int, None]:
        await busy.hold()
        yield 1

    with syncline.Bridge(scope=scope) as bridge:
        dual = make(bridge, maker, slow)
        # Order: the other thread is in its step, which ends only when finish() says so.
        busy(lambda: next(dual, None))
        with pytest.raises(ValueError, match="already"):
            next(dual)
        with pytest.raises(ValueError, match="already"):
            dual.close()
        assert busy.finish() == 1


def test_two_threads_that_enter_one_manager_at_once_are_refused(busy: Any) -> None:
    """The second one, while the first is entering."""

    class Slow:
        async def __aenter__(self) -> int:
            await busy.hold()
            return 1

        async def __aexit__(self, *_: object) -> None: ...

    with syncline.Bridge() as bridge:
        dual = bridge.enter(Slow())
        busy(dual.__enter__)
        with pytest.raises(ValueError, match="already"):
            dual.__enter__()
        assert busy.finish() == 1
        dual.__exit__(None, None, None)


@scopes
@pytest.mark.parametrize("maker", ["iterator", "generator"])
def test_one_that_is_stepped_by_its_own_code_is_refused(scope: Any, maker: str) -> None:
    """ValueError, not a hang: it is executing already."""
    held: list[Any] = []

    async def selfish() -> AsyncGenerator[int, None]:
        yield 1
        yield next(held[0])

    with syncline.Bridge(scope=scope) as bridge:
        held.append(make(bridge, maker, selfish))
        assert next(held[0]) == 1
        with pytest.raises(ValueError, match="already"):
            next(held[0])


def test_resuming_one_where_its_loop_waits_is_an_error_not_a_hang() -> None:
    """Sync code on the loop's own thread can't drive it: that loop is the one that has to move."""
    with syncline.Bridge() as bridge:
        dual = bridge.iterate(numbers())
        assert next(dual) == 1

        async def resume() -> int:
            return next(dual)

        with pytest.raises(syncline.DeadlockError, match="async for"):
            bridge.run_sync(resume)
        assert next(dual) == 2


@pytest.mark.parametrize("maker", MAKERS)
def test_one_begun_in_sync_code_does_not_go_on_in_async_code(maker: str) -> None:
    """It would change its loop: RuntimeError that says so; in sync code it goes on."""
    dual = make(syncline, maker, numbers)
    assert next(dual) == 1

    async def main() -> None:
        async for _ in dual:
            pass

    with pytest.raises(RuntimeError, match="sync"):
        asyncio.run(main())
    assert list(dual) == [2]


@pytest.mark.parametrize("maker", MAKERS)
def test_one_begun_in_async_code_does_not_go_on_in_sync_code(maker: str) -> None:
    """The other way round, in the middle of the async program, which goes on."""
    dual = make(syncline, maker, numbers)

    async def main() -> int:
        assert await anext(dual) == 1
        with pytest.raises(RuntimeError, match="async"):
            next(dual)
        return await anext(dual)

    assert asyncio.run(main()) == 2


def test_a_manager_is_left_in_the_world_where_it_was_entered() -> None:
    """Left by `await __aexit__` after `with`: RuntimeError, and it is still entered."""
    log: list[str] = []

    @syncline.contextmanager
    async def held() -> AsyncIterator[None]:
        yield
        log.append("left")

    manager = held()
    with manager:
        with pytest.raises(RuntimeError, match="sync"):
            asyncio.run(manager.__aexit__(None, None, None))
        assert log == []
    assert log == ["left"]


@scopes
@pytest.mark.parametrize("maker", MAKERS)
def test_closing_the_bridge_closes_what_is_open(scope: Any, maker: str) -> None:
    """Its finally runs; the next step says that the bridge is closed; dropping it is silent (case 34)."""
    log: list[str] = []

    async def held() -> AsyncGenerator[int, None]:
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    bridge = syncline.Bridge(scope=scope, name="done")
    dual = make(bridge, maker, held)
    assert next(dual) == 1
    bridge.close()
    assert log == ["closed"]
    with pytest.raises(syncline.RunnerClosedError, match=r'"done".* closed'):
        next(dual)
    del dual
    assert log == ["closed"]


@scopes
def test_leaving_a_manager_after_close_says_so(scope: Any) -> None:
    """Its cleanup ran when the bridge was closed (case 34)."""
    log: list[str] = []
    bridge = syncline.Bridge(scope=scope, name="done")

    @bridge.contextmanager
    async def held() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            log.append("left")

    manager = held()
    manager.__enter__()
    bridge.close()
    assert log == ["left"]
    with pytest.raises(syncline.RunnerClosedError, match=r'"done".* closed'):
        manager.__exit__(None, None, None)
    assert log == ["left"]


@scopes
def test_nothing_begins_after_close(scope: Any) -> None:
    """Each way to begin raises RunnerClosedError, and leaves nothing un-awaited (case 34)."""
    bridge = syncline.Bridge(scope=scope, name="done")
    manager = bridge.contextmanager(numbers)
    bridge.close()
    for call in (
        lambda: bridge.coroutine(fetch)().run(),
        lambda: next(bridge.iterator(numbers)()),
        lambda: bridge.generator(numbers)().send(None),
        lambda: next(bridge.iterate(numbers(), prefetch=2)),
        lambda: manager().__enter__(),
    ):
        with pytest.raises(syncline.RunnerClosedError, match=r'"done".* closed'):
            call()
