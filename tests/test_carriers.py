"""Which greenlets a thread has, for reports."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import syncline
from syncline._carriers import carriers_by_thread, carriers_of


def test_what_a_thread_has_parked_is_not_shown_for_a_later_one_with_its_number() -> None:
    """The loop that was parked there is open still, and so are its tasks."""
    kept: list[Any] = []

    async def parks() -> None:
        syncline.run_sync(asyncio.Event().wait)

    async def main() -> None:
        kept.append(asyncio.create_task(syncline.nestable(parks)()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def work() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main())
        kept.append(loop)
        assert len(carriers_of(threading.get_ident())) >= 1

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert thread.ident not in carriers_by_thread()
    task, loop = kept
    task._log_destroy_pending = False
    loop.close()
