"""A signal while a step is sent or has just been made: the operation raises it, and what has begun is ended."""

from __future__ import annotations

import sys

import pytest

from child import run_script
from scripts import STRIKES

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGUSR1")

CODE = (
    STRIKES
    + """
import asyncio, contextlib, inspect, math, sys, syncline

left = []

@contextlib.contextmanager
def noted():
    left.append(1)
    try:
        yield
    finally:
        left.pop()

def caught(operation, *args):
    try:
        operation(*args)
    except Struck:
        return True
    return False
"""
)

TO_TRIO = """
import trio

bridge = syncline.Bridge(backend="trio", cleanup_timeout=60.0)
number, strikes_at = 0, 0

class Striking:
    def __init__(self, socket):
        self.socket = socket

    def __getattr__(self, name):
        return getattr(self.socket, name)

    def send(self, data):
        # Interleaving: the signal comes as trio has been told something for the n-th time.
        global number
        sent = self.socket.send(data)
        number += 1
        if number == strikes_at:
            signal.raise_signal(signal.SIGUSR1)
        return sent

async def items():
    with noted():
        await trio.lowlevel.checkpoint()
        yield 1
        await trio.lowlevel.checkpoint()
        yield 2

@contextlib.asynccontextmanager
async def manager():
    with noted():
        yield

class Kinds:
    def prefetch():
        for _ in bridge.iterate(items(), prefetch=1):
            pass
    def leave():
        for _ in bridge.iterate(items(), prefetch=1):
            break
        for _ in range(2):  # what comes in a finalizer is raised in the code around it
            pass
    def close():
        made = bridge.iterate(items(), prefetch=1)
        next(made)
        made.close()
    def generator():
        made = bridge.generator(items)()
        next(made)
        made.send(None)
        made.close()
    def enter():
        with bridge.enter(manager()):
            pass

async def strike():
    wakeup = trio.lowlevel.current_trio_token()._reentry_queue.wakeup
    wakeup.write_sock = Striking(wakeup.write_sock)

bridge.run_sync(strike)
faults, ended = [], False
while not ended:
    strikes_at += 1
    number = 0
    is_caught = caught(Kinds.{kind})
    ended = number < strikes_at
    number = -math.inf
    if is_caught == ended:
        faults.append((strikes_at, "signal"))
    # Raises what was kept for the next call.
    bridge.run_sync(trio.lowlevel.checkpoint)
    while left:
        bridge.run_sync(trio.lowlevel.checkpoint)
print(strikes_at > 1, faults)
"""


@pytest.mark.parametrize("base", ["KeyboardInterrupt", "Exception"])
@pytest.mark.parametrize("kind", ["prefetch", "leave", "close", "generator", "enter"])
def test_a_signal_while_trio_is_told_of_a_step_is_raised_by_the_step(kind: str, base: str) -> None:
    """It comes when the loop knows already; the next call has nothing to do with it."""
    finished = run_script(CODE.format(base=base) + TO_TRIO.replace("{kind}", kind))
    assert finished.lines == ["True []"], finished.err
    finished.assert_clean()


ENTERED = """
from syncline.compat import anysync
from syncline.twins import Twin

class Client:
    async def __aenter__(self):
        left.append(1)
        return 5
    async def __aexit__(self, *raised):
        left.pop()
    @contextlib.asynccontextmanager
    async def part(self):
        with noted():
            yield

class AnyClient(anysync.AnySyncContextManager):
    async def __aenter__(self):
        left.append(1)
    async def __aexit__(self, *raised):
        left.pop()

bridge = syncline.Bridge(scope={scope!r})
Made = bridge.blocking(Client)

class Written(Twin[Client], of=Client, bridge=bridge):
    def __init__(self):
        self._make(Client)
    def __enter__(self):
        return self._enter(self._aio, lambda found: give(found))
    def __exit__(self, *raised):
        return self._leave(*raised)

def give(found):
    return found
"""


