#!/usr/bin/env bash
# With its compiler on, Python 3.15 loses what is awaited when an async generator that has always suspended gives an item at once.
#
# Seen with CPython 3.15.2 of a Linux distribution, built with the compiler, with PYTHON_JIT=1 and no package; not without
# PYTHON_JIT=1, and not on 3.14.10 with it. In a coroutine that another coroutine awaits, a hot loop is compiled at
# `await anext(items)`. Code that was compiled where the generator suspended is left when it does not: then, it seems, the stack
# lacks an entry as the await is tried again, which takes another object, here a list, for what is to be awaited. gh-155823
# is the same error for `yield from []`, on 3.16.0a0.
#
# The loop ends in an AttributeError. `anext(items, default)` is awaited through an object of another kind, and comes out
# right.
#
# Takes python3.15, or the Python in $PYTHON.
#
# Seen:
#   3.15.2, compiler off: 20100 items
#   3.15.2, compiler on: after 20000 items AttributeError: 'list' object has no attribute 'send'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/program.py" <<'PYTHON'
import sys
import types

SUSPENDING = 20_000


@types.coroutine
def suspend():
    yield


async def source():
    for item in range(SUSPENDING + 100):
        if item < SUSPENDING:
            await suspend()
        yield item


async def take(items, taken):
    while True:
        taken.append((await anext(items),))


async def around(coroutine):
    await coroutine


def outcome():
    taken = []
    coroutine = around(take(source(), taken))
    try:
        while True:
            coroutine.send(None)
    except StopAsyncIteration:
        return f"{len(taken)} items"
    except AttributeError as error:
        return f"after {len(taken)} items AttributeError: {error}"


is_on = sys._jit.is_enabled()
seen = outcome()
print(f"{sys.version.split()[0]}, compiler {'on' if is_on else 'off'}: {seen}")
expected = "after 20000 items AttributeError: 'list' object has no attribute 'send'" if is_on else "20100 items"
assert seen == expected, "it has changed"
PYTHON
PYTHON_JIT=0 "${PYTHON:-python3.15}" "$folder/program.py"
PYTHON_JIT=1 "${PYTHON:-python3.15}" "$folder/program.py"
