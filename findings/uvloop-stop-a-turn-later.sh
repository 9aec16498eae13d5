#!/usr/bin/env bash
# uvloop's loop makes another turn after stop(); asyncio's doesn't, as its documentation says.
#
# Seen with uvloop 0.23.0 on CPython 3.11.7, 3.12.1 and 3.14.10. By asyncio's documentation a loop that is stopped as it runs
# finishes the callbacks of its present turn, and leaves those that they have scheduled to the next run. uvloop puts a callback
# that stops the loop into the same queue, behind them. So what was scheduled just before stop() runs in this run, and a
# coroutine that calls stop() and then suspends makes one step more than with asyncio.
#
# Seen on 3.11.7:
#   asyncio: scheduled before the stop: no, steps of the coroutine: 1
#   uvloop: scheduled before the stop: yes, steps of the coroutine: 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet uvloop==0.23.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio

import uvloop


def outcome(loop):
    """What has run by the time that run_forever() returns."""
    scheduled, steps = [], []

    def stop():
        loop.call_soon(scheduled.append, True)
        loop.stop()

    loop.call_soon(stop)
    loop.run_forever()
    has_run = bool(scheduled)

    async def stop_and_go_on():
        loop.stop()
        for _ in range(5):
            steps.append(True)
            await asyncio.sleep(0)

    task = loop.create_task(stop_and_go_on())
    loop.run_forever()
    count = len(steps)
    loop.run_until_complete(task)
    loop.close()
    return has_run, count


seen = {"asyncio": outcome(asyncio.new_event_loop()), "uvloop": outcome(uvloop.new_event_loop())}
for name, (has_run, count) in seen.items():
    print(f"{name}: scheduled before the stop: {'yes' if has_run else 'no'}, steps of the coroutine: {count}")
assert seen == {"asyncio": (False, 1), "uvloop": (True, 2)}, seen
PYTHON
