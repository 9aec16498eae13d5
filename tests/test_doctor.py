"""`python -m syncline doctor` and `syncline.doctor()`: what they say of a process, its signals, threads and loops."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

import syncline
from child import run_script
from syncline._commands import main
from syncline._doctor import examination
from syncline._doctor.report import Finding, Report

FINDS = """
import syncline
for each in syncline.doctor().findings:
    print(each.level, each.topic, each.what, sep=": ")
"""
"""What a script ends with that is to report."""


def command(*arguments: str, folder: Path, shell: str = "") -> subprocess.CompletedProcess[str]:
    """`python -m syncline doctor` in a process of its own, after what a shell has done to it."""
    run = [sys.executable, "-m", "syncline", "doctor", *arguments]
    if shell:
        run = ["sh", "-c", f'{shell}; exec "$@"', "sh", *run]
    return subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=50)


def found(report: Report, topic: str) -> list[str]:
    """What was seen about that."""
    return [each.what for each in report.findings if each.topic == topic]


def finds(before: str, **options: Any) -> list[str]:
    """What is found by a process that has run this script, without Python's compiler, which is found, too."""
    finished = run_script(before + FINDS, env={"PYTHON_JIT": "0"}, **options)
    finished.assert_clean()
    return finished.lines


# The command


def test_the_command_tells_what_calls_depend_on_and_makes_some(tmp_path: Path) -> None:
    """With status 0 where calls work, whatever else there is to say."""
    ran = command(folder=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in ran.stdout.splitlines()]
    for section in (
        "python",
        "nested calls",
        "libraries",
        "cores",
        "default bridge",
        "loops",
        "threads",
        "signals",
    ):
        assert section in lines
    assert f"version CPython {sys.version.split()[0]}" in lines
    assert "await in place yes" in lines
    assert "scope process" in lines
    assert "a call works, on RunnerLoop in another thread" in lines
    assert "a nested call works, in place" in lines
    assert "a worker thread works" in lines
    assert "on the caller's own loop works, on CallerLoop in this thread" in lines
    assert max(len(line) for line in lines if "/" not in line) <= 100


