"""group: calls that sync code starts together, and that end together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextvars import ContextVar
from typing import Any

import pytest

import syncline
from child import Child, run_script
from neutral import CANCELLED, cleanup, new_event, sleep_forever, this_loop, turn
from places import in_thread

Inside = Callable[[Callable[[], Any]], Any]


class Forever:
    """Calls that end only by being cancelled."""

    def __init__(self) -> None:
        self.begun = 0
        self.cleaned = 0

    async def call(self) -> None:
        self.begun += 1
        try:
            await sleep_forever()
        except CANCELLED:
            await cleanup()
            self.cleaned += 1
            raise


async def double(item: int) -> int:
    for _ in range(item):
        await turn()
    return 2 * item


async def fail(error: Exception) -> None:
    await turn()
    raise error


@pytest.mark.parametrize("suspends", [False, True])
def test_what_ends_the_program_ends_the_group(
    each_bridge: syncline.Bridge, inside: Inside, suspends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In a call's first step, too, which asyncio makes at once from Python 3.12 on: there it ends no task, and was lost
    (case 48). What a later step raises is also reported, as that of any task is."""

    async def ends() -> None:
        if suspends:
            await turn()
        raise SystemExit(3)

    def run(waits: bool) -> None:
        others = Forever()
        with pytest.raises(SystemExit), each_bridge.group() as group:
            group.start(others.call)
            task = group.start(ends)
            if waits:
                task.result()
        assert others.begun == others.cleaned
        assert task.cancelled() or isinstance(task.exception(), SystemExit)
        assert each_bridge.run_sync(double, 1) == 2

    inside(lambda: run(False))
    inside(lambda: run(True))
    assert suspends or sys.version_info < (3, 12) or caplog.records == []


