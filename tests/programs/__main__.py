"""Runs programs by hand: `python -m programs --seconds 60`, in tests/."""

from __future__ import annotations

import argparse
import random
import sys
import time

from .make import make
from .report import fails, search
from .tree import show
from .worker import seed_of


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--number", type=int, help="one program again")
    options = parser.parse_args()
    print(f"SYNCLINE_SEED={options.seed}", flush=True)
    if options.number is not None:
        program = make(seed_of(options.seed, options.number))
        wrong = fails(program)
        print(show(program), wrong or "nothing is wrong", sep="\n")
        return bool(wrong)
    # A worker an hour, so that a fault that builds up shows, and one that was found stops no more than its own.
    end, made = time.monotonic() + options.seconds, 0
    while (left := end - time.monotonic()) > 0:
        count, report = search(options.seed, min(left, 3600), made)
        made += count
        if report:
            print(report)
            return 1
    print(f"{made} programs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
