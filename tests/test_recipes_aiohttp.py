"""docs/recipes.md: nested calls in the handlers of a real aiohttp server, whose tasks no task factory makes."""

from __future__ import annotations

import asyncio
import sys

import pytest

import syncline
from switching import Place, place
from test_switch_tasks_made_past import are_switched

pytest.importorskip("aiohttp", reason="aiohttp is not installed")
from aiohttp import ClientSession, web

__all__ = ["place"]


@web.middleware
async def nestable(request: web.Request, handler: object) -> web.StreamResponse:
    response: web.StreamResponse = await syncline.run_nestable(handler, request)  # type: ignore[arg-type]
    return response


async def ask(app: web.Application, count: int) -> list[str]:
    """The answers to so many requests that are made at once."""
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"

    async def answer(client: ClientSession) -> str:
        async with client.get(url) as reply:
            return await reply.text()

    try:
        async with ClientSession() as client:
            return await asyncio.gather(*(answer(client) for _ in range(count)))
    finally:
        await runner.cleanup()


def test_handlers_nest_behind_the_middleware_and_serve_each_other(place: Place) -> None:
    """Sync code below a handler calls the bridge: the calls can only end because all requests are served at once."""
    count = 5

    async def main() -> list[str]:
        everybody = asyncio.Barrier(count)

        async def wait() -> str:
            await everybody.wait()
            return "served"

        async def handler(_: web.Request) -> web.Response:
            return web.Response(text=place.call(wait))

        app = web.Application(middlewares=[nestable])
        app.router.add_get("/", handler)
        return await ask(app, count)

    assert place.run(main) == ["served"] * count


@pytest.mark.skipif(sys.version_info < (3, 12), reason="aiohttp makes such tasks from Python 3.12 on")
def test_a_handler_that_blocks_the_server_says_so(place: Place) -> None:
    """Without the middleware; every request is answered all the same."""
    if not are_switched(place):
        pytest.skip("nothing was promised for this loop's tasks")

    async def value() -> str:
        await asyncio.sleep(0)
        return "served"

    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=place.bridge.run_sync(value))

    async def main() -> list[str]:
        app = web.Application()
        app.router.add_get("/", handler)
        return await ask(app, 2)

    if sys.version_info >= (3, 14) and "uvloop" not in place.name:
        # On asyncio's own loops aiohttp asks the loop for its tasks again: the calls await in place, without a word.
        assert place.run(main) == ["served"] * 2
        return
    with pytest.warns(RuntimeWarning, match="run_nestable"):
        assert place.run(main) == ["served"] * 2
