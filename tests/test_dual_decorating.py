"""Context managers for both worlds decorate functions, as contextlib's do."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import syncline
from neutral import with_asyncio

Inside = Callable[[Callable[[], Any]], Any]
RunAsync = Callable[[Callable[[], Any]], Any]


class Log:
    """What a manager did, and the functions that ran inside of it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def session(self, name: str) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        self.lines.append(f"enter {name}")
        try:
            yield name
        finally:
            await asyncio.sleep(0)
            self.lines.append(f"leave {name}")


class Reusable(syncline.DualContextManager[int]):
    """A subclass, which may be entered again after it was left."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    async def __aenter__(self) -> int:
        self.lines.append("enter a")
        return 1

    async def __aexit__(self, *exc_info: object) -> bool:
        self.lines.append("leave a")
        return isinstance(exc_info[1], KeyError)


MANAGERS: dict[str, Callable[[syncline.Bridge, Log], syncline.DualContextManager[Any]]] = {
    "contextmanager": lambda bridge, log: bridge.contextmanager(log.session)("a"),
    "subclass": lambda bridge, log: Reusable(log.lines),
    "enter": lambda bridge, log: bridge.enter(Reusable(log.lines)),
}
managers = pytest.mark.parametrize("manager", MANAGERS)
ONCE = ["enter a", "work", "leave a"]


@with_asyncio
@managers
def test_sync_functions(manager: str, each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Each call runs inside; name, signature and result are kept. In each scope and place."""
    log = Log()

    def work(number: int, *, more: int = 0) -> int:
        log.lines.append("work")
        return number + more

    decorated = MANAGERS[manager](each_bridge, log)(work)
    assert inside(lambda: [decorated(1), decorated(2, more=1)]) == [1, 3]
    assert log.lines == ONCE * 2
    assert decorated.__name__ == "work"
    assert inspect.signature(decorated) == inspect.signature(work)


@managers
def test_async_functions(manager: str, run_async: RunAsync) -> None:
    """They stay async, and what they await is inside; also at the same time."""
    log = Log()

    async def work(number: int) -> int:
        await asyncio.sleep(0)
        log.lines.append("work")
        return number

    with syncline.Bridge() as bridge:
        decorated = MANAGERS[manager](bridge, log)(work)
        assert inspect.iscoroutinefunction(decorated)

        async def main() -> list[int]:
            return [await decorated(1), await decorated(2)]

        assert run_async(main) == [1, 2]
    assert log.lines == ONCE * 2


def test_each_call_has_a_manager_of_its_own() -> None:
    """Those of `contextmanager` are good for one use, so that calls at the same time, and recursive ones, work."""
    log = Log()
    barrier = threading.Barrier(2)

    @syncline.contextmanager
    async def session() -> AsyncIterator[None]:
        async for _ in log.session("a"):
            yield

    @session()
    def both(depth: int) -> None:
        barrier.wait(10)  # both threads are inside
        if depth:
            both(depth - 1)

    threads = [threading.Thread(target=both, args=(2,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(log.lines) == ["enter a"] * 6 + ["leave a"] * 6


@managers
def test_generators_run_inside_from_first_step_to_last(manager: str) -> None:
    """Sync and async ones, also where they are left early; what is sent to a sync one arrives."""
    log = Log()
    make = functools.partial(MANAGERS[manager], syncline.Bridge(), log)

    @make()
    def items() -> Iterator[Any]:
        log.lines.append("work")
        yield (yield 1)

    @make()
    async def aitems() -> AsyncIterator[int]:
        log.lines.append("work")
        yield 1
        yield 2

    generator: Any = items()
    assert log.lines == []
    assert [next(generator), generator.send(5), next(generator, None)] == [1, 5, None]
    assert log.lines == ONCE

    async def main() -> list[int]:
        found = [item async for item in aitems()]
        agen: Any = aitems()
        found.append(await anext(agen))
        await agen.aclose()
        return found

    assert asyncio.run(main()) == [1, 2, 1]
    assert log.lines == ONCE * 3


def test_methods_and_errors() -> None:
    """A method binds; the manager sees what the function raises, and may swallow it: the call returns None then."""
    lines: list[str] = []

    class Service:
        @Reusable(lines)
        def load(self, error: type[Exception]) -> None:
            raise error(self.__class__.__name__)

    with pytest.raises(ValueError, match="Service"):
        Service().load(ValueError)
    assert Service().load(KeyError) is None
    assert lines == ["enter a", "leave a"] * 2


def test_what_is_no_function_is_refused() -> None:
    """At once, and not at the first call."""
    with pytest.raises(TypeError, match="decorates functions, not int"):
        Reusable([])(3)  # type: ignore[arg-type]
