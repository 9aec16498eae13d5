"""What goes wrong by a mistake of the user."""

from __future__ import annotations


class Error(Exception):
    """Its message is all that the user sees."""
