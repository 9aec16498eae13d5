"""The stacks of threads and tasks, in words."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import selectors
import threading
import traceback
from collections import Counter
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .. import _core
from .._carriers import carriers_of, carry
from .chains import frames_of
from .frames import static_attribute

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

OUR_FOLDER = os.path.dirname(os.path.dirname(__file__))
_ASYNCIO_FOLDER = os.path.dirname(asyncio.__file__)
_NOT_SHOWN = (
    OUR_FOLDER,
    _ASYNCIO_FOLDER,
    os.path.dirname(concurrent.futures.__file__),
    selectors.__file__,
    threading.__file__,
)
_MOST_STACKS = 10
"""How many different stacks a report shows at most."""


def stack_of(thread_id: int) -> str:
    """The stack of a thread, innermost call last, without asyncio's frames and ours where the user has frames."""
    frame = _core.current_frames().get(thread_id)
    return "  (not running any Python code)" if frame is None else format_frame(frame)


def is_users(file: str) -> bool:
    """Whether code of that file is shown: neither ours nor what loops and waits of the standard library are made of."""
    return not file.startswith(_NOT_SHOWN)


def format_frame(frame: FrameType) -> str:
    summaries = traceback.extract_stack(frame)
    users = [summary for summary in summaries if is_users(summary.filename)]
    return "".join(traceback.format_list(users or summaries)).rstrip("\n")


def parked_frames(thread_id: int) -> list[FrameType]:
    """The innermost frame of each stack that this thread has left, to come back to it: those of nested calls that
    await, and of whatever started another task in the middle of its own step."""
    carriers: list[Any] = list(carriers_of(thread_id))
    kind: Any = carriers[0].__class__ if carriers else object
    # Nested calls are made in greenlets of other libraries, too, such as SQLAlchemy's. Such a greenlet has
    # the carrier that made it for a parent, and is a local somewhere in that one's stack.
    known = {id(each) for each in carriers}
    for carrier in carriers:
        for each in _objects_named_in(carrier.gr_frame):
            if isinstance(each, kind) and id(each) not in known and each.parent is carrier:
                known.add(id(each))
                carriers.append(each)
    # The frame is None for the greenlet that runs, and its base frame for one that runs nothing.
    frames = [carrier.gr_frame for carrier in carriers]
    return [frame for frame in frames if frame is not None and frame.f_code is not carry.__code__]


def stacks_left(thread_id: int) -> list[FrameType]:
    """The parked frames, and the innermost frames of that thread's suspended coroutines."""
    return [*parked_frames(thread_id), *_suspended_frames(thread_id)]


def _suspended_frames(thread_id: int) -> Iterator[FrameType]:
    for loop in _loops_in(thread_id):
        for task in copy_of(asyncio.all_tasks, loop):
            # A frame with a caller is running, and so is part of a stack that was seen already.
            yield from (frame for frame in frames_of(task) if frame.f_back is None)


def _loops_in(thread_id: int) -> list[asyncio.AbstractEventLoop]:
    # Where a task runs in a greenlet, the loop's frames are in the stack of that greenlet's parent, the hub.
    hubs: list[Any] = list({id(each.parent): each.parent for each in carriers_of(thread_id)}.values())
    stacks = [_core.current_frames().get(thread_id), *(hub.gr_frame for hub in hubs if hub is not None)]
    loops: dict[int, asyncio.AbstractEventLoop] = {}
    for stack in stacks:
        frame: FrameType | None = stack
        while frame is not None:
            loop = frame.f_locals.get("self") if frame.f_code.co_name == "run_forever" else None
            if isinstance(loop, asyncio.AbstractEventLoop):
                loops[id(loop)] = loop
            frame = frame.f_back
    return list(loops.values())


def _objects_named_in(frame: FrameType | None) -> Iterator[Any]:
    """The locals of a stack's frames, and the attributes of those. A search through all objects would find
    more, and hold the interpreter for long."""
    while frame is not None:
        for value in list(frame.f_locals.values()):
            yield value
            if type(value).__dictoffset__ and not isinstance(value, (type, ModuleType)):
                yield from list(static_attribute(value, "__dict__", {}).values())
        frame = frame.f_back


def parked_stacks(thread_id: int) -> str:
    """The parked stacks of a thread, in words. Equal ones are shown once."""
    stacks = each_kind_once([format_frame(frame) for frame in parked_frames(thread_id)])
    shown = [
        f"{'a stack' if count == 1 else f'{count} stacks'} of the same thread, parked in a nested call:\n{text}"
        for text, count in stacks
    ]
    return "\n".join(shown)


def each_kind_once(stacks: list[str]) -> list[tuple[str, int]]:
    """The different stacks, up to `_MOST_STACKS`, and how often each is there."""
    return list(Counter(stacks).items())[:_MOST_STACKS]


def stacks_of_tasks(loop: asyncio.AbstractEventLoop) -> str:
    tasks = [task for task in copy_of(asyncio.all_tasks, loop) if not task.done()]
    return "\n".join(stack_of_task(task) for task in tasks) or "  (no task)"


def stack_of_task(task: asyncio.Task[Any]) -> str:
    lines = [f"  task {task.get_name()}:"]
    for frame in frames_of(task):
        entry = traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
        line = "".join(traceback.format_list([entry])).rstrip("\n")
        if line != lines[-1]:
            lines.append(line)
    return "\n".join(lines)


def copy_of(read: Any, *args: Any) -> list[Any]:
    """A list of what another thread may be changing. Reads again if it was changed meanwhile."""
    while True:
        try:
            return list(read(*args))
        except RuntimeError:
            continue
