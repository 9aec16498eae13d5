"""Whether a function is async, and whether a call comes from async code. Imports nothing heavy."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from types import FrameType
    from typing import Any, Literal, ParamSpec, TypeGuard

    P = ParamSpec("P")

# The top-level modules whose sync code calls async functions and has somebody await what these return, as
# task groups do. "threading", as a thread's `run` may be the frame below a loop that is written in C or Rust.
_DRIVERS = frozenset({"anyio", "asyncio", "syncline", "threading", "trio", "uvloop"})
# Code that has a frame of its own, and counts as part of the function that it is written in.
_INLINE = frozenset({"<dictcomp>", "<genexpr>", "<lambda>", "<listcomp>", "<setcomp>"})

type_of: Callable[[object], Any] = type
"""`type`, of which checkers don't conclude anything."""


class Required:
    """Stands for an argument that was left out, where a message of ours says what it is."""

    def __repr__(self) -> str:
        return "<required>"


REQUIRED = Required()


def named(thing: Any, /) -> Any:
    """What has the name of that thing: itself, the function that a `functools.partial` calls, or an object's class."""
    import functools

    # Objects may pretend to have any attribute, or to have none but those of an endless chain: mocks do.
    while not isinstance(getattr(thing, "__qualname__", None), str):
        thing = thing.func if isinstance(thing, functools.partial) else type_of(thing)
    return thing


def name_of(thing: Any, /) -> str:
    """What messages call it."""
    return str(named(thing).__name__)


def closed_if_coroutine(given: Any, /) -> bool:
    """Whether it is a coroutine. That is closed: Python would warn that one which is refused was never awaited."""
    from collections.abc import Coroutine

    if not isinstance(given, Coroutine):
        return False
    given.close()
    return True


def is_async_manager(given: object, /) -> bool:
    """Whether it is an async context manager, as `async with` asks: by its class."""
    return hasattr(type(given), "__aenter__")


def inside(fn: Any, /) -> Any:
    """The function inside of a `staticmethod` or `classmethod` object; any other function as it is."""
    of: object = fn
    return fn.__func__ if issubclass(type(of), (staticmethod, classmethod)) else fn


def is_async_fn(fn: Callable[P, Any], /) -> TypeGuard[Callable[P, Coroutine[Any, Any, Any]]]:
    """Whether `fn` is an async function: one whose calls give coroutines.

    Sees through `functools.wraps`, `functools.partial`, methods, static and class methods and objects with an async
    `__call__`. A wrapper that is no async function itself counts as what it wraps; what `synced` and
    `contextmanager` made is sync.
    """
    return _kind(fn) == "coroutine"


def is_async_gen_fn(fn: Callable[P, Any], /) -> TypeGuard[Callable[P, AsyncGenerator[Any, Any]]]:
    """Whether `fn` is an async generator function. Sees through the same things as `is_async_fn`."""
    return _kind(fn) == "async generator"


def _kind(fn: Any) -> Literal["coroutine", "async generator", "sync"]:
    """Looks at `fn` and at what it wraps, layer by layer. The first one that is async, or a generator
    function, decides."""
    import inspect

    seen: set[int] = set()
    while id(fn) not in seen:
        seen.add(id(fn))
        if inspect.iscoroutinefunction(fn):
            return "coroutine"
        if inspect.isasyncgenfunction(fn):
            return "async generator"
        if inspect.isgeneratorfunction(fn):
            return "sync"
        inner = _inner(fn)
        if inner is None:
            return "sync"
        fn = inner
    return "sync"


def _inner(fn: Any, /) -> Any:
    """What `fn` wraps, binds or calls, as the next layer to look at; None if there is none."""
    import functools
    import inspect
    import types

    of: object = fn
    kind = type(of)
    if issubclass(kind, (functools.partial, functools.partialmethod)):
        return fn.func
    if issubclass(kind, (types.MethodType, staticmethod, classmethod)):
        return fn.__func__
    wrapped = getattr(fn, "__wrapped__", None)
    if wrapped is not None:
        return wrapped
    if inspect.isroutine(fn):
        return None
    call = getattr(kind, "__call__", None)  # noqa: B004 -- the method is wanted, not whether there is one
    return call if inspect.isfunction(call) else None


def loaded_trio() -> Any:
    """The module `trio`, if it is there as a whole: another thread may be in the middle of importing it. Imports
    nothing."""
    trio = sys.modules.get("trio")
    return trio if hasattr(trio, "sleep_until") else None


def in_use(name: str) -> Any:
    """The module of this package of that name, if it was ever imported; else None.

    The package knows it also where a test has taken it out of `sys.modules` again, as `mock.patch.dict` does. Another
    import from there would make another one, which knows nothing of what the first one keeps."""
    package = __name__.rpartition(".")[0]
    return vars(sys.modules[package]).get(name)


def trio_here() -> Any:
    """The module `trio`, if this code runs in a run of its; else None."""
    trio = loaded_trio()
    return trio if trio is not None and trio.lowlevel.in_trio_run() else None


def sync_helper(frame: FrameType | None) -> str | None:
    """The name of the sync function that a call comes from, given the frame that makes it; None if it comes straight
    from a coroutine, an async generator, or one of the libraries that call async functions and await what they get.
    """
    import inspect

    in_async_code = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
    while frame is not None:
        code = frame.f_code
        module = str(frame.f_globals.get("__name__", ""))
        if code.co_flags & in_async_code or module.partition(".")[0] in _DRIVERS:
            return None
        if code.co_name not in _INLINE:
            return code.co_qualname
        frame = frame.f_back
    return None
