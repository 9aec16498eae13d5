"""A call that needs the loop which it blocks, in a process with other threads.

Where all others sleep until somebody wakes them, it is a DeadlockError; where one could end the wait, it is a warning.
"""

from __future__ import annotations

import sys

import pytest

from child import run_script

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform != "linux", reason="what threads wait for is known on Linux"),
]

BLOCKED = """
import asyncio, logging, queue, sys, syncline, threading, time
logging.basicConfig(level="WARNING", stream=sys.stdout, format="LOGGED %(message)s")
{before}

def sync_code(queue):
    return syncline.run_sync(queue.get)

async def main():
    queue = asyncio.Queue()
    asyncio.get_running_loop().call_soon(queue.put_nowait, 1)
    try:
        print(sync_code(queue))
    except syncline.DeadlockError as error:
        print("TOLD", error)

asyncio.run(main())
import os
sys.stdout.flush()
os._exit(0)
"""

NATIVE = """
import ctypes
libc = ctypes.CDLL(None)
semaphore = ctypes.create_string_buffer(64)
libc.sem_init(semaphore, 0, 0)
libc.pthread_create(ctypes.byref(ctypes.c_ulong()), None, libc.{function}, {argument})
"""
ASLEEP = {
    "nobody": "",
    "a pool's worker": """
import concurrent.futures
pool = concurrent.futures.ThreadPoolExecutor(1)
pool.submit(int).result()
""",
    "a worker of to_thread": "asyncio.run(syncline.to_thread(int))",
    "a worker of to_thread that is back": "syncline.run_sync(syncline.to_thread, int)",
    "another runner": "syncline.Bridge().run_sync(asyncio.sleep, 0)",
    "a runner with a loop of asyncio's": """
other = syncline.Bridge(loop_factory=asyncio.SelectorEventLoop)
other.run_sync(asyncio.sleep, 0)
""",
    "a loop in a thread of the user's": """
threading.Thread(target=asyncio.new_event_loop().run_forever, daemon=True).start()
""",
    "a thread that waits for an event": "threading.Thread(target=threading.Event().wait, daemon=True).start()",
    "a thread that waits at a queue": "threading.Thread(target=queue.Queue().get, daemon=True).start()",
    "a thread of native code": NATIVE.format(function="sem_wait", argument="ctypes.byref(semaphore)"),
}
AWAKE = {
    "a thread that sleeps": "threading.Thread(target=time.sleep, args=(50,), daemon=True).start()",
    "a thread of native code that sleeps": NATIVE.format(function="sleep", argument="ctypes.c_void_p(50)"),
    "a timer": "timer = threading.Timer(50, int); timer.daemon = True; timer.start()",
    "a runner with a timer": "other = syncline.Bridge(); other.submit(asyncio.sleep, 50)",
    "a worker at work": """
import concurrent.futures
pool = concurrent.futures.ThreadPoolExecutor(1)
pool.submit(time.sleep, 50)
""",
    "a worker of to_thread at work": """
other = syncline.Bridge()
other.submit(syncline.to_thread, time.sleep, 50)
""",
}


@pytest.mark.parametrize("thread", ASLEEP)
def test_beside_threads_that_sleep_it_is_an_error(thread: str) -> None:
    """Nobody is left who could end the wait."""
    finished = run_script(BLOCKED.format(before=ASLEEP[thread]))
    assert finished.out.startswith("TOLD"), finished.out + finished.err
    assert "in sync_code" in finished.out


@pytest.mark.parametrize("thread", AWAKE)
def test_beside_a_thread_that_may_act_it_is_a_warning(thread: str) -> None:
    """It is logged once, with both stacks and the thread's name; the wait goes on, and can end."""
    ends = """
class Ends(logging.Handler):
    def emit(self, record):
        # Interleaving: the wait ends only once the warning is there.
        threading.Timer(1.5, waited_in.call_soon_threadsafe, (queues[0].put_nowait, 2)).start()

logging.getLogger("syncline").addHandler(Ends())
queues = []
real = asyncio.Queue.get

async def get(self):
    global waited_in
    waited_in = asyncio.get_running_loop()
    queues.append(self)
    return await real(self)

asyncio.Queue.get = get
"""
    finished = run_script(BLOCKED.format(before=AWAKE[thread] + ends))
    assert finished.out.count("LOGGED") == 1, finished.out + finished.err
    assert "in sync_code" in finished.out
    assert "in get" in finished.out
    assert "ends the wait" in finished.out
    assert ("without Python code" in finished.out) == ("native" in thread)
    assert finished.lines[-1] == "2"
