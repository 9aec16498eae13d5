"""All loops that are known of, and their tasks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _core
from .stacks import copy_of

if TYPE_CHECKING:
    from .threads import Threads


class Loop(NamedTuple):
    """A loop, or a run of trio's."""

    loop: Any
    name: str
    thread: int | None
    is_asleep: bool | None
    """None where that is not known."""
    tasks: list[Any]
    """Those that have not ended."""
    submitted: list[Any]
    """The task of each call of `submit` that has not ended; None where it is not suspended."""


def all_loops(threads: Threads) -> list[Loop]:
    """The loops of bridges, those that threads run, and those of any task."""
    tasks = _tasks_by_loop()
    found: dict[int, Loop] = {}
    for loop, name, thread, asleep, submitted in _core.loops():
        running = threads.loops.get(id(loop))
        where = running[1] if thread is None and running is not None else thread
        found[id(loop)] = Loop(loop, name, where or None, asleep, _tasks_of(loop, tasks), submitted)
    others = {id(loop): (loop, None) for each in (tasks or {}).values() for loop in (each[0].get_loop(),)}
    for key, (loop, runs_in) in {**others, **threads.loops}.items():
        if key not in found:
            words = "" if runs_in is None else f" in the thread {threads.name(runs_in)!r}"
            name = f"{type(loop).__name__}{words}"
            found[key] = Loop(loop, name, runs_in, None, _tasks_of(loop, tasks), [])
    for runner, thread in threads.trio_runs:
        ours = next((loop for loop in found.values() if loop.thread == thread and not loop.tasks), None)
        its_tasks = copy_of(lambda runner=runner: runner.tasks)
        if ours is not None:
            found[id(ours.loop)] = ours._replace(tasks=its_tasks)
        else:
            name = f"trio in the thread {threads.name(thread)!r}"
            found[id(runner)] = Loop(runner, name, thread, None, its_tasks, [])
    return list(found.values())


def _tasks_by_loop() -> dict[int, list[Any]] | None:
    """The tasks of each loop; None where asyncio has to be asked for each."""
    known: Any = asyncio.tasks
    if hasattr(known, "_all_tasks"):  # Python 3.11
        weak = [known._all_tasks]
    elif hasattr(known, "_scheduled_tasks") and not hasattr(
        asyncio, "future_add_to_awaited_by"
    ):  # 3.12, 3.13
        weak = [known._scheduled_tasks, known._eager_tasks]
    else:
        return None
    tasks: dict[int, list[Any]] = {}
    for each in weak:
        for task in copy_of(lambda each=each: each):
            if not task.done():
                tasks.setdefault(id(task.get_loop()), []).append(task)
    return tasks


def _tasks_of(loop: Any, tasks: dict[int, list[Any]] | None) -> list[Any]:
    if tasks is not None:
        return tasks.get(id(loop), [])
    if not isinstance(loop, asyncio.AbstractEventLoop):
        return []
    return [task for task in copy_of(asyncio.all_tasks, loop) if not task.done()]
