"""What the tests of waits that could last for ever share.

"In time" means the check interval of about a second, with room for a busy machine; the limit below only has to be far
from "for ever".
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Literal

import pytest

import syncline

Scope = Literal["process", "thread", "caller"]
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])
IN_TIME = 6.0


@pytest.fixture
def bridge() -> Iterator[syncline.Bridge]:
    """A bridge of this test's own, with a short time for cleanup so that a failing test ends soon."""
    with syncline.Bridge(name="knot", cleanup_timeout=1.0) as one:
        yield one


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """The block ends in time."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < IN_TIME


async def answer() -> int:
    """A call that must work after everything else."""
    await asyncio.sleep(0)
    return 42
