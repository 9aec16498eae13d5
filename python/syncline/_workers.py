"""Python code that the core needs for worker threads. Imported with the first call that uses one."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._core import Worker

origin: ContextVar[bool] = ContextVar("syncline_in_worker", default=False)
"""True in what a worker thread calls, and in the tasks that this starts."""


def work(worker: Worker) -> None:
    """The target of the worker threads.

    It keeps nothing of a call while it waits for the next one. `raised` takes this frame off the traceback,
    as it tells users nothing.
    """
    job: tuple[Any, ...] | None
    while job := worker.next():
        run, args, kwargs = job
        try:
            worker.returned(run(*args, **kwargs))
        except BaseException as error:  # SystemExit too: it is raised in the task that waits
            worker.raised(error)
        del job, run, args, kwargs
