"""The pictures of the performance page, drawn from figures.csv when the documentation is built.

Each is drawn twice, for furo's light and dark themes, as an SVG whose text is text.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

if TYPE_CHECKING:
    from sphinx.application import Sphinx

NAMES = {
    "syncline": 'syncline, scope "process"',
    "syncline-caller": 'syncline, scope "caller"',
    "reference": "run_coroutine_threadsafe",
    "anyio-portal": "anyio's portal",
}
COLORS = {"light": ("#1b1b1b", "#0a4bff", "#9aa5b1"), "dark": ("#dadada", "#6c9cff", "#5b6570")}
"""Of text, of our bars, of the others'."""


def draw(app: Sphinx) -> None:
    """A picture for each scenario, in _figures/."""
    folder = Path(app.srcdir) / "_figures"
    folder.mkdir(exist_ok=True)
    with (Path(app.srcdir) / "figures.csv").open() as file:
        rows = list(csv.DictReader(file))
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        found = [(row["peer"], float(row["ratio"])) for row in rows if row["scenario"] == scenario]
        for theme in COLORS:
            draw_one(sorted(found, key=lambda each: -each[1]), theme, folder / f"{scenario}-{theme}.svg")


def draw_one(found: list[tuple[str, float]], theme: str, path: Path) -> None:
    """Bars from the dearest to the cheapest, on a logarithmic scale: right of 1 is dearer than the reference."""
    text, ours, others = COLORS[theme]
    settings = {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 11,
        "svg.hashsalt": path.stem,
    }
    settings |= dict.fromkeys(("text.color", "xtick.color", "ytick.color"), text)
    with matplotlib.rc_context(settings):
        figure, axes = pyplot.subplots(figsize=(6.4, 0.6 + 0.3 * len(found)), layout="constrained")
        names = [NAMES.get(peer, peer) for peer, _ in found]
        colors = [ours if peer.startswith("syncline") else others for peer, _ in found]
        bars = axes.barh(names, [ratio for _, ratio in found], color=colors, height=0.7)
        axes.bar_label(bars, [f"{ratio:g}" for _, ratio in found], padding=4)
        axes.set_xscale("log")
        axes.set_xlim(min(0.05, min(ratio for _, ratio in found) / 2), max(ratio for _, ratio in found) * 3)
        axes.axvline(1, color=text, linewidth=0.8, linestyle=":")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.tick_params(length=0)
        axes.minorticks_off()
        axes.spines[:].set_visible(False)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        pyplot.close(figure)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True}
