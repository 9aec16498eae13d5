"""Sphinx's settings. `nox -s docs` builds with warnings as errors; `nox -s doctests` runs the examples."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

workspace = tomllib.loads((Path(__file__).parent.parent / "Cargo.toml").read_text())["workspace"]

project = "syncline"
author = "The syncline contributors"
project_copyright = f"2026, {author}"
release = workspace["package"]["version"]
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    # Ours, in _ext/.
    "figures",
    "reference",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = True
# The inventory that is kept here has no such names.
nitpick_ignore = [
    ("py:class", name)
    for name in (
        "OfClass",
        "SyncedOfClass",
        "asyncio.events.AbstractEventLoop",
        "collections.abc.Collection",
        "opentelemetry.trace.TracerProvider",
        "threading.Thread",
    )
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
add_module_names = False
maximum_signature_line_length = 88
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.inv"),
    "anyio": ("https://anyio.readthedocs.io/en/stable", "inventories/anyio.inv"),
}

copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = f"syncline {release}"
html_static_path = ["_static"]
html_css_files = ["syncline.css"]
