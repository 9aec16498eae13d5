"""How resources end: by `close`, with their loop, at the exit, and what a forked child has of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable

import pytest

import syncline
from child import DEV, Child
from neutral import CANCELLED, cleanup, sleep_forever, turn
from scripts import exiting, forking, interrupted

scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


def test_closing_it_leads_to_a_new_one(each_bridge: syncline.Bridge) -> None:
    """Where nothing is open, closing does nothing."""
    log: list[str] = []

    @each_bridge.resource
    async def number() -> AsyncIterator[int]:
        log.append("opened")
        yield len(log)
        log.append("closed")

    number.close()
    assert number.get() == 1
    number.close()
    number.close()
    assert log == ["opened", "closed"]
    assert number.get() == 3
    each_bridge.close()
    number.close()
    assert log == ["opened", "closed"] * 2


def test_after_the_bridge_is_closed_it_says_so(each_bridge: syncline.Bridge) -> None:
    """As every call does."""
    client = each_bridge.resource(object)
    client.get()
    each_bridge.close()
    with pytest.raises(syncline.RunnerClosedError):
        client.get()


def test_what_closing_raises_reaches_who_closes(each_bridge: syncline.Bridge) -> None:
    """And nothing is left open: the next use opens a new one."""

    @each_bridge.resource
    async def client() -> AsyncIterator[object]:
        yield object()
        raise OSError("reset by peer")

    first = client.get()
    with pytest.raises(OSError, match="reset by peer"):
        client.close()
    assert client.get() is not first
    with pytest.raises(OSError, match="reset by peer"):
        client.close()


def test_what_closing_raises_at_the_end_is_logged(
    make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """As nobody is there to be told; the others are closed all the same."""
    bridge = make_bridge()
    closed: list[str] = []
    other = bridge.resource(object, close=lambda _: closed.append("other"))

    @bridge.resource
    async def client() -> AsyncIterator[object]:
        yield object()
        raise OSError("reset by peer")

    other.get()
    client.get()
    bridge.close()
    assert closed == ["other"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "client' failed" in caplog.text
    assert "reset by peer" in caplog.text


def test_tasks_end_before_what_they_use(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """A task that is cancelled by the end of its loop cleans up with a client that is open still."""
    bridge = make_bridge()
    log: list[str] = []

    @bridge.resource
    async def client() -> AsyncIterator[Callable[[str], None]]:
        yield log.append
        log.append("closed")

    works = asyncio.Event()

    async def work() -> None:
        say = await client.aget()
        try:
            works.set()
            await sleep_forever()
        finally:
            await cleanup(0.02)
            say("cleaned up")

    async def start() -> asyncio.Task[None]:
        task = syncline.create_task(work())
        await works.wait()
        return task

    bridge.run_sync(start)
    bridge.close()
    assert log == ["cleaned up", "closed"]


def test_one_that_takes_for_ever_to_close_is_left_behind(
    make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """The closing of the bridge ends in its time, names it, and the others are closed."""
    bridge = make_bridge(cleanup_timeout=0.2)
    closed: list[str] = []
    other = bridge.resource(object, close=lambda _: closed.append("other"))

    @bridge.resource
    async def stubborn() -> AsyncIterator[object]:
        yield object()
        await sleep_forever()

    other.get()
    stubborn.get()
    bridge.close()
    assert closed == ["other"]
    assert "stubborn' was not closed in time" in caplog.text


def test_one_that_ends_by_itself_is_opened_anew(
    make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a client whose own background task has failed: that is logged, and the next use tries again."""
    bridge = make_bridge()
    ends: list[str] = []

    @bridge.resource
    async def group() -> AsyncIterator[asyncio.TaskGroup]:
        try:
            async with asyncio.TaskGroup() as group:
                yield group
        finally:
            ends.append("ended")

    async def fails() -> None:
        raise OSError("connection lost")

    async def start() -> None:
        (await group.aget()).create_task(fails())
        while not ends:
            await turn()

    first = group.get()
    bridge.run_sync(start)
    assert group.get() is not first
    assert "connection lost" in caplog.text


