"""trio's runs as homes of finalizers. Imported where one is needed, since it needs trio.

The end of a run is seen by a system task, which trio cancels when the main task has ended.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any

import trio

from ._core import tell_trio
from ._homes import Home

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from contextvars import Context

    from ._homes import Call, Waiter

_PATIENCE = 5.0
"""Seconds that all cleanups together may take at the end of a run."""


class TrioHome(Home):
    """A trio run."""

    cancelled = trio.Cancelled

    def __init__(self, token: trio.lowlevel.TrioToken, homes: MutableMapping[Any, Home]) -> None:
        super().__init__(token, homes)
        self._token = token
        self._running = 0
        self._changed = trio.Event()
        trio.lowlevel.spawn_system_task(self._until_end)

    def is_here(self) -> bool:
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token

    def runs(self) -> bool:
        try:
            tell_trio(self._token, _nothing, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True

    def tell(self) -> None:
        # By 1 of _homes.py. trio's lock is reentrant, and held for a moment only.
        with contextlib.suppress(trio.RunFinishedError):
            tell_trio(self._token, self.begin_due, idempotent=True)

    def start(self, call: Call, context: Context, waiter: Waiter | None, shielded: bool = False) -> None:
        scope = trio.CancelScope(shield=shielded)
        self._running += 1
        trio.lowlevel.spawn_system_task(self._carry, scope, call, waiter, context=context)
        if waiter is not None:
            waiter.add_done_callback(functools.partial(self._cancel, scope))

    async def _carry(self, scope: trio.CancelScope, call: Call, waiter: Waiter | None) -> None:
        try:
            with scope:
                await self.run(call, waiter)
        finally:
            self._running -= 1
            self._changed.set()
            self._changed = trio.Event()

    def _cancel(self, scope: trio.CancelScope, waiter: Waiter) -> None:
        if waiter.cancelled():
            with contextlib.suppress(trio.RunFinishedError):
                tell_trio(self._token, scope.cancel)

    async def settled(self) -> None:
        while self._running:
            await self._changed.wait()

    async def _until_end(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.forget()
            with trio.move_on_after(_PATIENCE, shield=True):
                await self.finish()

    def finish_at_exit(self, deadline: float) -> None:
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        with contextlib.suppress(trio.RunFinishedError):
            tell_trio(self._token, trio.lowlevel.spawn_system_task, self._finish_for, done)
            concurrent.futures.wait([done], max(0.0, deadline - time.monotonic()))

    async def _finish_for(self, done: concurrent.futures.Future[None]) -> None:
        try:
            await self.finish()
        finally:
            done.set_result(None)


def _nothing() -> None:
    """Called by a run that is asked whether it still runs."""


async def wait_for(waiter: Waiter) -> Any:
    """Waits for the future in a task of trio's, and cancels it where that is cancelled."""
    token, done = trio.lowlevel.current_trio_token(), trio.Event()

    def tell(_: Waiter) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            tell_trio(token, done.set)

    waiter.add_done_callback(tell)
    try:
        await done.wait()
    except trio.Cancelled:
        waiter.cancel()
        raise
    return waiter.result()
