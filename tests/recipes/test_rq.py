"""docs/recipes-workers.md: RQ with the worker that forks for each job, and a Redis that is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import recipe_code

pytest.importorskip("rq")
fakeredis = pytest.importorskip("fakeredis", reason="fakeredis is not installed")
pytestmark = pytest.mark.timeout(120)

WORK = """
import asyncio, os, sys
import redis, rq
import jobs, syncline

syncline.run_sync(jobs.work, "before")  # the parent has a loop of its own, on a thread
connection = redis.Redis(port=int(sys.argv[1]))
connection.client_info = lambda: {"addr": "127.0.0.1"}  # fakeredis' own answer can't be read
queue = rq.Queue(connection=connection)
found = [queue.enqueue(jobs.job, item) for item in ("a", "b")]
found.append(queue.enqueue(jobs.leaves_a_task))
rq.Worker([queue], connection=connection).work(burst=True, logging_level="ERROR")
print([job.return_value(refresh=True) for job in found], [str(job.get_status(refresh=True)) for job in found])
syncline.run_sync(jobs.work, "after")
"""
LEAVES_A_TASK = """

async def waits():
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)

async def begins_a_task():
    syncline.create_task(waits())
    await asyncio.sleep(0)

def leaves_a_task():
    with syncline.Bridge(scope="caller") as bridge:
        bridge.run_sync(begins_a_task)
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Where something that speaks Redis' protocol listens."""
    server = fakeredis.TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore")  # fakeredis' server leaves connections to the collector
def test_rq_with_a_process_for_each_job(tmp_path: Path, port: int) -> None:
    """Jobs in forked processes have results, and what they leave behind is cleaned up though they end at once."""
    recipe_code.write(tmp_path, "recipes-workers.md", "RQ")
    with (tmp_path / "jobs.py").open("a") as file:
        file.write(LEAVES_A_TASK)
    ended = recipe_code.run(tmp_path, "-c", WORK, str(port))
    assert ended.returncode == 0, ended.stderr
    statuses = ["JobStatus.FINISHED"] * 3
    assert ended.stdout.splitlines() == ["cleaned up", f"['A', 'B', None] {statuses}"]
