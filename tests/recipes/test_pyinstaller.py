"""A program that PyInstaller froze makes every kind of call: it is told what the extension imports at run time."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import recipe_code

pytest.importorskip("PyInstaller")
pytestmark = pytest.mark.timeout(300)

PROGRAM = '''
import asyncio, sys, threading, traceback

import syncline

async def echo(value):
    await asyncio.sleep(0)
    return value

async def numbers(count):
    for number in range(count):
        yield await echo(number)

@syncline.contextmanager
async def session():
    yield await echo("open")

def with_a_manager():
    with session() as state:
        return state

async def nested():
    threads = threading.active_count()
    return syncline.run_sync(echo, 1), threading.active_count() == threads

async def in_a_worker():
    return await syncline.to_thread(syncline.from_thread, echo, 1)

async def waits_for_itself():
    try:
        syncline.submit(echo, 1).result()
    except syncline.DeadlockError:
        return "told"

def of_bridge(**options):
    with syncline.Bridge(**options) as bridge:
        return bridge.run_sync(echo, 1)

async def in_trio():
    import trio
    await trio.sleep(0)
    return 1

def below_trio():
    import trio
    with syncline.Bridge(backend="trio") as bridge:
        return bridge.run_sync(in_trio), trio.run(in_trio)

async def gathered():
    return await syncline.gather(lambda: echo(1), lambda: echo(2))

def blocks_its_loop():
    """A stall report is made by code that is loaded when it is needed."""
    import logging, time
    said = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: said.set()
    logging.getLogger("syncline").addHandler(handler)
    async def block():
        return said.wait(10)
    with syncline.Bridge(stall_after=0.01) as bridge:
        return bridge.run_sync(block)

CALLS = {
    "run_sync": (lambda: syncline.run_sync(echo, 1), 1),
    "run": (lambda: syncline.run(echo(1), timeout=5), 1),
    "submit": (lambda: syncline.submit(echo, 1).result(5), 1),
    "synced": (lambda: syncline.synced(echo)(1), 1),
    "sync_compatible": (lambda: syncline.sync_compatible(echo)(1), 1),
    "coroutine": (lambda: syncline.coroutine(echo)(1).run(), 1),
    "iterate": (lambda: list(syncline.iterate(numbers(3), prefetch=2)), [0, 1, 2]),
    "contextmanager": (with_a_manager, "open"),
    "a nested call": (lambda: syncline.run_sync(nested), (1, True)),
    "nestable": (lambda: asyncio.run(syncline.nestable(nested)()), (1, True)),
    "to_thread and from_thread": (lambda: syncline.run_sync(in_a_worker), 1),
    "DeadlockError": (lambda: syncline.run_sync(waits_for_itself), "told"),
    "a stall report": (blocks_its_loop, True),
    "run_in_new_loop": (lambda: syncline.run_in_new_loop(echo, 1), 1),
    "gather": (lambda: syncline.run_sync(gathered), [1, 2]),
    "scope thread": (lambda: of_bridge(scope="thread"), 1),
    "scope caller": (lambda: of_bridge(scope="caller"), 1),
    "trio": (below_trio, (1, 1)),
}

if __name__ == "__main__":
    name = sys.argv[1]
    call, right = CALLS[name]
    found = call()
    assert found == right, found
    print("right", getattr(sys, "frozen", False))
'''
CALLS = [line.split('"')[1] for line in PROGRAM.splitlines() if line.startswith('    "') and '": (' in line]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program, frozen; no hidden import is named."""
    if not entry_points(group="pyinstaller40").select(value="syncline._pyinstaller:hook_folders"):
        pytest.skip("PyInstaller finds the hook by the entry point of an installed package")
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "program.py").write_text(PROGRAM)
    built = recipe_code.run(folder, "-m", "PyInstaller", "--onedir", "--log-level=WARN", "program.py")
    if "Python shared library" in built.stderr:
        pytest.skip("PyInstaller finds no shared library of this Python")
    assert built.returncode == 0, built.stderr
    yield folder / "dist" / "program" / "program"
    shutil.rmtree(folder)


@pytest.mark.parametrize("call", CALLS)
def test_a_frozen_program_makes_this_call(frozen: Path, call: str) -> None:
    """As the first one of its process, so that it finds what it needs by itself."""
    ended = subprocess.run([frozen, call], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "right True\n", "")


def test_a_program_does_not_import_the_hook() -> None:
    """It is PyInstaller's, and so isn't frozen, nor imported by `import syncline`."""
    script = "import sys, syncline; print([name for name in sys.modules if 'pyinstaller' in name.lower()])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
    assert importlib.util.find_spec("syncline._pyinstaller") is not None
