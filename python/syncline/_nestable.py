"""Opting in to nested calls that await in place, on loops that are not a bridge's.

Imports nothing heavy, as `import syncline` imports it.
"""

from __future__ import annotations

import sys

from . import _carriers, _core
from ._kinds import trio_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any, ParamSpec, TypeVar, overload

    P = ParamSpec("P")
    R = TypeVar("R")
else:

    def overload(function):
        return function


no_switch = _core.no_switch
# The core takes it from this module, which is imported by then: it needs it in the middle of a call, where an
# import could block.
carry = _carriers.carry


def nestable(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Callable[P, Coroutine[Any, Any, R]]:
    """Lets sync code that the async function `fn` calls make calls that await in place, on whatever loop it runs.

    The other tasks of that loop go on meanwhile. Works on asyncio and uvloop, and on trio for bridges with
    `backend="trio"`. Raises ImportError at the call if greenlet is missing.
    """

    import functools

    @functools.wraps(fn)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        return await _nests(fn(*args, **kwargs))

    return wrapper


def _nests(coroutine: Coroutine[Any, Any, R]) -> Awaitable[R]:
    trio = sys.modules.get("trio")
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
    return await _nests(_call(fn, args, kwargs))


async def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = fn(*args, **kwargs)
    return await result if hasattr(result, "__await__") else result


def install(loop: AbstractEventLoop | None = None, /) -> Callable[[], None]:
    """Makes every task that `loop` (default: the running one) starts from now on nestable; returns what undoes it.

    It is a task factory, which makes tasks by the factory that was there before. Call it, and what it returns, in the
    loop's thread. In a trio run, `install()` adds an instrument to that run, which concerns the tasks that it spawns.
    """
    import asyncio
    from weakref import WeakSet

    if loop is None and trio_here() is not None:
        from ._trio import install_in_run

        return install_in_run()
    target = asyncio.get_running_loop() if loop is None else loop
    previous = target.get_task_factory()
    factory = _core.TaskFactory(previous, WeakSet(asyncio.all_tasks(target)))
    target.set_task_factory(factory)

    def undo() -> None:
        factory.undo()
        if target.get_task_factory() is factory:
            target.set_task_factory(previous)

    return undo
