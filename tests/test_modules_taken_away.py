"""Modules that the first calls import, and that are taken out of `sys.modules` again: `mock.patch.dict(sys.modules)`
around a test does so."""

from __future__ import annotations

import pytest

from child import run_script

scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])

PROGRAM = """
import asyncio
import contextlib
import sys
from unittest import mock

import syncline

opened = []
bridge = syncline.Bridge(scope={scope!r}, visible={visible})


async def fetch(page):
    await asyncio.sleep(0)
    return page


async def pages():
    for page in range(2):
        yield await fetch(page)


@contextlib.asynccontextmanager
async def session():
    yield "session"


@bridge.resource
async def client():
    opened.append("client")
    yield "client"
    await asyncio.sleep(0)
    print("closed")


def sync_code():
    return bridge.run_sync(fetch, 2)


async def nested():
    return sync_code(), await syncline.to_thread(lambda: syncline.from_thread(fetch, 3))


def uses_all():
    with bridge.enter(session()) as entered, bridge.group() as group:
        task = group.start(fetch, 4)
    found = [bridge.run_sync(fetch, 1), [*bridge.iterate(pages())], [*bridge.iterate(pages(), prefetch=2)]]
    return [*found, [*bridge.map(fetch, range(2))], bridge.run_sync(nested), entered, task.result(), client.get()]


with mock.patch.dict(sys.modules):
    first = uses_all()
assert "greenlet" not in sys.modules
assert uses_all() == first, first
assert opened == ["client"]
print("used")
"""


@scopes
@pytest.mark.parametrize("visible", [False, True])
def test_calls_go_on_and_what_was_kept_is_known(scope: str, visible: bool) -> None:
    """Nested calls and steps need greenlet, and a resource is still open, and closed at the exit."""
    child = run_script(PROGRAM.format(scope=scope, visible=visible))
    child.assert_clean()
    assert child.lines == ["used", "closed"]


def test_a_resource_can_be_closed() -> None:
    """The next use opens another one."""
    child = run_script(
        PROGRAM.format(scope="process", visible=False) + "client.close()\nclient.get()\nprint(len(opened))\n"
    )
    child.assert_clean()
    assert child.lines == ["used", "closed", "2", "closed"]
