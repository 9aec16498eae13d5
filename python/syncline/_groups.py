"""Tasks that nobody loses, and groups of tasks whose results are kept: on anyio, so on asyncio and trio.

1. A result is found by the key of its task and by nothing else. Results are never compared, and may be
   anything.
2. No error is lost: errors come in the exception group that anyio raises, even a single one, unless `unwrap`
   is given.
3. A coroutine that is refused is closed, so that Python doesn't warn that it was never awaited.
4. anyio is optional. It is imported with the first group, and not by `import syncline`.
5. No cancellation is lost: where a task is cancelled while errors end its group, anyio raises the errors only. So the
   task is cancelled anew, for its next await; asyncio's own groups do the same from Python 3.13 on.
"""

from __future__ import annotations

from math import inf

from . import _raised
from ._kinds import closed_if_coroutine, name_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine
    from contextvars import Context
    from types import ModuleType, TracebackType
    from typing import Any, Generic, NoReturn, Self, TypeVar, TypeVarTuple

    from anyio import CancelScope
    from anyio.abc import TaskGroup

    R = TypeVar("R")
    R_co = TypeVar("R_co", covariant=True)
    Args = TypeVarTuple("Args")
else:
    R_co = None

    class Generic:
        """typing's, whose import would cost more than the rest of `import syncline`."""

        def __class_getitem__(cls, item):
            return cls


# The tasks that run, since an event loop has weak references to its tasks only.
_running: set[asyncio.Task[Any]] = set()


def create_task(coro: Coroutine[Any, Any, R], *, name: str | None = None) -> asyncio.Task[R]:
    """As `asyncio.create_task`, for tasks that nobody else keeps: it is not lost before it is done.

    Its error, if nobody awaits the task, is logged as soon as it is done, by the loop it runs on. Raises RuntimeError
    where no asyncio event loop runs, TypeError for what is no coroutine.
    """
    import asyncio
    import inspect

    if not inspect.iscoroutine(coro) and (mistake := _no_coroutine(coro)) is not None:
        raise TypeError(mistake)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        coro.close()
        raise RuntimeError(
            "create_task() needs an asyncio event loop that runs in this thread; in sync code call "
            "syncline.submit(fn, ...), in trio use create_gather_task_group()"
        ) from None
    task = loop.create_task(coro, name=name)
    _running.add(task)
    # Once it is done we let go of it. If nobody else keeps it, asyncio then logs an error that nobody has
    # asked for.
    task.add_done_callback(_running.discard)
    return task


def _no_coroutine(given: Any) -> str | None:
    """What is wrong with giving `create_task` this; None if asyncio takes it for a coroutine, as that of a compiler."""
    import asyncio

    if asyncio.iscoroutine(given):
        return None
    name, kind = name_of(given), type(given).__name__
    if callable(given):
        return (
            f"create_task() takes a coroutine, not the function {name!r}; call it: create_task({name}(...))"
        )
    if hasattr(given, "__await__"):
        return f"create_task() takes a coroutine, not {kind}, which can be awaited as it is"
    return f"create_task() takes a coroutine, not {kind}: create_task(fetch(...))"


