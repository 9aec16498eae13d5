"""Objects that serve both worlds, and the decorators that make them.

Made in the core; here they get their finalizers and their place among Python's types. Imports nothing heavy.
"""

from __future__ import annotations

from . import _core
from ._bridge import Bridge, _default, run_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from typing import Any, ParamSpec, TypeVar

    D = TypeVar("D", bound="DualCoroutine[Any] | DualIterator[Any] | DualContextManager[Any]")
    M = TypeVar("M", bound="DualContextManager[Any]")
    P = ParamSpec("P")
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

    bridge: Bridge = _default


class DualIterator(_core.IteratorBase[Y]):
    """An async iterator for `async for` and for `for`.

    It wraps `aiterable`. With `prefetch=n`, up to n items are fetched ahead of a sync loop; by default none is. A
    subclass that wraps nothing defines `__anext__`, or an `__aiter__` that returns an async iterator.

    In sync code all steps are made on one loop, in one task and one context. The last item, an error, `close()` and
    being dropped end it: an async generator is then closed, on its loop.
    """

    bridge: Bridge = _default

    def __del__(self) -> None:
        self._drop()


class DualGenerator(_core.GeneratorBase[Y, S], DualIterator[Y]):
    """An async generator with `send`, `throw` and `close` besides `asend`, `athrow` and `aclose`.

    It wraps `agen`. A subclass that wraps nothing defines `asend` and `athrow`.
    """


class DualContextManager(_core.ManagerBase[Y]):
    """An async context manager for `async with` and for `with`.

    It wraps `acm`; a subclass that wraps nothing defines `__aenter__` and `__aexit__`. In sync code it is entered and
    left on one loop, in one task and one context, by any thread (in scope "caller": by the thread that entered it).
    """

    bridge: Bridge = _default
    _remake: Callable[[], DualContextManager[Y]] | None = None

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


def coroutine(bridge: Bridge, fn: Callable[P, Awaitable[R]]) -> Callable[P, DualCoroutine[R]]:
    """See `Bridge.coroutine`."""
    import inspect

    if inspect.isasyncgenfunction(fn):
        raise _wrong("coroutine", fn, "an async generator function", "syncline.generator")
    return decorated(bridge, "coroutine", fn, DualCoroutine)


def iterator(bridge: Bridge, fn: Callable[P, AsyncIterator[Y]]) -> Callable[P, DualIterator[Y]]:
    """See `Bridge.iterator`."""
    import inspect

    if inspect.iscoroutinefunction(fn):
        raise _wrong("iterator", fn, "a coroutine function", "syncline.coroutine")
    return decorated(bridge, "iterator", fn, DualIterator)


def generator(bridge: Bridge, fn: Callable[P, AsyncGenerator[Y, S]]) -> Callable[P, DualGenerator[Y, S]]:
    """See `Bridge.generator`."""
    import inspect

    if inspect.iscoroutinefunction(fn):
        raise _wrong("generator", fn, "a coroutine function", "syncline.coroutine")
    return decorated(bridge, "generator", fn, DualGenerator)


def contextmanager(bridge: Bridge, fn: Callable[P, AsyncIterator[Y]]) -> Callable[P, DualContextManager[Y]]:
    """See `Bridge.contextmanager`."""
    import inspect

    if inspect.iscoroutinefunction(fn):
        raise _wrong("contextmanager", fn, "a coroutine function", "`yield` in it")

    return decorated(bridge, "contextmanager", fn, lambda agen: managed(DualContextManager, agen))


def managed(make: Callable[[Any], M], agen: Any) -> M:
    """The context manager of an async generator with one `yield`, good for one use."""
    from contextlib import asynccontextmanager

    if not hasattr(agen, "__anext__"):
        raise TypeError(f"an async generator is needed, not {type(agen).__name__}")
    made = make(asynccontextmanager(lambda: agen)())
    made._once()
    return made


def decorated(
    bridge: Bridge,
    decorator: str,
    fn: Callable[..., Any],
    make: Callable[[Any], D],
) -> Callable[..., D]:
    """A plain function, so that methods bind and results pickle by reference as they always do."""
    import functools
    import inspect

    outside: Any = fn
    if type(outside) in (staticmethod, classmethod):
        made: Callable[..., D] = type(outside)(decorated(bridge, decorator, outside.__func__, make))
        return made
    if not callable(fn):
        raise TypeError(f"{decorator}() decorates async functions, not {type(fn).__name__}")
    if inspect.isgeneratorfunction(fn):
        raise TypeError(
            f"{decorator}() got the sync generator function {fn.__name__!r}; make it `async def`, or call it as it is"
        )
    is_plain = not (inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn))

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = fn(*args, **kwargs)
        # What a function returns that isn't `async def` is known only now.
        made = run_by(bridge, _checked(decorator, fn, make, result) if is_plain else make(result))
        if isinstance(made, DualContextManager):
            made._remake = functools.partial(wrapper, *args, **kwargs)
        return made

    return wrapper


def _checked(decorator: str, fn: Callable[..., Any], make: Callable[[Any], D], result: Any) -> D:
    try:
        return make(result)
    except TypeError:
        name = getattr(fn, "__name__", type(fn).__name__)
        raise TypeError(
            f"{decorator}() got the sync function {name!r}, which returned {type(result).__name__}; call it directly: "
            f"{name}(...)"
        ) from None


def _wrong(decorator: str, fn: Any, what: str, right: str) -> TypeError:
    return TypeError(f"{decorator}() got {fn.__name__!r}, which is {what}; use {right}")
