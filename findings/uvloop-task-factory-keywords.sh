#!/usr/bin/env bash
# uvloop gives a task factory keywords that nobody has asked for.
#
# Seen with uvloop 0.23.0 on CPython 3.11.7, 3.12.1, 3.13.0, 3.14.10 and 3.15.2: `create_task(coro)` of uvloop's loop calls
# the factory with context=None, and from Python 3.13 on with eager_start=None, too. asyncio's own loop passes only what
# its caller has given. So a factory `(loop, coro)` works on asyncio's loop and raises TypeError on uvloop's; so does
# `(loop, coro, context=None)`, which Python 3.11 and 3.12 document, from 3.13 on. On 3.13.0 even
# asyncio.eager_task_factory does, as it knows no eager_start. On 3.14 and 3.15 it takes the None for a no: with that factory
# tasks start eagerly on asyncio's loop, and not on uvloop's.
#
# Seen on 3.11.7:
#   asyncio passes []
#   uvloop passes ['context']
#   (loop, coro): asyncio works, uvloop TypeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvloop==0.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import sys

import uvloop


async def child():
    return "done"


def outcome(new_event_loop, factory):
    """What becomes of a task that is created on a loop with this factory."""

    async def main():
        asyncio.get_running_loop().set_task_factory(factory)
        coro = child()
        try:
            return await asyncio.create_task(coro)
        except TypeError:
            coro.close()
            return "TypeError"

    loop = new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


passed = {}


def noting(loop, coro, **keywords):
    passed[type(loop).__module__.partition(".")[0]] = keywords
    return asyncio.Task(coro, loop=loop)


def two(loop, coro):
    return asyncio.Task(coro, loop=loop)


def three(loop, coro, context=None):
    return asyncio.Task(coro, loop=loop)


loops = (asyncio.new_event_loop, uvloop.new_event_loop)
assert [outcome(loop, noting) for loop in loops] == ["done", "done"]
for name, keywords in passed.items():
    print(name, "passes", sorted(keywords))
knows_eager_start = sys.version_info >= (3, 13)
wanted = {"context": None, "eager_start": None} if knows_eager_start else {"context": None}
assert passed == {"asyncio": {}, "uvloop": wanted}, passed

seen = [outcome(loop, two) for loop in loops]
print("(loop, coro): asyncio works, uvloop", seen[1])
assert seen == ["done", "TypeError"], seen
seen = [outcome(loop, three) for loop in loops]
assert seen == ["done", "TypeError" if knows_eager_start else "done"], seen


def starts_eagerly(new_event_loop):
    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        begun = []

        async def begin():
            begun.append(True)

        task = asyncio.create_task(begin())
        was_begun = bool(begun)
        await task
        return was_begun

    loop = new_event_loop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


if sys.version_info >= (3, 14):
    assert [starts_eagerly(loop) for loop in loops] == [True, False]
if sys.version_info[:3] == (3, 13, 0):
    seen = [outcome(loop, asyncio.eager_task_factory) for loop in loops]
    assert seen == ["done", "TypeError"], seen
PYTHON
