"""On a free-threaded build the import turns the interpreter lock on, since forks rely on it."""

from __future__ import annotations

import sysconfig

import pytest

from child import DEV, run_script

pytestmark = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has its lock always"
)

SCRIPT = """
import sys
import syncline

async def answer():
    return 42

print(syncline.run_sync(answer), sys._is_gil_enabled())
"""


def test_the_import_turns_the_lock_on_and_warns() -> None:
    """Where the user has said nothing, Python says which module wants the lock."""
    end = run_script(SCRIPT, env={"PYTHON_GIL": ""})
    assert (end.status, end.out) == (0, "42 True\n"), end.err
    assert "RuntimeWarning" in end.err
    assert "'syncline._core'" in end.err


def test_the_import_is_silent_where_the_lock_was_asked_for() -> None:
    """By PYTHON_GIL=1 or -X gil=1, also where warnings are errors."""
    for flags, env in (((), {"PYTHON_GIL": "1"}), (("-X", "gil=1"), {"PYTHON_GIL": ""})):
        end = run_script(SCRIPT, flags=(*DEV, *flags), env=env)
        assert end.out == "42 True\n", end.err
        end.assert_clean()
