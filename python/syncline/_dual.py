"""Objects that serve both worlds, and the decorators that make them.

What they do is written in the core. Here they get what Python does better: finalizers, pickling, decorating.
Imports nothing heavy.
"""

from __future__ import annotations

from . import _core
from ._kinds import closed_if_coroutine, inside, is_async_manager, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ParamSpec, Self, TypeVar

    from ._core import Bridge

    D = TypeVar("D", bound="DualCoroutine[Any] | DualIterator[Any] | DualContextManager[Any]")
    P = ParamSpec("P")
    M = TypeVar("M", bound="DualContextManager[Any]")
    R = TypeVar("R")
    S = TypeVar("S")
    Y = TypeVar("Y")
else:  # importing typing would cost more than the rest of `import syncline`
    R = S = Y = None


class DualCoroutine(_core.CoroutineBase[R]):
    """A coroutine that can be awaited, or run from sync code.

    `await it` in async code; `it.run(timeout=None)` in sync code, from anywhere, also inside a running event loop. To
    subclass it, define `__await__`. `bridge` is the bridge that runs it; a subclass may set another one.
    """

    bridge: Bridge

    def __reduce__(self) -> Any:
        return _remade, (DualCoroutine, type(self), self._held()), self.__getstate__()


class DualIterator(_core.IteratorBase[Y]):
    """An async iterator for `async for` and for `for`.

    It wraps `aiterable`. With `prefetch=n`, up to n items are fetched ahead of a sync loop; by default none is. A
    subclass that wraps nothing defines `__anext__`, or an `__aiter__` that returns an async iterator.

    In sync code all steps are made on one loop, in one task and one context. The last item, an error, `close()` and
    being dropped end it: an async generator is then closed, on its loop.
    """

    bridge: Bridge

    def __reduce__(self) -> Any:
        return _remade, (DualIterator, type(self), self._held()), self.__getstate__()

    if TYPE_CHECKING:

        def __del__(self) -> None: ...

    else:
        __del__ = _core.IteratorBase._drop


class DualGenerator(_core.GeneratorBase[Y, S], DualIterator[Y]):
    """An async generator with `send`, `throw` and `close` besides `asend`, `athrow` and `aclose`.

    It wraps `agen`. A subclass that wraps nothing defines `asend` and `athrow`.
    """


class DualContextManager(_core.ManagerBase[Y]):
    """An async context manager for `async with` and for `with`.

    It wraps `acm`; a subclass that wraps nothing defines `__aexit__`, and `__aenter__` unless that gives the object
    itself. In sync code it is entered and left on one loop, in one task and one context, by any thread (in scope
    "caller": by the thread that entered it).
    """

    bridge: Bridge
    _remake: Callable[[], DualContextManager[Y]] | None = None

    async def _itself(self) -> Self:
        """The `__aenter__` of a subclass that has none."""
        return self

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """Decorates a function, sync or async: each of its calls runs inside of this manager.

        One that was made by a function of `contextmanager` is made anew for each call, as contextlib does it. Raises
        TypeError for what is not a function.
        """
        from ._around import around

        if not callable(fn):
            raise TypeError(f"a context manager decorates functions, not {type(fn).__name__}")
        function: Callable[P, R] = around(self._remake or (lambda: self), fn)
        return function

    def __reduce__(self) -> Any:
        return _remade, (DualContextManager, type(self), self._held()), self.__getstate__()


def _remade(base: Any, kind: Any, held: dict[str, Any]) -> Any:
    """Makes a pickled object again, with what the core's class holds. Its other attributes come as its
    state."""
    made = kind.__new__(kind)
    if held:
        base.__init__(made, **held)
    return made


def run_by(bridge: Bridge, made: D) -> D:
    """Gives an object its bridge, unless it has that one from its class; returns the object."""
    if made.bridge is not bridge:
        made.bridge = bridge
    return made


def enter_wholly(
    manager: DualContextManager[Any], enter: Callable[[], Any], give: Callable[[Any], Any] | None = None
) -> Any:
    """Enters a manager from an `__enter__` in Python; returns what `give` makes of what that gives.

    What breaks this off, an error of `give` or of a signal handler, leaves the manager again: there will be no block.
    """
    try:
        entered = enter()
        return entered if give is None else give(entered)
    except BaseException as error:
        manager._leave_again(error)
        raise


def managed(make: Callable[[Any], M], agen: Any) -> M:
    """Makes a context manager, good for one use, of an async generator with one `yield`."""
    from contextlib import asynccontextmanager

    if not hasattr(agen, "__anext__"):
        raise TypeError(f"an async generator is needed, not {type(agen).__name__}")
    made = make(asynccontextmanager(lambda: agen)())
    made._once()
    return made


def context_manager(agen: Any) -> DualContextManager[Any]:
    """What `contextmanager` makes of what its function returns."""
    return managed(DualContextManager, agen)


def decorated(
    bridge: Bridge,
    decorator: str,
    fn: Callable[..., Any],
    make: Callable[[Any], D],
) -> Callable[..., D]:
    """What a decorator returns: a plain function, so that it binds as a method and pickles by name as
    functions do."""
    import functools
    import inspect

    from ._converted import standing_for

    inner = inside(fn)
    if inner is not fn:
        outside: Any = type(fn)
        made: Callable[..., D] = outside(decorated(bridge, decorator, inner, make))
        return made
    is_plain = not (inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn))
    # Taken into the closure: `standing_for` gives the wrapper the globals of `fn` in the place of this
    # module's.
    finish, explain, wrong, again = run_by, _returned, TypeError, functools.partial

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = fn(*args, **kwargs)
        try:
            made = finish(bridge, make(result))
        except wrong:
            # A function that isn't `async def` may return anything. Only its result shows that it was
            # decorated by mistake.
            if not is_plain:
                raise
            mistake = explain(decorator, fn, result)
        else:
            if decorator == "contextmanager":
                manager: Any = made
                manager._remake = again(wrapper, *args, **kwargs)
            return made
        raise wrong(mistake)

    # With `__wrapped__` tools take the function for async, which is right for all that return something to
    # await or to iterate over. What `contextmanager` makes would pass for an async generator function, so it
    # has none.
    return standing_for(fn, wrapper) if decorator == "contextmanager" else functools.wraps(fn)(wrapper)


def _returned(decorator: str, fn: Any, result: Any) -> str:
    name = name_of(fn)
    if closed_if_coroutine(result):
        return (
            f"{decorator}() got {name!r}, whose call returned a coroutine (nothing of it has run); use "
            "syncline.coroutine"
        )
    if decorator == "contextmanager" and is_async_manager(result):
        return (
            f"contextmanager() takes an async generator function, and {name!r} makes a context manager already: take "
            f"the other decorator off, or use what it makes: with enter({name}(...)) as value"
        )
    return (
        f"{decorator}() got the sync function {name!r}, which has run and returned {type(result).__name__}; call it "
        f"directly: {name}(...)"
    )
