"""Daemon threads that are in the middle of something when the interpreter exits end without a word, whatever it is."""

from __future__ import annotations

import pytest

from child import run_script

pytestmark = pytest.mark.timeout(60)

CODE = """
import asyncio, itertools, sys, threading, syncline

bridge = syncline.Bridge(scope={scope!r})
under_way = threading.Barrier(2)

async def quick():
    await asyncio.sleep(0)

async def items():
    for number in itertools.count():
        await asyncio.sleep(0)
        yield number

async def same(number):
    await asyncio.sleep(0)
    return number

class Kinds:
    def iterate():
        yield from bridge.iterate(items())
    def prefetch():
        yield from bridge.iterate(items(), prefetch=2)
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

def run():
    for number, _ in enumerate(Kinds.{kind}()):
        if number == 5:
            under_way.wait()

threading.Thread(target=run, daemon=True).start()
under_way.wait()
"""


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("kind", ["iterate", "prefetch", "map", "submit", "group", "generator"])
def test_a_daemon_thread_in_the_middle_of_something_says_nothing_at_exit(kind: str, scope: str) -> None:
    """As one that is in a call: it ends by a SystemExit, of which nothing is printed."""
    for _ in range(2):
        run_script(CODE.format(kind=kind, scope=scope)).assert_clean()


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