AS_IT_RETURNS = """
def profile(frame, event, called):
    # Interleaving: the signal comes just as the core has entered it, or as what that gave is converted.
    name = called.__name__ if event == "c_return" else frame.f_code.co_name
    if (event, name) == {moment!r}:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGUSR1)

def enters(manager):
    sys.setprofile(profile)
    with manager:
        print("entered")

manager = {make}
print(caught(enters, manager), left)
"""


@pytest.mark.parametrize(
    ("make", "converts"),
    [("Made()", "out"), ("Written()", "give"), ("Made().part()", "give"), ("AnyClient()", None)],
)
@pytest.mark.parametrize("scope", ["process", "caller"])
def test_what_is_entered_is_left_again_if_a_signal_comes_as_it_returns(
    scope: str, make: str, converts: str | None
) -> None:
    """There will be no block, and so nobody else would leave it."""
    for moment in [("c_return", "__enter__"), ("call", converts)][: 2 if converts else 1]:
        script = CODE.format(base="KeyboardInterrupt") + ENTERED.format(scope=scope)
        finished = run_script(script + AS_IT_RETURNS.format(make=make, moment=moment))
        assert finished.lines == ["True []"], (moment, finished.err)
        finished.assert_clean()


AS_IT_IS_LEFT = """
def is_async(frame):
    while frame is not None and not frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        frame = frame.f_back
    return frame is not None

def profile(frame, event, called):
    # Interleaving: after the block, the signal comes where Python looks for signals for the n-th time, as a function
    # begins, or one in C has ended; not in the coroutine, which scope "caller" runs in this thread, nor in the callback
    # of a weak reference, where Python itself loses what a handler raises.
    global number
    if event not in ("call", "c_return") or is_async(frame) or frame.f_code.co_name == "_remove":
        return
    number += 1
    if number == strikes_at:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGUSR1)

def enters(manager):
    try:
        with manager:
            sys.setprofile(profile)
    finally:
        sys.setprofile(None)

number, strikes_at, faults = 0, 0, []
while number >= strikes_at:
    strikes_at += 1
    number, made = 0, {make}
    is_caught = caught(enters, made)
    if is_caught != (number >= strikes_at):
        faults.append((strikes_at, "signal"))
    if left:
        faults.append((strikes_at, "entered"))
        left.clear()
print(strikes_at > 1, faults)
"""


@pytest.mark.parametrize("base", ["KeyboardInterrupt", "Exception"])
@pytest.mark.parametrize("make", ["Made()", "Written()", "Made().part()", "AnyClient()"])
@pytest.mark.parametrize("scope", ["process", "caller"])
def test_what_is_entered_is_left_wherever_a_signal_comes(scope: str, make: str, base: str) -> None:
    """Also as an `__exit__` begins that is written in Python, of which no line has run then."""
    script = CODE.format(base=base) + ENTERED.format(scope=scope) + AS_IT_IS_LEFT.format(make=make)
    finished = run_script(script)
    assert finished.lines == ["True []"], finished.err
    finished.assert_clean()


FAILS = """
def give(found):
    raise ValueError

client = Written()
for _ in range(2):
    try:
        with client:
            print("entered")
    except ValueError:
        print(left)
"""


def test_what_is_entered_is_left_again_if_what_that_gives_can_not_be_converted() -> None:
    """The twin may be entered again then."""
    finished = run_script(CODE.format(base="Exception") + ENTERED.format(scope="process") + FAILS)
    assert finished.lines == ["[]", "[]"], finished.err
    finished.assert_clean()


