"""Progress of `map`: a bar of tqdm's or of rich's, or a function of the user's.

It is shown in the thread that takes the results, when there are some, and ten times a second while it waits for the
first of them. What is made here is closed here; a bar of the user's stays open.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, Protocol

Progress = bool | Callable[["MapProgress"], object] | Any | None


class MapProgress(NamedTuple):
    """How far a `map` is."""

    done: int
    """Calls that have ended, failed ones too."""
    failed: int
    """Calls that have failed."""
    in_flight: int
    """Calls that run."""
    total: int | None
    """How many there will be; None where the source does not say."""


class Display(Protocol):
    """Where progress is shown."""

    def show(self, now: MapProgress, /) -> object: ...
    def close(self) -> None: ...


def display(who: str, progress: Progress, total: int | None) -> Display | None:
    """What `progress` asks for; None if nothing is to be shown."""
    if progress is None or progress is False:
        return None
    if progress is True:
        return _found(who, total)
    module = type(progress).__module__.partition(".")[0]
    if module == "rich" and hasattr(progress, "add_task"):
        return RichBar(progress, total, is_ours=False)
    if isinstance(progress, type) and hasattr(progress, "set_postfix"):
        return TqdmBar(progress(total=total), is_ours=True)
    if hasattr(progress, "update") and hasattr(progress, "set_postfix"):
        return TqdmBar(progress, is_ours=False)
    if callable(progress):
        return Told(progress)
    raise TypeError(
        f"progress of {who}() is True, a bar of tqdm's, a Progress of rich's, or a function that takes a MapProgress; "
        f"not {type(progress).__name__}"
    )


def _found(who: str, total: int | None) -> Display:
    """The bar of whichever library is there."""
    bar: Any = None
    with suppress(ModuleNotFoundError):
        bar = import_module("tqdm.auto").tqdm  # in a notebook, its form for notebooks
    if bar is not None:
        return TqdmBar(bar(total=total), is_ours=True)
    try:
        from .rich_bars import bars
    except ModuleNotFoundError:
        raise ImportError(
            f'{who}(progress=True) needs tqdm or rich: pip install "syncline[progress]"', name="tqdm"
        ) from None
    return RichBar(bars(), total, is_ours=True)


class Told:
    """A function of the user's."""

    def __init__(self, show: Callable[[MapProgress], object]) -> None:
        self.show = show

    def close(self) -> None:
        pass


class TqdmBar:
    """A bar of tqdm's, or one that works like it. Its postfix has what else there is to say."""

    def __init__(self, bar: Any, *, is_ours: bool) -> None:
        self._bar = bar
        self._is_ours = is_ours
        self._done = 0

    def show(self, now: MapProgress, /) -> None:
        self._bar.set_postfix(failed=now.failed, running=now.in_flight, refresh=False)
        self._bar.update(now.done - self._done)
        self._done = now.done

    def close(self) -> None:
        if self._is_ours:
            self._bar.close()
        else:
            self._bar.refresh()


class RichBar:
    """A task in a display of rich's."""

    def __init__(self, bars: Any, total: int | None, *, is_ours: bool) -> None:
        self._bars = bars
        self._is_ours = is_ours
        self._task = bars.add_task("map", total=total, failed=0, running=0)
        if is_ours:
            bars.start()

    def show(self, now: MapProgress, /) -> None:
        self._bars.update(self._task, completed=now.done, failed=now.failed, running=now.in_flight)

    def close(self) -> None:
        if self._is_ours:
            self._bars.stop()
        else:
            self._bars.stop_task(self._task)
