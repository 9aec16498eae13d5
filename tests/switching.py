"""Where nested calls await in place: on loops of bridges, and on loops of the user's whose tasks opted in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
import uvloop

import syncline

R = TypeVar("R")

ON_OUR_LOOPS = ["process", "thread", "caller", "uvloop"]
OPTED_IN = ["nestable", "nestable on uvloop", "installed", "installed on uvloop"]


@dataclass(frozen=True)
class Place:
    """A bridge, and what runs an async program so that nested calls of this bridge await in it."""

    name: str
    bridge: syncline.Bridge

    def run(self, main: Callable[..., Coroutine[Any, Any, R]], *args: Any) -> R:
        if self.name in ON_OUR_LOOPS:
            return self.bridge.run_sync(main, *args)
        factory = uvloop.new_event_loop if "uvloop" in self.name else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            if self.name.startswith("nestable"):
                return runner.run(syncline.nestable(main)(*args))
            runner.run(self._install())
            return runner.run(main(*args))

    async def _install(self) -> None:
        syncline.install()

    def call(self, fn: Callable[..., Coroutine[Any, Any, R]], *args: Any) -> R:
        """A nested call, which has to stay in this thread, task and loop, and to start no thread."""
        here = threading.get_ident(), asyncio.current_task(), asyncio.get_running_loop()
        threads = set(threading.enumerate())

        async def checked() -> R:
            assert here == (threading.get_ident(), asyncio.current_task(), asyncio.get_running_loop())
            return await fn(*args)

        result = self.bridge.run_sync(checked)
        assert here == (threading.get_ident(), asyncio.current_task(), asyncio.get_running_loop())
        assert set(threading.enumerate()) <= threads
        return result


@pytest.fixture(params=ON_OUR_LOOPS + OPTED_IN)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each place where nested calls await."""
    name = request.param
    options: dict[str, Any] = {}
    if name == "uvloop":
        options = {"loop_factory": uvloop.new_event_loop}
    elif name in ON_OUR_LOOPS:
        options = {"scope": name}
    else:
        options = {"roams": True}
    with syncline.Bridge(name="switch", nested="switch", **options) as bridge:
        yield Place(name, bridge)


async def turns(count: int = 1) -> int:
    """Suspends that often."""
    for _ in range(count):
        await asyncio.sleep(0)
    return count
