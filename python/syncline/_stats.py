"""The type of what `Bridge.stats()` returns."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class BridgeStats(TypedDict):
        """Counters of one bridge, read at about the same time."""

        runners: int
        """Loops that are alive."""
        calls: int
        """Calls begun."""
        active: int
        """Calls in flight."""
        nested: int
        """Calls made by sync code that a coroutine on one of our loops called."""
        wakes: int
        """System calls made to wake a sleeping loop."""
        spins_won: int
        """Short spins that met what they waited for."""
        spins_lost: int
        """Short spins that ended in a sleep."""
        hops: list[tuple[float, int]]
        """How long threads waited for what ran on another one's loop, from the call until the result was there.

        Pairs of a bound in seconds, and how many took at most that long, and longer than half of it. The bounds
        are 1, 2, 4 ... microseconds, and `math.inf` for what took more than an hour; only those that are not
        empty. Empty unless the bridge is `timed`. Calls that await in place, `submit` and `run_async` don't
        count."""
else:  # importing typing would cost more than the rest of `import syncline`
    BridgeStats = dict
