"""cProfile where nested calls await in place, as docs/debugging.md tells it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tool_code import BURNS_SECONDS, python, write

ROUNDS = 3
SCRIPT = """
import cProfile
import json
import pstats
import sys

import program


async def measured():
    profile = cProfile.Profile()
    profile.enable()
    await program.main(int(sys.argv[3]))
    profile.disable()
    return profile


if sys.argv[4] == "loop":
    profile = program.bridge.run_sync(measured)
else:
    profile = cProfile.Profile()
    profile.runcall(program.program, int(sys.argv[3]))
found = {}
for (file, _, name), (_, calls, own, _, _) in pstats.Stats(profile).stats.items():
    if file.endswith("program.py") or name == "<built-in method builtins.sum>":
        found[name] = [calls, own]
print(json.dumps(found))
"""


@pytest.mark.parametrize(
    ("scope", "where"),
    [("process", "loop"), ("caller", "loop"), ("caller", "thread"), ("process", "thread")],
)
def test_own_times_are_right_and_calls_are_about_right(tmp_path: Path, scope: str, where: str) -> None:
    """In the loop's thread, and in scope "caller" around the call. From Python 3.12 on a profile is of all threads."""
    write(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    ran = python(tmp_path, "script.py", scope, "switch", str(ROUNDS), where)
    assert (ran.returncode, ran.stderr) == (0, "")
    found = json.loads(ran.stdout)
    if (scope, where) == ("process", "thread") and sys.version_info < (3, 12):
        assert "burn" not in found
        return
    # A call that was under way when greenlets switched, or, from 3.12 on, threads did, may count twice.
    for name, calls in {"burn_inner": 4, "burn_outer": 2, "burn": 6}.items():
        assert calls * ROUNDS <= found[name][0] < 2 * calls * ROUNDS
    own = found["burn"][1] + found["<built-in method builtins.sum>"][1]
    # By the clock, where the computing is counted by the thread's time: others may be at work here.
    assert own > 0.5 * 6 * ROUNDS * BURNS_SECONDS
    assert found["sync_code"][1] < own
