"""What a signal handler raises at a random moment comes out of the operation during which it was raised: never lost,
never kept for a later one, and nothing hangs.

Each kind of operation runs in a process of its own (interrupts.py), hit by a timer's signal and by SIGINT from another thread,
for as long as there is time: half a second each, or ten with SYNCLINE_STRESS=full. SYNCLINE_SEED=<number> repeats the delays.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

FULL = os.environ.get("SYNCLINE_STRESS") == "full"
SEED = int(os.environ.get("SYNCLINE_SEED", random.SystemRandom().randrange(2**32)))
SECONDS = 10.0 if FULL else 0.5
SCRIPT = Path(__file__).with_name("interrupts.py")
# Kinds that make no use of a bridge's scope come once.
SCOPED = (
    "run_sync", "run", "run_late", "synced", "submit", "iterate", "iterate_ahead", "iterate_left", "enter", "dual",
    "nested", "first", "close", "in_a_loop",
)  # fmt: skip
CASES = [(kind, scope) for kind in SCOPED for scope in ("process", "thread", "caller")]
CASES += [(kind, "process") for kind in ("asyncio", "new_loop", "to_thread", "from_thread")]

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("how", ["timer", "thread"])
@pytest.mark.parametrize(("kind", "scope"), CASES)
def test_an_interrupt_ends_the_operation_that_it_hits(kind: str, scope: str, how: str) -> None:
    """Each error that was raised is caught where it was raised, and each coroutine that began was left (cases 44, 45)."""
    end = subprocess.run(
        [sys.executable, str(SCRIPT), kind, scope, str(SEED), str(SECONDS), how],
        capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    said = f"SYNCLINE_SEED={SEED}\n{end.stdout}\n{end.stderr}"
    assert end.returncode == 0, said
    assert end.stdout, said
    seen = json.loads(end.stdout.splitlines()[-1])
    assert set(seen["ends"]) <= {"caught", "too late"}, said
    assert (seen["not left"], seen["unraisable"]) == (0, []), said
    assert end.stderr == "", said
