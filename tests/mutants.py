"""Faults put into the code on purpose, one at a time, and the tests that notice them.

    python tests/mutants.py            # all
    python tests/mutants.py masked     # those whose name has that in it

Each is applied to a copy of the tree, which is built there, and the tests that are named with it are run against it.
A mutant that those tests pass with survives, and fails the run. One whose text is no longer in the code fails it before
anything is built, and test_architecture.py, too.
Tests of other files may notice it, too; the ones that are named are those whose business it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUST = "crates/syncline-py/src/"
CORE = "crates/syncline-core/src/"
PYTHON = "python/syncline/"


@dataclass(frozen=True)
class Mutant:
    """A fault: this text, which is there once, becomes that one."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    """Arguments for pytest."""
    since: tuple[int, int] = (3, 11)
    """The first Python in which there is something to notice."""

    def stands_once(self) -> bool:
        return (ROOT / self.file).read_text().count(self.old) == 1


MUTANTS = (
    Mutant(
        "a blocking wait masks nothing",
        RUST + "switch/strand.rs",
        "Self(ACTIVE.with(Leaky::take))",
        "Self(ACTIVE.with(Leaky::cloned))",
        "tests/test_mutants_missed.py",
    ),
    Mutant(
        "a cancelled step is not uncancelled",
        RUST + "task/session.rs",
        "for _ in 0..call.take_cancellations().max(cancelled_by_loop) {",
        "for _ in 0..call.take_cancellations().max(cancelled_by_loop).min(0) {",
        "tests/test_mutants_missed.py",
    ),
    Mutant(
        "a task is used again though its caller has gone on",
        RUST + "task/spare.rs",
        "&& !call.is_abandoned()",
        "",
        "tests/test_remembered_tasks.py",
    ),
    Mutant(
        "a session's task is used again though its caller has gone on",
        RUST + "task/session_task.rs",
        "can && !call.is_abandoned()",
        "can && (true || call.is_abandoned())",
        "tests/test_remembered_sessions.py",
    ),
    Mutant(
        "an abandoned call's error is not logged",
        RUST + "call/state.rs",
        "if self.abandoned.load(Relaxed) {",
        "if false && self.abandoned.load(Relaxed) {",
        "tests/test_mutants_missed.py",
    ),
    Mutant(
        "what did not change is written back, and what did is not",
        RUST + "python/context.rs",
        "if value_before.is(&value) {",
        "if !value_before.is(&value) {",
        "tests/test_contextvars.py",
    ),
    Mutant(
        "a variable that was reset stays set",
        RUST + "python/context.rs",
        'let _ = variable.call_method1(intern!(py, "reset"), (token,));',
        "drop(token);",
        "tests/test_contextvars.py",
    ),
    Mutant(
        "a copied context is written back",
        RUST + "bridge/execution.rs",
        "if shares_context { carried.write_back(py, heard.has_ended)",
        "if shares_context || true { carried.write_back(py, heard.has_ended)",
        "tests/test_contextvars.py",
    ),
    Mutant(
        "from_thread keeps what was changed",
        RUST + "worker/from_thread.rs",
        "if shares_context { carried.write_back(py, false) } else",
        "if shares_context { drop(carried); Ok(()) } else",
        "tests/test_from_thread.py tests/test_sync_compatible.py",
    ),
    Mutant(
        "a nested call with nested='error' is made",
        RUST + "bridge/placement.rs",
        "            if self.nested_is_error {\n                return Err(errors::nested(&self.name));\n"
        "            }\n"
        "            self.terms.stats.nested.add(1);\n        }\n        // By 1.",
        "            self.terms.stats.nested.add(1);\n        }\n        // By 1.",
        "tests/test_nested.py",
    ),
    # Not here, as no test can notice it: that a call which a task awaits, or one of `submit`, is sent to a loop whose
    # thread waits for that task's own (`runner_for_others`). It is taken out of the mailbox again by its sender, and
    # were it not for that one, by the thread that waits, at its next look.
    Mutant(
        "placement overlooks what a loop's tasks wait for elsewhere",
        RUST + "worker/behind.rs",
        "is_other.then(|| behind.awaits(&runner.node))",
        "is_other.then(|| behind.awaits(&behind))",
        "tests/test_nested_circles.py",
    ),
    Mutant(
        "a loop of somebody else's is no part of the graph of who waits for whom",
        RUST + "runner/nodes.rs",
        "    find_here(py, |_| true)",
        "    Ok(None)",
        "tests/test_nested_circles_others.py",
    ),
    Mutant(
        "a signal that comes while a task begins to wait is left to the next Python code",
        RUST + "worker/awaiting.rs",
        "        signals::keep_pending(py);\n",
        "",
        "tests/test_ctrl_c_not_lost.py",
    ),
    Mutant(
        "a nested call may go to the runner of a lower level",
        RUST + "bridge/placement.rs",
        "if is_ours { current.key.level_above() } else { 0 };",
        "0;",
        "tests/test_nested.py",
    ),
    Mutant(
        "a nested call that blocks a loop is not told that the call around it is to end",
        RUST + "call/state.rs",
        "        self.cancelling.store(true, Relaxed);\n        self.at_home(|home| home.closing.rouse_all());\n",
        "        self.cancelling.store(true, Relaxed);\n",
        "tests/test_waiting_costs_nested.py",
    ),
    Mutant(
        "a nested call that blocks a loop is not told that the loop is closed",
        CORE + "closing.rs",
        "        self.rouse_all();\n        is_first",
        "        is_first",
        "tests/test_waiting_costs_nested.py",
    ),
    Mutant(
        "a nested call does not look at the deadline of the call around it",
        RUST + "runner/hop.rs",
        "self.watch.next().into_iter().chain(ends).min()",
        "self.watch.next().into_iter().chain(ends.filter(|_| false)).min()",
        "tests/test_waiting_costs_nested.py",
    ),
    Mutant(
        "no_switch forbids nothing",
        RUST + "switch/strand.rs",
        "self.forbidden.load(Relaxed) == 0",
        "self.forbidden.load(Relaxed) < 1000",
        "tests/test_switch_tools.py tests/test_switch_hazards.py",
    ),
    Mutant(
        "a worker that was given up starts calls",
        RUST + "worker/from_thread.rs",
        "    if sender.is_given_up(py) {\n        return Err(cancelled_error(py));\n    }\n    let target",
        "    let target",
        "tests/test_from_thread.py tests/test_from_thread_ends.py",
    ),
    Mutant(
        "check_cancelled never raises",
        RUST + "worker/from_thread.rs",
        "if work.is_given_up() { Err(cancelled_error(py)) } else { Ok(()) }",
        "if work.is_given_up() { Ok(()) } else { Ok(()) }",
        "tests/test_from_thread.py tests/test_from_thread_ends.py tests/test_worker_life.py",
    ),
    Mutant(
        "a forked child keeps the greenlets",
        RUST + "lifecycle.rs",
        "        greenlets::after_fork();\n",
        "",
        "tests/test_fork_moments.py",
    ),
    Mutant(
        "a forked child keeps the loops",
        RUST + "python/residents.rs",
        "        parents.iter().flat_map(|all| all.alive()).for_each(std::mem::forget);\n        WeakVec::default()\n",
        "        let mut kept = WeakVec::default();\n"
        "        let alive = parents.iter().flat_map(|all| all.alive());\n"
        "        alive.for_each(|each| kept.add(Arc::downgrade(&each)));\n        kept\n",
        "tests/test_fork.py tests/test_fork_inherited.py",
    ),
    Mutant(
        "whoever stops queuing for a token stays in the queue",
        CORE + "limiter.rs",
        "        let place = state.place_of(key)?;\n        state.leave(place).map(|(_, borrower, waiter)|",
        "        let place = state.place_of(key).filter(|_| false)?;\n"
        "        state.leave(place).map(|(_, borrower, waiter)|",
        "tests/test_thread_limiter.py -o timeout=30",
    ),
    Mutant(
        "a worker that runs trio itself joins the loop that sent it",
        RUST + "bridge/placement.rs",
        "if self.joins_sender && !surroundings::in_event_loop(py)? {",
        "if self.joins_sender && names::running_loop(py)?.is_none() {",
        "tests/test_from_thread.py",
    ),
    Mutant(
        "a limiter that grows serves nobody",
        CORE + "limiter.rs",
        "        state.total = total;\n        state.serve()",
        "        state.total = total;\n        Vec::new()",
        "tests/test_thread_limiter.py",
    ),
    Mutant(
        "a wait that leads back to itself is none",
        CORE + "waits.rs",
        "other.is_some_and(|other| other.reaches(self.0, |_| false))",
        "other.is_some_and(|other| false && other.reaches(self.0, |_| false))",
        "tests/test_deadlocks.py -o timeout=60",
    ),
    Mutant(
        "a thread that begins to wait does not look for calls that wait for it",
        RUST + "bridge/blocking.rs",
        "runner.move_calls(py)?;",
        "let _ = &runner;",
        "tests/test_nested_circles_late.py -o timeout=60",
    ),
    Mutant(
        "sync_compatible shares a context that is to be copied",
        PYTHON + "_compatible.py",
        "if bridge._shares_context:",
        "if True:",
        "tests/test_sync_compatible.py",
    ),
    Mutant(
        "a cancelled future's task goes on",
        PYTHON + "_futures.py",
        "            self._submitted.cancel()\n",
        "            pass\n",
        "tests/test_futures.py",
    ),
    Mutant(
        "an error that nobody asked for is not logged",
        PYTHON + "_futures.py",
        "if not says_closed:",
        "if error is None:",
        "tests/test_futures_forgotten.py",
    ),
    Mutant(
        "a bridge is not told that a trace begins",
        RUST + "bridge/observing.rs",
        "    for shared in known {\n        shared.loops.state.set(BridgeState::OBSERVED, is_wanted);",
        "    for shared in known {\n        shared.loops.state.set(BridgeState::OBSERVED, is_wanted && false);",
        "tests/test_trace.py",
    ),
    Mutant(
        "a bridge is not told that the trace has ended",
        RUST + "bridge/observing.rs",
        "    for shared in known {\n        shared.loops.state.set(BridgeState::OBSERVED, is_wanted);",
        "    for shared in known {\n        shared.loops.state.set(BridgeState::OBSERVED, true);",
        "tests/test_trace_ends.py tests/test_telemetry.py",
    ),
    Mutant(
        "a bridge that is made during a trace is not in it",
        RUST + "bridge/observing.rs",
        "shared.loops.state.set(BridgeState::OBSERVED, recording::is_wanted());",
        "shared.loops.state.set(BridgeState::OBSERVED, false);",
        "tests/test_trace.py tests/test_trace_ends.py",
    ),
    Mutant(
        "a visible task says of nobody that it waits for it",
        PYTHON + "_visible.py",
        "    if current is None or task is None or task is current:",
        "    if True:",
        "tests/test_visible.py",
        since=(3, 14),
    ),
    Mutant(
        "a visible task goes on to wait for what has ended",
        PYTHON + "_visible.py",
        "        if link is not None:\n            _unlink(link)\n\n\ndef _linked",
        "        pass\n\n\ndef _linked",
        "tests/test_visible.py",
        since=(3, 14),
    ),
    Mutant(
        "with in_async='home' steps are made in the task itself",
        RUST + "bridge/remote.rs",
        "self.in_async == InAsync::Home && !self.has_running_loop(py)?",
        "self.in_async == InAsync::Home && !self.has_running_loop(py)? && false",
        "tests/test_in_async.py",
    ),
    Mutant(
        "a cancelled await of run_async leaves the call alone",
        RUST + "bridge/remote.rs",
        "            runner.ask_to_cancel(py, call);",
        "            let _ = (runner, call);",
        "tests/test_run_async.py tests/test_run_async_ends.py -o timeout=30",
    ),
    Mutant(
        "what was to be run by the caller is run though nobody awaits it any more",
        RUST + "worker/errand.rs",
        "drop((take(&self.todo), take(&self.context), take(&self.carried)));",
        "drop(take(&self.carried));",
        "tests/test_to_caller_ends.py",
    ),
    Mutant(
        "the first error in a group ends no other call",
        PYTHON + "_many/group.py",
        "not child.cancelled():\n            self._errors.append(error)\n            self._cancel()\n",
        "not child.cancelled():\n            self._errors.append(error)\n",
        "tests/test_group.py -o timeout=30",
    ),
    Mutant(
        "a map fetches items that it has no room for",
        PYTHON + "_many/engine.py",
        "2 * self._options.limit - (self.laid_in - self._used)",
        "9 * self._options.limit - (self.laid_in - self._used)",
        "tests/test_map.py tests/test_amap.py",
    ),
    Mutant(
        "at exit no finalizer runs",
        PYTHON + "_finalizing.py",
        "        home.finish_at_exit(deadline)",
        "        pass",
        "tests/test_finalize_ends.py",
    ),
    Mutant(
        "a destructor loses the exception that travels meanwhile",
        RUST + "python/errors.rs",
        "            raised.restore(py);",
        "            drop(raised);",
        "tests/test_bridge_dropped.py",
    ),
)


def copy_of_tree(folder: Path) -> Path:
    """What is in version control, as it is in the tree now."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, names.stdout.split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    return folder


