"""Who waits for whom, as text, for somebody who has to see at once what is stuck.

What reads the same but for names of threads, tasks and ages is shown once. Long chains and stacks lose their middle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..waiting import Frame, LimiterState, LoopState, Wait, Waits

_MOST_KINDS = 20
"""So many different trees are shown."""
_MOST_BRANCHES = 5
"""So many different branches of one wait are shown."""
_LONGEST_CHAIN = 20
"""Of a longer chain of waits the beginning and the end are shown."""
_MOST_FRAMES = 12
"""So many frames of a stack are shown, the innermost ones."""
_MOST_HOLDERS = 5


def render(waits: Waits) -> str:
    """The text of `syncline.dump()`."""
    return _Text().of(waits)


class _Text:
    def __init__(self) -> None:
        self.shapes: dict[int, int] = {}
        """What each wait looks like, by the wait's id: a number that waits of the same look have in common."""
        self.numbers: dict[tuple[object, ...], int] = {}

    def of(self, waits: Waits) -> str:
        lines = [_headline(waits), ""]
        kinds = self.each_kind_once(waits.roots)
        for wait, count in kinds[:_MOST_KINDS]:
            lines += [*self.tree(wait, count, ""), ""]
        if len(kinds) > _MOST_KINDS:
            left = sum(count for _, count in kinds[_MOST_KINDS:])
            lines += [f"... and {left:,} more, of {len(kinds) - _MOST_KINDS:,} other kinds", ""]
        for loop in waits.loops[:_MOST_KINDS]:
            lines += _loop(loop)
        if len(waits.loops) > _MOST_KINDS:
            lines.append(f"... and {len(waits.loops) - _MOST_KINDS:,} more loops")
        if waits.workers:
            busy = waits.workers - waits.idle_workers
            lines.append(f"worker threads: {busy:,} busy, {waits.idle_workers:,} idle")
        lines += map(_limiter, waits.limiters)
        return "\n".join(lines).rstrip("\n") + "\n"

    def each_kind_once(self, waits: Iterable[Wait]) -> list[tuple[Wait, int]]:
        """One of each look, the one that has waited longest, and how many there are."""
        found: dict[int, tuple[Wait, int]] = {}
        for wait in waits:
            shape = self.shape(wait)
            known, count = found.get(shape, (wait, 0))
            longer = wait if (wait.seconds or 0) > (known.seconds or 0) else known
            found[shape] = longer, count + 1
        return list(found.values())

    def shape(self, root: Wait) -> int:
        todo = [root]  # no recursion: a chain may be long
        while todo:
            wait = todo[-1]
            missing = [each for each in wait.waits_for if id(each) not in self.shapes]
            todo += missing
            if not missing:
                todo.pop()
                below = tuple(self.shapes[id(each)] for each in wait.waits_for)
                name = "" if wait.kind in ("thread", "worker") else wait.name
                look = (wait.kind, name, wait.loop, wait.state, wait.stack, wait.closes_circle, below)
                self.shapes[id(wait)] = self.numbers.setdefault(look, len(self.numbers))
        return self.shapes[id(root)]

    def tree(self, root: Wait, count: int, indent: str, verb: str = "") -> Iterator[str]:
        """A chain of waits one below the other, where one waits for several those further in."""
        chain = list(_chain(root))
        left_out = range(_LONGEST_CHAIN // 2, len(chain) - _LONGEST_CHAIN // 2)
        for index, wait in enumerate(chain):
            if index in left_out and len(left_out) > 1:
                if index == left_out[0]:
                    yield f"{indent}... and so on, {len(left_out):,} more"
                continue
            yield f"{indent}{verb}{_named(wait, count)}{':' if wait.stack else ''}"
            yield from _stack(wait.stack, indent)
            verb, count = _verb(wait), 1
        branches = self.each_kind_once(chain[-1].waits_for)
        if branches:
            yield f"{indent}{verb}{len(chain[-1].waits_for):,}:"
        for wait, alike in branches[:_MOST_BRANCHES]:
            yield from self.tree(wait, alike, indent + "    ", "- ")
        if len(branches) > _MOST_BRANCHES:
            yield f"{indent}    - ... and {len(branches) - _MOST_BRANCHES:,} other kinds"


def _chain(wait: Wait) -> Iterator[Wait]:
    """That one, and what it waits for, as long as that is one thing."""
    yield wait
    while len(wait.waits_for) == 1:
        (wait,) = wait.waits_for
        yield wait


def _headline(waits: Waits) -> str:
    if waits.blocked:
        longest = max((wait.seconds or 0.0 for root in waits for wait in _chain(root)), default=0.0)
        text = f"{waits.blocked:,} {'call waits' if waits.blocked == 1 else 'calls wait'}"
        text += f", the longest for {_seconds(longest)}" if longest else ""
    else:
        text = "no call waits"
    if waits.submitted:
        text += f"; {waits.submitted:,} of submit() {'goes' if waits.submitted == 1 else 'go'} on"
    if waits.circles:
        text += f"; A CIRCLE: {waits.circles} lead back to themselves" if waits.circles > 1 else "; A CIRCLE"
    return f"syncline: {text}"


def _named(wait: Wait, count: int) -> str:
    task = f" in the task {wait.task!r}" if wait.task else ""
    loop = f" on the loop {wait.loop!r}" if wait.loop else ""
    match wait.kind:
        case "thread" | "worker":
            words = f"{'worker ' if wait.kind == 'worker' else ''}thread {wait.name!r}"
        case "queued":
            words = f"{wait.name}()"
        case _:
            words = f"{wait.name}(){task}{loop}"
    if wait.closes_circle:
        return f"{words}, WHICH IS ABOVE: A CIRCLE"
    words += f", {wait.state}" if wait.state else ""
    words += f", for {_seconds(wait.seconds)}" if wait.seconds is not None else ""
    return words + (f", and {count - 1:,} more like it" if count > 1 else "")


def _verb(wait: Wait) -> str:
    if wait.kind == "nested":
        return "makes a nested call of "
    return "by " if wait.kind == "queued" else "waits for "


def _stack(stack: tuple[Frame, ...], indent: str) -> Iterator[str]:
    if len(stack) > _MOST_FRAMES:
        yield f"{indent}  ... {len(stack) - _MOST_FRAMES:,} frames"
    for frame in stack[-_MOST_FRAMES:]:
        yield f"{indent}  {frame}"
        if frame.source:
            yield f"{indent}    {frame.source}"


def _loop(loop: LoopState) -> Iterator[str]:
    tasks = f"{loop.tasks:,} {'task' if loop.tasks == 1 else 'tasks'}"
    where = f" in the thread {loop.thread_name!r}" if loop.thread_name else ""
    if loop.stack:
        yield f"loop {loop.name!r}{where}, {tasks}, {'IS BLOCKED by a call' if loop.is_blocked else 'runs now'}:"
        yield from _stack(loop.stack, "")
    else:
        yield f"loop {loop.name!r}{where}, {tasks}{', sleeps' if loop.is_asleep else ''}"


def _limiter(limiter: LimiterState) -> str:
    total = "" if limiter.total is None else f" of {limiter.total:,}"
    shown = ", ".join(limiter.holders[:_MOST_HOLDERS])
    more = (
        f" and {len(limiter.holders) - _MOST_HOLDERS:,} more" if len(limiter.holders) > _MOST_HOLDERS else ""
    )
    holders = f": {shown}{more}" if shown else ""
    waiting = f"{limiter.waiting:,} {'waits' if limiter.waiting == 1 else 'wait'}"
    return f"{limiter.name}: {waiting}, {len(limiter.holders):,}{total} tokens are held{holders}"


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"
