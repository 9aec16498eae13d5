"""What a frozen program needs of syncline and PyInstaller can't see, since the extension imports it at run time."""

from __future__ import annotations

from PyInstaller.utils.hooks import can_import_module, collect_submodules


def _is_ours(name: str) -> bool:
    # syncline.compat and syncline.jupyter are imported by name or not at all.
    return name.startswith("syncline._") and not name.startswith("syncline._pyinstaller")


hiddenimports = collect_submodules("syncline", _is_ours)
# The core's own imports, from the standard library.
hiddenimports += ["asyncio", "atexit", "concurrent.futures", "contextvars", "functools", "logging"]
hiddenimports += ["selectors", "threading", "warnings"]
if can_import_module("greenlet"):
    hiddenimports.append("greenlet")
