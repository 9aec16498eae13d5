"""README, the package page made of it, and what the documents repeat."""

from __future__ import annotations

import csv
import re
import tomllib
from pathlib import Path
from typing import Any

import syncline

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROWS = {
    'scope `"process"`': "syncline",
    'scope `"caller"`': "syncline-caller",
    "the reference": "reference",
    "anyio's portal": "anyio-portal",
    "Prefect": "prefect",
    "AnySync": "anysync",
}
COLUMNS = ("plain", "sleep0", "in-loop", "nested")


def links() -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", README)


def test_links_of_the_readme_work_on_a_package_page() -> None:
    """They are absolute, and those to our files name files that are there."""
    assert links()
    files = f"{PROJECT['urls']['Repository']}/blob/main/"
    for link in links():
        assert link.startswith("https://"), link
        if link.startswith(files):
            assert (ROOT / link.removeprefix(files)).exists(), link


def test_the_package_page_has_the_links_that_people_look_for() -> None:
    """Documentation, source, changes and issues."""
    assert {"Documentation", "Repository", "Changelog", "Issues"} <= PROJECT["urls"].keys()


def test_the_readmes_table_shows_the_figures_that_the_pages_are_drawn_from() -> None:
    """Each figure once, and a dash where there is none."""
    with (ROOT / "docs" / "figures.csv").open() as file:
        figures = {(row["peer"], row["scenario"]): row["ratio"] for row in csv.DictReader(file)}
    table = README[README.index("| | never suspends |") :].split("\n\n")[0].splitlines()[2:]
    seen = 0
    for line in table:
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        known = [peer for key, peer in ROWS.items() if key in name]
        peer = known[0] if known else re.split(r"[ (]", name.strip("`"))[0].strip("`")
        for scenario, cell in zip(COLUMNS, cells, strict=True):
            expected = figures.get((peer, scenario), "-")
            assert cell == "-" if expected == "-" else float(cell) == float(expected), (peer, scenario)
            seen += expected != "-"
    assert seen == len(figures)


def test_the_reference_has_each_counter_of_a_bridge() -> None:
    """As the bridge gives them."""
    page = (ROOT / "docs" / "reference" / "bridge.md").read_text()
    with syncline.Bridge() as bridge:
        assert re.findall(r":param (?:int|list) (\w+):", page) == list(bridge.stats())


def test_each_public_name_is_in_the_reference() -> None:
    """The build of the documentation fails, too, where one isn't."""
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md"))
    documented = set(re.findall(r"^\.\. (?:auto\w+:: syncline\.|py:class:: )(\w+)$", pages, re.MULTILINE))
    public = {name for name in syncline.__all__ if not name.startswith("_")}
    assert public <= documented
