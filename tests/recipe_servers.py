"""Web servers as programs of their own, for the recipes that run in them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

WHO = """

import threading, time

with app.test_request_context("/loading"):
    loaded_with = syncline.run_sync(fetch, "first"), id(client.get())

@app.get("/who")
def who():
    time.sleep(0.02)
    page("a")
    return [os.getpid(), id(client.get()), os.getppid()]
"""
"""Added to the Flask app: a call while it is loaded, before any fork; and who answers, with which client."""


WITNESS = """

@syncline.resource
async def witness():
    try:
        yield object()
    finally:
        await asyncio.sleep(0.01)
        with open("closed", "a") as file:
            file.write(f"{os.getpid()}\\n")

@app.before_request
def use_witness():
    witness.get()

witness.get()
"""
"""Added as well: a resource of whose closing each process leaves a line."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(folder: Path, *command: str, port: int, **env: str) -> Iterator[str]:
    """A server of its own, until its first answer and to its clean end."""
    url = f"http://127.0.0.1:{port}"
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, **env, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])},
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
            raise
    log_text = (folder / "log").read_text()
    assert "Traceback" not in log_text, log_text


def assert_two_workers_with_a_client_each(url: str) -> None:
    """Asks /who until both have answered, as it is the system's choice which one accepts."""
    seen: list[list[int]] = []
    deadline = time.monotonic() + 30
    with ThreadPoolExecutor(12) as pool:
        while len({answer[0] for answer in seen}) < 2:
            assert time.monotonic() < deadline, seen
            seen += pool.map(lambda _: httpx.get(f"{url}/who", timeout=20).json(), range(24))
    assert len({answer[2] for answer in seen}) == 1, "one master"
    assert len({(process, client) for process, client, _ in seen}) == 2
