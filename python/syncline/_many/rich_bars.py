"""What a bar of rich's shows. Imported where rich is."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class RateColumn(ProgressColumn):
    """Calls a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if speed is None and task.elapsed:  # it was too quick for samples
            speed = task.completed / task.elapsed
        return Text("" if speed is None else f"{speed:.1f}/s")


def bars() -> Progress:
    """A display that shows what a bar of tqdm's shows."""
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        RateColumn(),
        TextColumn("failed={task.fields[failed]} running={task.fields[running]}"),
    )
