"""Programs of the user's that run on trio: what calls, workers and signals mean in their tasks."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest
import trio

import syncline
from child import Child, eventually, run_script
from trio_code import add, bridge

__all__ = ["bridge"]

MAIN = """
import asyncio, signal, sys, threading
import syncline, trio

bridge = syncline.Bridge(backend={backend!r})
sleep = {{"asyncio": asyncio, "trio": trio}}[{backend!r}].sleep

async def work():
    try:
        print("ready", flush=True)
        await sleep(3600)
    finally:
        print("cleaned up", flush=True)

async def answer():
    return 42

async def hops():
    try:
        bridge.run_sync(work)
    finally:
        print("main left", flush=True)

nests = syncline.nestable(hops)

async def catches():
    try:
        bridge.run_sync(work)
    except KeyboardInterrupt:
        print("caught", bridge.run_sync(answer), flush=True)
    await trio.lowlevel.checkpoint()
"""


@pytest.mark.parametrize("main", ["hops", "nests"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_in_the_main_task_ends_its_call_and_the_run(backend: str, main: str) -> None:
    """The coroutine cleans up, wherever it runs; KeyboardInterrupt comes out of trio.run (case 44)."""
    script = f"""
try:
    trio.run({main})
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(bridge.run_sync(answer), flush=True)
"""
    with Child(MAIN.format(backend=backend) + script) as child:
        child.expect("ready")
        child.signal()
        end = child.finish()
    assert end.lines == ["cleaned up", "main left", "interrupted", "42"]
    end.assert_clean()


def test_code_that_is_protected_from_ctrl_c_stays_so_in_nested_calls() -> None:
    """Where a run raises KeyboardInterrupt at checkpoints only, sync code below a nested call is not hit either."""
    script = """
def busy():
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(100_000):
        pass
    print("not hit", flush=True)

async def inner():
    busy()
    await trio.lowlevel.checkpoint()

async def nested():
    bridge.run_sync(inner)

try:
    trio.run(syncline.nestable(nested), restrict_keyboard_interrupt_to_checkpoints=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    roaming = MAIN.format(backend="trio").replace("Bridge(", "Bridge(roams=True, ")
    with Child(roaming + script) as child:
        child.expect("ready")
        child.signal()
        child.tell("go on")
        end = child.finish()
    assert end.lines == ["not hit", "interrupted"]
    end.assert_clean()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_ctrl_c_in_a_call_of_the_main_task_can_be_caught(backend: str) -> None:
    """Then the run goes on, and so does the bridge (case 44)."""
    with Child(MAIN.format(backend=backend) + "\ntrio.run(catches)\nprint('went on', flush=True)") as child:
        child.expect("ready")
        child.signal()
        end = child.finish()
    assert end.lines == ["cleaned up", "caught 42", "went on"]
    end.assert_clean()


def test_nothing_of_the_main_threads_state_is_touched() -> None:
    """Signal handlers, the wake-up descriptor, hooks and the running loop are as they were, so that trio still handles
    Ctrl-C itself; calls are made in and around a run."""
    end = run_script(
        """
import asyncio, signal, sys
import syncline, trio
bridges = [syncline.Bridge(backend=backend) for backend in ("asyncio", "trio")]

def state():
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    loop = asyncio._get_running_loop()
    return handlers, wakeup, sys.get_asyncgen_hooks(), sys.excepthook, sys.unraisablehook, loop, sys.gettrace()

async def answer():
    return 42

def calls():
    before = state()
    for bridge in bridges:
        assert bridge.run_sync(answer) == bridge.submit(answer).result() == 42
        assert state() == before

async def main():
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler  # trio's own
    calls()
    await syncline.run_nestable(calls)
    undo = syncline.install()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(syncline.run_nestable, calls)
    undo()
    await syncline.to_thread(answer().close)

calls()
trio.run(main)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
calls()
for bridge in bridges:
    bridge.close()
""",
        flags=("-X", "dev", "-W", "error"),
    )
    end.assert_clean()


def test_a_deadline_around_a_call_is_kept_where_the_call_awaits(bridge: syncline.Bridge) -> None:
    """In place it cancels the call; around one that blocks the run it comes due at the next checkpoint."""
    log: list[str] = []

    async def waits() -> None:
        try:
            await trio.sleep_forever()
        finally:
            log.append("inner cancelled")

    @syncline.nestable
    async def nests() -> None:
        with trio.move_on_after(0.01) as scope:  # noqa: ASYNC100 -- the nested call awaits
            bridge.run_sync(waits)
        assert scope.cancelled_caught
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):  # noqa: ASYNC100
            bridge.run_sync(waits)

    async def blocks() -> None:
        with trio.move_on_after(0.01) as scope:
            log.append(syncline.run_sync(asyncio.sleep, 0.05, "whole"))
            await trio.lowlevel.checkpoint()
            log.append("not cancelled")
        assert scope.cancelled_caught

    trio.run(nests)
    trio.run(blocks)
    assert log == ["inner cancelled", "inner cancelled", "whole"]


