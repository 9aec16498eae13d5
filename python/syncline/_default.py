"""The default bridge, and the functions of the module, which are its methods."""

from __future__ import annotations

from ._bridge import Bridge
from ._core import in_event_loop
from ._dual import DualContextManager, DualCoroutine, DualIterator
from ._raised import hide_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, ParamSpec, TypeVar, Unpack

    from ._finalizing import Finalizer
    from ._options import BridgeOptions

    P = ParamSpec("P")
    R = TypeVar("R")

_default = Bridge(roams=True)


def default_bridge() -> Bridge:
    """The bridge of the module's functions, and of all that they decorate: the same object at each call.

    Its loop starts with the first call. `default_bridge().stats()` counts, and `default_bridge().close()` ends its
    loops for good: calls that come later raise RunnerClosedError. May be called from any thread.
    """
    return _default


def configure(**options: Unpack[BridgeOptions]) -> None:
    """Gives the default bridge options, those of `Bridge(...)`, before its first use. For programs, not for libraries.

        syncline.configure(scope="thread", stall_after=5)

    What was imported or decorated before has them, too. Options that are not named keep what an earlier `configure` has
    given them. A forked child has its parent's. Raises RuntimeError once the default bridge has been used, and what
    `Bridge` raises for bad options; then nothing has changed. May be called from any thread.
    """
    all_options: Any = {**_default._options, **options}
    try:
        _default._configure(Bridge(**all_options))
    except BaseException as error:
        hide_ours(error)
        raise
    _default._options = all_options


def finalize(
    owner: object, afn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
) -> Finalizer[R]:
    """Has `afn(*args, **kwargs)` awaited when `owner` is collected, when its loop ends, or at the exit.

        class Reader:
            def __init__(self) -> None:
                self.client = Client()
                self._cleanup = syncline.finalize(self, self.client.aclose)

    On the running loop, if this is called where one runs, asyncio's, uvloop's or trio's; else on the default bridge's.
    All else is as with `Bridge.finalize`.
    """
    from . import _finalizing

    try:
        made: Finalizer[R] = _finalizing.finalize(_default, in_event_loop(), owner, afn, args, kwargs)
    except BaseException as error:
        hide_ours(error)
        raise
    return made


_default._found_by = default_bridge
for _kind in (DualContextManager, DualCoroutine, DualIterator):
    _kind.bridge = _default

# Some of these are methods of the core's class. Their docstrings stand here too, for editors.
run_sync = _default.run_sync
"""Calls the async function `fn`, waits, and returns its result; from any thread, inside or outside a running loop.

All arguments are the function's. Raises what it raises, RunnerClosedError or DeadlockError.
"""
run = _default.run
"""Waits for the result of `awaitable`, for at most `timeout` seconds; from any thread, inside or outside a loop.

Raises what it raises, TimeoutError (after its cleanup), RunnerClosedError or DeadlockError.
"""
call = _default.call
"""Calls the sync function `fn`, or makes an object of that class, on the bridge's loop; returns what it returns."""
run_async = _default.run_async
submit = _default.submit
synced = _default.synced
blocking = _default.blocking
sync_compatible = _default.sync_compatible
coroutine = _default.coroutine
iterator = _default.iterator
generator = _default.generator
contextmanager = _default.contextmanager
iterate = _default.iterate
enter = _default.enter
map = _default.map
amap = _default.amap
group = _default.group
resource = _default.resource
