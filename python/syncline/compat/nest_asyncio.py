"""What nest_asyncio and nest_asyncio2 offer, under the same names: change the import, and nothing else.

    from syncline.compat import nest_asyncio

    nest_asyncio.apply()

After that `asyncio.run`, `loop.run_until_complete`, `loop.run_forever` and `asyncio.Runner.run` may be called where the
loop runs already, and await in place there. It is for programs that can't be changed; others call `syncline.run_sync`,
which needs nothing patched. Otherwise than there:

1. A call that waits is put aside in a greenlet, and the loop goes on as it is: it isn't turned from within the call. So
   each of several calls at once returns when it is done, and not when those that came later are.
2. Tasks are asyncio's own, and so are `asyncio.current_task()`, timeouts and cancellation: who cancels the task that
   waits in a call cancels what the call runs.
3. uvloop's loops nest, too; there not in tasks that began before `apply()`, nor in callbacks.
4. A call that waits for the task that it is made in raises `DeadlockError`.
5. Where no loop runs, all functions do what asyncio's do. `asyncio.run` makes a loop and closes it, but after
   `apply(run_close_loop=False)`.
6. `unapply()` puts everything back.

As there, a nested `asyncio.run` runs its coroutine in a new task of the running loop, whatever its `debug` and
`loop_factory` say, and leaves behind what that has started.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sys
import types
import warnings
from asyncio import base_events, events, runners
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _core
from ._in_place import completed, hidden, refuse_running, run_in, wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop

__all__ = ["apply", "unapply"]


def apply(
    loop: Loop | None = None, *, run_close_loop: bool = True, error_on_mispatched: bool = False
) -> None:
    """Lets asyncio's functions nest, in all loops of asyncio's and uvloop's, those that run and those to come.

    loop: one whose class is to be patched as well, for loops of other makers.
    run_close_loop: whether `asyncio.run`, where no loop runs, makes a loop and closes it, as asyncio's own does. With
        False it runs the thread's current loop, or a new one that becomes that, and leaves it open, as nest_asyncio's
        does.
    error_on_mispatched: whether to raise RuntimeError where nest_asyncio has patched asyncio before, and not only to
        warn.

    Call it before the loop runs, where you can: a task that began before can nest on asyncio's loops only. In a kernel
    of ipykernel's 7 it also loads `syncline.jupyter`, so that cells that wait can be interrupted.

    Called again, it adds what is new. Raises ValueError for a loop whose class can't be patched, and ImportError
    if greenlet is missing. To be called in one thread at a time.
    """
    try:
        import greenlet  # type: ignore[import-untyped]  # noqa: F401 -- whether it is there
    except ImportError as error:
        raise ImportError("nest_asyncio.apply() needs greenlet: pip install greenlet") from error
    _look_for_others(error_on_mispatched)
    patches = _applied[0] if _applied else _Patches()
    kinds: list[type[Any]] = [asyncio.BaseEventLoop]
    if (uvloop := sys.modules.get("uvloop")) is not None:
        kinds.append(uvloop.Loop)
    kinds += [type(each) for each in (loop, events._get_running_loop()) if each is not None]
    try:
        for kind in kinds:
            patches.add_loops(kind)
    except ValueError:
        if not _applied:
            patches.undo()
        raise
    patches.closes_loops = run_close_loop
    _applied[:] = [patches]
    _load_for_kernels()


def unapply() -> None:
    """Puts back what `apply` has patched. Nested calls that wait go on to their end."""
    while _applied:
        _applied.pop().undo()


_applied: list[_Patches] = []
"""What is patched, if anything is."""


def _look_for_others(is_error: bool) -> None:
    if not hasattr(asyncio, "_nest_patched"):
        return
    message = (
        "asyncio is already patched by nest_asyncio; let its importers have this module instead: "
        'sys.modules["nest_asyncio"] = syncline.compat.nest_asyncio, before they are imported'
    )
    if is_error:
        raise RuntimeError(message)
    warnings.warn(message, RuntimeWarning, stacklevel=3)


def _load_for_kernels() -> None:
    ipykernel: Any = sys.modules.get("ipykernel")
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or ipykernel is None or ipykernel.version_info[0] < 7:
        return
    if events._get_running_loop() is not None:
        shell.extension_manager.load_extension("syncline.jupyter")


class _Patches:
    """What is patched, and how to undo it."""

    closes_loops = True
    """Whether `asyncio.run` closes the loop that it makes."""

    def __init__(self) -> None:
        self._undo = contextlib.ExitStack()
        self._kinds: list[type[Any]] = []
        for name, function in (
            ("run", _runner_run),
            ("get_loop", _runner_get_loop),
            ("__enter__", _runner_enter),
        ):
            self._replace(asyncio.Runner, name, function)
        self._replace_run()

    def add_loops(self, kind: type[Any]) -> None:
        """Lets the loops of this class nest. Raises ValueError if it can't be patched."""
        if any(issubclass(kind, known) for known in self._kinds):
            return
        names: dict[str, Callable[..., Any]] = {
            "create_task": _create_task,
            "run_until_complete": _run_until_complete,
            "run_forever": _run_forever,
            "stop": _stop,
        }
        try:
            for name, function in names.items():
                self._replace(kind, name, function)
        except (AttributeError, TypeError):
            raise ValueError(f"Can't patch loop of type {kind}") from None
        self._kinds.append(kind)

    def undo(self) -> None:
        self._undo.close()

    def _replace(self, owner: type[Any], name: str, function: Callable[..., Any]) -> None:
        """Replaces a method by `function`, which gets the original as its first argument."""
        original = getattr(owner, name)
        is_own = name in vars(owner)

        @functools.wraps(original)
        def replacement(*args: Any, **kwargs: Any) -> Any:
            # Somebody may have patched on top, and call this when all is undone.
            if self not in _applied:
                return original(*args, **kwargs)
            return function(original, *args, **kwargs)

        setattr(owner, name, replacement)

        def undo() -> None:
            if vars(owner).get(name) is not replacement:
                return
            if is_own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)

        self._undo.callback(undo)

    def _replace_run(self) -> None:
        """asyncio.run stays the same function, and its code is replaced: others may have imported it by its name."""
        function: Any = runners.run
        code, defaults = function.__code__, function.__kwdefaults__
        original: Any = types.FunctionType(code, function.__globals__, function.__name__)
        original.__kwdefaults__ = defaults
        self.original_run = original
        function.__code__ = _code_of_run.__code__
        function.__kwdefaults__ = _code_of_run.__kwdefaults__
        current = asyncio.run
        asyncio.run = function

        def undo() -> None:
            function.__code__, function.__kwdefaults__ = code, defaults
            asyncio.run = current

        self._undo.callback(undo)


