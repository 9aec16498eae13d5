"""The default bridge by its name: looked at, configured before its first use, closed."""

from __future__ import annotations

import ast
import inspect
import os
import sys
import threading
from pathlib import Path

import pytest

import syncline
from child import run_script

USES = {
    "run_sync": "syncline.run_sync(where)",
    "run": "syncline.run(where())",
    "submit": "syncline.submit(where).result()",
    "synced": "decorated()",
    "sync_compatible": "compatible()",
    "coroutine": "dual().run()",
    "iterate": "next(syncline.iterate(names()))",
    "generator": "next(generated())",
    "enter": "syncline.enter(held()).__enter__()",
}
"""Everything that makes the default bridge work, by the names of the code below; each gives the thread's name."""

CODE = """
import contextlib, threading, syncline
from syncline import configure, default_bridge, run_sync
async def where(): return threading.current_thread().name
async def names(): yield threading.current_thread().name
@contextlib.asynccontextmanager
async def held(): yield threading.current_thread().name
decorated = syncline.synced(where)
compatible = syncline.sync_compatible(where)
dual = syncline.coroutine(where)
generated = syncline.generator(names)
"""


@pytest.mark.parametrize("use", USES)
def test_what_was_imported_and_decorated_before_has_the_options(use: str) -> None:
    """`configure` changes the bridge itself, and not a name of it."""
    finished = run_script(f"{CODE}\nconfigure(name='mine')\nprint({USES[use]})\n")
    assert finished.lines == ["mine"], finished.err


@pytest.mark.parametrize("use", [*USES, "close"])
def test_after_its_first_use_it_can_not_be_configured(use: str) -> None:
    """RuntimeError says so, and nothing has changed."""
    code = USES.get(use, "default_bridge().close()")
    finished = run_script(
        f"""{CODE}
{code}
try:
    configure(name="mine", scope="caller")
except RuntimeError as error:
    print(error)
print(default_bridge().name, default_bridge().scope)
"""
    )
    assert finished.lines[0].startswith("configure() came after the default bridge's first use"), finished.err
    assert finished.lines[1] == "syncline process"


def test_looking_at_it_is_no_use_of_it() -> None:
    """Its name, its counters, its repr, a pickle of it: it can be configured afterwards."""
    finished = run_script(
        f"""{CODE}
import pickle
bridge = default_bridge()
print(bridge.name, bridge.scope, bridge.closed, bridge.stats()["calls"], repr(bridge))
print(pickle.loads(pickle.dumps(bridge)) is bridge is default_bridge())
configure(scope="caller")
print(run_sync(where), bridge.scope, bridge.stats()["calls"])
"""
    )
    looked = 'syncline process False 0 <syncline.Bridge "syncline", scope "process">'
    assert finished.lines == [looked, "True", "MainThread caller 1"], finished.err


def test_a_later_configure_adds_to_an_earlier_one() -> None:
    """A program and its framework may each name an option."""
    finished = run_script(
        f"""{CODE}
configure(scope="caller")
configure(name="mine")
print(default_bridge())
"""
    )
    assert finished.lines == ['<syncline.Bridge "mine", scope "caller">'], finished.err


@pytest.mark.parametrize(
    ("bad", "kind", "says"),
    [
        ("scope='everywhere'", "ValueError", "scope must be one of"),
        ("loop_factory=3", "TypeError", "loop_factory must be"),
        ("speed=3", "TypeError", "speed"),
    ],
)
def test_bad_options_change_nothing(bad: str, kind: str, says: str) -> None:
    """They raise what `Bridge` raises, and the next configure is as the first."""
    finished = run_script(
        f"""{CODE}
try:
    configure(name="bad", {bad})
except Exception as error:
    print(type(error).__name__, error)
print(default_bridge().name)
configure(scope="caller")
print(default_bridge().name, run_sync(where))
"""
    )
    assert finished.lines[0].startswith(kind)
    assert says in finished.lines[0]
    assert finished.lines[1:] == ["syncline", "syncline MainThread"], finished.err


def test_closed_it_refuses_calls() -> None:
    """As any other bridge; its counters can still be read."""
    finished = run_script(
        f"""{CODE}
run_sync(where)
default_bridge().close()
try:
    decorated()
except syncline.RunnerClosedError as error:
    print(error)
print(default_bridge().closed, default_bridge().stats()["runners"], threading.active_count())
"""
    )
    assert "closed" in finished.lines[0]
    assert finished.lines[1] == "True 0 1", finished.err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("when", ["before the fork", "in the child"])
def test_a_forked_child_has_the_options(when: str) -> None:
    """Those of its parent, or its own if the parent has not used the bridge."""
    finished = run_script(
        f"""{CODE}
import os
when = {when!r}
if when == "before the fork":
    configure(name="mine")
if os.fork() == 0:
    if when == "in the child":
        configure(name="mine")
    print(run_sync(where), flush=True)
    os._exit(0)
os.wait()
"""
    )
    assert finished.lines == ["mine"], finished.err


@pytest.mark.skipif(sys.version_info < (3, 12) or not hasattr(os, "fork"), reason="Python warns since 3.12")
@pytest.mark.parametrize(
    ("before", "warns"),
    [
        ("", False),
        ("run_sync(where)", True),
        ("configure(scope='caller'); run_sync(where)", False),
        ("run_sync(where); default_bridge().close(); wait_for_its_thread()", False),
    ],
)
def test_a_fork_is_warned_of_while_its_loop_has_a_thread(before: str, warns: bool) -> None:
    """Python's own warning of threads beside a fork: the docs say which bridges it comes with."""
    finished = run_script(
        f"""{CODE}
import os, sys, warnings
def wait_for_its_thread():
    # Python has joined it; the system may take a moment longer to end it.
    while sys.platform == "linux" and len(os.listdir("/proc/self/task")) > 1:
        pass
{before}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    if os.fork() == 0:
        os._exit(0)
    os.wait()
print(["multi-threaded" in str(warning.message) for warning in caught])
"""
    )
    assert finished.lines == [str([True] if warns else [])], finished.err


def test_its_options_are_those_of_a_bridge() -> None:
    """The type that checkers see, which is none when a program runs, names what the constructor takes."""
    source = ast.parse(Path(syncline.__file__).with_name("_options.py").read_text("utf-8"))
    fields = [node.target for node in ast.walk(source) if isinstance(node, ast.AnnAssign)]
    assert [field.id for field in fields if isinstance(field, ast.Name)] == list(
        inspect.signature(syncline.Bridge).parameters
    )


def configure(bridge: syncline.Bridge, both: threading.Barrier, refused: list[bool]) -> None:
    planned = syncline.Bridge(name="mine", scope="caller")
    both.wait()
    try:
        bridge._configure(planned)
    except RuntimeError:
        refused.append(True)


def test_a_first_use_beside_a_configure_has_all_of_the_options_or_none() -> None:
    """Either the use comes first and `configure` raises, or the use has the options; 300 times, from a barrier."""
    for _ in range(300):
        bridge, both, refused = syncline.Bridge(), threading.Barrier(2), list[bool]()
        thread = threading.Thread(target=configure, args=(bridge, both, refused))
        thread.start()
        both.wait()
        bridge.close()
        thread.join()
        assert (bridge.name, bridge.scope) == (("syncline", "process") if refused else ("mine", "caller"))
