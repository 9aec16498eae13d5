#!/usr/bin/env bash
# cProfile's cumulative times are wrong for functions that greenlets have switched away from.
#
# Seen with greenlet 3.5.6 on CPython 3.11.7, 3.12.1 and 3.14.10: cProfile keeps one stack of calls for each thread, and takes
# whatever is on top of it for the function that returns. After a switch that is another one. Numbers of calls and own times
# ("tottime") are right. The cumulative time ("cumtime") of a function that was left by a switch and gone back to lacks what came
# before the switch: it is less than that of the two functions together which it calls.
#
# Seen on 3.12.1 (seconds):
#   early 0.10, late 0.10, worker, which calls both, 0.10
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet greenlet==3.5.6
"$folder/venv/bin/python" - <<'PYTHON'
import cProfile
import pstats
import time

import greenlet


def compute():
    end = time.perf_counter() + 0.1
    while time.perf_counter() < end:
        pass


def early():
    compute()


def late():
    compute()


def worker():
    early()
    outside.switch()  # leaves this function where it is
    late()


def begins():
    kept.switch()


def goes_on():
    kept.switch()


def main():
    begins()
    goes_on()


outside = greenlet.getcurrent()
kept = greenlet.greenlet(worker)
profile = cProfile.Profile()
profile.runcall(main)
seen = {name: figures for (_, _, name), figures in pstats.Stats(profile).stats.items()}
calls = {name: seen[name][1] for name in ("early", "late", "compute", "worker")}
assert calls == {"early": 1, "late": 1, "compute": 2, "worker": 1}, calls
early, late, total = (seen[name][3] for name in ("early", "late", "worker"))
print(f"early {early:.2f}, late {late:.2f}, worker, which calls both, {total:.2f}")
assert early >= 0.1 and late >= 0.1, (early, late)
assert total < early + late - 0.05, (early, late, total)
PYTHON