def build(tree: Path) -> None:
    """Builds the extension into the tree's package, for this Python and as fast as it gets."""
    target = tree / "target"
    env = {
        **os.environ,
        "CARGO_TARGET_DIR": str(target),
        "PYO3_PYTHON": sys.executable,
        "PYO3_BUILD_EXTENSION_MODULE": "1",  # as maturin: without the interpreter's library, wherever that is
        "CARGO_INCREMENTAL": "1",
        "CARGO_PROFILE_RELEASE_LTO": "off",
        "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
        "CARGO_PROFILE_RELEASE_OPT_LEVEL": "1",
        "RUSTFLAGS": "-Awarnings",
    }
    command = ["cargo", "build", "--quiet", "--locked", "--release", "-p", "syncline-py"]
    subprocess.run(command, cwd=tree, env=env, check=True)
    (library,) = (target / "release").glob("*syncline_core_py.so")
    # Replaced, not overwritten: a process that has it open keeps what it has.
    package = tree / "python" / "syncline"
    fresh = package / "_core.new"
    shutil.copy(library, fresh)
    fresh.replace(package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}")


def passes(tree: Path, tests: str) -> bool:
    env = {**os.environ, "PYTHONPATH": str(tree / "python")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    try:
        end = subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True, timeout=900)
    except subprocess.TimeoutExpired:
        return False
    if end.returncode not in (0, 1):
        # Of pytest's own: no such test, say. A crash of the process is a mutant that was noticed.
        assert end.returncode < 0, f"pytest ended with {end.returncode}\n{end.stdout}\n{end.stderr}"
    return end.returncode == 0


