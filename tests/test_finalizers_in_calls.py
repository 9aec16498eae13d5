"""Objects whose finalizers call the bridge, dropped wherever the core lets go of one: no lock of ours is held then."""

from __future__ import annotations

import pytest

from child import run_script

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("loop", ["None", "Loop"])
def test_no_finalizer_hangs(scope: str, loop: str) -> None:
    """Results that nobody takes, futures, errors, contexts, arguments, and the loop of a dead runner."""
    end = run_script(f"""
import asyncio, contextvars, gc, os, time
import syncline

done = []
other = syncline.Bridge(name="other")

class Calls:
    def __del__(self):
        bridge.stats()
        time.sleep(0)  # lets go of the interpreter
        try:
            done.append(other.run(asyncio.sleep(0), timeout=5))
        except RuntimeError:
            done.append(None)

class Loop(asyncio.SelectorEventLoop):
    def __del__(self):
        bridge.stats()
        time.sleep(0)
        super().__del__()

variable = contextvars.ContextVar("variable")

async def returns(*_):
    variable.set(Calls())
    await asyncio.sleep(0)
    return Calls()

async def fails():
    raise KeyError(Calls())

async def late():
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.05)
        return Calls()

async def stops():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(3600)

for _ in range(5):
    bridge = syncline.Bridge(scope="{scope}", loop_factory={loop}, cleanup_timeout=0.01)
    bridge.run_sync(returns, Calls())
    bridge.submit(returns, Calls())
    for call in (lambda: bridge.run_sync(fails), lambda: bridge.run(late(), timeout=0.01),
                 lambda: bridge.run_sync(stops), lambda: bridge.submit(fails).result(5)):
        try:
            call()
        except (KeyError, TimeoutError, RuntimeError):
            pass
    bridge.run_sync(returns)
    bridge.close()
    gc.collect()
other.close()
print(len(done) > 20, flush=True)
os._exit(0)  # the exit, where a dead runner's loop may be freed by a daemon thread, is another matter
""")
    assert (end.status, end.lines) == (0, ["True"]), (end.out, end.err)
