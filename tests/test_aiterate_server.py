"""A sync generator streamed by a real server, to clients that stay and that leave."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx

from child import eventually
from recipe_servers import free_port, serving

APP = """
import sqlite3, threading, time
import fastapi
from fastapi.responses import StreamingResponse
import syncline

app = fastapi.FastAPI()
closed = []


def rows(count, pause):
    connection = sqlite3.connect(":memory:")  # which checks that it is used in one thread only
    thread = threading.get_ident()
    try:
        for number in range(count):
            yield connection.execute("SELECT ?", (f"{number}\\n",)).fetchone()[0]
            time.sleep(pause)
    finally:
        connection.close()
        closed.append(threading.get_ident() == thread)


@app.get("/rows")
async def stream(count: int, pause: float, prefetch: int) -> StreamingResponse:
    return StreamingResponse(syncline.aiterate(rows(count, pause), prefetch=prefetch))


@syncline.threaded
def threaded_rows(count, pause):
    yield from rows(count, pause)


@app.get("/threaded")
async def stream_threaded(count: int, pause: float) -> StreamingResponse:
    return StreamingResponse(threaded_rows(count, pause))


@app.get("/state")
async def state():
    return {"closed": closed, "workers": sum("syncline" in each.name for each in threading.enumerate())}
"""


def test_generators_are_closed_whether_the_client_stays_or_leaves(tmp_path: Path) -> None:
    """Each by its own thread, and the threads are gone; under uvicorn, with its two loops."""
    (tmp_path / "app.py").write_text(APP)
    for loop in ("asyncio", "uvloop"):
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", "app:app", f"--port={port}", f"--loop={loop}"]
        with serving(tmp_path, *command, port=port) as url, httpx.Client(base_url=url, timeout=20) as client:

            def state(client: httpx.Client = client) -> dict[str, object]:
                found: dict[str, object] = client.get("/state").json()
                return found

            streams = ["/rows?prefetch=0", "/rows?prefetch=8", "/threaded?"]
            for path in streams:
                lines = client.get(f"{path}&count=200&pause=0").text.split()
                assert lines == [str(number) for number in range(200)]
            assert eventually(lambda: state() == {"closed": [True] * 3, "workers": 0})
            for path in streams:
                with client.stream("GET", f"{path}&count=1000000&pause=0.001") as response:
                    assert next(response.iter_lines()) == "0"
            assert eventually(lambda: state() == {"closed": [True] * 6, "workers": 0}), state()
