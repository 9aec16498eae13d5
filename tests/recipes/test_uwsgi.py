"""docs/recipes-web.md: uWSGI, with workers forked from a loaded app."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

import recipe_code
import recipe_servers
import upstream

UWSGI = Path(sys.executable).with_name("uwsgi")
pytestmark = [
    pytest.mark.skipif(not UWSGI.exists(), reason="uwsgi is not installed"),
    pytest.mark.timeout(120),
]


def test_uwsgi_with_workers_forked_from_a_loaded_app(tmp_path: Path) -> None:
    """The app used its client while it was loaded; each worker has one of its own, which its threads share."""
    recipe_code.write(tmp_path, "recipes-web.md", "Flask")
    recipe_code.write(tmp_path, "recipes-web.md", "uWSGI")
    with (tmp_path / "app.py").open("a") as file:
        file.write(recipe_servers.WHO)
    port = recipe_servers.free_port()
    options = ("--ini", "uwsgi.ini", "--http-socket", f"127.0.0.1:{port}", "--virtualenv", sys.prefix)
    with (
        upstream.served() as pages,
        recipe_servers.serving(tmp_path, str(UWSGI), *options, port=port, UPSTREAM=pages.url) as url,
    ):
        recipe_servers.assert_two_workers_with_a_client_each(url)
        assert httpx.get(f"{url}/rows/2", timeout=20).text == "page 0 for /rows/2\npage 1 for /rows/2\n"
