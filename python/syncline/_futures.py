"""The future of `submit`: a `concurrent.futures.Future` whose task can really be cancelled."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED
from typing import TYPE_CHECKING, Any, TypeVar, cast

from . import _raised
from ._core import Condition, FutureBase

if TYPE_CHECKING:
    from ._core import Submitted

R = TypeVar("R")
_DONE = (FINISHED, CANCELLED, CANCELLED_AND_NOTIFIED)


class SafeFuture(Future[R]):
    """A Ctrl-C in the middle of a wait does not leave it locked: whoever has its result would wait for it."""

    def __init__(self) -> None:
        super().__init__()
        vars(self)["_condition"] = Condition()

    def result(self, timeout: float | None = None) -> R:
        """As Python's own, which takes an error that counts as false for none, and would return None."""
        error = self.exception(timeout)
        if error is None:
            return super().result()
        try:
            raise error
        finally:
            del self, error  # the traceback has this frame


class SubmittedFuture(FutureBase, SafeFuture[R]):
    """Cancelling it cancels the task; a wait for it that could never end raises DeadlockError; an error that nobody
    asks for is logged."""

    _submitted: Submitted
    # True until it is bound: if Ctrl-C comes before that, there is no call whose error could be lost.
    _is_retrieved = True

    def bind(self, submitted: Submitted | None) -> None:
        """None for a call that has ended."""
        if submitted is not None:
            self._submitted = submitted
        self._is_retrieved = False

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
        try:
            self._wait(timeout)
        except BaseException as error:
            _raised.hide_ours(error)
            raise
        if self._exception is None:
            return super(SafeFuture, self).result()
        try:
            raise self._exception
        finally:
            del self  # the traceback has this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `result`, but returns what the coroutine raised."""
        try:
            self._wait(timeout)
        except BaseException as error:
            _raised.hide_ours(error)
            raise
        return super().exception()

    def _get_snapshot(self) -> Any:
        """How asyncio asks from Python 3.15 on: whether it is done, whether cancelled, the result, and the error."""
        snapshot = cast("Any", super())._get_snapshot()
        self._is_retrieved = self._is_retrieved or snapshot[0]
        return snapshot

    def _wait(self, timeout: float | None) -> None:
        """Waits for at most `timeout` seconds, and raises TimeoutError if it is not done by then."""
        if not self.done() and self._submitted.wait(self._sleep, timeout) is None:
            raise TimeoutError(f"no result within {timeout} s; the call goes on, and cancel() ends it")
        self._is_retrieved = True

    def _sleep(self, seconds: float | None) -> bool | None:
        """Waits for so long; returns whether there is a result, and None as long as it is not done."""
        with self._condition:
            if self._state not in _DONE:
                self._condition.wait(seconds)
            return self._state == FINISHED and self._exception is None if self._state in _DONE else None

    __del__ = FutureBase._drop

    def _report_if_forgotten(self) -> None:
        if not hasattr(self, "_done_callbacks"):
            return  # its making was interrupted
        if self._is_retrieved or not self.done() or self.cancelled():
            return
        error = super().exception()
        if error is None:
            return
        # Such an error without a traceback was never raised. It says that the bridge was closed, which its user knows.
        says_closed = _raised.traceback_of(error) is None and _raised.is_a(error, RuntimeError)
        if not says_closed:
            logging.getLogger("syncline").error(
                "an error of submit() was never retrieved: nobody called result() or exception() of its future",
                exc_info=_raised.exc_info(error),
            )
