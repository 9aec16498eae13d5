"""Twins of clients that are large to install: redis, openai and MCP, each against a real or a local server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import syncline
from child import eventually
from recipe_servers import free_port

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def bridge() -> Iterator[syncline.Bridge]:
    with syncline.Bridge(name="twins") as made:
        yield made


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A server of its own, which keeps nothing."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed (Debian's package has that name)")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        assert eventually(lambda: b"Ready to accept connections" in (tmp_path / "log").read_bytes())
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def test_redis_commands_pipelines_scans_and_messages(redis_url: str, bridge: syncline.Bridge) -> None:
    """Commands are sync methods that return awaitables; pipelines, subscriptions and locks are twins."""
    redis = pytest.importorskip("redis.asyncio", reason="redis is not installed")
    client_of = bridge.blocking(redis.Redis, related="redis")
    assert client_of.__name__ == "BlockingRedis"
    with client_of.from_url(redis_url, decode_responses=True) as client:
        assert type(client) is client_of
        assert client.ping()
        assert client.set("key", "value")
        assert client.get("key") == "value"
        assert client.incrby("count", 5) == 5
        assert client.hset("hash", mapping={"a": 1, "b": 2}) == 2
        assert client.hgetall("hash") == {"a": "1", "b": "2"}
        assert sorted(client.scan_iter(match="*")) == ["count", "hash", "key"]
        with client.pipeline() as pipeline:
            pipeline.incr("count")
            pipeline.get("key")
            assert pipeline.execute() == [6, "value"]
        with pytest.raises(redis.ResponseError, match="not an integer"):
            client.incr("key")
        with client.lock("lock", timeout=5) as lock:
            assert lock.owned()
        with client.pubsub() as subscription:
            subscription.subscribe("news")
            assert subscription.get_message(timeout=10)["type"] == "subscribe"
            client.publish("news", "hello")
            message = next(iter(subscription.listen()))
            assert message["data"] == "hello"


class Fake(BaseHTTPRequestHandler):
    """As much of OpenAI's API as the test uses."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if not self.path.endswith("/models"):
            self.send_error(404)
            return
        data = [{"id": name, "object": "model", "created": 1, "owned_by": "us"} for name in ("one", "two")]
        self._answer(json.dumps({"object": "list", "data": data}), "application/json")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["messages"][-1]["content"].upper()
        base: dict[str, Any] = {"id": "x", "created": 1, "model": asked["model"]}
        if asked.get("stream"):
            events = [
                {
                    **base,
                    "object": "chat.completion.chunk",
                    "choices": [{"index": 0, "delta": {"content": word}}],
                }
                for word in text.split()
            ]
            lines = [f"data: {json.dumps(event)}\n\n" for event in events]
            self._answer("".join([*lines, "data: [DONE]\n\n"]), "text/event-stream")
        else:
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            answer = {**base, "object": "chat.completion", "choices": [choice]}
            self._answer(json.dumps(answer), "application/json")

    def _answer(self, text: str, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def api_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Fake) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


def test_openai_answers_streams_and_lists(api_url: str, bridge: syncline.Bridge) -> None:
    """Its resources are objects of dozens of classes: those of the package get twins as they come."""
    openai = pytest.importorskip("openai", reason="openai is not installed")
    client_of = bridge.blocking(openai.AsyncOpenAI, related="openai")
    assert client_of.__name__ == "OpenAI"
    public = {name for name in dir(openai.OpenAI) if not name.startswith("_")}
    assert public - set(dir(client_of)) == set()
    messages = [{"role": "user", "content": "hello you"}]
    with client_of(api_key="key", base_url=api_url) as client:
        assert client.chat is client.chat
        answer = client.chat.completions.create(model="m", messages=messages)
        assert answer.choices[0].message.content == "HELLO YOU"
        with client.chat.completions.create(model="m", messages=messages, stream=True) as stream:
            assert [chunk.choices[0].delta.content for chunk in stream] == ["HELLO", "YOU"]
        assert [model.id for model in client.models.list()] == ["one", "two"]
        raw = client.chat.completions.with_raw_response.create(model="m", messages=messages)
        assert raw.parse().choices[0].message.content == "HELLO YOU"
        with client.chat.completions.with_streaming_response.create(model="m", messages=messages) as response:
            assert "HELLO YOU" in response.read().decode()
        assert client.with_options(timeout=3).timeout == 3
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("none")


MCP_SERVER = """
from mcp.server.{module} import {name}

server = {name}("calculator")

@server.tool()
def add(x: int, y: int) -> int:
    "Adds."
    return x + y

server.run("stdio")
"""


def test_an_mcp_session_over_stdio(tmp_path: Path, bridge: syncline.Bridge) -> None:
    """Its task groups are entered and left in one task; the server is a program of its own."""
    mcp = pytest.importorskip("mcp", reason="mcp is not installed")
    import importlib.util

    has_new_name = importlib.util.find_spec("mcp.server.mcpserver") is not None
    module, name = ("mcpserver", "MCPServer") if has_new_name else ("fastmcp", "FastMCP")
    (tmp_path / "server.py").write_text(MCP_SERVER.format(module=module, name=name))
    parameters = mcp.StdioServerParameters(command=sys.executable, args=[str(tmp_path / "server.py")])
    session_of = bridge.blocking(mcp.ClientSession)
    with bridge.enter(mcp.stdio_client(parameters)) as streams, session_of(*streams) as session:
        session.initialize()
        assert [tool.name for tool in session.list_tools().tools] == ["add"]
        result = session.call_tool("add", {"x": 2, "y": 3})
        assert result.content[0].text == "5"
        session.send_ping()