def test_json_is_the_same_as_plain_data(tmp_path: Path) -> None:
    """Of the very facts and findings that the text tells."""
    ran = command("--json", "--no-calls", folder=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    said = json.loads(ran.stdout)
    assert said.keys() == {"facts", "findings"}
    assert said["facts"]["default bridge"]["counters"] == syncline.Bridge().stats()
    assert said["facts"]["python"]["interpreter lock"] is True
    assert "tried" not in said["facts"]
    assert {tuple(each) for each in said["findings"]} == {("level", "topic", "what", "meaning", "advice")}


@pytest.mark.parametrize(
    ("patch", "seen"),
    [
        (
            "import gevent.monkey; gevent.monkey.patch_all()",
            "gevent has patched threading and queue and select",
        ),
        ("import eventlet; eventlet.monkey_patch()", "eventlet has patched thread and select"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_module_of_the_program_that_patches_threads_is_a_problem(
    tmp_path: Path, patch: str, seen: str
) -> None:
    """Status 1: calls raise there, and the report has what they raise."""
    (tmp_path / "program.py").write_text(patch)
    ran = command("program", folder=tmp_path)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    said = " ".join(ran.stdout.split())
    assert f"problem, threads: {seen} Calls raise RuntimeError" in said
    assert "problem, tried: a call failed: RuntimeError" in said
    assert "-> Patch with `" in said


def test_a_module_that_can_not_be_imported_is_a_mistake(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status 2, and the reason."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["doctor", "no_such_program"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "syncline doctor: importing 'no_such_program' failed: ModuleNotFoundError: "
        "No module named 'no_such_program'\n"
    )


def test_without_greenlet_it_says_what_nested_calls_do_then(tmp_path: Path) -> None:
    """And where they have run."""
    (tmp_path / "program.py").write_text("import sys; sys.modules['greenlet'] = None")
    ran = command("program", folder=tmp_path)
    said = " ".join(ran.stdout.split())
    assert ran.returncode == 0
    assert "warning, nested calls: greenlet can't be used: " in said
    assert "a nested call works, on another thread" in said
    assert "await in place no" in said


# The function


def test_a_program_can_ask_in_any_thread_and_nothing_is_left(leaks_nothing: None) -> None:
    """The report is of the calling thread."""
    reports = [syncline.doctor()]
    asking = threading.Thread(target=lambda: reports.append(syncline.doctor()), name="asking")
    asking.start()
    asking.join()
    main_one, another = reports
    assert main_one.facts["threads"]["it is the main one"] is True
    assert another.facts["threads"]["it is the main one"] is False
    assert another.facts["threads"]["this one"] == "asking"
    assert "asking" in another.facts["threads"]["alive"]
    assert main_one.facts["default bridge"]["loops"][0].startswith("syncline (syncline.")
    assert json.loads(json.dumps(main_one.as_dict())) == main_one.as_dict()


def test_an_examination_leaves_the_default_bridge_unused() -> None:
    """It can be configured after that."""
    finished = run_script(
        """
        import syncline
        syncline.doctor()
        syncline.configure(scope="thread", stall_after=5)
        print(syncline.doctor().facts["default bridge"])
        """
    )
    finished.assert_clean()
    assert "'scope': 'thread'" in finished.out
    assert "'configured': {'scope': 'thread', 'stall_after': 5}" in finished.out


def test_a_part_that_fails_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are told all the same."""

    def fails(report: Report) -> None:
        raise OSError("no /proc")

    monkeypatch.setattr(examination, "_LOOKS", (fails, *examination._LOOKS))
    facts = syncline.doctor().facts
    assert facts["not found out"] == {__name__: "OSError: no /proc"}
    assert "signals" in facts


def test_problems_come_first_and_only_they_make_the_status() -> None:
    """Whatever was found before."""
    report = Report()
    for level in ("note", "warning", "note"):
        report.find(level, "a", "b", meaning="c", advice="d")  # type: ignore[arg-type]
        assert not report.has_problems
    report.find("problem", "a", "b", meaning="c", advice="d")
    assert report.has_problems
    assert [each.level for each in report.findings] == ["problem", "warning", "note", "note"]
    assert str(report).startswith("1 problem, 1 warning, 2 notes\n\nproblem, a: b\n    c\n    -> d\n")
    assert str(Report()) == "nothing to report"
    assert list(Finding("note", "a", "b", "c", "d").lines()) == ["note, a: b", "    c", "    -> d"]


def test_paths_do_not_tell_the_users_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are passed on."""
    monkeypatch.setenv("HOME", str(Path(sys.executable).parent.parent))
    assert syncline.doctor().facts["python"]["program"] == f"~/bin/{Path(sys.executable).name}"


# Signals

USUAL = ("note: signals: SIGTERM ends the process at once", "note: signals: faulthandler is off")
"""What is said of most programs."""


def test_a_process_that_was_started_like_nohup_is_told_that_it_ignores_ctrl_c(tmp_path: Path) -> None:
    """The shell has SIGINT ignored, as it does for `&` in a script."""
    ran = command("--no-calls", folder=tmp_path, shell="trap '' INT")
    assert ran.returncode == 0
    assert "warning, signals: SIGINT is ignored" in ran.stdout
    assert "SIGINT ignored" in " ".join(ran.stdout.split())


@pytest.mark.parametrize(
    ("before", "seen"),
    [
        ("signal.signal(signal.SIGINT, signal.SIG_IGN)", "warning: signals: SIGINT is ignored"),
        ("signal.signal(signal.SIGINT, signal.SIG_DFL)", "warning: signals: SIGINT ends the process at once"),
        ("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", "warning: signals: SIGCHLD is ignored"),
        ("signal.signal(signal.SIGPIPE, signal.SIG_DFL)", "warning: signals: SIGPIPE ends the process"),
        (
            "signal.pthread_sigmask(0, {signal.SIGINT})",
            "warning: signals: SIGINT is blocked in the main thread",
        ),
    ],
)
def test_signals_that_end_or_hang_calls_are_named(before: str, seen: str) -> None:
    """And only what this process does to them."""
    assert set(finds(f"import signal\n{before}\n")) == {seen, *USUAL}


@pytest.mark.parametrize(
    ("before", "left"),
    [
        ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))", USUAL[1]),
        ("faulthandler.enable()", USUAL[0]),
    ],
)
def test_what_a_program_has_seen_to_is_not_told(before: str, left: str) -> None:
    """Of what most programs leave as it is."""
    assert finds(f"import faulthandler, signal, sys\n{before}\n") == [left]


def test_whose_handlers_there_are_is_told() -> None:
    """Functions, partials such as asyncio's, and handlers that Python code can't see."""
    finished = run_script(
        """
        import asyncio, signal, syncline
        def handler(*_): ...
        signal.signal(signal.SIGUSR1, handler)
        async def main():
            return syncline.doctor().facts["signals"]
        said = asyncio.run(main())
        print(said["SIGINT"], said["SIGUSR1"], said["SIGALRM"], sep="; ")
        """
    )
    finished.assert_clean()
    name, handler, alarm = finished.out.strip().split("; ")
    assert (name, handler) == ("asyncio.runners.Runner._on_sigint", "__main__.handler")
    # By faulthandler, in `child`.
    assert alarm == "handled by code that is not Python's"


# Threads, forks and loops


@pytest.mark.parametrize("method", ["fork", "forkserver", None])
def test_a_fork_with_other_threads_alive_is_warned_of(method: str | None) -> None:
    """Where multiprocessing is to fork; a program that has no processes hears nothing."""
    chooses = f"multiprocessing.set_start_method({method!r})" if method else ""
    said = finds(
        f"""
import asyncio, multiprocessing, syncline
{chooses}
syncline.run_sync(asyncio.sleep, 0)
"""
    )
    expected = ["warning: threads: multiprocessing forks, while other threads are alive: syncline"]
    assert [each for each in said if "threads" in each] == (expected if method == "fork" else [])


def test_a_closed_default_bridge_is_a_problem() -> None:
    """Its functions raise."""
    said = finds("import syncline\nsyncline.default_bridge().close()\n")
    assert said[0] == "problem: default bridge: the default bridge is closed"


def test_code_that_would_block_the_running_loop_is_told_how_to_opt_in() -> None:
    """Not where it has opted in, on a loop of ours, or where no loop runs."""

    async def asks() -> list[str]:
        return found(syncline.doctor(), "loops")

    assert asyncio.run(asks())[0].startswith("a loop runs in this thread (asyncio.unix_events.")
    assert trio.run(asks)[0].startswith("a loop runs in this thread (trio)")
    assert asyncio.run(syncline.nestable(asks)()) == []
    assert syncline.run_sync(asks) == []
    assert found(syncline.doctor(), "loops") == []


def test_the_loops_that_asyncio_makes_are_named() -> None:
    """Those of an event loop policy, too."""
    finished = run_script(
        """
        import asyncio, syncline, uvloop, warnings
        print(syncline.doctor().facts["loops"]["asyncio makes"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        print(syncline.doctor().facts["loops"]["asyncio makes"])
        """
    )
    finished.assert_clean()
    assert finished.lines == ["asyncio.unix_events._UnixSelectorEventLoop", "uvloop.Loop"]
