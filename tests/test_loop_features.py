"""A runner's own loop is a whole asyncio loop: everything that needs its selector works there.

Each test runs on the runner's thread through `run_sync`, in scopes "process" and "caller", and again on a
plain asyncio loop, which proves that the expectation is asyncio's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import syncline
from child import open_descriptors

pytestmark = pytest.mark.timeout(60)
Run = Callable[..., Any]


@pytest.fixture(params=["process", "caller", "plain"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine function: on a loop of ours, or on a plain one for comparison."""
    if request.param == "plain":
        with asyncio.Runner() as runner:
            yield lambda function, *args: runner.run(function(*args))
    else:
        with syncline.Bridge(scope=request.param) as bridge:
            yield bridge.run_sync


async def echo_server(context: ssl.SSLContext | None = None) -> tuple[asyncio.Server, int]:
    """A server that sends back what it gets until the end of input, then "bye"; and its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"bye")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port: int = server.sockets[0].getsockname()[1]
    return server, port


def test_streams_across_calls(run: Run) -> None:
    """A server started in one call serves clients of later calls, half a megabyte each way."""

    async def talk(port: int) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        payload = os.urandom(500_000)
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
        writer.close()
        await writer.wait_closed()
        return len(payload)

    async def stop(server: asyncio.Server) -> None:
        server.close()
        await asyncio.sleep(0.01)  # lets the handlers see the end of their connections

    server, port = run(echo_server)
    assert [run(talk, port) for _ in range(3)] == [500_000] * 3
    run(stop, server)


def test_a_half_closed_connection_still_delivers(run: Run) -> None:
    """write_eof() ends one direction only: the peer's answer arrives after it."""

    async def talk() -> bytes:
        server, port = await echo_server()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"data")
        writer.write_eof()
        text = await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
        return text

    assert run(talk) == b"databye"