def test_a_task_that_waits_when_the_bridge_closes_is_cancelled(each_bridge: syncline.Bridge) -> None:
    """And so is the opening that it waits for."""
    log: list[str] = []
    opens = threading.Event()

    @each_bridge.resource
    async def client() -> object:
        opens.set()
        try:
            await sleep_forever()
        except CANCELLED:
            log.append("cancelled")
            raise
        raise AssertionError

    errors: list[BaseException] = []

    def ask() -> None:
        try:
            client.get()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    opens.wait()
    each_bridge.close()
    thread.join()
    assert [type(error) for error in errors] == [syncline.RunnerClosedError]
    assert log == ["cancelled"]


RESOURCE = """
@bridge.resource
async def client():
    await asyncio.sleep(0)
    opened = object()
    try:
        yield opened
    finally:
        await asyncio.sleep(0.01)
        os.write(1, b"closed in the child\\n" if os.getpid() != owner else b"closed\\n")

owner = os.getpid()
"""


@scopes
@pytest.mark.parametrize("flags", [(), DEV], ids=["plain", "dev-and-errors"])
def test_the_exit_closes_it(scope: str, flags: tuple[str, ...]) -> None:
    """After the tasks that use it, and nothing is printed."""
    script = RESOURCE + "client.get(); bridge.run_sync(start)"
    end = exiting(scope, script, flags=flags)
    assert end.lines == ["background cleaned up", "closed"]
    end.assert_clean()


def test_the_exit_closes_it_in_a_trio_run() -> None:
    """There, too."""
    script = """
import trio, os
import syncline
bridge = syncline.Bridge(backend="trio")

@bridge.resource
async def client():
    yield object()
    await trio.sleep(0.01)
    os.write(1, b"closed\\n")

client.get()
"""
    with Child(script, flags=DEV) as child:
        end = child.finish()
    assert end.lines == ["closed"]
    end.assert_clean()


def test_a_first_use_in_an_atexit_function() -> None:
    """What runs before our end opens it, and it is closed then."""
    end = exiting("process", RESOURCE + "atexit.register(client.get)", flags=DEV)
    assert end.lines == ["closed"]
    end.assert_clean()


@scopes
@pytest.mark.parametrize("kind", ["os._exit", "sys.exit"])
def test_a_forked_child_opens_its_own(scope: str, kind: str) -> None:
    """The parent's is left alone: the child neither uses nor closes nor frees it, however it ends."""
    script = f"""
import weakref
{RESOURCE}
class Opened:
    def __del__(self, getpid=os.getpid, write=os.write):
        write(1, b"freed in the child\\n" if getpid() != owner else b"")

object = Opened
first = client.get()
sys.stdout.flush()
child = os.fork()
if child == 0:
    owner = os.getpid()
    second = client.get()
    assert second is not first
    assert client.get() is second
    del first
    gc.collect()
    client.close()
    del second
    object = type("Other", (), {{}})
    client.get()
    if {kind!r} == "sys.exit":
        sys.exit(0)
    bridge.close()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("parent", flush=True)
assert client.get() is first
del first
"""
    end = forking(scope, script, flags=("-X", "dev"))
    assert end.lines == ["closed", "closed", "parent", "closed"]
    end.assert_clean()


def test_a_child_that_is_forked_while_it_opens_opens_its_own() -> None:
    """Another thread waits for the opening at the moment of the fork."""
    script = """
opens, may_open = threading.Event(), threading.Event()
parent = os.getpid()

@bridge.resource
async def client():
    opens.set()
    if os.getpid() == parent:
        await asyncio.to_thread(may_open.wait)
    return os.getpid()

thread = threading.Thread(target=client.get)
thread.start()
opens.wait()

def child():
    assert client.get(timeout=20) == os.getpid()

print("child", in_child(child))
may_open.set()
thread.join()
assert client.get() == os.getpid()
"""
    end = forking("process", script)
    assert end.lines == ["child 0"]
    end.assert_clean()


@pytest.mark.parametrize("scope", ["process", "thread", "caller", "trio"])
def test_ctrl_c_ends_an_opening(scope: str) -> None:
    """It is cancelled and cleans up, before KeyboardInterrupt is raised; the next use opens anew."""
    script = """
tries = []

@bridge.resource
async def client():
    tries.append(1)
    if len(tries) == 1:
        await work()
    return "opened"

try:
    client.get()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(client.get(), flush=True)
"""
    end = interrupted(scope, script)
    assert end.lines == ["cancelled", "cleaned up", "interrupted", "opened"]
    end.assert_clean()
