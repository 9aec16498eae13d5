"""Another thread is in the middle of importing trio: nobody can run it yet, and calls go on as without it."""

from __future__ import annotations

import pytest

from child import run_script

pytestmark = pytest.mark.timeout(60)

# Interleaving: each use is made while the import of trio in another thread stands still, at its first line.
SCRIPT = """
import asyncio, importlib.abc, importlib.machinery, sys, threading
import syncline
began, goes_on = threading.Event(), threading.Event()

class Stands(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != "trio.abc":  # what trio imports first
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module

        def stands(module):
            began.set()
            goes_on.wait()
            run(module)

        spec.loader.exec_module = stands
        return spec

sys.meta_path.insert(0, Stands())

def imports():
    import trio

importing = threading.Thread(target=imports)
importing.start()
began.wait()
assert not hasattr(sys.modules["trio"], "run")

async def answer():
    return 42

{use}
goes_on.set()
importing.join()
print("went on", flush=True)
"""
USES = {
    "a call": "assert syncline.run_sync(answer) == 42",
    "a call in scope caller": "assert syncline.Bridge(scope='caller').run_sync(answer) == 42",
    "a call that looks at the loop": """
async def calls():
    try:
        syncline.Bridge(in_loop="error", nested="thread").run_sync(answer)
    except RuntimeError:
        return True
assert asyncio.run(calls())
""",
    "a long wait": """
async def waits():
    await asyncio.sleep(0.2)
syncline.run_sync(waits)
""",
    "in_event_loop": "assert not syncline.in_event_loop()",
    "nestable": "assert asyncio.run(syncline.run_nestable(answer)) == 42",
    "to_thread": "assert syncline.run_sync(syncline.to_thread, int) == 0",
    "run_async": "assert asyncio.run(syncline.run_async(answer)) == 42",
    "map": "assert list(syncline.map(lambda _: answer(), [1])) == [42]",
    "a bridge onto a loop": """
async def attaches():
    bridge = syncline.Bridge(loop=asyncio.get_running_loop())
    return await asyncio.to_thread(bridge.run_sync, answer)
assert asyncio.run(attaches()) == 42
""",
}


@pytest.mark.parametrize("use", USES)
def test_trio_is_as_good_as_absent(use: str) -> None:
    """Nothing asks the half of it that is there, nor waits for the import."""
    end = run_script(SCRIPT.format(use=USES[use]))
    assert end.lines == ["went on"]
    end.assert_clean()
