"""The stub of the module's functions says what the bridge's methods say, which these functions are."""

from __future__ import annotations

import default_stub


def test_the_stub_says_what_the_bridges_methods_say() -> None:
    """Parameters, types and docstrings. `python tests/default_stub.py` writes it again."""
    expected = list(default_stub.definitions(default_stub.text()))
    assert list(default_stub.definitions(default_stub.STUB.read_text())) == expected
    assert len(expected) > 20
