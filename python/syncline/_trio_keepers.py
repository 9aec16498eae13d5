"""What a resource's keeper needs of a trio run. Imported where one uses a resource, since it needs trio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextvars import Context
    from typing import Protocol

    class Keeper(Protocol):
        name: str

        def keep(self) -> Coroutine[Any, Any, None]: ...


# Seconds for which an object may close itself when the run ends.
_LONGEST = 5.0


class Trio:
    """As the keepers' class for asyncio. Its task is a system task: these end when all others have."""

    Event = trio.Event

    def __init__(self) -> None:
        self.loop = trio.lowlevel.current_trio_token()
        self._scope = trio.CancelScope()
        self._task: trio.lowlevel.Task | None = None

    def start(self, keeper: Keeper, context: Context) -> None:
        async def keep() -> None:
            with self._scope:
                await keeper.keep()

        self._task = trio.lowlevel.spawn_system_task(keep, name=f"resource {keeper.name}", context=context)

    async def begin(self, name: str) -> None:
        """What asyncio's tasks need."""

    def is_current(self) -> bool:
        return self._task is not None and trio.lowlevel.current_task() is self._task

    def cancel(self) -> None:
        self._scope.cancel()

    async def until(self, told: trio.Event) -> None:
        """Waits until the keeper is told to end: by the event, or by its run, which cancels it."""
        try:
            await told.wait()
        except trio.Cancelled:
            # From here on the run's end can't break off the closing, for that long.
            self._scope.shield = True
            self._scope.deadline = trio.current_time() + _LONGEST

    def shield(self) -> trio.CancelScope:
        """For the wait for what was cancelled just now."""
        return trio.CancelScope(shield=True)
