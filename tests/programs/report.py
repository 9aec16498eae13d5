"""Looks on while programs run, makes one that fails smaller, and shows it.

A program runs in a process of its own (worker.py) that is ended when it hangs; so do its smaller versions, one after
the other, each as often as it takes to be sure enough that it doesn't fail.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from .make import make
from .model import predict
from .place import Meaningless
from .tree import Program, show, smaller
from .worker import LIMIT, seed_of

TESTS = Path(__file__).parent.parent
SHRINKING = 40
"""Seconds to make a program smaller in."""
PATIENCE = 20
"""Seconds that a smaller program may take: a machine that is too slow for that gets a larger report."""


def work(*options: object, limit: float) -> tuple[int, str, str]:
    """One worker: its exit status, output and errors. It ends itself when it hangs; this is the second watchdog."""
    command = [sys.executable, "-m", "programs.worker", *map(str, options)]
    try:
        end = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired as error:
        return -9, decoded(error.stdout), decoded(error.stderr)
    return end.returncode, end.stdout, end.stderr


def decoded(said: bytes | str | None) -> str:
    """What a process had said when it was ended: bytes, whatever was asked for."""
    return said.decode(errors="replace") if isinstance(said, bytes) else said or ""


def search(seed: int, seconds: float, first: int = 0) -> tuple[int, str]:
    """Runs programs for so long: how many, and a report of the first that failed, or nothing."""
    status, out, err = work(
        "--seed", seed, "--first", first, "--seconds", seconds, limit=seconds + 2 * LIMIT + 30
    )
    names, _, wrong = out.partition("WRONG\n")
    numbers = names.split()
    if not status and not err:
        return len(numbers), ""
    if not numbers:
        return 0, f"the worker ended with status {status} before the first program\n{err}"
    number = int(numbers[-1])
    return len(numbers), report(seed, number, status, wrong, err)


def report(seed: int, number: int, status: int, wrong: str, err: str) -> str:
    """A failed program, as it was and as small as it gets."""
    program = make(seed_of(seed, number))
    small, seen = shrunk(program)
    return (
        f"SYNCLINE_SEED={seed}: program {number} ended with status {status}\n"
        f"(alone: python -m programs --seed {seed} --number {number}, in tests/)\n"
        f"{wrong}{err}\n"
        f"the program:\n{show(program)}\n\n"
        + (f"smaller:\n{show(small)}\n{small!r}\n{seen}" if seen else "it didn't fail again")
    )


def fails(program: Program, times: int = 3, limit: int = LIMIT) -> str:
    """What goes wrong in some runs of a program, each of which may take so many seconds."""
    try:
        predict(program)
    except Meaningless:
        return ""
    status, out, err = work(
        "--program", repr(program), "--times", times, "--limit", limit, limit=limit * (times + 1)
    )
    return out.partition("WRONG\n")[2] + err + f"status {status}" if status or err else ""


def shrunk(program: Program) -> tuple[Program, str]:
    """The smallest version found that fails, and what went wrong."""
    end = time.monotonic() + SHRINKING
    seen = fails(program, 20, PATIENCE)
    found = bool(seen)
    while found:
        found = False
        for candidate in smaller(program):
            if time.monotonic() > end:
                break
            if wrong := fails(candidate, 20 if "status 0" in seen else 5, PATIENCE):
                program, seen, found = candidate, wrong, True
                break
    return program, seen