def main() -> int:
    chosen = [mutant for mutant in MUTANTS if all(word in mutant.name for word in sys.argv[1:])]
    stale = [mutant.name for mutant in chosen if not mutant.stands_once()]
    if stale or not chosen:
        print(f"their text is not in the code once: {stale}" if stale else "no mutant has such a name")
        return 1
    for mutant in chosen:
        if sys.version_info < mutant.since:
            print(f"left out, as Python is too old: {mutant.name}")
    chosen = [mutant for mutant in chosen if sys.version_info >= mutant.since]
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of_tree(Path(folder))
        build(tree)
        for tests in sorted({mutant.tests for mutant in chosen}):
            assert passes(tree, tests), f"{tests} fail without any mutant"
        for mutant in chosen:
            path = tree / mutant.file
            text = path.read_text()
            path.write_text(text.replace(mutant.old, mutant.new))
            is_rust = path.suffix == ".rs"
            if is_rust:
                build(tree)
            survives = passes(tree, mutant.tests)
            print(f"{'SURVIVES' if survives else 'noticed'}: {mutant.name}", flush=True)
            if survives:
                survivors.append(mutant.name)
            path.write_text(text)
        print(f"{len(chosen) - len(survivors)} of {len(chosen)} were noticed")
    return bool(survivors)


if __name__ == "__main__":
    sys.exit(main())
