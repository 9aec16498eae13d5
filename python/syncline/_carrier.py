"""The base frame of the greenlets that tasks run in. Imported by the core with greenlet, at the first call."""

from __future__ import annotations

from collections.abc import Callable


def carry(body: Callable[[], None]) -> None:
    """Runs `body`, the core's. A greenlet whose lowest frame isn't Python's has no stack that tools could show."""
    body()
