"""What tests share: bridges that are closed at the end, and a check that nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import syncline
from child import eventually, open_descriptors

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


@pytest.fixture
def leaks_nothing() -> Iterator[None]:
    """When the test ends, there are no more threads and file descriptors than when it began.

    The default bridge's runner is started before. Ask for this fixture first, so that it checks last.
    """
    syncline.run_sync(asyncio.sleep, 0)
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
