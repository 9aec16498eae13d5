"""docs/recipes-programs.md: Textual, with its pilot."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import pytest

import recipe_code

pytest.importorskip("textual")


def test_textual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A press of the button shows the answer, and the app's loop goes on while sync code waits: the nested call can
    only end because another task of that loop lets it."""
    recipe_code.write(tmp_path, "recipes-programs.md", "Textual")
    monkeypatch.syspath_prepend(tmp_path)
    question: Any = importlib.import_module("question")

    async def main() -> str:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def load() -> str:
            asked.set()
            await answer.wait()
            return "the answer"

        monkeypatch.setattr(question, "load", load)
        app = question.Question()
        async with app.run_test() as pilot:
            pressing = asyncio.create_task(pilot.click("Button"))
            await asyncio.wait_for(asked.wait(), 20)
            answer.set()
            await pressing
            await pilot.pause()
            return str(app.query_one("#answer").render())

    assert "the answer" in asyncio.run(main())
