"""docs/recipes-web.md: Flask, gunicorn and uvicorn with several workers, all real."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import recipe_code
import recipe_servers
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
    app.client.close()
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


@pytest.mark.parametrize("preload", [["--preload"], []], ids=["preload", "no preload"])
def test_gunicorn(tmp_path: Path, pages: upstream.Upstream, preload: list[str]) -> None:
    """The app used its client while it was loaded, before the workers were forked, or in each of them. Each worker has
    one of its own, which its threads share, and closes it when it ends."""
    recipe_code.write(tmp_path, PAGE, "Flask")
    recipe_code.write(tmp_path, PAGE, "gunicorn, and other servers that fork")
    with (tmp_path / "app.py").open("a") as file:
        file.write(recipe_servers.WHO + recipe_servers.WITNESS)
    port = recipe_servers.free_port()
    command = ("-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--log-level=warning", *preload, "app:app")
    with recipe_servers.serving(tmp_path, sys.executable, *command, port=port, UPSTREAM=pages.url) as url:
        recipe_servers.assert_two_workers_with_a_client_each(url)
        texts = {httpx.get(f"{url}/page/{name}", timeout=20).text for name in "abab"}
    assert texts == {"page a for /page/a", "page b for /page/b"}
    closed = (tmp_path / "closed").read_text().split()
    assert len(closed) == len(set(closed)) == (3 if preload else 2)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn_with_two_workers(tmp_path: Path, loop: str) -> None:
    """Each answers with a nested call that awaits in place."""
    recipe_code.write(tmp_path, PAGE, "uvicorn with workers")
    port = recipe_servers.free_port()
    options = ("--port", str(port), "--workers", "2", "--loop", loop, "--log-level", "warning")
    with recipe_servers.serving(
        tmp_path, sys.executable, "-m", "uvicorn", "service:app", *options, port=port
    ) as url:
        answers = {httpx.get(f"{url}/a", timeout=20).json().split()[0] for _ in range(10)}
    assert answers == {"a"}
