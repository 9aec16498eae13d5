"""What tests share: bridges that are closed at the end, and a check that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import uvloop

import syncline
from child import eventually, open_descriptors

R = TypeVar("R")
ROOT = Path(__file__).parent.parent


def pytest_report_header() -> str:
    """Which syncline is tested."""
    return f"syncline: {Path(syncline.__file__).parent}"


def pytest_configure() -> None:
    """Where the built wheel is to be tested, the source tree isn't."""
    is_source = (ROOT / "python") in Path(syncline.__file__).parents
    if is_source and os.environ.get("SYNCLINE_TEST_WHEEL"):
        raise pytest.UsageError("SYNCLINE_TEST_WHEEL is set, but `import syncline` finds the source tree")


@pytest.fixture
def make_bridge() -> Iterator[Callable[..., syncline.Bridge]]:
    """Makes a bridge, with the arguments of `Bridge`, that is closed when the test ends."""
    with ExitStack() as bridges:
        yield lambda **options: bridges.enter_context(syncline.Bridge(**options))


@pytest.fixture(params=["process", "thread", "caller", "uvloop"])
def each_bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """A bridge of each scope, and one whose loops are uvloop's."""
    options: dict[str, Any] = {"scope": request.param}
    if request.param == "uvloop":
        options = {"loop_factory": uvloop.new_event_loop}
    with syncline.Bridge(**options) as bridge:
        yield bridge


@pytest.fixture(params=["plain", "in asyncio", "in uvloop", "on its own loop"])
def inside(request: pytest.FixtureRequest, each_bridge: syncline.Bridge) -> Callable[[Callable[[], R]], R]:
    """Runs sync code in each place where it may use `each_bridge`: where no loop runs, inside loops that are not
    the bridge's, and inside a coroutine that the bridge itself runs."""

    def run(body: Callable[[], R]) -> R:
        async def main() -> R:
            await asyncio.sleep(0)
            return body()

        if request.param == "plain":
            return body()
        if request.param == "in asyncio":
            return asyncio.run(main())
        if request.param == "in uvloop":
            return uvloop.run(main())
        return each_bridge.run_sync(main)

    return run


@pytest.fixture(params=["asyncio", "uvloop", "our own loop"])
def run_async(request: pytest.FixtureRequest) -> Callable[[Callable[[], Coroutine[Any, Any, R]]], R]:
    """Runs an async program: on loops that syncline knows nothing of, and on one of its own."""

    def run(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        if request.param == "asyncio":
            return asyncio.run(main())
        if request.param == "uvloop":
            return uvloop.run(main())
        return syncline.run_sync(main)

    return run


@pytest.fixture(params=["asyncio", "uvloop", "our own loop", "trio"])
def anywhere(request: pytest.FixtureRequest) -> Callable[[Callable[[], Coroutine[Any, Any, R]]], R]:
    """Runs an async program (written with anyio) as `run_async`, and with trio as well."""

    def run(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
        if request.param == "asyncio":
            return asyncio.run(main())
        if request.param == "uvloop":
            return uvloop.run(main())
        if request.param == "trio":
            return trio.run(main)
        return syncline.run_sync(main)

    return run


@pytest.fixture
def leaks_nothing() -> Iterator[None]:
    """When the test ends, there are no more threads and file descriptors than when it began.

    The default bridge's runner is started before, and the first loop of uvloop, from which on libuv keeps a pipe. Ask
    for this fixture first, so that it checks last.
    """
    syncline.run_sync(asyncio.sleep, 0)
    uvloop.new_event_loop().close()
    gc.collect()
    threads, descriptors = threading.active_count(), open_descriptors()
    yield

    def settled() -> bool:
        gc.collect()
        return threading.active_count() <= threads and open_descriptors() <= descriptors

    assert eventually(settled), (
        f"threads {threads} -> {threading.active_count()}: {threading.enumerate()}, "
        f"descriptors {descriptors} -> {open_descriptors()}"
    )
