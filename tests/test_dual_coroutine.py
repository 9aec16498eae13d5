"""coroutine: one async function, awaited in async code and run in sync code."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Generator
from typing import Any

import pytest

import syncline
from neutral import cleanup, sleep, this_task, turn
from scripts import interrupted

Inside = Callable[[Callable[[], Any]], Any]
RunAsync = Callable[[Callable[[], Any]], Any]
current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="unset")


async def add(a: int, b: int = 1) -> int:
    await turn()
    return a + b


def test_it_runs_in_sync_code(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """From plain code, inside any running loop, and inside a coroutine on the bridge's own loop (case 1)."""
    dual = each_bridge.coroutine(add)
    assert inside(lambda: [dual(1).run(), dual(1, b=5).run(), dual(2).run(timeout=30)]) == [2, 6, 3]


def test_it_is_awaited_in_async_code(run_async: RunAsync) -> None:
    """Also by asyncio's own functions that take an awaitable."""
    dual = syncline.coroutine(add)

    async def main() -> list[int]:
        together = await asyncio.gather(dual(1), dual(2))
        return [await dual(0), *together, await asyncio.wait_for(dual(3), 30)]

    assert run_async(main) == [1, 2, 3, 4]


def test_awaiting_it_stays_in_the_users_task(run_async: RunAsync) -> None:
    """Nothing of ours is in between: same task, same thread, same context."""

    @syncline.coroutine
    async def where() -> tuple[Any, int]:
        current.set("inner")
        return this_task(), threading.get_ident()

    async def main() -> None:
        assert await where() == (this_task(), threading.get_ident())
        assert current.get() == "inner"

    contextvars.copy_context().run(run_async, main)


def test_it_works_five_deep(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Each level is run by sync code that the level above calls (case 3)."""

    @each_bridge.coroutine
    async def down(levels: int) -> int:
        await turn()
        return 1 + go(levels - 1) if levels else 0

    def go(levels: int) -> int:
        return down(levels).run()

    assert inside(lambda: go(5)) == 5


def test_a_run_in_a_running_loop_does_not_need_that_loop() -> None:
    """That loop waits meanwhile: its own tasks get on only after the run (case 1)."""
    order: list[str] = []

    async def main() -> None:
        other = asyncio.create_task(note())
        order.append(str(syncline.coroutine(add)(1).run()))
        await other

    async def note() -> None:
        order.append("other")

    asyncio.run(main())
    assert order == ["2", "other"]


def test_an_exception_is_the_same_object_in_both_worlds(
    each_bridge: syncline.Bridge, inside: Inside, run_async: RunAsync
) -> None:
    """Not wrapped in a group (case 35)."""
    problem = ValueError("mine")

    @each_bridge.coroutine
    async def fail() -> None:
        await turn()
        raise problem

    async def main() -> None:
        await fail()

    with pytest.raises(ValueError, match="mine") as caught:
        inside(lambda: fail().run())
    assert caught.value is problem
    with pytest.raises(ValueError, match="mine") as caught:
        run_async(main)
    assert caught.value is problem


def test_contextvars_flow_both_ways(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """It sees the caller's values, and the caller sees what it changed (case 74)."""

    @each_bridge.coroutine
    async def change() -> str:
        before = current.get()
        await turn()
        current.set("changed")
        return before

    def body() -> tuple[str, str]:
        current.set("mine")
        return change().run(), current.get()

    assert contextvars.copy_context().run(inside, body) == ("mine", "changed")


def test_a_timeout_cancels_it_and_lets_it_clean_up(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """TimeoutError comes after the cleanup, in every place (case 50)."""
    log: list[str] = []

    @each_bridge.coroutine
    async def slow() -> None:
        try:
            await sleep(3600)
        finally:
            await cleanup()
            log.append("cleaned up")

    with pytest.raises(TimeoutError):
        inside(lambda: slow().run(timeout=0.02))
    assert log == ["cleaned up"]


@pytest.mark.parametrize("scope", ["process", "thread", "caller", "trio"])
def test_ctrl_c_cancels_it_and_lets_it_clean_up(scope: str) -> None:
    """KeyboardInterrupt comes after the cleanup (case 44)."""
    end = interrupted(
        scope,
        """
try:
    bridge.coroutine(work)().run()
except KeyboardInterrupt:
    print("caught", flush=True)
print(bridge.coroutine(answer)().run(), flush=True)
""",
    )
    assert end.lines == ["cancelled", "cleaned up", "caught", "42"], end.err
    end.assert_clean()


@pytest.mark.parametrize("first", ["run", "await"])
@pytest.mark.parametrize("second", ["run", "await"])
def test_one_object_is_used_once(first: str, second: str) -> None:
    """As a coroutine is: the second use says so, in whichever world it is."""

    async def awaits(dual: syncline.DualCoroutine[int]) -> int:
        return await dual

    def use(how: str) -> int:
        return once.run() if how == "run" else asyncio.run(awaits(once))

    once = syncline.coroutine(add)(1)
    assert use(first) == 2
    with pytest.raises(RuntimeError, match="already"):
        use(second)


def test_the_class_wraps_a_coroutine() -> None:
    """DualCoroutine(coroutine), for one that nobody decorated."""

    async def main() -> int:
        return await syncline.DualCoroutine(add(2))

    assert syncline.DualCoroutine(add(1)).run() == 2
    assert asyncio.run(main()) == 3


def test_a_subclass_defines_await(each_bridge: syncline.Bridge, inside: Inside, run_async: RunAsync) -> None:
    """`run` drives it on the bridge that the class names."""

    class Request(syncline.DualCoroutine[str]):
        bridge = each_bridge

        def __init__(self, url: str) -> None:
            self.url = url

        def __await__(self) -> Generator[Any, Any, str]:
            yield from turn().__await__()
            return f"the page {self.url}"

    async def main() -> str:
        return await Request("b")

    calls = each_bridge.stats()["calls"]
    assert inside(lambda: Request("a").run()) == "the page a"
    assert each_bridge.stats()["calls"] > calls
    assert run_async(main) == "the page b"


def test_bridges_make_objects_of_their_own() -> None:
    """A bridge's decorator runs on that bridge's loop; the module's on the default bridge's."""

    async def where() -> str:
        return threading.current_thread().name

    with syncline.Bridge(name="mine") as bridge:
        assert bridge.coroutine(where)().run() == "mine"
        assert syncline.coroutine(where)().run() == "syncline"
