#!/usr/bin/env bash
# `python -m asyncio ps PID` of Python 3.14 shows the tasks of the main thread only: of a loop in another thread, nothing.
#
# Seen with CPython 3.14.10 on Linux, with no package but the standard library, and known there as gh-149230. Nothing says so: the
# table just lacks the tasks, and the command ends with status 0. CPython 3.15.2 shows the tasks of all threads.
#
# Takes python3.14, or the Python in $PYTHON, which has to be allowed to read another process of the same user.
#
# Seen:
#   3.14.10: "in-main" is shown, "in-thread" is not
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/program.py" <<'PYTHON'
import asyncio
import os
import sys
import threading

suspended = threading.Event()


async def other():
    asyncio.get_running_loop().call_soon(suspended.set)
    await asyncio.sleep(3600)


async def named(name, coroutine):
    await asyncio.create_task(coroutine, name=name)


async def look():
    command = [sys.executable, "-m", "asyncio", "ps", str(os.getpid())]
    process = await asyncio.create_subprocess_exec(*command, stdout=-1)
    table = (await process.communicate())[0].decode()
    seen = {name: name in table for name in ("in-main", "in-thread")}
    print(f"{sys.version.split()[0]}: {seen}, status {process.returncode}")
    assert process.returncode == 0
    assert seen == {"in-main": True, "in-thread": False}, "it has changed"


threading.Thread(target=asyncio.run, args=(named("in-thread", other()),), daemon=True).start()
suspended.wait()
asyncio.run(named("in-main", look()))
PYTHON
"${PYTHON:-python3.14}" "$folder/program.py"
