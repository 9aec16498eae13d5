"""The future of `submit`: a `concurrent.futures.Future` whose task can really be cancelled."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ._core import Submitted

R = TypeVar("R")


class SubmittedFuture(Future[R]):
    """Cancelling it cancels the task; a wait for it that could never end raises DeadlockError."""

    _submitted: Submitted

    def bind(self, submitted: Submitted) -> None:
        self._submitted = submitted

    def cancel(self) -> bool:
        """Cancels the task unless it has ended; returns whether the future is cancelled. Does not wait for cleanup."""
        was_done = self.done()
        if not super().cancel():
            return False
        if not was_done:
            self._submitted.cancel()
        return True

    def result(self, timeout: float | None = None) -> R:
        """Waits at most `timeout` seconds. Raises what the coroutine raised, TimeoutError, CancelledError
        or DeadlockError."""
        if self.done():
            return super().result(timeout)
        return self._submitted.wait(super().result, timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `result`, but returns what the coroutine raised."""
        if self.done():
            return super().exception(timeout)
        return self._submitted.wait(super().exception, timeout)
