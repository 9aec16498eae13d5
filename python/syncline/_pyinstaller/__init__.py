"""PyInstaller finds its hook for syncline here, by an entry point. A program never imports this."""

from __future__ import annotations

from pathlib import Path


def hook_folders() -> list[str]:
    """The folders with hooks."""
    return [str(Path(__file__).parent)]
