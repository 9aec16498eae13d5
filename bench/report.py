"""Shows results: a table for the terminal and a picture of it.

All figures of a table are costs relative to the reference's, so that below 1 is better throughout, also where the
scenario counts calls a second.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from peers import PEERS
from results import Result, Results
from scenarios import SCENARIOS, Scenario

from syncline._bench.placement import PLACEMENTS

TITLE = "Cost relative to run_coroutine_threadsafe(...).result(), whose own figures stand on top: below 1 is cheaper"
CANNOT = "-"
NOTHING = ""
BRIGHTEST_AT = 16.0
"""The ratio, either way, beyond which colours don't change any more."""


def tables(results: Results, *, best: bool = False) -> Iterator[str]:
    """The lines of all tables, of medians or of the best samples."""
    for placement in results.placements:
        scenarios = _columns(results, placement)
        if not scenarios:
            continue
        of = "best samples" if best else "medians"
        yield f"\n{PLACEMENTS[placement].title}; cost relative to the reference, {of}"
        rows = [["", *(scenario.name for scenario in scenarios)]]
        rows.append(["(absolute)", *(_absolute(results, placement, scenario) for scenario in scenarios)])
        for peer in results.peers:
            found = (results.find(peer, placement, scenario.name) for scenario in scenarios)
            rows.append([peer, *(_cell(result, best=best) for result in found)])
        yield from _aligned(rows)


def rows(results: Results) -> Iterator[str]:
    """The lines of a CSV file: one for each figure, with what the reader has to know."""
    python, cores = results.machine["Python"].rpartition(".")[0], results.machine["cores"]
    yield "date,python,cores,placement,scenario,peer,ratio"
    for result in results.results:
        if result.values and result.ratio is not None and SCENARIOS[result.scenario].unit != "left":
            where = f"{date.today()},{python},{cores},{result.placement},{result.scenario},{result.peer}"
            yield f"{where},{result.ratio:.3g}"


def _columns(results: Results, placement: str) -> list[Scenario]:
    measured = {result.scenario for result in results.results if result.placement == placement}
    return [SCENARIOS[name] for name in results.scenarios if name in measured]


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        first, *others = (text.rjust(width) for text, width in zip(row, widths, strict=True))
        yield "  ".join([first.strip().ljust(widths[0]), *others]).rstrip()


def reasons(results: Results) -> Iterator[str]:
    """The lines that say what could not be measured, and why."""
    found: dict[tuple[str, str], list[str]] = {}
    for result in results.results:
        if result.why:
            scenarios = found.setdefault((result.peer, result.why), [])
            if result.scenario not in scenarios:
                scenarios.append(result.scenario)
    if found or results.missing:
        yield "\nnot measured"
    for (peer, why), scenarios in found.items():
        yield f"  {peer}: {', '.join(scenarios)}: {why}"
    for peer, why in results.missing.items():
        yield f"  {peer}: {why}"


def _cell(result: Result | None, *, best: bool = False) -> str:
    if result is None:
        return NOTHING
    if not result.values:
        return CANNOT
    if SCENARIOS[result.scenario].unit == "left":
        return f"{result.median:.0f}"
    ratio = result.best_ratio if best else result.ratio
    if ratio is None:
        return CANNOT
    return f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def _absolute(results: Results, placement: str, scenario: Scenario) -> str:
    """The reference's own figure."""
    value = results.reference_median(placement, scenario.name)
    if value is None:
        return NOTHING
    if scenario.unit == "left":
        return f"{value:.0f}"
    if scenario.unit == "calls/s":
        return f"{1 / value:,.0f}/s"
    return f"{value * 1e3:.1f} ms" if value >= 1e-3 else f"{value * 1e6:.1f} us"


def plot(results: Results, path: Path) -> None:
    """Draws the tables, one below the other, a colour for each figure: green is cheaper than the reference."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.colors import TwoSlopeNorm

    placements = [placement for placement in results.placements if _columns(results, placement)]
    peers = results.peers
    widest = max(len(_columns(results, placement)) for placement in placements)
    figure, all_axes = pyplot.subplots(
        len(placements),
        figsize=(2.2 + 0.85 * widest, (1.3 + 0.27 * len(peers)) * len(placements)),
        squeeze=False,
        layout="constrained",
    )
    colors = matplotlib.colormaps["PiYG_r"].with_extremes(bad="0.93")
    norm = TwoSlopeNorm(0.0, -math.log2(BRIGHTEST_AT), math.log2(BRIGHTEST_AT))
    for axes, placement in zip(all_axes[:, 0], placements, strict=True):
        columns = _columns(results, placement)
        found = [[results.find(peer, placement, column.name) for column in columns] for peer in peers]
        shades = [[_shade(result) for result in row] for row in found]
        axes.imshow(shades, cmap=colors, norm=norm, aspect="auto")
        axes.set_xlim(-0.5, widest - 0.5)
        for y, row in enumerate(found):
            for x, result in enumerate(row):
                color = "white" if abs(shades[y][x]) > 0.75 * math.log2(BRIGHTEST_AT) else "black"
                axes.text(x, y, _cell(result), ha="center", va="center", fontsize=8, color=color)
        heads = [f"{column.name}\n{_absolute(results, placement, column)}" for column in columns]
        axes.set_xticks(range(len(columns)), heads, fontsize=8)
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(peers)), peers, fontsize=8)
        for label in axes.get_yticklabels():
            label.set_fontweight("bold" if PEERS[label.get_text()].ours else "normal")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title(PLACEMENTS[placement].title, fontsize=10, loc="left")
    machine = ", ".join(f"{name} {value}" for name, value in results.machine.items())
    figure.suptitle(f"{TITLE}\n{machine}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _shade(result: Result | None) -> float:
    """The logarithm of the ratio; NaN, which is drawn as nothing, where there is none."""
    if result is None or not result.values:
        return math.nan
    if SCENARIOS[result.scenario].unit == "left":
        # 16 left of 200 are as bad as it gets.
        return math.log2(max(1.0, result.median))
    return math.nan if not result.ratio or result.ratio <= 0 else math.log2(result.ratio)
