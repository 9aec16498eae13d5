"""pdb where nested calls await in place, as docs/debugging.md tells it."""

from __future__ import annotations

import re
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import syncline
from child import Child
from tool_code import ONE_CALL, python

BEFORE_THE_AWAIT = "    await asyncio.sleep(0.01)\n"
SCOPES = pytest.mark.parametrize("scope", ["process", "caller"])


def stops(text: str) -> list[str]:
    """The functions of the program where pdb has stopped, or that it has selected."""
    return re.findall(r"^(?:\(Pdb\) )*> .*program\.py\(\d+\)(\w+)\(\)", text, re.MULTILINE)


def broken(folder: Path) -> None:
    """Writes the program with a breakpoint in the nested coroutine, before it suspends."""
    text = ONE_CALL.replace(BEFORE_THE_AWAIT, "    breakpoint()\n" + BEFORE_THE_AWAIT)
    (folder / "program.py").write_text(text)


@SCOPES
def test_a_breakpoint_in_a_nested_call_shows_the_whole_stack_of_the_task(tmp_path: Path, scope: str) -> None:
    """Coroutines and sync code in turns, with their variables; and the program goes on."""
    broken(tmp_path)
    commands = ["where", "p 'before', before", "up", "p 'number', number", "up", "up", "c"]
    ran = python(tmp_path, "program.py", scope, said="\n".join(commands) + "\n")
    shown = re.findall(r"^[> ] .*program\.py\(\d+\)(\w+)\(\)", ran.stdout, re.MULTILINE)
    # Where it stopped, and `where`, from the task's beginning on. What `up` selects comes after a prompt.
    assert shown == ["inner", "main", "outer", "sync_code", "inner"]
    assert stops(ran.stdout) == ["inner", "inner", "sync_code", "outer", "main"]
    assert "('before', 2)" in ran.stdout
    assert "('number', 1)" in ran.stdout
    assert ran.stdout.rstrip().endswith("result 5"), ran.stdout + ran.stderr


@SCOPES
def test_steps_go_on_after_a_suspension(tmp_path: Path, scope: str) -> None:
    """`next` over the `await` of a nested call stops in the line after it, though other tasks have run meanwhile."""
    broken(tmp_path)
    ran = python(tmp_path, "program.py", scope, said="n\nn\nn\nn\nn\nn\nc\n")
    seen = re.findall(r"program\.py\(\d+\)(\w+)\(\).*\n-> (.*)", ran.stdout)
    # breakpoint() stops before the line after it, or, from Python 3.13 on, in its own.
    at = seen.index(("inner", "await asyncio.sleep(0.01)"))
    assert seen[at : at + 3] == [
        ("inner", "await asyncio.sleep(0.01)"),
        ("inner", "after = before + 1"),
        ("inner", "return after"),
    ]
    # As without nested calls, what comes after a coroutine's return is the task's coroutine.
    # It stops in the line that awaits, from Python 3.12 on, or in the one after it.
    assert seen[at + 3] in [("main", "result = await outer(1)"), ("main", "await ticking")]


@SCOPES
def test_up_and_next_goes_on_to_the_sync_code_that_waits(tmp_path: Path, scope: str) -> None:
    """`next` stops in the frame that was selected."""
    broken(tmp_path)
    ran = python(tmp_path, "program.py", scope, said="up\nn\np 'got', got\nc\n")
    seen = re.findall(r"program\.py\(\d+\)(\w+)\(\).*\n-> (.*)", ran.stdout)
    assert seen[-2:] == [
        ("sync_code", "got = bridge.run_sync(inner, number)"),
        ("sync_code", "return got + 1"),
    ]
    assert "('got', 3)" in ran.stdout
    assert ran.stdout.rstrip().endswith("result 5"), ran.stdout + ran.stderr


@SCOPES
def test_breakpoints_that_pdb_has_set_stop_in_the_callers_own_thread_only(tmp_path: Path, scope: str) -> None:
    """pdb traces the thread that it began in: in scope "caller" that is the coroutines' thread, too."""
    (tmp_path / "program.py").write_text(ONE_CALL)
    line = 1 + ONE_CALL.splitlines().index("    after = before + 1")
    commands = [f"b program.py:{line}", "c", "p 'before', before", "c", "q"]
    ran = python(tmp_path, "-m", "pdb", "program.py", scope, said="\n".join(commands) + "\n")
    assert ("('before', 2)" in ran.stdout) is (scope == "caller"), ran.stdout
    assert "result 5" in ran.stdout


def test_an_interrupt_at_the_prompt_cancels_the_call_that_the_main_thread_waits_for() -> None:
    """Once the prompt is left: it runs in the loop's thread, and signals are the main thread's."""
    script = """
import asyncio
import pdb
import syncline


class Prompt(pdb.Pdb):
    def interaction(self, *args, **kwargs):
        print("prompt", flush=True)
        super().interaction(*args, **kwargs)


async def inner():
    Prompt().set_trace()
    await asyncio.sleep(10)


async def outer():
    syncline.run_sync(inner)

try:
    syncline.run_sync(outer)
except KeyboardInterrupt:
    print("cancelled")
"""
    with Child(script) as child:
        child.expect("prompt")
        child.signal(signal.SIGINT)
        child.tell("p 'there'")
        child.tell("c")
        finished = child.finish()
    assert "'there'" in finished.out
    assert finished.lines[-1] == "(Pdb) cancelled"
    assert finished.status == 0, finished.err


def test_a_debugger_that_gets_hold_of_a_threads_start_finds_the_thread(
    monkeypatch: pytest.MonkeyPatch, make_bridge: Any
) -> None:
    """By `__self__`, as with the method that `Thread.start` starts: else debugpy takes the thread for two."""
    found: list[object] = []
    name = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
    start = getattr(threading, name)

    def noting(function: Any, *args: Any, **options: Any) -> Any:
        found.append(function.__self__)
        return start(function, *args, **options)

    monkeypatch.setattr(threading, name, noting)
    bridge: syncline.Bridge = make_bridge(name="found")

    async def current() -> threading.Thread:
        return threading.current_thread()

    thread = bridge.run_sync(current)
    assert thread.name == "found"
    assert found == [thread]