def test_results_are_there_when_they_are_asked_for(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """In the block, which waits for them, and after it."""

    def body() -> None:
        with each_bridge.group() as group:
            tasks = [group.start(double, item) for item in range(5)]
            assert tasks[3].result() == 6
            assert tasks[3].done()
        assert [task.result() for task in tasks] == [0, 2, 4, 6, 8]
        assert not any(task.cancelled() or task.exception() for task in tasks)

    inside(body)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("scope", ["process", "thread", "caller", "uvloop", "trio"])
def test_a_worker_waits_on_the_groups_loop(make_bridge: Callable[..., syncline.Bridge], scope: str) -> None:
    """Also where its calls run on the loop that sent it: in scope "caller" the group's loop moves by nobody else."""
    bridge = make_bridge(scope=scope, in_worker="sender")

    def body() -> list[int]:
        with bridge.group() as group:
            return [task.result() for task in [group.start(double, item) for item in range(5)]]

    async def main() -> list[int]:
        return await syncline.to_thread(body)

    assert syncline.run_sync(main) == [0, 2, 4, 6, 8]


def test_the_block_ends_when_all_calls_have(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Those that calls of the group have started, too."""
    ended: list[int] = []

    def body() -> None:
        with each_bridge.group() as group:

            async def start_next(left: int) -> None:
                await turn()
                if left:
                    group.start(start_next, left - 1)
                ended.append(left)

            group.start(start_next, 3).result()
        assert ended == [3, 2, 1, 0]

    inside(body)


def test_the_first_error_cancels_the_others(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """They clean up, and the block raises an ExceptionGroup."""
    error = ValueError("mine")

    def body() -> None:
        forever = Forever()
        with pytest.raises(ExceptionGroup) as raised, each_bridge.group() as group:
            waits = group.start(forever.call)
            fails = group.start(fail, error)
        assert raised.value.exceptions == (error,)
        assert forever.begun == forever.cleaned == 1
        assert waits.cancelled()
        assert fails.exception() is error

    inside(body)


def test_the_body_hears_of_an_error_where_it_waits(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """As the error of what it waits for, or as the cancellation of that; the group has the error once."""
    error = ValueError("mine")

    def body() -> None:
        for waits_for in ("fails", "waits"):
            forever = Forever()
            seen: list[type[BaseException]] = []
            with pytest.raises(ExceptionGroup) as raised, each_bridge.group() as group:
                tasks = {"waits": group.start(forever.call), "fails": group.start(fail, error)}
                try:
                    tasks[waits_for].result()
                except (ValueError, CancelledError) as got:
                    seen.append(type(got))
                    raise
            assert raised.value.exceptions == (error,)
            assert seen == [ValueError if waits_for == "fails" else CancelledError]
            assert forever.begun == forever.cleaned == 1

    inside(body)


def test_all_errors_come_in_one_group(each_bridge: syncline.Bridge) -> None:
    """Of two calls that fail at once, and of the body."""
    errors = [ValueError(0), KeyError(1)]

    async def wait_and_fail(error: Exception) -> None:
        try:
            await sleep_forever()
        except CANCELLED:
            raise error from None

    with pytest.raises(ExceptionGroup) as raised, each_bridge.group() as group:
        started = group.start(wait_and_fail, errors[0])
        group.start(double, 0).result()
        assert not started.done()
        raise errors[1]
    assert set(raised.value.exceptions) == set(errors)


def test_an_error_of_the_body_cancels_all(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """What is no Exception comes alone."""

    def body() -> None:
        for error in (ValueError("body"), KeyboardInterrupt()):
            forever = Forever()
            with pytest.raises(BaseException) as raised, each_bridge.group() as group:  # noqa: PT011
                group.start(forever.call)
                group.start(double, 1).result()
                raise error
            if isinstance(error, Exception):
                assert isinstance(raised.value, ExceptionGroup)
                assert raised.value.exceptions == (error,)
            else:
                assert raised.value is error
            assert forever.begun == forever.cleaned == 1

    inside(body)


def test_cancelling_one_call_leaves_the_others(each_bridge: syncline.Bridge) -> None:
    """Begun or not."""
    forever = Forever()
    with each_bridge.group() as group:
        at_once = group.start(forever.call)
        at_once.cancel()
        later = group.start(forever.call)
        other = group.start(double, 3)
        assert other.result() == 6
        later.cancel()
    for task in (at_once, later):
        assert task.cancelled()
        with pytest.raises(CancelledError):
            task.result()
    assert forever.begun == forever.cleaned


def test_cancelling_the_group_ends_the_block_quietly(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Also where the body waits for one of its calls; what is started afterwards is cancelled, too."""

    def body() -> None:
        forever = Forever()
        with each_bridge.group() as group:
            task = group.start(forever.call)
            group.start(double, 1).result()
            group.cancel()
            late = group.start(forever.call)
            task.result()
            raise AssertionError
        assert late.cancelled()
        assert forever.begun == forever.cleaned

    inside(body)


def test_a_group_has_a_deadline(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Then its calls are cancelled, and the block raises TimeoutError."""

    def body() -> None:
        for waits in (False, True):
            forever = Forever()
            with (
                pytest.raises(TimeoutError, match=r"within 0\.05 s"),
                each_bridge.group(timeout=0.05) as group,
            ):
                task = group.start(forever.call)
                if waits:
                    task.result()
            assert forever.begun == forever.cleaned == 1

    inside(body)


def test_a_wait_has_a_deadline_of_its_own(each_bridge: syncline.Bridge) -> None:
    """The call goes on."""
    event: list[Any] = []

    async def call() -> int:
        event.append(new_event())
        await event[0].wait()
        return 1

    async def let_go() -> None:
        event[0].set()

    with each_bridge.group() as group:
        task = group.start(call)
        with pytest.raises(TimeoutError):
            task.result(timeout=0.01)
        each_bridge.run_sync(let_go)
        assert task.result(timeout=10) == 1


def test_a_call_says_when_it_has_started(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Its `started` value is what start returns; the call goes on until the block ends."""

    def body() -> None:
        stopped = []

        async def serve(host: str, *, task_status: Any) -> None:
            event = new_event()
            await turn()
            task_status.started((host, event.set))
            await event.wait()
            stopped.append(host)

        async def stop(set_event: Callable[[], None]) -> None:
            set_event()

        with each_bridge.group() as group:
            host, set_event = group.start(serve, "localhost", wait_started=True)
            assert host == "localhost"
            assert not stopped
            each_bridge.run_sync(stop, set_event)
        assert stopped == ["localhost"]

    inside(body)


def test_a_call_that_fails_before_it_has_started(each_bridge: syncline.Bridge) -> None:
    """Start raises its error; the group goes on if the body does."""
    error = ValueError("port")

    async def serve(*, task_status: Any) -> None:
        await fail(error)

    with each_bridge.group() as group:
        with pytest.raises(ValueError, match="port") as raised:
            group.start(serve, wait_started=True)
        assert raised.value is error
        assert group.start(double, 4).result() == 8


def test_groups_nest(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """An error of the inner one is the outer body's."""
    error = ValueError("mine")

    def body() -> None:
        forever = Forever()
        with pytest.raises(ExceptionGroup) as raised, each_bridge.group() as outer:
            outer.start(forever.call)
            with each_bridge.group() as inner:
                assert inner.start(double, 2).result() == 4
                inner.start(fail, error)
        (group,) = raised.value.exceptions
        assert isinstance(group, ExceptionGroup)
        assert group.exceptions == (error,)
        assert forever.begun == forever.cleaned == 1

    inside(body)


def test_calls_run_on_the_bridges_loop_in_the_callers_context(each_bridge: syncline.Bridge) -> None:
    """Each in a copy of it."""
    variable: ContextVar[int] = ContextVar("variable")

    async def where() -> tuple[int, int]:
        value = variable.get()
        variable.set(0)
        return this_loop(), value

    async def loop() -> int:
        return this_loop()

    token = variable.set(7)
    with each_bridge.group() as group:
        assert group.start(where).result() == (each_bridge.run_sync(loop), 7)
        assert group.start(where).result() == (each_bridge.run_sync(loop), 7)
    variable.reset(token)


def test_any_thread_may_start_calls_and_wait_for_them(each_bridge: syncline.Bridge) -> None:
    """In scope "caller" they move when the thread that opened the group waits."""
    is_driven = each_bridge.scope == "caller"
    with each_bridge.group() as group:
        tasks = [in_thread(lambda item=item: group.start(double, item)) for item in range(5)]  # type: ignore[misc]
        if not is_driven:
            assert [in_thread(task.result) for task in tasks] == [0, 2, 4, 6, 8]
    assert [in_thread(task.result) for task in tasks] == [0, 2, 4, 6, 8]


def test_async_code_can_use_it_too(anywhere: Callable[[Callable[[], Any]], Any]) -> None:
    """With `async with`, on the loop that runs."""

    async def main() -> None:
        async with syncline.group() as group:
            tasks = [group.start(double, item) for item in range(5)]
        assert [task.result() for task in tasks] == [0, 2, 4, 6, 8]

    anywhere(main)


def test_a_call_that_never_says_that_it_has_started(each_bridge: syncline.Bridge) -> None:
    """Start is told when it has ended; saying it twice is an error of the call."""

    async def forgets(*, task_status: Any) -> None:
        await turn()

    async def repeats(*, task_status: Any) -> None:
        task_status.started()
        await turn()
        task_status.started()

    with each_bridge.group() as group, pytest.raises(RuntimeError, match=r"'forgets' has ended without"):
        group.start(forgets, wait_started=True)
    with pytest.raises(ExceptionGroup) as raised, each_bridge.group() as group:
        assert group.start(repeats, wait_started=True) is None
    assert "called before" in str(raised.value.exceptions[0])


@pytest.mark.parametrize("options", ["", "scope='caller'", "backend='trio'"])
def test_ctrl_c_cancels_the_group(options: str) -> None:
    """In the body and at the end of the block; its calls have cleaned up when KeyboardInterrupt is raised."""
    script = f"""
import sys, anyio, syncline
bridge = syncline.Bridge({options})
cleaned = 0

async def call():
    global cleaned
    try:
        print("waits", flush=True)
        await anyio.sleep(1000)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
        cleaned += 1

for in_body in (True, False):
    try:
        with bridge.group() as group:
            task = group.start(call)
            if in_body:
                task.result()
    except KeyboardInterrupt:
        print("interrupted", cleaned, flush=True)
bridge.close()
"""
    with Child(script) as child:
        for count in (1, 2):
            child.expect("waits")
            child.signal()
            child.expect(f"interrupted {count}")
        child.finish().assert_clean()


def test_a_closed_bridge_ends_the_group(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Every wait for it ends, and a late start is refused."""
    bridge = make_bridge()
    forever = Forever()
    with pytest.raises(syncline.RunnerClosedError), bridge.group() as group:
        task = group.start(forever.call)
        group.start(double, 1).result()
        bridge.close()
        with pytest.raises((CancelledError, syncline.RunnerClosedError)):
            task.result()
        with pytest.raises(syncline.RunnerClosedError):
            group.start(double, 1)
        raise syncline.RunnerClosedError("body")
    assert forever.begun == forever.cleaned == 1


def test_a_forked_child_is_told_whose_the_group_is() -> None:
    """It is the parent's; the child's own groups work."""
    end = run_script("""
import os, threading, syncline

async def call():
    return 1

def work():
    begun.set()
    released.wait()
    return 1

begun, released = threading.Event(), threading.Event()
with syncline.group() as group:
    task = group.start(syncline.to_thread, work)
    begun.wait()  # the loop's thread imports nothing any more, which would stay locked in the child
    process = os.fork()
    if not process:
        for attempt in (lambda: group.start(call), task.result, group.cancel):
            try:
                attempt()
            except syncline.RunnerClosedError as error:
                assert "forked" in str(error)
            else:
                os._exit(3)
        with syncline.group() as own:
            assert own.start(call).result() == 1
        os._exit(0)
    assert os.waitpid(process, 0)[1] == 0
    released.set()
assert task.result() == 1
""")
    assert end.status == 0, end.err
