"""A signal in the middle of what the main thread asks a loop: it is raised, and what has begun cleans up."""

from __future__ import annotations

import sys

import pytest

from child import run_script
from scripts import STRIKES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGUSR1")

CODE = (
    STRIKES
    + """
import asyncio, contextlib, sys, syncline
import syncline._many.group

left, number, strikes_at = [], 0, 0

def strike_in(owner, name):
    # Interleaving: the signal comes as that function is called for the n-th time, in the main thread.
    function = getattr(owner, name)
    def struck(*args, **options):
        global number
        number += 1
        if number == strikes_at:
            signal.raise_signal(signal.SIGUSR1)
        return function(*args, **options)
    setattr(owner, name, struck)

async def work():
    left.append(1)
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    finally:
        left.append(-1)

async def items():
    left.append(1)
    try:
        await asyncio.sleep(0)
        yield 1
        await asyncio.sleep(0)
        yield 2
    finally:
        left.append(-1)

@contextlib.asynccontextmanager
async def manager():
    left.append(1)
    try:
        yield await asyncio.sleep(0)
    finally:
        left.append(-1)

class Kinds:
    def iterate(bridge):
        for _ in bridge.iterate(items()):
            pass
    def prefetch(bridge):
        for _ in bridge.iterate(items(), prefetch=1):
            pass
    def generator(bridge):
        made = bridge.generator(items)()
        next(made)
        made.send(None)
        made.close()
    def enter(bridge):
        with bridge.enter(manager()):
            pass
    def to_thread(bridge):
        async def sends():
            await syncline.to_thread(int)
        bridge.run_sync(sends)
    def group(bridge):
        with bridge.group() as group:
            group.start(work)
            group.start(work)

logged = []
sys.unraisablehook = lambda hook: logged.append(str(hook.exc_value))
kind = getattr(Kinds, {kind!r})
strike_in({where})
lost, ended = [], False
while not ended:
    strikes_at += 1
    number = -1000
    left.clear()
    with syncline.Bridge(scope={scope!r}, cleanup_timeout=5) as bridge:
        bridge.run_sync(asyncio.sleep, 0)
        number = 0
        try:
            kind(bridge)
        except Struck:
            pass
        else:
            ended = number < strikes_at
            if not ended:
                lost.append((strikes_at, "signal"))
        number = -1000
        bridge.run_sync(asyncio.sleep, 0)
    if sum(left):
        lost.append((strikes_at, "cleanup"))
print(strikes_at > 1, lost, logged)
"""
)

CALL_SOON = 'asyncio.BaseEventLoop, "call_soon"'


@pytest.mark.parametrize("base", ["KeyboardInterrupt", "Exception"])
@pytest.mark.parametrize("kind", ["iterate", "prefetch", "generator", "enter"])
def test_a_signal_while_a_step_is_scheduled_ends_what_has_begun(kind: str, base: str) -> None:
    """The task of an iterator loses its step there; another one takes its place, and cleans up."""
    finished = run_script(CODE.format(kind=kind, base=base, scope="caller", where=CALL_SOON))
    assert finished.lines == ["True [] []"], finished.err


@pytest.mark.parametrize("base", ["KeyboardInterrupt", "Exception"])
@pytest.mark.parametrize("where", ["add_reader", "_ensure_fd_no_transport", "_add_reader"])
def test_a_signal_while_a_loop_begins_to_hear_of_worker_threads_is_raised(where: str, base: str) -> None:
    """The loop is told to watch a descriptor. What is raised there does not mean that it can't."""
    owner = f"asyncio.SelectorEventLoop, {where!r}"
    finished = run_script(CODE.format(kind="to_thread", base=base, scope="caller", where=owner))
    assert finished.lines == ["True [] []"], finished.err


@pytest.mark.parametrize("scope", ["process", "caller"])
@pytest.mark.parametrize("where", ["_tell", "_check_process"])
def test_a_signal_while_a_group_starts_a_call_ends_the_block(where: str, scope: str) -> None:
    """The block does not wait for a call that its loop was never told of."""
    owner = f"syncline._many.group.Group, {where!r}"
    finished = run_script(CODE.format(kind="group", base="KeyboardInterrupt", scope=scope, where=owner))
    assert finished.lines == ["True [] []"], finished.err


def test_a_signal_while_a_group_starts_a_task_is_raised_as_it_is() -> None:
    """The task has made its first step, and asks for its next one: asyncio makes a SystemError of what is raised there,
    and forgets the task. What has begun cleans up in another one."""
    script = CODE.partition("logged = []")[0].format(base="KeyboardInterrupt")
    script += """
import contextvars
from syncline._core import start_task

async def starts():
    global strikes_at, number
    strike_in(asyncio.BaseEventLoop, "call_soon")
    strikes_at, number = 1, 0
    try:
        start_task(asyncio.get_running_loop(), work(), contextvars.copy_context())
    except Struck:
        print("raised")
    for _ in range(5):
        await asyncio.sleep(0)
    print(sum(left))

asyncio.run(starts())
"""
    finished = run_script(script)
    assert finished.lines == ["raised", "0"], finished.err
    assert "never awaited" not in finished.err


@pytest.mark.parametrize("where", ["run_forever", "_check_running", "_set_coroutine_origin_tracking"])
def test_a_signal_before_a_loop_turns_for_what_runs_in_the_background_does_not_stop_the_next_call(
    where: str,
) -> None:
    """A call that never suspends has the loop turn once, as a timer is there. The order to stop after that is not left
    to the next call's turns, which would end it."""
    script = CODE.partition("logged = []")[0].format(base="KeyboardInterrupt")
    script += f"""
async def sets_a_timer():
    asyncio.get_running_loop().call_later(60, int)

async def quick():
    pass

bridge = syncline.Bridge(scope="caller")
bridge.run_sync(sets_a_timer)
strike_in(asyncio.BaseEventLoop, {where!r})
strikes_at, number = 1, 0
try:
    bridge.run_sync(quick)
except Struck:
    print("raised")
print(bridge.run_sync(asyncio.sleep, 0.001, 42))
"""
    finished = run_script(script)
    assert finished.lines == ["raised", "42"], finished.err


@pytest.mark.parametrize("factory", ["None", "uvloop.new_event_loop"], ids=["asyncio", "uvloop"])
def test_ctrl_c_in_a_task_that_another_one_awaits_is_one_ctrl_c(factory: str) -> None:
    """Scope "caller": what is raised in the task's own code comes out of the loop, and again when the other task awaits
    that one in its cleanup. The call still has its time to clean up."""
    end = run_script(
        f"""
        import asyncio, signal, syncline, uvloop

        async def struck():
            signal.raise_signal(signal.SIGINT)

        async def awaits_it():
            task = asyncio.create_task(struck())
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError:
                await task

        async def main():
            try:
                await asyncio.create_task(awaits_it())
            finally:
                await asyncio.sleep(0.05)
                print("clean", flush=True)

        bridge = syncline.Bridge(scope="caller", loop_factory={factory})
        try:
            bridge.run_sync(main)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        bridge.close()
        """
    )
    end.assert_clean()
    assert end.lines == ["clean", "interrupted"]
