"""A client of debugpy's, which speaks the Debug Adapter Protocol as far as the tests need it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from child import eventually

Message = dict[str, Any]
LIMIT = 50.0
"""Seconds for each answer."""


class Debugged:
    """A program that debugpy runs: it waits for this client. A context manager that leaves no process behind."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["-X", "frozen_modules=off", "-m", "debugpy", "--listen", str(port), "--wait-for-client"]
        # A file: debugpy has a process of its own beside the program's, which would hold a pipe open.
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self._program = subprocess.Popen(
                [sys.executable, *options, *arguments],
                cwd=folder,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
            )
        self._number = 0
        self._unread: list[Message] = []
        connected: list[socket.socket] = []

        def connects() -> bool:
            try:
                connected.append(socket.create_connection(("127.0.0.1", port), timeout=LIMIT))
            except OSError:
                return False
            return True

        try:
            assert eventually(connects, LIMIT), "debugpy doesn't listen"
        except BaseException:
            self._end()
            raise
        self._socket = connected[0]
        self._file = self._socket.makefile("rwb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        self._file.close()
        self._socket.close()

    def _end(self) -> None:
        """Kills the program. debugpy's other process ends when it has lost the program and its client."""
        self._program.kill()
        self._program.wait()

    def begin(self, path: Path, line: int) -> None:
        """Has the program run, with a breakpoint."""
        self.ask("initialize", adapterID="test", linesStartAt1=True, columnsStartAt1=True, pathFormat="path")
        attached = self._send("attach", justMyCode=False)
        self._event("initialized")
        self.ask("setBreakpoints", source={"path": str(path)}, breakpoints=[{"line": line}])
        self.ask("configurationDone")
        self._answer(attached)

    def stopped(self) -> tuple[int, list[Message]]:
        """Waits until a thread has stopped; which one, and its frames."""
        thread: int = self._event("stopped")["body"]["threadId"]
        return thread, self.ask("stackTrace", threadId=thread)["body"]["stackFrames"]

    def ask(self, command: str, **arguments: Any) -> Message:
        """Sends a request, and waits for its answer."""
        return self._answer(self._send(command, **arguments))

    def finish(self) -> str:
        """Lets the program go on to its end; what it has printed."""
        self._event("terminated")
        self._send("disconnect")  # the program waits for that
        assert self._program.wait(timeout=LIMIT) == 0
        return self._output.read_text()

    def _send(self, command: str, **arguments: Any) -> int:
        self._number += 1
        message = {"seq": self._number, "type": "request", "command": command, "arguments": arguments}
        body = json.dumps(message).encode()
        self._file.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._file.flush()
        return self._number

    def _answer(self, number: int) -> Message:
        answer = self._first(lambda message: message.get("request_seq") == number)
        assert answer["success"], answer
        return answer

    def _event(self, name: str) -> Message:
        return self._first(lambda message: message.get("event") == name)

    def _first(self, is_wanted: Callable[[Message], bool]) -> Message:
        for place, message in enumerate(self._unread):
            if is_wanted(message):
                return self._unread.pop(place)
        while not is_wanted(message := self._read()):
            self._unread.append(message)
        return message

    def _read(self) -> Message:
        length = 0
        while header := self._file.readline().strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        message: Message = json.loads(self._file.read(length))
        return message
