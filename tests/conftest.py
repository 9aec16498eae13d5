"""What tests share: bridges that are closed at the end, and a check that nothing is left behind."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import uvloop

import syncline
from child import eventually, open_descriptors
from neutral import make_bridge_of, of_kind
from places import in_asyncio, in_uvloop, on_our_loop

R = TypeVar("R")
ROOT = Path(__file__).parent.parent


def pytest_report_header() -> list[str]:
    """Which syncline is tested, and whether the interpreter compiles (Python 3.14 and later, PYTHON_JIT=1)."""
    jit = getattr(sys, "_jit", None)
    is_on = jit is not None and jit.is_enabled()
    return [
        f"syncline: {Path(syncline.__file__).parent}",
        f"interpreter's compiler: {'on' if is_on else 'off'}",
    ]


def pytest_configure() -> None:
    """Where the built wheel is to be tested, the source tree isn't; and tests are as quiet on free-threaded builds."""
    is_source = (ROOT / "python") in Path(syncline.__file__).parents
    if is_source and os.environ.get("SYNCLINE_TEST_WHEEL"):
        raise pytest.UsageError("SYNCLINE_TEST_WHEEL is set, but `import syncline` finds the source tree")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # In the scripts that tests run the import must not warn either.
        os.environ.setdefault("PYTHON_GIL", "1")


def pytest_unconfigure() -> None:
    """The process of the tests must end, too: where something keeps it, it shows what, and fails."""
    faulthandler.dump_traceback_later(60, exit=True)


@pytest.fixture
def make_bridge() -> Iterator[Callable[..., syncline.Bridge]]:
    """Makes a bridge, with the arguments of `Bridge`, that is closed at the end. Scopes "trio" and "uvloop" stand for
    that backend, and for loops of that library."""
    with ExitStack() as bridges:

        def make(*, scope: str = "process", **options: Any) -> syncline.Bridge:
            return bridges.enter_context(syncline.Bridge(**of_kind(scope), **options))

        yield make


@pytest.fixture(params=["process", "thread", "caller", "uvloop", "trio"])
def each_bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """A bridge of each scope, one whose loops are uvloop's, and one that runs trio."""
    with make_bridge_of(request.param) as bridge:
        yield bridge


@pytest.fixture
def logged_errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Returns the texts of the exceptions that were logged so far."""
    return lambda: [str(record.exc_info[1]) for record in caplog.records if record.exc_info]


@pytest.fixture(params=["plain", "in asyncio", "in uvloop", "on its own loop"])
def inside(request: pytest.FixtureRequest, each_bridge: syncline.Bridge) -> Callable[[Callable[[], R]], R]:
    """Runs sync code in each place where it may use `each_bridge`: where no loop runs, inside loops that are not
    the bridge's, and inside a coroutine that the bridge itself runs."""

    runs: dict[str, Callable[[Callable[[], R]], R]] = {
        "plain": lambda body: body(),
        "in asyncio": in_asyncio,
        "in uvloop": in_uvloop,
        "on its own loop": partial(on_our_loop, bridge=each_bridge),
    }
    return runs[request.param]


def run_program(place: str, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Runs an async program to its end."""
    if place == "asyncio":
        return asyncio.run(main())
    if place == "uvloop":
        return uvloop.run(main())
    if place == "trio":
        return trio.run(main)
    return syncline.run_sync(main)


@pytest.fixture(params=["asyncio", "uvloop", "our own loop"])
def run_async(request: pytest.FixtureRequest) -> Callable[[Callable[[], Coroutine[Any, Any, R]]], R]:
    """Runs an async program: on loops that syncline knows nothing of, and on one of its own."""
    return partial(run_program, request.param)


@pytest.fixture(params=["asyncio", "uvloop", "our own loop", "trio"])
def anywhere(request: pytest.FixtureRequest) -> Callable[[Callable[[], Coroutine[Any, Any, R]]], R]:
    """Runs an async program (written with anyio) as `run_async`, and with trio as well."""
    return partial(run_program, request.param)


@pytest.fixture
def leaks_nothing() -> Iterator[None]:
    """When the test ends, there are no more threads and file descriptors than when it began.

    The default bridge's runner is started before, and a loop of uvloop's was made, whose first one opens a pipe for the
    life of the process. Ask for this fixture first, so that it checks last.
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
