"""Objects that are opened at their first use, and shared: the public side. Imports nothing heavy."""

from __future__ import annotations

import sys

from ._kinds import in_use
from ._raised import hide_ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Generic, TypeVar

    from ._core import Bridge

    T = TypeVar("T")
else:  # importing typing would cost more than the rest of `import syncline`
    T = None

    class Generic:
        def __class_getitem__(cls, item):
            return cls


class Resource(Generic[T]):
    """An object that is opened at its first use, shared by all that use it, and closed at the end; see `resource`.

    `get` is for sync code, `aget` for async code. There is one object for each loop that asks: in scope "process" that
    is one for all threads. May be used from any thread.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self, bridge: Bridge, make: Callable[[], Any], close: Callable[[Any], object] | None
    ) -> None:
        from contextvars import copy_context

        self._bridge = bridge
        self._make = make
        self._close = close
        self._context = copy_context()
        name = getattr(make, "__name__", type(make).__name__)
        self.__name__ = name
        self.__qualname__ = getattr(make, "__qualname__", name)
        self.__module__ = make.__module__
        self.__doc__ = make.__doc__

    def get(self, *, timeout: float | None = None) -> T:
        """The object, for sync code, which hands it to `run_sync`; opens it if need be, for at most `timeout` seconds.

        Raises what opening it raises, and the next use tries again; TimeoutError; RunnerClosedError where the bridge is
        closed.
        """
        try:
            return self._bridge.run(self.aget(), timeout=timeout)
        except BaseException as error:
            hide_ours(error)
            raise

    async def aget(self) -> T:
        """The object of the running loop, for async code; opens it if need be.

        Raises what opening it raises, and the next use tries again; DeadlockError where it is needed in order to open
        itself.
        """
        from . import _keepers

        value: T
        value, error = await _keepers.opened(self)
        if error is None:
            return value
        try:
            raise error
        finally:
            del error  # its traceback has this frame

    def close(self) -> None:
        """Closes the object that `get` gives here, if it is open; the next use opens a new one.

        Raises what closing it raises. At the exit, and when the bridge is closed, objects are closed without being
        told.
        """
        keepers = in_use("_keepers")
        if keepers is not None and keepers.is_kept(self) and not self._bridge.closed:
            self._bridge.run(self.aclose())

    async def aclose(self) -> None:
        """As `close`, for async code: closes the object of the running loop."""
        from . import _keepers

        if (error := await _keepers.closed(self)) is not None:
            try:
                raise error
            finally:
                del error

    def __reduce__(self) -> Any:
        # By name, as functions pickle. What is not found by its name, such as cloudpickle's copy of a script's code, is
        # a resource of its own there.
        found: Any = sys.modules.get(self.__module__)
        for name in self.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is self and (self.__module__ != "__main__" or "cloudpickle" not in sys.modules):
            return self.__qualname__
        return Resource, (self._bridge, self._make, self._close)

    def __repr__(self) -> str:
        return f"<syncline.Resource {self.__qualname__!r}>"
