"""docs/recipes-web.md: Django, under WSGI and ASGI, by its own clients."""

from __future__ import annotations

from pathlib import Path

import pytest

import recipe_code

pytest.importorskip("django")

ASK = """
import asyncio, threading
import django
from django.conf import settings

settings.configure(ROOT_URLCONF="views", SECRET_KEY="none", ALLOWED_HOSTS=["*"], DEBUG=False)
django.setup()
from django.test import AsyncClient, Client
import syncline, views

print(Client().get("/sync?item=a&item=bb").json(), Client().get("/async?item=a&item=bb").json())

async def main():
    loop, seen = asyncio.get_running_loop(), []

    async def price(item):
        seen.append(asyncio.get_running_loop() is loop)
        await let_go.wait()
        return len(item)

    views.price = price
    let_go = asyncio.Event()
    # The call can only end because this loop goes on.
    asking = asyncio.create_task(AsyncClient().get("/async?item=ccc"))
    while not seen:
        await asyncio.sleep(0)
    let_go.set()
    print((await asking).json(), seen)

asyncio.run(main())
"""


def test_django(tmp_path: Path) -> None:
    """Views of both kinds, called in both ways; below the async one calls await in place under ASGI."""
    recipe_code.write(tmp_path, "recipes-web.md", "Django")
    ended = recipe_code.run(tmp_path, "-W", "error", "-c", ASK)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["{'total': 3} {'total': 3}", "{'total': 3} [True]"]
