"""The default bridge, and the functions of the module, which are its methods."""

from __future__ import annotations

from ._bridge import Bridge
from ._dual import DualContextManager, DualCoroutine, DualIterator

_default = Bridge()


def _default_bridge() -> Bridge:
    return _default


_default._found_by = _default_bridge
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
sync_compatible = _default.sync_compatible
coroutine = _default.coroutine
iterator = _default.iterator
generator = _default.generator
contextmanager = _default.contextmanager
iterate = _default.iterate
enter = _default.enter