@pytest.mark.parametrize("own", [True, False], ids=["a bridge's run", "the user's run"])
def test_a_cancelled_worker_ends_what_it_waits_for(bridge: syncline.Bridge, own: bool) -> None:
    """to_thread in a scope that is cancelled: the coroutine that its function waits for sees trio's Cancelled, the
    function CancelledError, and the task goes on at once."""
    log: list[str] = []
    begun, over = trio.Event(), threading.Event()

    async def waits() -> None:
        begun.set()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
        except BaseExceptionGroup as group:
            log.append(type(group.exceptions[0]).__name__)
            raise

    def function() -> None:
        try:
            syncline.from_thread(waits)
        except asyncio.CancelledError:
            log.append("function")
        with pytest.raises(asyncio.CancelledError):
            syncline.check_cancelled()
        over.set()

    async def main() -> str:
        async def cancel(scope: trio.CancelScope) -> None:
            await begun.wait()
            scope.cancel()

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel, scope)
                await syncline.to_thread(function)
            assert scope.cancelled_caught
            # The run goes on, which is what ends the coroutine.
            with trio.fail_after(20):
                while not over.is_set():
                    await trio.sleep(0.001)
        return "went on"

    assert (bridge.run_sync(main) if own else trio.run(main)) == "went on"
    assert log == ["Cancelled", "function"]


def test_a_worker_calls_a_bridge_of_either_kind(bridge: syncline.Bridge) -> None:
    """A function in a worker thread is in no task: its calls are those of a plain thread."""

    async def asyncio_code() -> str:
        await asyncio.sleep(0)
        return "asyncio"

    def function() -> tuple[str, int, int]:
        return syncline.run_sync(asyncio_code), bridge.run_sync(add, 1), syncline.from_thread(add, 2)

    async def main() -> tuple[str, int, int]:
        return await syncline.to_thread(function)

    assert trio.run(main) == bridge.run_sync(main) == ("asyncio", 2, 3)


def test_gather_gives_the_errors_of_all_through_a_call(bridge: syncline.Bridge) -> None:
    """One group with each error, the others' Cancelled not among them; results come by key otherwise (case 29)."""
    problems = [ValueError("first"), KeyError("second")]

    async def fails(number: int) -> None:
        try:
            if number:
                await trio.sleep_forever()
        finally:
            raise problems[number]

    async def waits() -> None:
        await trio.sleep_forever()

    async def main() -> Any:
        return await syncline.gather(lambda: fails(0), lambda: fails(1), waits)

    with pytest.raises(ExceptionGroup) as caught:
        bridge.run_sync(main)
    assert sorted(caught.value.exceptions, key=problems.index) == problems

    async def works() -> list[int]:
        return await syncline.gather(lambda: add(1), lambda: add(2))

    assert bridge.run_sync(works) == [2, 3]


def test_a_scope_around_a_call_is_no_scope_of_the_other_run(bridge: syncline.Bridge) -> None:
    """A task that is parked is cancelled in its wait, as where it awaits; one that blocks its loop hears of it at its
    next checkpoint. In the other run no scope is cancelled, also if both are trio's."""
    with syncline.Bridge(backend="trio", name="other") as other:

        async def main() -> list[str]:
            found: list[str] = []
            with trio.CancelScope() as scope:  # noqa: ASYNC100 -- awaits in the other run only
                scope.cancel()
                found.append(other.run_sync(anyio_sleeps))
            return [*found, "went on", other.run_sync(anyio_sleeps)]

        assert bridge.run_sync(main) == ["went on", "slept"]
        assert trio.run(main) == ["slept", "went on", "slept"]


async def anyio_sleeps() -> str:
    await anyio.sleep(0.001)
    return "slept"


