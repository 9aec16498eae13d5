"""A module makes a call while it is imported, and the coroutine imports that module: an error, and the loop goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from child import Finished, run_script

CIRCLE = """
import asyncio, sys, syncline
sys.path.insert(0, {folder!r})
bridge = syncline.Bridge({options})
{before}
{call}
print(bridge.run_sync(asyncio.sleep, 0, "alive"))
"""
IMPORTED = """
import __main__

async def load():
    {wanted}
    return "loaded"

{call}
"""
TELLS = """
import syncline
try:
    VALUE = {call}
except syncline.DeadlockError as error:
    VALUE = str(error)
"""
IMPORT = "import shop.config; print(shop.config.VALUE)"


def run(
    folder: Path,
    *,
    options: str = "",
    wanted: str = "import shop.config",
    call: str = "__main__.bridge.run_sync(load)",
    before: str = "",
    importing: str = IMPORT,
) -> Finished:
    """Runs a program that imports a module which makes that call."""
    package = folder / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("import shop.config")
    (package / "config.py").write_text(IMPORTED.format(wanted=wanted, call=TELLS.format(call=call)))
    return run_script(CIRCLE.format(folder=str(folder), options=options, before=before, call=importing))


def assert_told(finished: Finished) -> None:
    """The error names the module, and shows both stacks."""
    assert finished.status == 0, finished.err
    first, *_ = finished.lines
    assert "the import of 'shop.config'" in first, finished.out
    assert "in load\n" in finished.out
    assert "in <module>\n" in finished.out
    assert finished.lines[-1] == "alive"


@pytest.mark.parametrize("options", ["", 'scope="thread"', "loop_factory=asyncio.SelectorEventLoop"])
@pytest.mark.parametrize("wanted", ["import shop.config", "from shop import config", "import shop.other"])
def test_a_coroutine_that_imports_the_module_whose_import_waits_for_it_is_reported(
    options: str, wanted: str, tmp_path: Path
) -> None:
    """Directly, or through another module."""
    assert_told(run(tmp_path, options=options, wanted=wanted))


def test_a_chain_through_a_nested_runner_is_reported(tmp_path: Path) -> None:
    """The loop's thread waits for another loop's, and that one for the module."""
    nested = """async def outer(load):
    def sync_code():
        return bridge.run_sync(load)
    return sync_code()
"""
    call = "__main__.bridge.run_sync(__main__.outer, load)"
    assert_told(run(tmp_path, options='nested="thread"', before=nested, call=call))


@pytest.mark.parametrize("host", ["asyncio.run", "bridge.run_sync"])
def test_a_worker_thread_that_imports_is_told(host: str, tmp_path: Path) -> None:
    """It imports the module, which sends a coroutine back to the loop that sent the worker."""
    main = f"""
def imports():
    import shop.config
    print(shop.config.VALUE)
    return shop.config.VALUE

async def main():
    await syncline.to_thread(imports)

{host}(main{"" if host == "bridge.run_sync" else "()"})
"""
    assert_told(run(tmp_path, call="syncline.from_thread(load)", importing=main))


def test_a_time_limit_ends_it_as_a_timeout(tmp_path: Path) -> None:
    """A call that ends earlier than it is examined is not kept from that by its cleanup, which can't run."""
    finished = run(
        tmp_path,
        options="cleanup_timeout=60",
        call="__main__.told(lambda: __main__.bridge.run(load(), timeout=0.3))",
        before="""
def told(call):
    try:
        call()
    except TimeoutError as error:
        return f"TimeoutError from {type(error.__cause__).__name__}"
""",
    )
    assert finished.lines == ["TimeoutError from DeadlockError", "alive"], finished.err


@pytest.mark.parametrize("options", ["", 'scope="caller"'])
def test_an_import_that_takes_long_is_no_deadlock(options: str, tmp_path: Path) -> None:
    """Another thread is importing the module that the coroutine wants."""
    (tmp_path / "slow.py").write_text("import time; time.sleep(2.5); VALUE = 'slow'")
    # Interleaving: the other thread has the module's lock before the coroutine wants it.
    before = """
import threading
thread = threading.Thread(target=lambda: __import__("slow"))
thread.start()
while "slow" not in sys.modules:
    pass
"""
    finished = run(tmp_path, options=options, before=before, wanted="import slow")
    assert finished.lines == ["loaded", "alive"], finished.err