def _code_of_run(main: Any, *, debug: Any = None, loop_factory: Any = None) -> Any:
    # Runs with the globals of asyncio.runners.
    from syncline.compat.nest_asyncio import _run

    return _run(main, debug, loop_factory)


def _run(  # pyright: ignore[reportUnusedFunction] -- see above
    main: Coroutine[Any, Any, T], debug: bool | None, loop_factory: Callable[[], Loop] | None
) -> T:
    if (loop := events._get_running_loop()) is not None:
        return run_in(loop, main, None)
    (patches,) = _applied
    if not patches.closes_loops:
        return _run_in_current_loop(patches, main, debug, loop_factory)
    options = {} if loop_factory is None else {"loop_factory": loop_factory}
    result: T = patches.original_run(main, debug=debug, **options)
    return result


def _run_in_current_loop(
    patches: _Patches,
    main: Coroutine[Any, Any, T],
    debug: bool | None,
    loop_factory: Callable[[], Loop] | None,
) -> T:
    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = _current_loop()
    if loop is None or loop.is_closed():
        loop = loop_factory() if loop_factory is not None else asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
    if debug is not None:
        loop.set_debug(debug)
    patches.add_loops(type(loop))
    task = loop.create_task(main)
    try:
        return loop.run_until_complete(task)
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)


