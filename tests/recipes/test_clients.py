"""Twins of more clients that are large to install, made and written: asyncssh, NATS, elasticsearch and aiobotocore.

asyncssh brings a server; NATS's is Debian's; the others talk to as much of theirs as the tests use.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import syncline
from recipe_servers import free_port
from syncline._commands import main

pytestmark = pytest.mark.timeout(120)

Twins = Callable[..., list[Any]]


@pytest.fixture
def bridge() -> Iterator[syncline.Bridge]:
    with syncline.Bridge(name="clients") as made:
        yield made


@pytest.fixture(params=["made", "written"])
def twins(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bridge: syncline.Bridge
) -> Twins:
    """The twins of some classes, by `blocking`, or from a file that was written, and is the same in a second run."""
    monkeypatch.syspath_prepend(tmp_path)

    def of(*targets: str) -> list[Any]:
        where = (target.partition(":") for target in targets)
        classes = [getattr(importlib.import_module(module), name) for module, _, name in where]
        made = [bridge.blocking(cls) for cls in classes]
        if request.param == "made":
            return made
        name = f"client_twins_{abs(hash(targets))}"
        arguments = ["twin", *targets, "-o", str(tmp_path / f"{name}.py")]
        assert main(arguments) == 0
        assert main([*arguments, "--check"]) == 0
        importlib.invalidate_caches()
        module = importlib.import_module(name)
        return [getattr(module, twin.__name__) for twin in made]

    return of


def test_ssh_runs_commands_and_copies_files(tmp_path: Path, bridge: syncline.Bridge, twins: Twins) -> None:
    """Processes and files are entered; errors are asyncssh's own."""
    asyncssh = pytest.importorskip("asyncssh", reason="asyncssh is not installed")
    (tmp_path / "served").mkdir()

    class Server(asyncssh.SSHServer):  # type: ignore[misc, name-defined]
        def begin_auth(self, username: str) -> bool:
            return False

    async def handle(process: Any) -> None:
        process.stdout.write(process.command.upper())
        process.exit(3)

    async def serve() -> Any:
        return await asyncssh.create_server(
            Server,
            "127.0.0.1",
            0,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            process_factory=handle,
            sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=str(tmp_path / "served")),
        )

    names = ("SSHClientConnection", "SSHClientProcess", "SFTPClient", "SFTPClientFile")
    connection_of, process_of, files_of, file_of = twins(*(f"asyncssh:{name}" for name in names))
    with syncline.Bridge(name="server") as server, server.blocking(server.run_sync(serve)) as acceptor:
        port = acceptor.get_port()

        async def connect() -> Any:
            return await asyncssh.connect("127.0.0.1", port, known_hosts=None, username="anybody")

        there = bridge.run_sync(connect)
        known = hasattr(connection_of, "_of")
        with connection_of._of(there, bridge) if known else bridge.blocking(there) as connection:
            done = connection.run("hello")
            assert (done.stdout, done.exit_status) == ("HELLO", 3)
            with connection.create_process("again") as process:
                assert type(process) is process_of
                assert process.wait().stdout == "AGAIN"
            with connection.start_sftp_client() as files:
                assert type(files) is files_of
                with files.open("/a.txt", "w") as file:
                    assert type(file) is file_of
                    file.write("hello")
                assert [each.filename for each in files.scandir("/") if each.filename[0] != "."] == ["a.txt"]
                with files.open("/a.txt") as file:
                    assert file.read() == "hello"
                with pytest.raises(asyncssh.SFTPNoSuchFile):
                    files.stat("/none")
    assert (tmp_path / "served" / "a.txt").read_text() == "hello"


