"""What a signal handler raises at a random moment comes out of the operation during which it was raised: never lost,
never kept for a later one, and nothing hangs.

The operations of a scope are made in a process of its own (interrupts.py), one kind after the other, hit by a timer's
signal or by SIGINT from another thread: each for a moment, or for five seconds with SYNCLINE_STRESS=full.
SYNCLINE_SEED=<number> repeats the delays.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("SYNCLINE_STRESS") == "full"
SEED = int(os.environ.get("SYNCLINE_SEED", random.SystemRandom().randrange(2**32)))
SECONDS = 5.0 if FULL else 0.12
SCRIPT = Path(__file__).with_name("interrupts.py")
BRIDGES = (
    "run_sync", "run", "run_late", "synced", "submit", "iterate", "iterate_ahead", "iterate_left", "enter", "dual",
    "nested", "first", "close", "in_a_loop",
)  # fmt: skip
USERS = ("asyncio", "to_thread", "from_thread", "new_loop")
CASES = [(BRIDGES, "process"), (BRIDGES, "thread"), (BRIDGES, "caller"), (USERS, "process")]
HALF_MADE = "has no attribute"
"""What Python says of an event loop that a signal handler's error left half made, its own loops too."""


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", ["timer", "thread"])
@pytest.mark.parametrize(("kinds", "scope"), CASES, ids=["process", "thread", "caller", "users loops"])
def test_an_interrupt_ends_the_operation_that_it_hits(kinds: tuple[str, ...], scope: str, how: str) -> None:
    """Each error that was raised is caught where it was raised, and coroutines are cancelled (cases 44, 45)."""
    end = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), ",".join(kinds), scope, str(SEED), str(SECONDS), how],
        capture_output=True, text=True, timeout=1700,
    )  # fmt: skip
    said = f"SYNCLINE_SEED={SEED}\n{end.stdout}\n{end.stderr}"
    assert end.returncode == 0, said
    lines = end.stdout.splitlines()
    assert lines[::2] == list(kinds), said
    for line in lines[1::2]:
        seen: dict[str, Any] = json.loads(line)
        assert set(seen["ends"]) <= {"caught", "too late"}, said
        # What the main thread runs itself may be hit on the way into its `try`.
        assert seen["not left"] == 0 or kinds is USERS or scope == "caller", said
        assert not [text for text in seen["unraisable"] if HALF_MADE not in text], said


def test_every_operation_is_tried() -> None:
    """No kind is left out by mistake."""
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        from interrupts import Work  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(SCRIPT.parent))
    helpers = {"inside", "work", "items", "manager", "in_users_loop", "renew", "calmly"}
    kinds = {name for name in vars(Work) if not name.startswith("_")} - helpers
    assert kinds == {*BRIDGES, *USERS}
