"""`tasks` for trio. Imported where trio runs."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context, copy_context
from functools import partial
from typing import Any

import trio

from .._core import Nestable, has_opted_in, tell_trio
from .._trio import keeping_protection
from .watched import Watch


class OnTrio:
    """The run. Its tasks are system tasks: an async generator can't keep a nursery open, to which they could belong."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self.start: Callable[..., TrioTask] = partial(TrioTask, opts_in=has_opted_in())

    def started_in(self, context: Context) -> TrioTask | None:
        return None  # no signal handler is heard here

    def call_soon(self, callback: Callable[[], object]) -> None:
        tell_trio(self._token, callback)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Callable[[], object]:
        async def wait() -> None:
            await trio.sleep(seconds)
            callback()

        return TrioTask(wait(), copy_context()).cancel

    def tell_of_end(self, tell: Callable[[], object]) -> None:
        return None  # a run does not end before its tasks have

    def new_bell(self) -> TrioBell:
        return TrioBell()

    async def turn(self) -> None:
        await trio.lowlevel.checkpoint()

    async def all_end(self, tasks: Iterable[Any]) -> None:
        with trio.CancelScope(shield=True):
            for task in tasks:
                await task.ended.wait()


class TrioBell:
    """An event for each wait."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


class TrioTask:
    """A system task of trio's, with the methods of asyncio's."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        context: Context,
        watch: Watch | None = None,
        *,
        opts_in: bool = False,
    ) -> None:
        if watch is not None:
            coroutine = watch(coroutine)
        self.ended = trio.Event()
        self._scope = trio.CancelScope()
        self._callbacks: list[Callable[[TrioTask], object]] = []
        self._value: Any = None
        self._error: BaseException | None = None
        self._was_cancelled = True
        carry = self._carry_nestable if opts_in else self._carry
        trio.lowlevel.spawn_system_task(carry, coroutine, name=repr(coroutine), context=context)

    def _carry_nestable(self, coroutine: Coroutine[Any, Any, Any]) -> Nestable[None]:
        return Nestable(keeping_protection(self._carry(coroutine)))

    async def _carry(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        try:
            with self._scope:
                try:
                    self._value = await coroutine
                    self._was_cancelled = False
                except trio.Cancelled:
                    raise
                except BaseException as error:  # it would end the whole run
                    self._error = error
                    self._was_cancelled = False
        finally:
            self.ended.set()
            for callback in self._callbacks:
                callback(self)

    def done(self) -> bool:
        return bool(self.ended.is_set())

    def cancel(self) -> None:
        self._scope.cancel()

    def cancelled(self) -> bool:
        return self._was_cancelled

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> Any:
        return self._value

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        self._callbacks.append(callback)

    def remove_done_callback(self, callback: Callable[[Any], object], /) -> None:
        self._callbacks.remove(callback)
