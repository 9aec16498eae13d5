"""A signal in any one turn of a loop that the calling thread drives: none is lost, and none breaks off a cleanup."""

from __future__ import annotations

import sys

import pytest

from child import run_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGUSR1")

CODE = """
import asyncio, selectors, signal, sys, syncline

class Struck({base}):
    pass

class Selector(selectors.DefaultSelector):
    '''Raises the signal in one turn, by its number: the handler runs right there.'''
    strikes_at = turn = 0
    def select(self, timeout=None):
        Selector.turn += 1
        if Selector.turn == Selector.strikes_at:
            signal.raise_signal(signal.SIGUSR1)
        return super().select(timeout)

def strike(number, frame):
    raise Struck

def new_loop():
    return asyncio.SelectorEventLoop(Selector())

left = []

async def work():
    try:
        await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        left.append("work")

async def items():
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        left.append("items")

async def background():
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        left.append("background")

held = []

async def leave_some_running():
    held.append(asyncio.create_task(background()))
    held.append(items())
    await anext(held[-1])

class Kinds:
    '''Each makes a bridge of its own, and closes it. In all of it one signal comes.'''
    def call(self):
        with syncline.Bridge(scope="caller", loop_factory=new_loop) as bridge:
            bridge.run_sync(work)
    def iterate(self):
        with syncline.Bridge(scope="caller", loop_factory=new_loop) as bridge:
            for _ in bridge.iterate(items()):
                break
    def enter(self):
        import contextlib
        @contextlib.asynccontextmanager
        async def manager():
            yield await work()
        with syncline.Bridge(scope="caller", loop_factory=new_loop) as bridge, bridge.enter(manager()):
            pass
    def close(self):
        with syncline.Bridge(scope="caller", loop_factory=new_loop) as bridge:
            bridge.run_sync(leave_some_running)
            Selector.turn = 0  # what is hit is the end of the loop

signal.signal(signal.SIGUSR1, strike)
unraisable = []
sys.unraisablehook = lambda hook: unraisable.append(str(hook.exc_value))
run = getattr(Kinds(), {kind!r})
run()
wanted = sorted(left)
lost, number = [], 0
while True:
    number += 1
    Selector.turn, Selector.strikes_at = -1000 if {kind!r} == "close" else 0, number
    left.clear()
    try:
        run()
    except Struck:
        if {kind!r} == "close" and sorted(left) != wanted:
            lost.append((number, "cleanup", sorted(left)))
    else:
        if Selector.turn < number:
            break
        lost.append((number, "signal"))
    held.clear()
print(number > 3, lost, unraisable)
"""


@pytest.mark.parametrize("base", ["KeyboardInterrupt", "BaseException", "Exception"])
@pytest.mark.parametrize("kind", ["call", "iterate", "enter", "close"])
def test_a_signal_in_any_turn_is_raised_by_the_operation(kind: str, base: str) -> None:
    """The turns are counted: one program for each of them, until none is left to be hit. In `close`, what was left
    running has cleaned up all the same."""
    finished = run_script(CODE.format(kind=kind, base=base))
    assert finished.lines == ["True [] []"], finished.err