def test_tls(run: Run) -> None:
    """A TLS server and client on the same loop."""

    async def talk() -> bytes:
        contexts = []
        for protocol in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT):
            context = ssl.SSLContext(protocol)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            # Anonymous keys: encrypted, but without a certificate to keep in the repository.
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("aNULL:@SECLEVEL=0")
            contexts.append(context)
        server, port = await echo_server(contexts[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=contexts[1])
        writer.write(b"secret" * 10_000)
        text = await reader.readexactly(60_000)
        writer.close()
        with contextlib.suppress(ssl.SSLError):
            await writer.wait_closed()
        server.close()
        return text

    assert run(talk) == b"secret" * 10_000


def test_subprocesses(run: Run) -> None:
    """create_subprocess_exec from any thread: pipes both ways, and the exit status."""

    async def child() -> tuple[bytes, int | None]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import sys; print(sys.stdin.read().upper()); sys.exit(3)",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate(b"hello")
        return out.strip(), process.returncode

    assert run(child) == (b"HELLO", 3)
    assert run(child) == (b"HELLO", 3)


def test_readers_and_writers_come_and_go(run: Run) -> None:
    """add_reader, add_writer and their removal, together and one by one on the same descriptor."""

    async def watch() -> list[str]:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            events: list[str] = []
            readable, writable = asyncio.Event(), asyncio.Event()

            def on_read() -> None:
                events.append(left.recv(10).decode())
                readable.set()

            def on_write() -> None:
                writable.set()

            loop.add_reader(left, on_read)
            loop.add_writer(left, on_write)
            await asyncio.wait_for(writable.wait(), 10)
            assert loop.remove_writer(left)
            right.send(b"one")
            await asyncio.wait_for(readable.wait(), 10)
            assert not loop.remove_writer(left)
            loop.add_writer(left, on_write)
            assert loop.remove_reader(left)
            writable.clear()
            right.send(b"two")
            await asyncio.wait_for(writable.wait(), 10)
            assert events == ["one"]
            assert loop.remove_writer(left)
            readable.clear()
            loop.add_reader(left, on_read)
            await asyncio.wait_for(readable.wait(), 10)
            assert loop.remove_reader(left)
            assert not loop.remove_reader(left)
            return events

    assert run(watch) == ["one", "two"]


def test_hang_ups_and_errors_wake_readers_and_writers(run: Run) -> None:
    """The other end closes: a pipe's reader sees the end of input, its writer the broken pipe."""

    async def watch() -> list[str]:
        loop = asyncio.get_running_loop()
        woken: list[str] = []
        for kind in ("reader", "writer"):
            read_end, write_end = os.pipe()
            done = asyncio.Event()
            try:
                if kind == "reader":
                    loop.add_reader(read_end, done.set)
                    os.close(write_end)
                    write_end = -1
                else:
                    os.set_blocking(write_end, False)
                    with contextlib.suppress(BlockingIOError):
                        while True:
                            os.write(write_end, bytes(65536))
                    loop.add_writer(write_end, done.set)
                    os.close(read_end)
                    read_end = -1
                await asyncio.wait_for(done.wait(), 10)
                woken.append(kind)
            finally:
                loop.remove_reader(read_end) if kind == "reader" else loop.remove_writer(write_end)
                for descriptor in (read_end, write_end):
                    if descriptor >= 0:
                        os.close(descriptor)
        return woken

    assert run(watch) == ["reader", "writer"]


def test_wrong_descriptors_are_refused_as_asyncio_does(run: Run, tmp_path: Path) -> None:
    """A regular file can't be watched, nor a closed or negative descriptor: the errors are the
    selector's own."""

    async def watch() -> list[str]:
        loop = asyncio.get_running_loop()
        names: list[str] = []
        with (tmp_path / "file").open("w") as file:
            descriptor = file.fileno()
            with pytest.raises(PermissionError):
                loop.add_reader(descriptor, int)
        read_end, write_end = os.pipe()
        os.close(read_end)
        os.close(write_end)
        with pytest.raises(OSError, match="Bad file descriptor"):
            loop.add_reader(read_end, int)
        with pytest.raises(ValueError, match="Invalid file"):
            loop.add_reader(-1, int)
        assert not loop.remove_reader(read_end)
        return names

    assert run(watch) == []


def test_a_descriptor_number_can_be_used_again(run: Run) -> None:
    """Close and open 100 times: the new socket under the old number is watched, not the old one."""

    async def watch() -> int:
        loop = asyncio.get_running_loop()
        seen = 0
        for number in range(100):
            left, right = socket.socketpair()
            with left, right:
                left.setblocking(False)
                right.send(str(number).encode())
                assert await asyncio.wait_for(loop.sock_recv(left, 10), 10) == str(number).encode()
                done = asyncio.Event()
                loop.add_reader(left, done.set)
                right.send(b"again")
                await asyncio.wait_for(done.wait(), 10)
                loop.remove_reader(left)
                seen += 1
        return seen

    assert run(watch) == 100


def test_many_descriptors_at_once(run: Run) -> None:
    """400 socket pairs are watched together, and all become readable in one go."""

    async def watch() -> int:
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            pairs = [socket.socketpair() for _ in range(400)]
            for left, right in pairs:
                stack.enter_context(left)
                stack.enter_context(right)
                left.setblocking(False)
            waits = [asyncio.create_task(loop.sock_recv(left, 10)) for left, _ in pairs]
            await asyncio.sleep(0)
            for number, (_, right) in enumerate(pairs):
                right.send(str(number).encode())
            texts = await asyncio.wait_for(asyncio.gather(*waits), 20)
        return sum(text == str(number).encode() for number, text in enumerate(texts))

    before = open_descriptors()
    assert run(watch) == 400
    assert open_descriptors() <= before + 5


def test_datagrams_unix_sockets_and_pipes(run: Run, tmp_path: Path) -> None:
    """UDP endpoints, Unix servers and connect_read_pipe."""

    class Collect(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.got.set_result(data)

    async def talk() -> list[bytes]:
        loop = asyncio.get_running_loop()
        receiver, protocol = await loop.create_datagram_endpoint(Collect, local_addr=("127.0.0.1", 0))
        sender, _ = await loop.create_datagram_endpoint(
            Collect, remote_addr=receiver.get_extra_info("sockname")
        )
        sender.sendto(b"datagram")
        found = [await asyncio.wait_for(protocol.got, 10)]
        sender.close()
        receiver.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(serve, path)
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"unix\n")
        found.append(await reader.read())
        writer.close()
        await writer.wait_closed()
        server.close()

        read_end, write_end = os.pipe()
        stream = asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read_end, "rb")
        )
        os.write(write_end, b"pipe")
        os.close(write_end)
        found.append(await asyncio.wait_for(stream.read(), 10))
        transport.close()
        await asyncio.sleep(0)
        return found

    assert run(talk) == [b"datagram", b"unix\n", b"pipe"]


