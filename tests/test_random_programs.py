"""Random programs do what a model without syncline predicts: values, errors, order, contexts, and nothing left."""

from __future__ import annotations

import os
import random

import pytest

from programs.make import make
from programs.report import search
from programs.tree import KINDS, used

SECONDS = float(os.environ.get("SYNCLINE_RANDOM_SECONDS", "40"))
SEED = int(os.environ.get("SYNCLINE_SEED", random.SystemRandom().randrange(2**32)))


def test_programs_are_of_every_kind() -> None:
    """What the generator makes has each kind of operation in it, so that none is tested by nobody."""
    seen: set[str] = set()
    for seed in range(3000):
        seen |= used(make(seed).main)
        if seen == set(KINDS):
            break
    assert seen == set(KINDS)


@pytest.mark.timeout(SECONDS + 2400)  # beyond the watchdogs of what runs there
def test_random_programs_do_what_the_model_says() -> None:
    """In a process of their own, one after the other, with new seeds each time (SYNCLINE_SEED repeats them)."""
    count, report = search(SEED, SECONDS)
    assert not report, report
    assert count, f"SYNCLINE_SEED={SEED}: not one program ran in {SECONDS} seconds"
    print(f"{count} programs, SYNCLINE_SEED={SEED}")
