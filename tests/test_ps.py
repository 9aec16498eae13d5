"""`python -m syncline ps PID`: the dump of another process, and what is said where there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from child import Child, eventually
from scripts import WAITS, waiting_child
from syncline._commands import main, ps
from syncline._commands.errors import Error

REMOTE = hasattr(sys, "remote_exec")


def shown(pid: int, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints for that process."""
    assert main(["ps", str(pid)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says where it fails."""
    assert main(["ps", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("syncline ps: ")
    return said.err


def test_a_process_that_has_told_its_signal_is_asked_by_that(capsys: pytest.CaptureFixture[str]) -> None:
    """Its main thread waits in a call; nothing is written to its own stderr, and it may be asked again."""
    script = "syncline.dump_on(signal.SIGUSR1)\nsyncline.run_sync(waits)\n"
    with waiting_child(script) as child:
        assert eventually(lambda: "1 call waits" in shown(child.pid, capsys))
        text = shown(child.pid, capsys)
        assert child.errors == ""
    assert "thread 'MainThread', for " in text
    assert "waits() in the task" in text


def test_it_works_as_a_command() -> None:
    """`python -m syncline ps PID`, in a process of its own."""
    script = "syncline.dump_on(signal.SIGUSR1)\nsyncline.run_sync(waits)\n"
    with waiting_child(script) as child:
        ran = subprocess.run(
            [sys.executable, "-m", "syncline", "ps", str(child.pid)],
            capture_output=True,
            text=True,
            check=True,
            timeout=50,
        )
    assert ran.stdout.startswith("syncline: ")
    assert "loop 'syncline'" in ran.stdout


def test_a_main_thread_that_sleeps_in_the_kernel_is_woken_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Here it waits for a lock, and another thread in a call."""
    script = (
        "import threading\n"
        "syncline.dump_on(signal.SIGUSR1)\n"
        "threading.Thread(target=lambda: syncline.run_sync(waits), name='the caller', daemon=True).start()\n"
        "lock = threading.Lock()\n"
        "lock.acquire()\n"
        "lock.acquire()\n"
    )
    with waiting_child(script) as child:
        assert eventually(lambda: "thread 'the caller'" in shown(child.pid, capsys))


def test_the_text_of_hundreds_of_waits_comes_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """What it says of the process is that process's, however long it is."""
    script = (
        "syncline.dump_on(signal.SIGUSR1)\n"
        "for number in range(300):\n"
        "    space = {'syncline': syncline, 'asyncio': asyncio}\n"
        "    exec(f'async def waits_{number}(): await asyncio.Event().wait()', space)\n"
        "    syncline.submit(space[f'waits_{number}'])\n"
        "syncline.run_sync(waits)\n"
    )
    with waiting_child(script) as child:
        assert eventually(lambda: "1 call waits" in shown(child.pid, capsys))
        text = shown(child.pid, capsys)
    assert "300 of submit() go on" in text
    # Each is of its own kind, and so is the main thread's wait; 20 kinds are shown.
    assert "... and 281 more, of 281 other kinds" in text
    assert "loop 'syncline'" in text


def test_a_forked_child_is_asked_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """It has its parent's handler, and not its parent's answers."""
    script = (
        "syncline.dump_on(signal.SIGUSR1)\n"
        "child = os.fork()\n"
        "if child:\n"
        "    print(child, flush=True)\n"
        "    signal.pause()\n"
        "    signal.pause()\n"
        "else:\n"
        "    syncline.Bridge(name='of the child').run_sync(waits)\n"
    )
    with Child(WAITS + script) as child:
        assert child._process.stdout is not None
        lines = {child._process.stdout.readline().strip() for _ in range(2)}
        (forked,) = lines - {"ready"}
        assert "loop 'of the child'" in shown(int(forked), capsys)
        assert "no call waits" in shown(child.pid, capsys)


def test_a_process_that_is_gone_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """One that has ended and one that has not been asked how, too; numbers that are none; this very one."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    assert eventually(lambda: ps._is_dead(ended.pid))
    assert f"there is no process {ended.pid}" in refused(capsys, str(ended.pid))
    ended.wait()
    assert f"there is no process {ended.pid}" in refused(capsys, str(ended.pid))
    assert "0 is no process" in refused(capsys, "0")
    assert "is this very process" in refused(capsys, str(os.getpid()))


def test_an_answer_that_comes_as_the_process_ends_counts() -> None:
    """It comes, and the process ends, after a look that has found none. One that ends without is named."""
    found: list[str] = []
    with subprocess.Popen(["sleep", "60"]) as other:

        def look() -> str | None:
            if found:
                return found[0]
            found.append("the answer")
            other.kill()
            other.wait()
            return None

        assert ps._answer(other.pid, 20, look) == "the answer"
        with pytest.raises(Error, match="has ended before it answered"):
            ps._answer(other.pid, 20, lambda: None)


def test_a_process_that_runs_no_python_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """`sleep`."""
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            assert eventually(
                lambda: Path(f"/proc/{other.pid}/exe").resolve().name != Path(sys.executable).resolve().name
            )
            said = refused(capsys, str(other.pid))
        finally:
            other.kill()
    assert f"the process {other.pid} runs no Python" in said


def _is_alive(child: Child) -> None:
    """No signal has ended it: the one that does is this one."""
    child.signal(signal.SIGKILL)
    assert child.finish().status == -signal.SIGKILL


@pytest.mark.skipif(REMOTE, reason="Python 3.14 asks it otherwise")
def test_a_process_that_has_told_nothing_is_not_sent_a_signal(capsys: pytest.CaptureFixture[str]) -> None:
    """Which would end it. What it has to do is said."""
    with waiting_child("syncline.run_sync(waits)\n") as child:
        said = refused(capsys, str(child.pid))
        _is_alive(child)
    assert "has not called dump_on()" in said
    assert "syncline.dump_on(signal.SIGUSR1)" in said


def test_a_signal_that_is_not_handled_any_more_is_not_sent(capsys: pytest.CaptureFixture[str]) -> None:
    """Something has set the default action since, which would end the process."""
    script = (
        "syncline.dump_on(signal.SIGUSR1)\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_DFL)\n"
        "syncline.run_sync(waits)\n"
    )
    with waiting_child(script) as child:
        said = refused(capsys, str(child.pid))
        _is_alive(child)
    assert "does not handle that signal any more" in said


def _sleeps(child: Child) -> bool:
    """Whether its main thread does."""
    return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_a_main_thread_in_a_function_of_c_gives_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """One that takes no notice of signals: the wait for an answer ends. Later it answers the next question only."""
    # A signal interrupts `read`, unless that was switched off when the handler was set.
    script = (
        "import ctypes\n"
        "syncline.dump_on(signal.SIGUSR1)\n"
        "signal.siginterrupt(signal.SIGUSR1, False)\n"
        "print('ready', flush=True)\n"
        "ctypes.CDLL(None).read(0, ctypes.create_string_buffer(1), 1)\n"
        "while True: signal.pause()\n"
    )
    with waiting_child(script) as child:
        # Order forced: it sleeps in `read` before it is asked.
        assert eventually(lambda: _sleeps(child))
        said = refused(capsys, str(child.pid), "--timeout", "0.3")
        assert "has not answered SIGUSR1 within 0.3 s" in said
        child.tell("on")
        assert eventually(lambda: child.errors.startswith("syncline: no call waits"))
        assert "no call waits" in shown(child.pid, capsys)


@pytest.mark.skipif(not REMOTE, reason="from Python 3.14 on")
def test_a_process_that_has_told_nothing_is_asked_by_remote_debugging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """While its main thread waits in a call of a bridge's, which looks for that."""
    with waiting_child("syncline.run_sync(waits)\n") as child:
        assert eventually(lambda: "1 call waits" in shown(child.pid, capsys))


@pytest.mark.skipif(not REMOTE, reason="from Python 3.14 on")
def test_a_main_thread_that_sleeps_does_not_answer_remote_debugging(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing wakes it: the message says what would. And a process without syncline says so."""
    with Child("import signal, syncline\nprint('ready', flush=True)\nsignal.pause()\n") as child:
        child.expect("ready")
        # Order forced: it sleeps in `pause` before it is asked.
        assert eventually(lambda: _sleeps(child))
        said = refused(capsys, str(child.pid), "--timeout", "0.3")
    assert "has not answered sys.remote_exec within 0.3 s" in said
    assert "syncline.dump_on(signal.SIGUSR1)" in said
    with Child("print('ready', flush=True)\nwhile True: pass\n") as child:
        child.expect("ready")
        assert "has not imported syncline" in shown(child.pid, capsys)


def test_help_names_the_argument(capsys: pytest.CaptureFixture[str]) -> None:
    """And the time."""
    with pytest.raises(SystemExit):
        main(["ps", "--help"])
    said = capsys.readouterr().out
    assert "PID" in said
    assert "--timeout SECONDS" in said
