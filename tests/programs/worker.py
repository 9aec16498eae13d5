"""Runs programs one after the other, in a process of its own, which a program may hang, crash, interrupt and fork.

Standard output gets the number of each program before it runs, and what was wrong with it. The first one that fails
ends the process with status 1. One that hangs ends it, too, with all stacks on standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import logging
import signal
import sys
import time

import uvloop

import syncline

from . import tree
from .make import make
from .run import descriptors, left_at_last, problems
from .tree import Program

LIMIT = 600
"""Seconds that one program may take: it takes them only where it hangs."""


def seed_of(seed: int, number: int) -> int:
    """The seed of one program of a run."""
    return seed * 1_000_003 + number


def warm_up() -> None:
    """What is made once in a process' life is made before the first program."""
    syncline.run_sync(asyncio.sleep, 0)
    uvloop.new_event_loop().close()
    syncline.run_sync(syncline.to_thread, int)
    gc.collect()
    logging.getLogger().addHandler(logging.NullHandler())  # what comes late is none of standard error's
    gc.freeze()  # so that the collections after each program are short


def run(program: Program, name: str, limit: int) -> None:
    """Runs one program; ends the process if it fails."""
    print(name, flush=True)
    signal.alarm(limit)
    wrong = problems(program)
    signal.alarm(0)
    end_if(wrong)


def end_if(wrong: list[str]) -> None:
    if wrong:
        print("WRONG", *wrong, sep="\n", flush=True)
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--program", default="")
    parser.add_argument("--limit", type=int, default=LIMIT, help="seconds that a program may take")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGUSR1, lambda *_: None)
    # Not faulthandler's own timer: its thread isn't there after a fork, and the child's exit would wait for it.
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
    warm_up()
    open_before = descriptors()
    if options.program:
        program = eval(options.program, vars(tree))
        for turn in range(options.times):
            run(program, str(turn), options.limit)
        if "to_thread" in tree.used(program.main):
            end_if(left_at_last(open_before))
        return
    number, end = options.first, time.monotonic() + options.seconds
    while time.monotonic() < end:
        run(make(seed_of(options.seed, number)), str(number), options.limit)
        number += 1
    end_if(left_at_last(open_before))


if __name__ == "__main__":
    main()
