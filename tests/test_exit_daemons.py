"""Daemon threads that are in the middle of something when the interpreter exits end without a word, whatever it is."""

from __future__ import annotations

import pytest

from child import run_script

pytestmark = pytest.mark.timeout(60)

KINDS = """
import asyncio, itertools, sys, threading, syncline

bridge = syncline.Bridge(scope={scope!r})

async def quick():
    await asyncio.sleep(0)

async def items():
    for number in itertools.count():
        await asyncio.sleep(0)
        yield number

async def same(number):
    await asyncio.sleep(0)
    return number

class Manager:
    async def __aenter__(self):
        return self
    async def __aexit__(self, *_):
        pass

class Kinds:
    def call():
        while True:
            yield bridge.run_sync(quick)
    def iterate():
        yield from bridge.iterate(items())
    def prefetch():
        yield from bridge.iterate(items(), prefetch=2)
    def enter():
        while True:
            with bridge.enter(Manager()):
                pass
            yield
    def map():
        yield from bridge.map(same, itertools.count(), limit=3)
    def submit():
        while True:
            yield bridge.submit(quick).result()
    def group():
        while True:
            with bridge.group() as group:
                yield group.start(quick)
    def generator():
        yield from bridge.generator(items)()
"""
KIND = ["call", "iterate", "prefetch", "enter", "map", "submit", "group", "generator"]

AT_ANY_MOMENT = """
under_way = threading.Barrier(2)

def run():
    for number, _ in enumerate(Kinds.{kind}()):
        if number == 5:
            under_way.wait()

threading.Thread(target=run, daemon=True).start()
under_way.wait()
"""

BEFORE_IT_BEGINS = """
driven = syncline.Bridge(scope="caller")
driving, stopped, exit_has_begun = threading.Event(), threading.Event(), threading.Event()

async def until_the_exit():
    driving.set()
    try:
        await asyncio.Event().wait()
    finally:
        exit_has_begun.set()

async def stop():
    asyncio.get_running_loop().stop()
    stopped.set()
    exit_has_begun.wait()

def run():
    steps = Kinds.{kind}()
    next(steps)
    bridge.submit(stop)
    stopped.wait()
    for _ in steps:
        pass

threading.Thread(target=driven.run_sync, args=[until_the_exit], daemon=True).start()
driving.wait()
daemon = threading.Thread(target=run, daemon=True)
daemon.start()
stopped.wait()
while not any(wait.thread == daemon.ident for wait in syncline.waits().roots):
    pass
"""


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("kind", KIND)
def test_a_daemon_thread_in_the_middle_of_something_says_nothing_at_exit(kind: str, scope: str) -> None:
    """As one that is in a call: it ends by a SystemExit, of which nothing is printed."""
    for _ in range(2):
        run_script((KINDS + AT_ANY_MOMENT).format(kind=kind, scope=scope)).assert_clean()


@pytest.mark.parametrize("kind", KIND)
def test_a_daemon_thread_whose_call_never_began_says_nothing_at_exit(kind: str) -> None:
    """What it has sent lies in the mailbox of a loop that ends by then, and is refused."""
    # Interleaving: the loop is about to stop when the call is sent, and stops once the exit has begun, which ends first
    # the loop that another daemon thread drives.
    run_script((KINDS + BEFORE_IT_BEGINS).format(kind=kind, scope="process")).assert_clean()


@pytest.mark.parametrize("scope", ["process", "caller"])
def test_a_call_in_a_cycles_finalizer_at_the_very_end_works(scope: str) -> None:
    """There are no greenlets any more, and so the call runs without."""
    finished = run_script(f"""
import syncline

bridge = syncline.Bridge(scope={scope!r})

async def answer():
    return 42

class Last:
    def __init__(self):
        self.itself = self

    def __del__(self):
        print(bridge.run_sync(answer))

bridge.run_sync(answer)
Last()
""")
    assert finished.lines == ["42"]
    finished.assert_clean()


@pytest.mark.parametrize("way", ["run_async", "steps", "again"])
def test_a_task_in_a_daemon_threads_own_loop_ends_without_a_word(way: str) -> None:
    """It awaits a call, or a step, that the exit cuts short; or begins one after another."""
    run_script(f"""
        import asyncio, threading, syncline

        bridge = syncline.Bridge(in_async="home")
        begun = threading.Event()

        async def forever():
            begun.set()
            await asyncio.Event().wait()

        async def items():
            yield await forever()

        async def main():
            if {way!r} == "run_async":
                await bridge.run_async(forever)
            elif {way!r} == "steps":
                async for _ in bridge.iterate(items()):
                    pass
            else:
                while True:
                    await bridge.run_async(asyncio.sleep, 0)
                    begun.set()

        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        assert begun.wait(10)
        """).assert_clean()


AS_IT_DROPS_ITS_BRIDGE = """
import asyncio, builtins, threading, time
import syncline

drops, entered, ended = threading.Event(), threading.Event(), threading.Event()

class Loop(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, *args, **kwargs):
        if drops.is_set() and threading.current_thread() is not threading.main_thread():
            entered.set()
            ended.wait()
            time.sleep(0.1)
        return super().call_soon_threadsafe(*args, **kwargs)

    def close(self):
        super().close()
        ended.set()

class Late:
    # Python's own end takes some time.
    def __del__(self, sleep=time.sleep):
        sleep(0.3)

def run():
    bridge = syncline.Bridge(loop_factory=Loop)
    bridge.run_sync(asyncio.sleep, 0)
    drops.set()

builtins.late = Late()
threading.Thread(target=run, daemon=True).start()
entered.wait()
"""


def test_the_exit_waits_for_a_daemon_thread_that_drops_its_bridge() -> None:
    """Which has to tell a loop of another kind: before Python 3.14 the interpreter would kill it there, and abort."""
    # Interleaving: the thread is in the loop's method when the exit begins, and comes out once the loop has ended.
    run_script(AS_IT_DROPS_ITS_BRIDGE).assert_clean()