def test_a_refused_connection_raises(run: Run) -> None:
    """Connecting to a port where nobody listens fails at once with the usual error."""

    async def connect() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            with pytest.raises(ConnectionRefusedError):
                await asyncio.wait_for(asyncio.open_connection(*unused.getsockname()), 10)

    run(connect)


def test_names_are_resolved_in_the_executor(run: Run) -> None:
    """getaddrinfo and run_in_executor come back to the loop's thread."""

    async def resolve() -> bool:
        loop = asyncio.get_running_loop()
        here = threading.get_ident()
        found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        there = await loop.run_in_executor(None, threading.get_ident)
        return found[0][4] == ("127.0.0.1", 80) and there != here and here == threading.get_ident()

    assert run(resolve)


def test_another_thread_wakes_an_idle_loop(run: Run) -> None:
    """call_soon_threadsafe 200 times, each when the loop has nothing else to do (no timer, no descriptor)."""

    async def ping() -> int:
        loop = asyncio.get_running_loop()
        woken = 0
        requests: list[asyncio.Future[None] | None] = []
        pending = threading.Semaphore(0)

        def waker() -> None:
            while True:
                pending.acquire()
                future = requests.pop()
                if future is None:
                    return
                loop.call_soon_threadsafe(future.set_result, None)

        thread = threading.Thread(target=waker)
        thread.start()
        for _ in range(200):
            future: asyncio.Future[None] = loop.create_future()
            requests.append(future)
            pending.release()
            await future
            woken += 1
        requests.append(None)
        pending.release()
        thread.join()
        return woken

    assert run(ping) == 200


def test_timers_are_never_early_come_in_order_and_in_time(run: Run) -> None:
    """call_later: 40 timers of 0.2 to 100 ms; none fires early, the median is at most 10 ms late."""

    async def measure() -> list[tuple[float, float]]:
        loop = asyncio.get_running_loop()
        fired: list[tuple[float, float]] = []
        done = asyncio.Event()
        delays = [0.0002, 0.0007, *(number * 0.0027 for number in range(1, 39))]

        def fire(due: float) -> None:
            fired.append((due, loop.time()))
            if len(fired) == len(delays):
                done.set()

        for delay in delays:
            due = loop.time() + delay
            loop.call_at(due, fire, due)
        cancelled = loop.call_later(0.01, fire, 0.0)
        cancelled.cancel()
        await asyncio.wait_for(done.wait(), 20)
        return fired

    fired = run(measure)
    resolution = time.get_clock_info("monotonic").resolution
    lateness = sorted(at - due for due, at in fired)
    assert [due for due, _ in fired] == sorted(due for due, _ in fired)
    assert lateness[0] >= -max(resolution, 1e-6)
    assert lateness[len(lateness) // 2] < 0.01


def test_a_waiting_loop_uses_no_processor_time(run: Run) -> None:
    """One second of sleep, as one long timer and as many short ones, costs a fraction of a second."""

    async def rest() -> float:
        began = time.thread_time()
        await asyncio.sleep(0.5)
        for _ in range(50):
            await asyncio.sleep(0.01)
        return time.thread_time() - began

    assert run(rest) < 0.4


def test_signal_handlers_are_refused_off_the_main_thread() -> None:
    """add_signal_handler on a runner's thread raises as on any loop that isn't the main thread's (case
    47)."""

    async def install() -> None:
        with pytest.raises((ValueError, RuntimeError)):
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, int)

    with syncline.Bridge() as bridge:
        bridge.run_sync(install)


def test_debug_mode_of_the_runners_loop_reports_slow_callbacks(caplog: pytest.LogCaptureFixture) -> None:
    """set_debug(True) on a running loop of ours does what it does elsewhere."""

    async def slow() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        loop.slow_callback_duration = 0.01
        await asyncio.sleep(0)
        time.sleep(0.05)
        await asyncio.sleep(0)
        loop.set_debug(False)

    with syncline.Bridge() as bridge:
        bridge.run_sync(slow)
    assert any("took 0.0" in r.getMessage() and r.name == "asyncio" for r in caplog.records)