class GatherKey(Generic[R_co]):
    """What `start_soon` returns, and `get_result` takes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"<GatherKey of {self._name}>"


class GatherIncomplete(RuntimeError):  # noqa: N818 -- Prefect's name
    """A result was asked for before its task had one."""


class GatherTaskGroup:
    """A task group of anyio's that keeps the results of its tasks; see `create_gather_task_group`.

    Used as anyio's: `async with`, on one event loop, and `isinstance(group, anyio.abc.TaskGroup)` holds.
    """

    def __init__(self, task_group: TaskGroup, *, unwrap: bool = False) -> None:
        self._task_group = task_group
        self._unwrap = unwrap
        self._results: dict[Any, Any] = {}  # None while there is no result, else a tuple of one (by 1)
        self._cancelling = 0  # how often the task had been cancelled when it entered

    @property
    def cancel_scope(self) -> CancelScope:
        """The cancel scope that the tasks run in."""
        return self._task_group.cancel_scope

    def cancel(self, reason: str | None = None) -> None:
        """Cancels all tasks of the group."""
        self.cancel_scope.cancel(*([] if reason is None else [reason]))

    def start_soon(
        self,
        func: Callable[[*Args], Awaitable[R]],
        *args: *Args,
        name: object = None,
    ) -> GatherKey[R]:
        """Starts an async function in the group; returns the key of its result.

        Raises TypeError for a coroutine, and RuntimeError outside of the `async with` block.
        """
        if (mistake := no_function("start_soon", func)) is not None:
            raise TypeError(mistake)
        name = name_of(func) if name is None else name
        key: GatherKey[R] = self._make_key(str(name))
        self._results[key] = None  # before the task is there: it may be done when start_soon returns
        try:
            self._task_group.start_soon(self._run, key, func, args, name=name)
        except BaseException:
            del self._results[key]
            raise
        return key

    def _make_key(self, name: str) -> Any:
        key: GatherKey[Any] = GatherKey(name)
        return key

    async def _run(self, key: Any, func: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        import inspect

        result: Any = func(*args)
        if not inspect.isawaitable(result):
            name = name_of(func)
            raise TypeError(
                f"a group runs async functions, and the sync function {name!r} has run and returned "
                f"{type(result).__name__}; call it directly, or in a worker thread: "
                f"group.start_soon(syncline.to_thread, {name})"
            )
        self._results[key] = (await result,)

    def create_task(
        self,
        coro: Coroutine[Any, Any, R],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> Any:
        """Starts a coroutine in the group; returns anyio's handle of it, which has the result. Needs anyio 4.14."""
        create: Any = getattr(self._task_group, "create_task", None)
        if create is None:
            coro.close()
            raise RuntimeError(
                "create_task() needs anyio 4.14 or newer; start_soon(fn, ...) works with this one"
            )
        return create(coro, name=name, context=context)

    async def start(self, func: object, *_args: object, name: object = None, **_kwargs: object) -> NoReturn:
        """Raises RuntimeError: what it would have to return is not a key."""
        raise RuntimeError(
            "GatherTaskGroup has no start(): that returns what task_status.started() is given, so that there would be "
            "no key for the result. Use start_soon(), or a task group of anyio's: anyio.create_task_group()"
        )

    def get_result(self, key: GatherKey[R]) -> R:
        """The result of the task that `start_soon` returned this key for.

        Raises GatherIncomplete while there is none (it never comes if the task was cancelled or failed), and KeyError
        for what is no key of this group.
        """
        found = self._results[key]
        if found is None:
            raise GatherIncomplete(
                f"there is no result of {key!r}: its task is still running, or was cancelled, or failed. Ask after the "
                "`async with` block"
            )
        result: R = found[0]
        return result

    async def __aenter__(self) -> Self:
        task = _current_task()
        self._cancelling = task.cancelling() if task else 0
        await self._task_group.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        try:
            return await self._task_group.__aexit__(exc_type, exc_value, traceback)
        except BaseExceptionGroup as group:
            self._cancel_again()
            error = _only_error(group) if self._unwrap else None
            if error is None:
                raise
        # Raised outside of the `except` block, where the group would become its context.
        context = _raised.context_of(error)
        try:
            raise error
        finally:
            _raised.set_context(error, context)
            del error, context, exc_value, traceback  # this frame is in the error's traceback

    def _cancel_again(self) -> None:
        """By 5. A cancelled scope of anyio's cancels again by itself what awaits in it."""
        task = _current_task()
        if task is None or task.cancelling() <= self._cancelling:
            return
        if _anyio("GatherTaskGroup").current_effective_deadline() > -inf:
            task.uncancel()  # so that it counts once
            task.cancel()


def create_gather_task_group(*, unwrap: bool = False) -> GatherTaskGroup:
    """Makes a task group that keeps results:

        async with create_gather_task_group() as group:
            key = group.start_soon(fetch, url)
        page = group.get_result(key)

    Where tasks fail, the others are cancelled and an ExceptionGroup of all errors is raised; with `unwrap`, if there is
    only one error, that error itself. Raises ImportError if anyio is not there.
    """
    return GatherTaskGroup(_anyio("create_gather_task_group").create_task_group(), unwrap=unwrap)


async def gather(*calls: Callable[[], Awaitable[R]], unwrap: bool = False) -> list[R]:
    """Runs async functions at the same time; returns their results, in the order of the functions.

    Takes functions, not coroutines: `gather(first, lambda: second(1))`. Errors as those of `create_gather_task_group`.
    """
    for call in calls:
        if (mistake := no_function("gather", call)) is not None:
            for each in calls:
                closed_if_coroutine(each)
            raise TypeError(mistake)
    group = GatherTaskGroup(_anyio("gather").create_task_group(), unwrap=unwrap)
    async with group:
        keys = [group.start_soon(call) for call in calls]
    return [group.get_result(key) for key in keys]


def _current_task() -> asyncio.Task[Any] | None:
    """The task of asyncio's that runs here; None in trio."""
    import asyncio

    return None if asyncio._get_running_loop() is None else asyncio.current_task()


def _anyio(who: str) -> ModuleType:
    """Imports anyio (by 4), and registers our groups as its task groups. `who` is the function that needs
    it."""
    try:
        import anyio
        from anyio.abc import TaskGroup
    except ModuleNotFoundError as error:
        if error.name != "anyio":
            raise
        raise ImportError(f'{who}() needs anyio: pip install "syncline[anyio]"', name="anyio") from None
    TaskGroup.register(GatherTaskGroup)
    return anyio


def no_function(who: str, func: Any) -> str | None:
    """What to say of what was given for a function and is none; None where it is one."""
    if callable(func):
        return None
    name = name_of(func)
    if closed_if_coroutine(func) or hasattr(func, "__await__"):
        return (
            f"{who}() takes async functions, and got what a call of {name!r} returned; give it the function: "
            f"{who}({name}, ...)" + (" or lambda: ..." if who == "gather" else "")
        )
    return f"{who}() takes async functions, not {type(func).__name__}"


def _only_error(group: BaseExceptionGroup[Any]) -> BaseException | None:
    """The one error in a group, however deep, or None if there are more."""
    error: Any = group
    while issubclass(type(error), BaseExceptionGroup):
        if len(error.exceptions) != 1:
            return None
        error = error.exceptions[0]
    only: BaseException = error
    return only