def _current_loop() -> Loop | None:
    """The loop that was set for this thread. None is made."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            return asyncio.get_event_loop()
        except (RuntimeError, DeprecationWarning):
            return None


# The methods. Each gets asyncio's own first.


def _create_task(original: Callable[..., Any], self: Loop, coro: Any, **options: Any) -> Any:
    if isinstance(self, _core.BridgeLoop):
        return original(self, coro, **options)  # whose tasks nest as their bridge says
    task = original(self, _core.made_nestable(coro), **options)
    if trace := getattr(
        task, "_source_traceback", None
    ):  # in debug mode: without this function and its caller
        del trace[-2:]
    return task


def _run_until_complete(original: Callable[..., Any], self: Loop, future: Awaitable[T]) -> T:
    running = events._get_running_loop()
    if running is self:
        return completed(self, future)
    refuse_running(self)
    if running is not None:
        with hidden(running):
            return _run_outermost(original, self, future)
    return _run_outermost(original, self, future)


_outermost: dict[Loop, asyncio.Future[Any]] = {}
"""What each loop was run for."""
_forever: dict[Loop, list[asyncio.Future[None]]] = {}
"""The nested calls of each loop's `run_forever`."""


def _run_outermost(original: Callable[..., Any], self: Loop, future: Awaitable[T]) -> T:
    if self.is_closed():
        return original(self, future)  # type: ignore[no-any-return] # which says so
    task = asyncio.ensure_future(future, loop=self)
    if task is not future:
        task._log_destroy_pending = False  # type: ignore[attr-defined] # as the original does for its own
    _outermost[self] = task
    try:
        return original(self, task)  # type: ignore[no-any-return]
    except BaseException:
        if task is not future and task.done() and not task.cancelled():
            task.exception()  # it is known now
        raise
    finally:
        del _outermost[self]


def _run_forever(original: Callable[..., Any], self: Loop) -> None:
    running = events._get_running_loop()
    if running is self:
        stopped: asyncio.Future[None] = self.create_future()
        nested = _forever.setdefault(self, [])
        nested.append(stopped)
        try:
            wait(self, stopped)
        finally:
            nested.remove(stopped)
            if not nested:
                del _forever[self]
        return
    refuse_running(self)
    if running is not None:
        with hidden(running):
            original(self)
    else:
        original(self)


def _stop(original: Callable[..., Any], self: Loop) -> None:
    """Ends the latest nested `run_forever`, if there is one; and the loop's own run, once that has done its work."""
    nested = [each for each in _forever.get(self, ()) if not each.done()]
    if nested and not _has_done(self):
        nested[-1].set_result(None)
    else:
        original(self)


def _has_done(loop: Loop) -> bool:
    """Whether the loop's own run is over, and it is stopped for that."""
    if (outermost := _outermost.get(loop)) is not None:
        return outermost.done()
    if not isinstance(loop, asyncio.BaseEventLoop):
        return True  # nobody knows: it was run before apply()
    # Of a run that began before apply() only its callback is seen, which calls `stop`, its replacement, and `_stop`.
    caller = sys._getframe(3)
    return caller.f_code is base_events._run_until_complete_cb.__code__  # type: ignore[attr-defined]


def _runner_run(
    original: Callable[..., Any],
    self: asyncio.Runner,
    coro: Coroutine[Any, Any, T],
    *,
    context: contextvars.Context | None = None,
) -> T:
    running = events._get_running_loop()
    own = self._loop  # type: ignore[attr-defined]
    if running is not None and (own is running or _is_new(self)):
        return run_in(running, coro, context)
    if running is not None and own is not None:
        with hidden(running):
            return original(self, coro, context=context)  # type: ignore[no-any-return]
    if running is None and asyncio.iscoroutine(coro):
        for patches in _applied:
            patches.add_loops(type(self.get_loop()))
    return original(self, coro, context=context)  # type: ignore[no-any-return]


def _runner_get_loop(original: Callable[..., Loop], self: asyncio.Runner) -> Loop:
    running = events._get_running_loop()
    return running if running is not None and _is_new(self) else original(self)


def _runner_enter(original: Callable[..., asyncio.Runner], self: asyncio.Runner) -> asyncio.Runner:
    """Where a loop runs, no loop is made: none would be used."""
    return self if events._get_running_loop() is not None and _is_new(self) else original(self)


def _is_new(runner: asyncio.Runner) -> bool:
    return runner._state is runners._State.CREATED  # type: ignore[attr-defined]
