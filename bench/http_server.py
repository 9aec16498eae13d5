"""An HTTP server in a process of its own, aiohttp's: a small JSON document for each request.

It prints its port, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import os
import sys

from aiohttp import web

DOCUMENT = {"id": 7, "name": "seven", "tags": ["a", "b", "c"], "text": "x" * 200}


async def answer(request: web.Request) -> web.Response:
    return web.json_response(DOCUMENT)


async def main() -> None:
    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (host, port) = runner.addresses[0]
    print(f"http://{host}:{port}/", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(main())
