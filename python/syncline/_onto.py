"""The loop that `Bridge(loop=...)` was given, as the core uses it. Imported with the first such bridge."""

from __future__ import annotations

from typing import Any

from ._kinds import loaded_trio


def resolve(given: Any) -> tuple[bool, Any, Any]:
    """Whether trio runs there, what the core uses as the loop, and the object by which the loop's own code knows it.

    Takes an event loop, a trio token, or anyio's token of one of them.
    """
    native = getattr(given, "native_token", given)
    trio = loaded_trio()
    if trio is not None and isinstance(native, trio.lowlevel.TrioToken):
        from ._trio import TrioGuest

        return True, TrioGuest(native), native
    if not hasattr(native, "call_soon_threadsafe") or isinstance(native, type):
        raise TypeError(
            "loop must be an event loop, such as asyncio.get_running_loop(), a trio token "
            f"(trio.lowlevel.current_trio_token()) or anyio's EventLoopToken, not {type(given).__name__}"
        )
    if native.is_closed():
        raise ValueError("loop must be one that runs or is going to run, and this one is closed")
    return False, native, native
