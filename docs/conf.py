"""Sphinx's settings. `nox -s docs` builds with warnings as errors; `nox -s doctests` runs the examples."""

from __future__ import annotations

import tomllib
from pathlib import Path

workspace = tomllib.loads((Path(__file__).parent.parent / "Cargo.toml").read_text())["workspace"]

project = "syncline"
author = "The syncline contributors"
project_copyright = f"2026, {author}"
release = workspace["package"]["version"]
version = release

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"syncline {release}"
