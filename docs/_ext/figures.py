"""The pictures of the performance page, drawn from figures.csv and growth.csv when the documentation is built.

Each is drawn twice, for furo's light and dark themes, as an SVG whose text is text.
"""

from __future__ import annotations

import csv
from contextlib import AbstractContextManager
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
GROWTH = {
    "submit": ("a call of submit() in flight", "-", "o"),
    "submit, no gc": ("without the garbage collector", ":", "o"),
    "park": ("a nested call that waits", "-", "s"),
    "callers": ("a call, of so many threads", "-", "^"),
    "asyncio tasks": ("a task of asyncio's", "--", "o"),
}
"""What the picture of growth shows: its name, and how its line is drawn."""


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

    with (Path(app.srcdir) / "growth.csv").open() as file:
        rows = list(csv.DictReader(file))
    for theme in COLORS:
        draw_growth(rows, theme, folder / f"growth-{theme}.svg")


def draw_growth(rows: list[dict[str, str]], theme: str, path: Path) -> None:
    """What one costs among ever more, on logarithmic scales: a level line grows with the number and no faster."""
    text, ours, others = COLORS[theme]
    with styled(text, path):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
        for what, (name, line, mark) in GROWTH.items():
            found = [(int(row["number"]), float(row["microseconds"])) for row in rows if row["what"] == what]
            color = others if what.startswith("asyncio") else ours
            axes.plot(*zip(*found, strict=True), color=color, linestyle=line, marker=mark, label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(1, 100)
        axes.set_xlabel("how many")
        axes.set_ylabel("microseconds of each")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.legend(frameon=False, fontsize=9, ncols=2)
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, transparent=True, metadata={"Date": None})
        pyplot.close(figure)


def styled(text: str, path: Path) -> AbstractContextManager[None]:
    """Text is text, in that colour, and the same picture is the same file."""
    settings = {
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 11,
        "svg.hashsalt": path.stem,
    }
    colored = ("text.color", "xtick.color", "ytick.color", "axes.labelcolor", "axes.edgecolor")
    return matplotlib.rc_context(settings | dict.fromkeys(colored, text))


def draw_one(found: list[tuple[str, float]], theme: str, path: Path) -> None:
    """Bars from the dearest to the cheapest, on a logarithmic scale: right of 1 is dearer than the reference."""
    text, ours, others = COLORS[theme]
    with styled(text, path):
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
