"""What `sync_compatible` makes of an async function: one whose result depends on where it is called.

1. Where an event loop runs in this thread, a call returns the coroutine; elsewhere its result.
2. Type checkers see the result, as nothing can tell them where a call is made. With `.aio` or `_sync=False`
   they see the coroutine.
3. A call by which sync code gets the coroutine (by 1) warns, once for each function.
"""

from __future__ import annotations

import contextvars
import functools
import sys
import warnings
from typing import TYPE_CHECKING, Any

from ._converted import placed
from ._core import from_thread, in_event_loop, in_worker_thread
from ._kinds import inside, sync_helper

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import FrameType
    from typing import Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

    from ._core import Bridge

    P = ParamSpec("P")
    R = TypeVar("R")
    S = TypeVar("S")
    # For `__get__`, as in _synced.py.
    MP = ParamSpec("MP")
    MR = TypeVar("MR")

    class SyncCompatible(Generic[P, R]):
        """A function from P to R in sync code, to a coroutine of R in async code."""

        # The overloads with `_sync` come first: a function with `**kwargs` would take `_sync` for one of
        # these. They leave the other arguments unchecked, as no keyword can be added to a ParamSpec.
        @overload
        def __call__(self, *args: Any, _sync: Literal[True], **kwargs: Any) -> R: ...
        @overload
        def __call__(self, *args: Any, _sync: Literal[False], **kwargs: Any) -> Coroutine[Any, Any, R]: ...
        @overload
        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
        def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

        @property
        def aio(self) -> Callable[P, Coroutine[Any, Any, R]]:
            """The async function itself, bound as this is."""
            ...

        @overload
        def __get__(self, instance: None, owner: type, /) -> SyncCompatible[P, R]: ...
        @overload
        def __get__(
            self: SyncCompatible[Concatenate[S, MP], MR], instance: S, owner: type | None = None, /
        ) -> SyncCompatible[MP, MR]: ...
        def __get__(self, instance: Any, owner: type | None = None, /) -> Any: ...


def sync_compatible(bridge: Bridge, fn: Any) -> Any:
    """See `Bridge.sync_compatible`.

    What it makes has a `__wrapped__`, by which frameworks take it for async. That is right: they call it on a
    loop, and await what it returns there.
    """
    inner = inside(fn)
    trap = Trap(getattr(inner, "__name__", type(inner).__name__), _warn)

    @functools.wraps(inner)
    def either(*args: Any, _sync: bool | None = None, **kwargs: Any) -> Any:
        if _sync is None and in_event_loop():
            trap.check(sys._getframe().f_back)
            _sync = False
        if _sync is False:
            return inner(*args, **kwargs)
        if _sync or not in_worker_thread():
            return bridge.run_sync(inner, *args, **kwargs)
        return call_from_sync(bridge, inner, args, kwargs)

    return placed(bridge, "sync_compatible", fn, either)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


class Trap:
    """Says once for a function that sync code got its coroutine (by 3), by `tell`, which `check` calls."""

    def __init__(self, name: str, tell: Callable[[str], None]) -> None:
        self._name = name
        self._tell = tell
        self._is_told = False

    def check(self, caller: FrameType | None) -> None:
        """Tells if the frame that calls is sync code, and nobody has been told yet. Called where a loop runs."""
        if self._is_told:
            return
        helper = sync_helper(caller)
        if helper is None:
            return
        self._tell(
            f"{self._name}() was called by the sync function {helper!r} while an event loop runs in this thread, so it "
            f"returned a coroutine, where without a loop it returns the result. Say which is meant: "
            f"{self._name}(..., _sync=True) for the result, `await {self._name}.aio(...)` or _sync=False for the "
            "coroutine."
        )
        self._is_told = True  # after it is told: where warnings are errors, each such call fails


def call_from_sync(
    bridge: Bridge, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The result of an async function: from the loop that sent this worker here, or else through the bridge."""
    if not in_worker_thread():
        return bridge.run_sync(fn, *args, **kwargs)
    has_begun = is_given_up = False

    def begin() -> Any:
        nonlocal has_begun
        has_begun = True
        if is_given_up:  # the loop is there after all; by now the bridge has the call
            raise RuntimeError("the caller has not waited for this call to begin")
        return fn(*args, **kwargs)

    try:
        if bridge._shares_context:
            return from_thread(begin)
        return contextvars.copy_context().run(from_thread, begin)
    except RuntimeError:
        # No loop has sent this thread, which was only marked as a worker; or that loop has ended. If the
        # function has begun, the error is its own.
        is_given_up = True
        if has_begun:
            raise
    return bridge.run_sync(fn, *args, **kwargs)
