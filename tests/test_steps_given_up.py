"""A step of an iterator, generator or manager whose caller has stopped waiting, by a second Ctrl-C, while it still
cleans up: it comes to its end undisturbed, and what has to follow it follows it."""

from __future__ import annotations

import pytest

from child import Finished
from scripts import started

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller", "trio"])

HELD = """
import contextlib

go, ended = [], []

async def until_told():
    # Sleeps on end: in scope "caller" a signal that meets code of the coroutine is raised there.
    library = sys.modules["trio"] if in_trio() else asyncio
    go.append(library.Event())
    with library.CancelScope(shield=True) if in_trio() else contextlib.nullcontext():
        await go[-1].wait()

async def held():
    # Cleans up until `end`.
    try:
        ready(still=True)
        await sleep(3600)
    finally:
        ready("cleans up")
        await until_told()
        print("cleaned up", flush=True)

async def items(last=held):
    try:
        yield 1
        await last()
    finally:
        await cleanup(0)
        ended.append("items")

async def call(_):
    try:
        await held()
    finally:
        ended.append("call")

async def until_ended():
    go[-1].set()
    while not ended:
        await sleep(0.001)

def end():
    bridge.run_sync(until_ended)
    bridge.close()
    print(*ended, flush=True)
"""


def interrupted_twice(scope: str, script: str) -> Finished:
    # Interleaving: the first signal comes when the main thread waits, the second when the step is in its cleanup, which
    # ends when the caller has gone on.
    with started(scope, HELD + script) as child:
        child.signal()
        child.expect("cleans up")
        child.signal()
        return child.finish()


@scopes
@pytest.mark.parametrize(
    ("use", "what"),
    [
        ("list(bridge.iterate(items()))", "items"),
        ("list(bridge.iterate(items(), prefetch=2))", "items"),
        ("list(bridge.generator(items)())", "items"),
        ("list(bridge.map(call, [1]))", "call"),
    ],
)
def test_a_second_ctrl_c_in_a_step_is_raised_and_the_step_cleans_up(scope: str, use: str, what: str) -> None:
    """KeyboardInterrupt, and no error of the generator that is closed while it runs (case 45)."""
    script = f"""
try:
    {use}
except KeyboardInterrupt:
    print("caught", flush=True)
end()
"""
    end = interrupted_twice(scope, script)
    end.assert_clean()
    assert end.lines == ["caught", "cleaned up", what]


@scopes
def test_a_step_after_one_that_still_cleans_up_is_refused(scope: str) -> None:
    """It would break that one off in the middle of its cleanup."""
    script = """
iterator = bridge.iterate(items())
next(iterator)
try:
    next(iterator)
except KeyboardInterrupt:
    try:
        next(iterator)
    except RuntimeError as error:
        print(error, flush=True)
iterator.close()
end()
"""
    end = interrupted_twice(scope, script)
    end.assert_clean()
    assert end.lines[0].startswith(
        "an earlier step of it is still cleaning up, which nobody waits for any more"
    )
    assert end.lines[1:] == ["cleaned up", "items"]


@scopes
def test_a_manager_that_is_entered_after_its_caller_has_left_is_left(scope: str) -> None:
    """There is no `with` block any more that would leave it."""
    script = """
class Manager:
    async def __aenter__(self):
        try:
            await held()
        except BaseException:
            pass

    async def __aexit__(self, kind, error, traceback):
        await cleanup(0)
        ended.append("left")

try:
    with bridge.enter(Manager()):
        print("entered")
except KeyboardInterrupt:
    print("caught", flush=True)
end()
"""
    end = interrupted_twice(scope, script)
    end.assert_clean()
    assert end.lines == ["caught", "cleaned up", "left"]
