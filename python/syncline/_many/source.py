"""Where the arguments of the calls come from."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Iterator, Sized
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import Engine
    from .options import Options

MOMENT = 0.001
"""Seconds that a source may take before the calls that are there are begun, and results that are there given out."""


def total(options: Options) -> int | None:
    """How many calls there will be, where that is known."""
    try:
        sizes = [len(iterable) for iterable in options.iterables if isinstance(iterable, Sized)]
    except Exception:
        # Some classes have a `__len__` that raises where their objects are iterated over without end.
        return None
    return min(sizes) if len(sizes) == len(options.iterables) else None


def async_source(options: Options) -> AsyncIterable[Any] | None:
    """The one async iterable, to be advanced on the loop; None where all are sync.

    What is both (such as what `iterate` returns) is taken as the code is that asks: in sync code it is iterated over
    in the calling thread, where its own bridge knows what to do.
    """
    first, then = ("__aiter__", "__iter__") if options.who == "amap" else ("__iter__", "__aiter__")
    kinds = [first if hasattr(iterable, first) else then for iterable in options.iterables]
    if "__aiter__" not in kinds:
        return None
    if len(kinds) > 1:
        raise TypeError(
            f"{options.who}() takes several iterables or a single async one; for more, give it an async generator of "
            "what belongs together, and a function that takes that"
        )
    source: AsyncIterable[Any] = options.iterables[0]
    return source


class Feed:
    """Sync iterables, advanced in the thread that asks for results, as far as there is room for their items."""

    def __init__(self, iterables: tuple[Iterable[Any], ...], engine: Engine) -> None:
        self._items: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        self._engine = engine

    def feed(self) -> None:
        """Lays items in. An error of the source comes when the calls before it have ended."""
        engine = self._engine
        if engine.is_fed:
            return
        put, began = engine.inputs.append, monotonic()
        for _ in range(engine.room()):
            try:
                put(next(self._items))
            except StopIteration:
                engine.end_inputs(None)
                return
            except Exception as error:
                engine.end_inputs(error)
                return
            engine.laid_in += 1
            if (now := monotonic()) - began > MOMENT:
                # The source takes its time. What came of it is begun, and who has a result does not wait for more.
                if engine.has_ready or not engine.begin_soon():
                    engine.is_in_haste = True
                    return
                began = now
