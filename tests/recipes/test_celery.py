"""docs/recipes-workers.md: Celery with a prefork pool; its messages and results are files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import recipe_code
import syncline
import upstream

celery = pytest.importorskip("celery")
pytestmark = pytest.mark.timeout(120)

CONFIG = """
import pathlib
folder = pathlib.Path(__file__).parent
for name in ("queue", "processed", "control", "results"):
    (folder / name).mkdir(exist_ok=True)
broker_url = "filesystem://"
broker_transport_options = {
    "data_folder_in": folder / "queue", "data_folder_out": folder / "queue",
    "processed_folder": folder / "processed", "control_folder": folder / "control", "polling_interval": 0.05,
}
result_backend = f"file://{folder}/results"
worker_hijack_root_logger = False
"""

MORE = """

import asyncio, threading, time
import celery.exceptions

@app.task
def who(wait):
    price("a")
    if wait:
        time.sleep(0.05)
    return [os.getpid(), id(client.get()), threading.active_count()]

async def slow():
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)

@app.task(soft_time_limit=1)
def limited():
    try:
        syncline.run_sync(slow)
    except celery.exceptions.SoftTimeLimitExceeded:
        return price("after")

# While it is loaded, in the process that forks the others.
loaded_with = price("before")
"""

ASK = """
import tasks
print([each.get(timeout=40) for each in [tasks.price.delay(name) for name in "ab"]])
seen = [each.get(timeout=40) for each in [tasks.who.delay(True) for _ in range(20)]]
print(len({who[0] for who in seen}), len({(who[0], who[1]) for who in seen}), len({who[2] for who in seen}))
print(tasks.limited.delay().get(timeout=40))
"""


def test_the_page_has_all_that_the_program_imports(tmp_path: Path) -> None:
    """Its configuration, too; a broker is asked for nothing yet."""
    recipe_code.write(tmp_path, "recipes-workers.md", "Celery")
    done = recipe_code.run(tmp_path, "-c", "import tasks; print(tasks.app.conf.broker_url)", UPSTREAM="")
    assert (done.stdout, done.returncode) == ("redis://localhost\n", 0), done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder with the recipe, the service that it asks, and a worker with two processes."""
    recipe_code.write(tmp_path, "recipes-workers.md", "Celery")
    (tmp_path / "celeryconfig.py").write_text(CONFIG)
    with (tmp_path / "tasks.py").open("a") as file:
        file.write(textwrap.dedent(MORE))
    command = ["-m", "celery", "--app", "tasks", "worker", "--pool", "prefork", "--concurrency", "2"]
    options = ["--loglevel", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    with upstream.served() as server, (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, *command, *options],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={**os.environ, "UPSTREAM": server.url},
            start_new_session=True,
        )
        try:
            yield tmp_path, server.url
            worker.terminate()
            assert worker.wait(30) == 0
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()


def test_celery_with_prefork(folder: tuple[Path, str]) -> None:
    """Tasks call async code with one client and one loop's thread for each process; a soft time limit cancels the
    coroutine, which cleans up, and the task goes on; the worker ends when it is told to."""
    ended = recipe_code.run(folder[0], "-c", ASK, UPSTREAM=folder[1])
    log = (folder[0] / "log").read_text()
    assert ended.returncode == 0, ended.stderr + log
    prices, processes, limited = ended.stdout.splitlines()
    assert prices == "['page a for price', 'page b for price']"
    count, clients, threads = map(int, processes.split())
    assert (count, threads) == (clients, 1)
    assert limited == "page after for price"
    assert "cleaned up" in log


def test_a_task_is_retried_from_a_coroutine_in_its_own_thread(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """Celery keeps a task's request for the thread and the greenlet; elsewhere there is none that could be retried."""
    app = celery.Celery(broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_always_eager = True

    def task(bridge: syncline.Bridge) -> Any:
        async def work(self: Any) -> str:
            if self.request.retries == 0:
                raise self.retry(countdown=0)
            return "at second try"

        return app.task(bind=True, name=f"in {bridge.scope}")(bridge.synced(work))

    assert task(make_bridge(scope="caller", nested="thread")).delay().get() == "at second try"
    assert task(make_bridge(scope="thread")).delay().get() is None
