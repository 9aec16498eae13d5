"""Faults put into the code on purpose, one at a time, and the tests that notice them.

    python tests/mutants.py            # all
    python tests/mutants.py masked     # those whose name has that in it

Each is applied to a copy of the tree, which is built there, and the tests that are named with it are run against it.
A mutant that those tests pass with survives, and fails the run; so does one whose text is no longer in the code.
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
        "for _ in 0..execution.call.take_cancellations().max(cancelled_by_loop) {",
        "for _ in 0..execution.call.take_cancellations().max(cancelled_by_loop).min(0) {",
        "tests/test_mutants_missed.py",
    ),
    Mutant(
        "an abandoned call's error is not logged",
        RUST + "call/state.rs",
        "if self.abandoned.load(Relaxed) && !is_cancelled(py, error) {",
        "if false && self.abandoned.load(Relaxed) && !is_cancelled(py, error) {",
        "tests/test_mutants_missed.py",
    ),
    Mutant(
        "what did not change is written back, and what did is not",
        RUST + "python/context.rs",
        "if get(before, &variable, &missing)?.is(&value) {",
        "if !get(before, &variable, &missing)?.is(&value) {",
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
        "                    if shares_context {\n                        carried",
        "                    if shares_context || true {\n                        carried",
        "tests/test_contextvars.py",
    ),
    Mutant(
        "from_thread keeps what was changed",
        RUST + "worker/from_thread.rs",
        "carried.write_back(py, false)?;",
        "drop(carried);",
        "tests/test_from_thread.py tests/test_sync_compatible.py",
    ),
    Mutant(
        "a nested call with nested='error' is made",
        RUST + "bridge/placement.rs",
        "            if self.nested_is_error {\n                return Err(errors::nested(&self.name));\n"
        "            }\n"
        "            self.terms.stats.nested.add(1);\n        }\n        let first_level",
        "            self.terms.stats.nested.add(1);\n        }\n        let first_level",
        "tests/test_nested.py",
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
        "    if work.is_given_up() {\n        return Err(cancelled_error(py));\n    }\n    let target",
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
        RUST + "lifecycle.rs",
        "        residents::leave_all(args.py());\n",
        "",
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
        "            && !surroundings::runs_trio(py)?\n        {\n            return Ok(Place::Sender",
        "        {\n            return Ok(Place::Sender",
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
        "if other.leads_to(self) { Err(Circle) } else { Ok(edge) }",
        "if false && other.leads_to(self) { Err(Circle) } else { Ok(edge) }",
        "tests/test_deadlocks.py -o timeout=60",
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
        "if error is not None and error.__traceback__ is not None:",
        "if error is None:",
        "tests/test_futures_forgotten.py",
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
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of_tree(Path(folder))
        build(tree)
        for tests in sorted({mutant.tests for mutant in chosen}):
            assert passes(tree, tests), f"{tests} fail without any mutant"
        for mutant in chosen:
            path = tree / mutant.file
            text = path.read_text()
            if text.count(mutant.old) != 1:
                survivors.append(mutant.name)
                print(f"its text is not there once: {mutant.name}", flush=True)
                continue
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
