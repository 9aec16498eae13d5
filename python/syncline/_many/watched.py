"""Calls of `map` and of groups while somebody looks at calls: a trace is recorded, or spans are made.

A task's coroutine is wrapped by one that tells of its steps. Nobody comes here as long as no one looks.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

from .._core import WatchedCall, is_watched

Watch = Callable[[Any], Coroutine[Any, Any, Any]]


def watching(fn: Any, kind: str) -> Watch | None:
    """What wraps the coroutine of a call of `fn`; None where nobody looks."""
    if not is_watched():
        return None

    def watch(coroutine: Any) -> Coroutine[Any, Any, Any]:
        made: Any = _watched(coroutine, WatchedCall(fn, kind))
        made.__qualname__ = getattr(coroutine, "__qualname__", made.__qualname__)
        return made  # type: ignore[no-any-return]

    return watch


async def _watched(coroutine: Any, call: WatchedCall) -> Any:
    return await _Steps(coroutine, call)


class _Steps:
    """Makes the steps of a coroutine, and tells of each."""

    def __init__(self, coroutine: Any, call: WatchedCall) -> None:
        self._coroutine, self._call = coroutine, call

    def __await__(self) -> Generator[Any, Any, Any]:
        call, step, given, result = self._call, self._coroutine.send, None, None
        call.begin()
        try:
            while True:
                try:
                    waits_for = self._step(step, given)
                except StopIteration as end:
                    result = end.value
                    break
                try:
                    step, given = self._coroutine.send, (yield waits_for)
                except BaseException as error:
                    step, given = self._coroutine.throw, error
        except BaseException as error:
            call.end(error)
            raise
        call.end(None)
        return result

    def _step(self, step: Callable[[Any], Any], given: Any) -> Any:
        """What the coroutine waits for after a step. Raises StopIteration at its end."""
        suspends = False
        self._call.begin_step()
        try:
            waits_for = step(given)
            suspends = True
        finally:
            self._call.end_step(suspends=suspends)
        return waits_for