@pytest.fixture
def nats_port() -> Iterator[int]:
    program = shutil.which("nats-server")
    if program is None:
        pytest.skip("nats-server is not installed (Debian's package has that name)")
    port = free_port()
    command = [program, "-a", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        assert any(b"Server is ready" in line for line in server.stderr)
        yield port
        server.terminate()


def test_nats_messages_are_sent_and_iterated_over(nats_port: int, twins: Twins) -> None:
    """Subscriptions are twins; a callback is called as it is, on the loop."""
    pytest.importorskip("nats", reason="nats-py is not installed")
    client_of, subscription_of = twins("nats.aio.client:Client", "nats.aio.subscription:Subscription")

    async def answer(message: Any) -> None:
        await message.respond(message.data.upper())

    client = client_of()
    client.connect(f"nats://127.0.0.1:{nats_port}")
    subscription = client.subscribe("news")
    assert type(subscription) is subscription_of
    for number in range(3):
        client.publish("news", b"%d" % number)
    client.flush()
    assert subscription.next_msg(timeout=10).data == b"0"
    messages = iter(subscription.messages)
    assert [next(messages).data for _ in range(2)] == [b"1", b"2"]
    client.subscribe("question", cb=answer)
    assert client.request("question", b"hello", timeout=10).data == b"HELLO"
    assert client.is_connected
    client.drain()
    assert client.is_closed


class Store(BaseHTTPRequestHandler):
    """Keeps what is put, by its path: as an index of elasticsearch's, or a bucket of S3's."""

    protocol_version = "HTTP/1.1"
    kept: dict[str, bytes]

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path in self.kept:
            self._answer(200, self.kept[path])
        elif "list-type" in query:
            keys = "".join(f"<Contents><Key>{key.rpartition('/')[2]}</Key></Contents>" for key in self.kept)
            self._answer(200, f"<ListBucketResult>{keys}</ListBucketResult>".encode())
        else:
            self._answer(
                404, b'{"found": false}' if "_doc" in path else b"<Error><Code>NoSuchKey</Code></Error>"
            )

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        path = self.path.partition("?")[0]
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.kept[path] = json.dumps({"_source": json.loads(data)}).encode() if "_doc" in path else data
        self._answer(201 if "_doc" in path else 200, b"{}" if "_doc" in path else b"")

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        kind = (
            "application/vnd.elasticsearch+json;compatible-with=9" if data[:1] == b"{" else "application/xml"
        )
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "X-Elastic-Product": "Elasticsearch",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def store_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("OwnStore", (Store,), {"kept": {}})) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_elasticsearch_keeps_and_finds_documents(store_url: str, twins: Twins) -> None:
    """The parts of the client are objects that its constructor makes."""
    elasticsearch = pytest.importorskip("elasticsearch", reason="elasticsearch is not installed")
    client_of, parts_of = twins(
        "elasticsearch:AsyncElasticsearch", "elasticsearch._async.client.indices:IndicesClient"
    )
    with client_of(store_url) as client:
        client.index(index="wares", id="1", document={"name": "tea"})
        assert client.get(index="wares", id="1")["_source"] == {"name": "tea"}
        assert type(client.options(request_timeout=30)) is client_of
        assert type(client.indices) is parts_of
        assert not client.indices.exists(index="none")
        with pytest.raises(elasticsearch.NotFoundError):
            client.get(index="wares", id="2")


def test_s3_s_objects_are_put_read_and_listed(store_url: str, bridge: syncline.Bridge) -> None:
    """Clients are of classes that are made as they are needed; bodies lie in dicts of which nothing is said."""
    session = pytest.importorskip("aiobotocore.session", reason="aiobotocore is not installed")
    made = bridge.blocking(session.AioSession, related="aiobotocore")()
    options = {"aws_access_key_id": "id", "aws_secret_access_key": "key", "region_name": "eu-west-1"}
    with made.create_client("s3", endpoint_url=store_url, **options) as client:
        client.put_object(Bucket="wares", Key="tea", Body=b"green")
        with bridge.blocking(client.get_object(Bucket="wares", Key="tea")["Body"]) as body:
            assert body.read() == b"green"
        pages = bridge.blocking(client.get_paginator("list_objects_v2").paginate(Bucket="wares"))
        assert [item["Key"] for page in pages for item in page["Contents"]] == ["tea"]
        with pytest.raises(client.exceptions.NoSuchKey):
            client.get_object(Bucket="wares", Key="none")
