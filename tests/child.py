"""Scripts in fresh interpreters, for what a test process can't do to itself: Ctrl-C, fork, exit.

1. A child that hangs dies of SIGALRM, after faulthandler has written every thread's stack to its stderr;
   the alarm is set again in each forked child, which doesn't inherit it.
2. Nothing outlives the test: a child leads a process group of its own, and the group is killed at the end.
3. SIGINT has Python's own handler even where the test run was started with SIGINT ignored.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

PRELUDE = """\
def _prelude(limit):
    import faulthandler, os, signal
    faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
    signal.alarm(limit)
    os.register_at_fork(after_in_child=lambda: signal.alarm(limit))
    signal.signal(signal.SIGINT, signal.default_int_handler)
_prelude({limit})
del _prelude
"""

DEV = ("-X", "dev", "-W", "error")
FORKS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
"""For forks in processes with threads, of which Python 3.12 and later warn."""

SLOW_MACHINE = re.compile(r"^Executing <.*> took [0-9.]+ seconds\n", re.MULTILINE)
"""What asyncio's debug mode says of each step that took a tenth of a second: on a busy machine any may."""


@dataclass(frozen=True)
class Finished:
    """How a child ended: exit status (negative: killed by that signal), its remaining output, seconds it
    ran."""

    status: int
    out: str
    err: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    def assert_clean(self) -> None:
        """Exit status 0, and nothing on stderr."""
        assert (self.status, self.err) == (0, ""), f"{self.out}\n{self.err}"


class Child:
    """A running script; a context manager that leaves no process behind."""

    def __init__(
        self,
        script: str,
        *,
        flags: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        limit: int = 25,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory()
        folder = Path(self._directory.name)
        (folder / "script.py").write_text(PRELUDE.format(limit=limit) + textwrap.dedent(script))
        self._errors = folder / "stderr"
        self._began = time.monotonic()
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *flags, str(folder / "script.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        # Ends the reads below even where a process that ignores the alarm holds the pipe open.
        self._killer = threading.Timer(limit + 10, self._kill)
        self._killer.daemon = True
        self._killer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._killer.cancel()
        self._kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._directory.cleanup()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def expect(self, line: str) -> None:
        """Wait for the child's next line of output, which must be `line`."""
        assert self._process.stdout is not None
        got = self._process.stdout.readline().rstrip("\n")
        assert got == line, f"expected {line!r}, got {got!r}\n{self.errors}"

    def tell(self, line: str) -> None:
        """Send one line to the child's standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int:
        """The child's."""
        return self._process.pid

    @property
    def errors(self) -> str:
        """What it has written to stderr so far."""
        return self._errors.read_text()

    def signal(self, number: signal.Signals = signal.SIGINT) -> None:
        """Send a signal to the child (to no other process)."""
        os.kill(self._process.pid, number)

    def finish(self) -> Finished:
        """Wait for the end of the child and of everything that holds its output open."""
        assert self._process.stdout is not None
        out = self._process.stdout.read()
        status = self._process.wait()
        return Finished(status, out, SLOW_MACHINE.sub("", self.errors), time.monotonic() - self._began)


def run_script(
    script: str,
    *,
    flags: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    limit: int = 25,
) -> Finished:
    """Run a script to its end."""
    with Child(script, flags=flags, env=env, limit=limit) as child:
        return child.finish()


def threads_of_the_system() -> set[str]:
    """The ids of this process's threads, of those without Python code, too."""
    return set(os.listdir("/proc/self/task"))


def open_descriptors() -> int:
    """How many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def eventually(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `condition` came true in time: for ends that nothing signals, such as a closed descriptor."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True
