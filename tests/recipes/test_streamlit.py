"""docs/recipes-programs.md: Streamlit, by its own means of testing an app."""

from __future__ import annotations

from pathlib import Path

import pytest

import recipe_code

testing = pytest.importorskip("streamlit.testing.v1", reason="streamlit is not installed")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_streamlit(tmp_path: Path) -> None:
    """Two visitors, in threads of their own, and runs anew: one client serves all, as its lock's loop does."""
    recipe_code.write(tmp_path, "recipes-programs.md", "Streamlit")
    first = testing.AppTest.from_file(str(tmp_path / "page.py"), default_timeout=30).run()
    assert not first.exception
    assert [each.value for each in first.markdown] == ["WHY (1)", "one word after the other"]
    first.text_input[0].set_value("how").run()
    assert first.markdown[0].value == "HOW (2)"
    second = testing.AppTest.from_file(str(tmp_path / "page.py"), default_timeout=30).run()
    assert not second.exception
    assert second.markdown[0].value == "WHY (3)"