@pytest.mark.parametrize("scope", ["process", "thread"])
@pytest.mark.parametrize("nested", ["switch", "thread"])
def test_a_trio_bridge_in_a_trio_bridge(scope: Any, nested: Any) -> None:
    """Each on its own run: values, errors, timeouts and the cancellation of either are told apart."""
    with (
        syncline.Bridge(backend="trio", scope=scope, nested=nested, name="one") as one,
        syncline.Bridge(backend="trio", scope=scope, nested=nested, name="two") as two,
    ):
        log: list[str] = []

        async def waits() -> None:
            try:
                await trio.sleep_forever()
            finally:
                log.append("cancelled")

        async def inner_timeout() -> str:
            with pytest.raises(TimeoutError, match=r"0\.01 s"):
                two.run(waits(), timeout=0.01)
            return two.run_sync(anyio_sleeps)

        async def outer_timeout() -> None:
            try:
                two.run_sync(waits)
            except trio.Cancelled:
                log.append("outer")
                raise

        assert one.run_sync(inner_timeout) == "slept"
        with pytest.raises(TimeoutError, match=r"0\.2 s"):
            one.run(outer_timeout(), timeout=0.2)
        assert log == ["cancelled", "cancelled", "outer"]
        assert one.run_sync(add, 1) == two.run_sync(add, 1) == 2


def test_no_cancelled_escapes_a_run_that_ends(bridge: syncline.Bridge) -> None:
    """Whoever waits for a call of a bridge that is closed gets RunnerClosedError, in a trio task as well."""
    begun, got = threading.Event(), []

    async def waits() -> None:
        begun.set()
        await trio.sleep_forever()

    async def main() -> None:
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(waits)
        await trio.lowlevel.checkpoint()
        got.append("told")

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert begun.wait(20)
    bridge.close()
    thread.join(20)
    assert eventually(lambda: got == ["told"])


# Interleaving: the signal comes at the line of that number in the code by which a task waits for another loop.
AT_EACH_LINE = """
import asyncio, os, signal, sys, syncline, trio
import syncline._trio

bridge = syncline.Bridge(backend={backend!r})
sleep = {{"asyncio": asyncio, "trio": trio}}[{backend!r}].sleep
log, struck, is_over = [], [], []

async def work():
    log.append("began")
    try:
        await sleep(3600)
    finally:
        log.append("cleaned up")

async def awaits():
    try:
        await bridge.run_async(work)
    finally:
        log.append("left")

@syncline.nestable
async def nests():
    try:
        bridge.run_sync(work)
    finally:
        log.append("left")

def watches(number):
    def at_line(frame, event, arg):
        nonlocal number
        number -= event == "line"
        if number < 0 and not struck and not is_over:
            struck.append(frame.f_lineno)
            os.kill(os.getpid(), signal.SIGINT)
        return at_line

    def is_of_wait(code):
        return code.co_filename == syncline._trio.__file__ and code.co_qualname.startswith(("wait_for", "Idle."))

    return lambda frame, event, arg: at_line if is_of_wait(frame.f_code) else None

async def ends_what_nothing_struck(scope):
    while "began" not in log:
        await trio.lowlevel.checkpoint()
    for _ in range(50):  # turns in which the wait begins
        await trio.lowlevel.checkpoint()
    is_over.append(True)  # a Ctrl-C after this cancellation would be the second thing to end the wait
    scope.cancel()

async def main(number):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends_what_nothing_struck, nursery.cancel_scope)
        sys.settrace(watches(number))
        await {main}()

number = 0
while not number or struck:
    log.clear(), struck.clear(), is_over.clear()
    try:
        trio.run(main, number)
        end = "no Ctrl-C"
    except* KeyboardInterrupt:
        end = "Ctrl-C"
    finally:
        sys.settrace(None)
    is_clean = "began" not in log or log == ["began", "cleaned up", "left"]
    if not is_clean or end != ("Ctrl-C" if struck else "no Ctrl-C"):
        print("wrong", number, struck, log, end, flush=True)
    number += 1
print("enough lines" if number > 10 else number, flush=True)
"""


@pytest.mark.parametrize("main", ["awaits", "nests"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_ctrl_c_at_any_line_of_a_wait_lets_what_has_begun_clean_up(backend: str, main: str) -> None:
    """And the task goes on after that, with the KeyboardInterrupt."""
    end = run_script(AT_EACH_LINE.format(backend=backend, main=main))
    assert end.lines == ["enough lines"]
    end.assert_clean()
