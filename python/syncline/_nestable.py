"""Opting in to nested calls that await in place, on loops that are not a bridge's.

Imports nothing heavy, as `import syncline` imports it.
"""

from __future__ import annotations

from . import _carriers, _core
from ._kinds import REQUIRED, loaded_trio, trio_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any, ParamSpec, TypeVar, overload

    P = ParamSpec("P")
    R = TypeVar("R")
    AsyncFunction = TypeVar("AsyncFunction", bound=Callable[..., Coroutine[Any, Any, Any]])
else:

    def overload(function):
        return function


no_switch = _core.no_switch
# The core takes it from this module, which is imported by then: it needs it in the middle of a call, where an
# import could block.
carry = _carriers.carry


def nestable(fn: AsyncFunction, /) -> AsyncFunction:
    """Lets sync code that the async function `fn` calls make calls that await in place, on whatever loop it runs.

    The other tasks of that loop go on meanwhile. Works on asyncio and uvloop, and on trio for bridges with
    `backend="trio"`. Raises ImportError at the call if greenlet is missing.
    """

    import functools
    import inspect
    from collections.abc import Coroutine

    from . import _mistakes

    if not callable(fn):
        raise TypeError(_mistakes.no_function("nestable", fn, "give it the async function: nestable({name})"))

    @functools.wraps(fn)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        made: Any = fn(*args, **kwargs)
        if issubclass(type(made), Coroutine):
            return await _nests(made)
        if not inspect.isawaitable(made):
            raise TypeError(_mistakes.opting_in(fn, made))
        return await _nests(_awaited(made))

    return wrapper  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


nestable.__defaults__ = (REQUIRED,)  # so that a call without it says what to write


async def _awaited(made: Awaitable[R]) -> R:
    return await made


def _nests(coroutine: Coroutine[Any, Any, R]) -> Awaitable[R]:
    trio = loaded_trio()
    if trio is not None and trio.lowlevel.in_trio_task():
        from ._trio import keeping_protection

        coroutine = keeping_protection(coroutine)
    return _core.Nestable(coroutine)


@overload
async def run_nestable(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def run_nestable(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
async def run_nestable(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Runs `fn`, sync or async, so that calls of a bridge below sync code in it await in place; returns its result."""
    if not callable(fn):
        from . import _mistakes

        raise TypeError(
            _mistakes.no_function(
                "run_nestable", fn, "give it the function and its arguments: run_nestable({name}, ...)"
            )
        )
    return await _nests(_call(fn, args, kwargs))


async def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    import inspect

    result = fn(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


def install(
    loop: AbstractEventLoop | None = None, /, *, stall_after: float | None = None
) -> Callable[[], None]:
    """Makes every task that `loop` (default: the running one) starts from now on nestable; returns what undoes it.

    It is a task factory, which makes tasks by the factory that was there before. Call it, and what it returns, in the
    loop's thread. In a trio run, `install()` adds an instrument to that run, which concerns the tasks that it spawns.
    When the loop has not turned for `stall_after` seconds, the logger "syncline" names what blocks it.

    Raises RuntimeError where no loop runs and none is given, TypeError for what is no loop, ValueError for a time of 0.
    """
    import asyncio
    from weakref import WeakSet

    if loop is None and trio_here() is not None:
        import trio

        from ._trio import install_in_run

        return _also_watched(
            install_in_run(), trio.lowlevel.current_trio_token(), "run_sync_soon", stall_after
        )
    target = asyncio._get_running_loop() if loop is None else loop
    if target is None:
        raise RuntimeError(
            "install() is for the tasks of the loop that runs in this thread, and none does; call it in async code, or "
            "give it the loop: install(loop)"
        )
    if not hasattr(target, "get_task_factory"):
        from . import _mistakes

        raise TypeError(_mistakes.no_loop("install", target))
    previous = target.get_task_factory()
    factory = _core.TaskFactory(previous, WeakSet(asyncio.all_tasks(target)))
    target.set_task_factory(factory)

    def undo() -> None:
        factory.undo()
        if target.get_task_factory() is factory:
            target.set_task_factory(previous)

    return _also_watched(undo, target, "call_soon_threadsafe", stall_after)


def _also_watched(
    undo: Callable[[], None], anchor: Any, ask: str, stall_after: float | None
) -> Callable[[], None]:
    if stall_after is None:
        return undo
    if not stall_after > 0:
        undo()
        raise ValueError(
            f"install() got stall_after={stall_after!r}; it is a number of seconds above 0, or None"
        )
    from . import _watcher

    subject = _watcher.Asked(anchor, ask)
    _watcher.watch(subject, stall_after)

    def undo_both() -> None:
        subject.is_undone = True
        _watcher.leave()
        undo()

    return undo_both