LOSES = """
class Loop(asyncio.SelectorEventLoop):
    '''Loses the n-th handle to a signal, as asyncio does between taking it off its queue and running it.'''
    class Ready(__import__("collections").deque):
        def popleft(self):
            global number
            handle = super().popleft()
            number += 1
            if number == strikes_at:
                signal.raise_signal(signal.SIGUSR1)
            return handle
    def __init__(self):
        super().__init__()
        self._ready = self.Ready(self._ready)

async def work():
    with noted():
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, int)

async def background():
    with noted():
        await asyncio.sleep(0)
        await asyncio.sleep(0)

class Kinds:
    def group():
        with bridge.group() as group:
            group.start(work)
            group.start(work)
    def awaits():
        async def starts():
            await asyncio.create_task(work())
        bridge.run_sync(starts)
    def map():
        for _ in bridge.map(lambda _: work(), range(4), limit=2):
            pass
    def background():
        async def starts():
            held.append(asyncio.create_task(background()))
        bridge.run_sync(starts)

held = []
number, strikes_at = -math.inf, 0
faults, ended = [], False
while not ended:
    strikes_at += 1
    with syncline.Bridge(scope="caller", loop_factory=Loop, cleanup_timeout=60.0) as bridge:
        bridge.run_sync(asyncio.sleep, 0)
        number = 0
        is_caught = caught(Kinds.{kind})
        ended = number < strikes_at
        number = -math.inf
        if is_caught == ended:
            faults.append((strikes_at, "signal"))
        while left:  # of tasks that go on in the background
            bridge.run_sync(asyncio.sleep, 0)
        held.clear()
print(strikes_at > 1, faults)
"""


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="tasks can't be initialized again there")
@pytest.mark.parametrize("base", ["KeyboardInterrupt", "Exception"])
@pytest.mark.parametrize("kind", ["group", "awaits", "map", "background"])
def test_a_task_that_loses_its_step_to_a_signal_makes_it_all_the_same(kind: str, base: str) -> None:
    """Any task of a loop that the caller drives: the call's, one that it waits for, one in the background."""
    finished = run_script(CODE.format(base=base) + LOSES.replace("{kind}", kind))
    assert finished.lines == ["True []"], finished.err
    finished.assert_clean()


DRIVEN = """
async def work(number=0):
    with noted():
        for _ in range(5):  # turns, so that a stop that was left behind would be noticed
            await asyncio.sleep(0)
    return number

async def stays():
    with noted():
        await asyncio.sleep(3600)

async def ends():
    await asyncio.sleep(0)
    # Interleaving: the signal comes when the call has ended, and the loop is about to stop for that.
    asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGUSR1)

def began(number):
    if number == 1:
        # Interleaving: the signal comes as the loop begins a call, since another one has ended.
        signal.raise_signal(signal.SIGUSR1)
    return work(number)

def maps():
    with bridge.map(began, range(4), limit=1) as results:
        for _ in results:
            break

def groups():
    with bridge.group() as group:
        start = group._tasks.start
        def struck(*args):
            # Interleaving: the signal comes as the task is there, and whoever starts it does not have it yet.
            started = start(*args)
            signal.raise_signal(signal.SIGUSR1)
            return started
        group._tasks.start = struck
        group.start(stays)

bridge = syncline.Bridge(scope="caller", cleanup_timeout=60.0)
for _ in range(2):
    print(caught({operation}), left, bridge.run_sync(work, 5))
"""


@pytest.mark.parametrize("base", ["KeyboardInterrupt", "Exception"])
@pytest.mark.parametrize("operation", ["bridge.run_sync, ends", "maps"])
def test_a_signal_between_two_steps_is_raised_by_the_operation_alone(operation: str, base: str) -> None:
    """By the one during which it comes; the next one runs to its end."""
    finished = run_script(CODE.format(base=base) + DRIVEN.replace("{operation}", operation))
    assert finished.lines == ["True [] 5"] * 2, finished.err
    finished.assert_clean()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a task begins later there")
@pytest.mark.parametrize("base", ["KeyboardInterrupt", "Exception"])
def test_a_call_of_a_group_that_a_signal_has_hidden_ends_with_the_group(base: str) -> None:
    """It has begun, so it is cancelled, and waited for."""
    finished = run_script(CODE.format(base=base) + DRIVEN.replace("{operation}", "groups"))
    assert finished.lines == ["True [] 5"] * 2, finished.err
    finished.assert_clean()
