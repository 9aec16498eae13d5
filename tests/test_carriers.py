"""Which greenlets a thread has, for reports."""

from __future__ import annotations

from child import run_script


def test_what_a_thread_has_parked_is_not_shown_for_a_later_one_with_its_number() -> None:
    """The loop that was parked there is open still, and so are its tasks. What waits there does so for good."""
    end = run_script("""
import asyncio
import threading
import syncline
from syncline._carriers import carriers_by_thread, carriers_of

async def parks():
    syncline.run_sync(asyncio.Event().wait)

async def main():
    kept.append(asyncio.create_task(syncline.nestable(parks)()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

def work():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    kept.append(loop)
    print(len(carriers_of(threading.get_ident())) >= 1)

kept = []
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(thread.ident in carriers_by_thread())
task, loop = kept
task._log_destroy_pending = False
loop.close()
""")
    assert end.lines == ["True", "False"], end.err
