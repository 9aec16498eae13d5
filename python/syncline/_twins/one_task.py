"""A task on the loop where an object lives, that makes all steps of one generator or manager for async code on another
loop: cancel scopes, timeouts and context variables of such an object belong to one task.

Everything here but `OneTask.do` and what starts it happens on that loop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from .. import _core
from .._kinds import trio_here
from .._raised import hide_ours
from .objects import known_as

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from concurrent.futures import Future

    from .objects import Quarters


class Step:
    """A call that the task is to make, and what came of it."""

    def __init__(self, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], done: Any) -> None:
        self.call = fn, args
        self.done = done
        self.result: Any = None
        self.error: BaseException | None = None


class OneTask:
    """Makes one step after the other.

    give_up: what is to be awaited if the task is cancelled between two steps, as when the loop ends; it gets what
        `__aexit__` gets.
    """

    def __init__(self, home: Quarters, give_up: Callable[..., Awaitable[Any]] | None = None) -> None:
        self._home, self.give_up = home, give_up
        self._task: Future[Any] | None = None
        self._steps: list[Step] = []
        self._asked: Any = None
        self._is_over = False

    async def do(self, fn: Callable[..., Awaitable[Any]], *args: Any, is_last: bool = False) -> Any:
        """Awaits `fn(*args)` in the task, from whatever loop. After the last step the task ends."""
        self._home.check_async()
        # Not by `bridge._run_async`, which SynclineInstrumentor replaces: `_ask` is nobody's function.
        ask = known_as(OneTask._ask, fn)
        try:
            return await _core.Bridge._run_async(self._home.bridge, ask, (self, fn, args, is_last), None)
        except BaseException as error:
            hide_ours(error)
            raise

    def end(self) -> None:
        """Has the task end without another step."""
        if self._task is not None:
            self._task.cancel()

    async def _ask(self, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], is_last: bool) -> Any:
        if self._task is None:
            self._asked = _event()
            self._task = self._home.submit(known_as(OneTask._serve, fn), self)
            self._task.add_done_callback(self._ended)
        if self._is_over:
            raise _over()
        step = Step(fn, args, _event())
        self._steps.append(step)
        self._asked.set()
        try:
            await step.done.wait()
        except BaseException:  # cancelled: so is the step, and its cleanup is waited for
            self._task.cancel()
            await _shielded(step.done.wait)
            raise
        if is_last:
            self._is_over = True
            self._asked.set()
        if step.error is not None:
            raise step.error
        return step.result

    def _ended(self, _task: object) -> None:
        """Frees who waits for a step that the task has not come to: it was cancelled, perhaps before it began."""
        self._is_over = True
        for step in self._steps:
            step.error = _over()
            step.done.set()

    async def _serve(self) -> None:
        while not self._is_over:
            await self._next_step()

    async def _next_step(self) -> None:
        if not self._steps:
            self._asked = _event()
            try:
                await self._asked.wait()
            except BaseException:
                self._is_over = True
                if self.give_up is not None:
                    await self.give_up(*sys.exc_info())
                raise
            return
        step = self._steps.pop(0)
        fn, args = step.call
        try:
            step.result = await fn(*args)
        except Exception as error:
            step.error = error
        except BaseException as error:
            step.error = error
            raise
        finally:
            step.done.set()


def _over() -> RuntimeError:
    return RuntimeError("it was cancelled, or its loop has ended it")


def _event() -> Any:
    """An event of the loop's library."""
    trio = trio_here()
    return asyncio.Event() if trio is None else trio.Event()


async def _shielded(fn: Callable[[], Awaitable[Any]]) -> None:
    """Awaits in a task that is being cancelled."""
    trio = trio_here()
    if trio is None:
        await fn()
    else:
        with trio.CancelScope(shield=True):
            await fn()
