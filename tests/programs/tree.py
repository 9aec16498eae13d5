"""A program as data: bridges, and a tree of operations on them.

A block of operations is sync or async code by where it stands. `KINDS` says what there is: in which code an operation
may stand, what its bodies are, and what its other fields mean. Programs are compared, printed (`repr` is Python) and
made smaller; they know nothing of syncline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

Block = tuple["Op", ...]


@dataclass(frozen=True)
class Options:
    """How a bridge of the program is made."""

    scope: Literal["process", "thread", "caller", "onto"] = "process"
    """`onto`: a bridge onto a loop that somebody else runs."""
    nested: Literal["switch", "thread", "error"] = "switch"
    context: Literal["share", "copy"] = "share"
    loop: Literal["asyncio", "uvloop", "trio"] = "asyncio"
    in_worker: Literal["own", "sender"] = "own"
    in_async: Literal["task", "home"] = "task"
    visible: bool = False
    timed: bool = False


@dataclass(frozen=True)
class Op:
    """One operation; what the fields mean is said in KINDS."""

    kind: str
    bodies: tuple[Block, ...] = ()
    bridge: int = 0
    how: str = ""
    number: int = 0


@dataclass(frozen=True)
class Program:
    """Bridges, and the sync code that the main thread runs."""

    bridges: tuple[Options, ...] = field(default_factory=lambda: (Options(),))
    main: Block = ()


@dataclass(frozen=True)
class Kind:
    """Where an operation may stand ("sync", "async" or both), and its bodies' code; "+" repeats the last one."""

    stands: str
    bodies: str
    means: str


KINDS = {
    "set": Kind("both", "", "sets context variable `how` to `number`"),
    "see": Kind("both", "", "notes the value of context variable `how`"),
    "fail": Kind("both", "", "raises error `number`, of the class that `how` names"),
    "attempt": Kind("both", "same", "notes what its body raises"),
    "ensure": Kind("both", "same same", "try and finally"),
    "forever": Kind("async", "", "waits until it is cancelled; only in bodies that are"),
    "finalize": Kind("both", "async", "an object with a cleanup, which is done; how: called, dropped"),
    "pause": Kind("async", "", "suspends `number` times"),
    "sync": Kind("async", "sync", "calls sync code in the task itself"),
    "to_thread": Kind(
        "async", "sync", "calls sync code in a worker thread; how: to_thread, threaded, limiter"
    ),
    "from_thread": Kind("sync", "async", "from a worker, runs async code on the loop that sent it"),
    "task": Kind("async", "async", "awaits a task of its own"),
    "gather": Kind("async", "async+", "runs bodies at once, each noting its own error; how: gather, group"),
    "gather_fails": Kind("async", "async async+", "the first body fails, which cancels the others"),
    "dual": Kind("async", "async", "awaits a dual coroutine"),
    "run_async": Kind("async", "async", "awaits it on the bridge's loop"),
    "to_caller": Kind("async", "sync", "calls sync code in the thread that waits for the call"),
    "aiterate": Kind("async", "async async async+", "as iterate, by async for"),
    "aenter": Kind("async", "async async async", "as enter, by async with"),
    "expire": Kind("async", "async", "a time limit around what waits for ever"),
    "cancel_task": Kind("async", "async", "cancels a task that waits for ever"),
    "thread_items": Kind(
        "async", "async sync sync+", "as aiterate, of sync code that a thread runs; how: aiterate, threaded"
    ),
    "thread_enter": Kind("async", "sync async sync", "as aenter, of sync code that a thread runs"),
    "call": Kind("sync", "async", "a call that is waited for; how: which function makes it"),
    "plain": Kind("sync", "sync", "calls sync code on the bridge's loop"),
    "iterate": Kind(
        "sync",
        "sync async async+",
        "a step, the generator's finally, its items; how: its end, and what it is; number: prefetch",
    ),
    "enter": Kind("sync", "async sync async", "enter, with, exit; how: enter, contextmanager, twin"),
    "generator": Kind(
        "sync", "async", "a dual generator; how: its steps, a letter each: next, send, throw, close"
    ),
    "many": Kind("sync", "async+", "as gather, from sync code; how: map, unordered, group"),
    "trace": Kind("sync", "sync", "records what its body does"),
    "thread": Kind("sync", "sync", "a thread, which is joined"),
    "loop": Kind("sync", "async", "a running loop of the user's; how: whose"),
    "timeout": Kind("sync", "async", "a call that waits for ever, with a timeout"),
    "cancel": Kind("sync", "async", "a submitted call that waits for ever, and is cancelled"),
    "close": Kind("sync", "async", "a call that waits for ever on another such bridge, which is closed"),
    "interrupt": Kind("sync", "async", "a call that waits for ever, and Ctrl-C"),
    "fork": Kind("sync", "sync", "a child process runs the body; how: what ends it, _exit or exit"),
}

