"""The modules that a frozen program needs, and that PyInstaller can't find, as the extension imports them by
name."""

from __future__ import annotations

from PyInstaller.utils.hooks import can_import_module, collect_submodules


def _is_ours(name: str) -> bool:
    # A program that uses syncline.compat or syncline.jupyter imports them itself, where PyInstaller sees it.
    return name.startswith("syncline._") and not name.startswith("syncline._pyinstaller")


hiddenimports = collect_submodules("syncline", _is_ours)
# The core's own imports, from the standard library.
hiddenimports += ["asyncio", "atexit", "concurrent.futures", "contextvars", "functools", "logging"]
hiddenimports += ["selectors", "threading", "warnings"]
if can_import_module("greenlet"):
    hiddenimports.append("greenlet")
