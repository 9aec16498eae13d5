"""asyncio's task groups that did not hear of a task's end, as what a signal handler raised broke their callback off.

Such a group's block never ends: it waits for a task that is done. So it is told again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ._diagnosis.chains import frames_of

if TYPE_CHECKING:
    from collections.abc import Iterator

_LEAVING = ("__aexit__", "_aexit")


def heal_groups(loop: Any) -> None:
    """Tells each group of that loop whose block waits for its tasks of those that are done, unless it is about to
    hear."""
    if not hasattr(loop, "_ready"):
        return  # it does not show what it is about to do
    ready = list(loop._ready)
    for group in _groups_left(loop):
        for task in [each for each in group._tasks if each.done()]:
            is_due = any(
                handle._callback == group._on_task_done and handle._args == (task,)
                for handle in ready
                if not handle.cancelled()
            )
            if not is_due:
                group._on_task_done(task)
        # Or it was broken off before it said that there are none any more.
        completed = group._on_completed_fut
        if not group._tasks and completed is not None and not completed.done():
            completed.set_result(True)


def _groups_left(loop: Any) -> Iterator[Any]:
    """The groups in whose end a task of that loop waits."""
    for task in asyncio.all_tasks(loop):
        for frame in frames_of(task):
            if frame.f_code.co_name in _LEAVING:
                group: Any = frame.f_locals.get("self")
                if isinstance(group, asyncio.TaskGroup):
                    yield group
