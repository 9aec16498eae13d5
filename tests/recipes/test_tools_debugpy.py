"""debugpy, the debugger of VS Code and others, where nested calls await in place, as docs/debugging.md tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from debug_client import Debugged

from tool_code import ONE_CALL

pytest.importorskip("debugpy")
pytestmark = pytest.mark.timeout(100)


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_breakpoint_in_a_nested_call_shows_the_task_and_steps_go_on(tmp_path: Path, scope: str) -> None:
    """Its whole stack, with variables; over a suspension while other tasks run; and out, through sync code."""
    path = tmp_path / "program.py"
    path.write_text(ONE_CALL)
    line = 1 + ONE_CALL.splitlines().index("    await asyncio.sleep(0.01)")
    with Debugged(tmp_path, "program.py", scope) as program:
        program.begin(path, line)
        thread, frames = program.stopped()
        names = [(each["name"], each["line"]) for each in frames]
        assert names[0] == ("inner", line)
        assert [name for name, _ in names][:5] == ["inner", "sync_code", "outer", "main", "carry"]
        variables: dict[str, Any] = {}
        for frame in frames[:2]:
            local = program.ask("scopes", frameId=frame["id"])["body"]["scopes"][0]["variablesReference"]
            said = program.ask("variables", variablesReference=local)["body"]["variables"]
            variables[frame["name"]] = {each["name"]: each["value"] for each in said}
        assert variables["inner"] == {"number": "1", "before": "2"}
        assert variables["sync_code"] == {"number": "1"}
        program.ask("next", threadId=thread)
        thread, frames = program.stopped()
        assert (frames[0]["name"], frames[0]["line"]) == ("inner", line + 1)
        program.ask("stepOut", threadId=thread)
        thread, frames = program.stopped()
        assert frames[0]["name"] == "sync_code"
        program.ask("stepOut", threadId=thread)
        thread, frames = program.stopped()
        assert frames[0]["name"] == "outer"
        threads = [each["name"] for each in program.ask("threads")["body"]["threads"]]
        loops = {"process": ["syncline"], "thread": ["syncline-thread-MainThread"], "caller": []}
        assert threads == ["MainThread", *loops[scope]]
        program.ask("continue", threadId=thread)
        assert program.finish().strip() == "result 5"
