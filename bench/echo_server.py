"""A server that answers each byte with a byte, in a process of its own so that it takes no one's interpreter.

`WAIT` is answered after a millisecond, anything else at once. It prints its port, and ends when its standard input
does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

NOW = b"n"
WAIT = b"w"
WAIT_SECONDS = 0.001


class EchoServer:
    """Runs this file in a child process; a context manager that gives sockets connected to it."""

    def __init__(self, core: int | None = None) -> None:
        arguments = [] if core is None else [str(core)]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def connect(self) -> socket.socket:
        """A connected socket that doesn't block."""
        connected = socket.create_connection(("127.0.0.1", self._port))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setblocking(False)
        return connected

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate()


def _answer(connected: socket.socket) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connected:
        while asked := connected.recv(1):
            if asked == WAIT:
                time.sleep(WAIT_SECONDS)
            connected.sendall(asked)


def _serve() -> None:
    if len(sys.argv) > 1:
        os.sched_setaffinity(0, {int(sys.argv[1])})
    elif hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening,), daemon=True).start()
        print(listening.getsockname()[1], flush=True)
        sys.stdin.read()


def _accept(listening: socket.socket) -> None:
    while True:
        threading.Thread(target=_answer, args=(listening.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    _serve()