ENDS_DOOM = ("expire", "cancel_task", "timeout", "cancel", "close", "interrupt", "gather_fails")
"""What cancels the waits in its bodies itself."""

CLEANUP = {
    "ensure": 1, "aiterate": 1, "aenter": 2, "iterate": 1, "enter": 2, "thread_items": 1, "thread_enter": 2
}  # fmt: skip
"""Which body of an operation is its cleanup."""


def waits(block: Block) -> int:
    """How many waits without end this block comes to, not counting those that it ends itself."""
    return sum(
        1 if op.kind == "forever" else 0 if op.kind in ENDS_DOOM else sum(map(waits, op.bodies))
        for op in block
    )


def limits(block: Block) -> int:
    """How many time limits have to pass in a block, one after the other."""
    return sum((op.kind in ("expire", "timeout")) + turns(op) * sum(map(limits, op.bodies)) for op in block)


def limits_in_sync_code(block: Block) -> int:
    """How many of them pass in sync code, which may block the loop."""
    return sum(
        turns(op) * sum(map(limits if op.kind in ("sync", "to_caller") else limits_in_sync_code, op.bodies))
        for op in block
    )


ITERATIONS = ("iterate", "aiterate", "thread_items")


def turns(op: Op) -> int:
    """How often a body of an operation runs at most."""
    if op.kind in ITERATIONS:
        return len(op.bodies) - 2
    return len(op.how) if op.kind == "generator" else 1


def holding(block: Block) -> set[str]:
    """The kinds of operations that waits without end stand in."""
    return {
        kind
        for op in block
        if waits((op,)) and op.kind != "forever"
        for kind in {op.kind}.union(*map(holding, op.bodies))
    }


def cleanups(block: Block) -> Iterator[Block]:
    """What is run where a wait without end is cancelled."""
    for op in block:
        if waits((op,)):
            if op.kind in CLEANUP:
                yield op.bodies[CLEANUP[op.kind]]
            for body in op.bodies:
                yield from cleanups(body)


def size(block: Block) -> int:
    """How many operations there are."""
    return sum(1 + sum(map(size, op.bodies)) for op in block)


def used(block: Block) -> set[str]:
    """The kinds of operations in a block."""
    return {kind for op in block for kind in {op.kind}.union(*map(used, op.bodies))}


def smaller(program: Program) -> Iterator[Program]:
    """Programs that are one step smaller; not all of them mean something."""
    for block in smaller_blocks(program.main):
        yield replace(program, main=block)
    for number, options in enumerate(program.bridges):
        if options != Options():
            plain = (*program.bridges[:number], Options(), *program.bridges[number + 1 :])
            yield replace(program, bridges=plain)
            for name, value in vars(Options()).items():
                if getattr(options, name) != value:
                    plainer = replace(options, **{name: value})
                    yield replace(
                        program, bridges=(*program.bridges[:number], plainer, *program.bridges[number + 1 :])
                    )


def smaller_blocks(block: Block) -> Iterator[Block]:
    """Blocks with an operation less, or replaced by what is in it, or made smaller itself."""
    half = len(block) // 2
    if half:
        yield block[half:]
        yield block[:half]
    for at, op in enumerate(block):
        before, after = block[:at], block[at + 1 :]
        yield before + after
        for body in op.bodies:
            yield before + body + after
        if op.kind != "set" and op.number > 1:
            yield (*before, replace(op, number=1), *after)
        if op.bridge:
            yield (*before, replace(op, bridge=0), *after)
        if KINDS[op.kind].bodies.endswith("+") and len(op.bodies) > len(KINDS[op.kind].bodies.split()):
            yield (*before, replace(op, bodies=op.bodies[:-1]), *after)
        for number, body in enumerate(op.bodies):
            for less in smaller_blocks(body):
                bodies = (*op.bodies[:number], less, *op.bodies[number + 1 :])
                yield (*before, replace(op, bodies=bodies), *after)


def show(program: Program) -> str:
    """The program for a reader: a line for each operation, indented."""
    lines = [f"bridge {number}: {vars(options)}" for number, options in enumerate(program.bridges)]
    return "\n".join([*lines, *shown(program.main, "")])


def shown(block: Block, indent: str) -> Iterator[str]:
    for op in block:
        on = f" on bridge {op.bridge}" if op.kind in ON_BRIDGE else ""
        yield f"{indent}{op.kind} {op.how}{' ' + str(op.number) if op.number else ''}{on}"
        for number, body in enumerate(op.bodies):
            if number:
                yield f"{indent}  --"
            yield from shown(body, indent + "  ")


ON_BRIDGE = (
    "call", "iterate", "enter", "generator", "timeout", "cancel", "close", "interrupt", "dual", "aiterate", "aenter",
    "run_async", "many", "plain", "finalize",
)  # fmt: skip
