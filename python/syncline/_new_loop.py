"""A call on an event loop that nobody else has."""

from __future__ import annotations

from ._bridge import Bridge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


def run_in_new_loop(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Runs an async function on a new asyncio event loop, and closes that; returns what the function returns.

    The loop runs in this thread; where a loop runs in this thread already, on a new thread, while this one waits. The
    function shares the caller's context variables. What it leaves running is cancelled, cleans up, and async generators
    are finalized, before this returns.

    Raises what the function raises, and TypeError for a sync function.
    """
    # Scope "caller" does just that: the thread's own loop, or inside a running loop one on another thread.
    with Bridge(scope="caller", name="new loop") as bridge:
        return bridge._run_alone(fn, *args, **kwargs)
