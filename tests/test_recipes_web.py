"""docs/recipes-web.md: Flask, gunicorn and uvicorn with several workers, all real."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import recipe_code
import upstream

PAGE = "recipes-web.md"
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def pages() -> Iterator[upstream.Upstream]:
    """The service that the app asks."""
    with upstream.served() as server:
        yield server


@pytest.fixture
def app(tmp_path: Path, pages: upstream.Upstream, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The Flask app of the recipe, imported here."""
    recipe_code.write(tmp_path, PAGE, "Flask")
    monkeypatch.setenv("UPSTREAM", pages.url)
    monkeypatch.syspath_prepend(tmp_path)
    import app

    yield app
    import syncline

    syncline.run_sync(app.client().aclose)
    del sys.modules["app"]


def test_flask(app: Any, pages: upstream.Upstream) -> None:
    """Single pages, several at once and a stream; the coroutine sees the request; all use one client."""
    client = app.app.test_client()
    assert client.get("/page/a").text == "page a for /page/a"
    assert client.get("/pages?name=a&name=b").json == ["page a for /pages", "page b for /pages"]
    assert client.get("/rows/2").text == "page 0 for /rows/2\npage 1 for /rows/2\n"
    assert pages.connections <= 2  # kept, and a second one for two pages at the same time


def test_a_browser_that_goes_away_closes_the_stream(app: Any) -> None:
    """The response is closed, and with it the async generator, before it came to its end."""
    response = app.app.test_client().get("/rows/1000", buffered=False)
    lines = response.iter_encoded()
    assert next(lines) == b"page 0 for /rows/1000\n"
    response.close()
    with pytest.raises(StopIteration):
        next(lines)


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
            [sys.executable, "-m", *command],
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


def test_gunicorn_with_workers_forked_from_a_loaded_app(tmp_path: Path, pages: upstream.Upstream) -> None:
    """The app used its client while it was loaded; each worker has one of its own, which its threads share."""
    recipe_code.write(tmp_path, PAGE, "Flask")
    recipe_code.write(tmp_path, PAGE, "gunicorn, and other servers that fork")
    with (tmp_path / "app.py").open("a") as file:
        file.write(
            "\nclients = {}\n"
            "with app.test_request_context('/loading'):\n"
            "    loaded_with = syncline.run_sync(fetch, 'first'), id(client())\n"
            "@app.get('/who')\n"
            "def who():\n"
            "    time.sleep(0.02)\n"
            "    page('a')\n"
            "    return [os.getpid(), id(client()), threading.get_ident(), os.getppid()]\n"
            "import threading, time\n"
        )
    port = free_port()
    command = ("gunicorn", "--bind", f"127.0.0.1:{port}", "--log-level=warning", "app:app")
    with serving(tmp_path, *command, port=port, UPSTREAM=pages.url) as url:
        seen = [httpx.get(f"{url}/who", timeout=20).json() for _ in range(8)]
        seen += ask_until_both_answer(url, {answer[0] for answer in seen})
        texts = {httpx.get(f"{url}/page/{name}", timeout=20).text for name in "abab"}
    assert texts == {"page a for /page/a", "page b for /page/b"}
    workers = {answer[0] for answer in seen}
    assert len(workers) == 2
    assert len({answer[3] for answer in seen}) == 1  # one master
    assert len({(answer[0], answer[1]) for answer in seen}) == 2  # a client each


def ask_until_both_answer(url: str, workers: set[int]) -> list[list[int]]:
    """Which worker accepts is the system's choice."""
    from concurrent.futures import ThreadPoolExecutor

    seen: list[list[int]] = []
    deadline = time.monotonic() + 20
    with ThreadPoolExecutor(12) as pool:
        while len(workers) < 2 and time.monotonic() < deadline:
            answers = pool.map(lambda _: httpx.get(f"{url}/who", timeout=20).json(), range(24))
            seen += answers
            workers |= {answer[0] for answer in seen}
    return seen


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn_with_two_workers(tmp_path: Path, loop: str) -> None:
    """Each answers with a nested call that awaits in place."""
    recipe_code.write(tmp_path, PAGE, "uvicorn with workers")
    port = free_port()
    options = ("--port", str(port), "--workers", "2", "--loop", loop, "--log-level", "warning")
    with serving(tmp_path, "uvicorn", "service:app", *options, port=port) as url:
        answers = {httpx.get(f"{url}/a", timeout=20).json().split()[0] for _ in range(10)}
    assert answers == {"a"}
