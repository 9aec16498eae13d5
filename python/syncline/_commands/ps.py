"""`python -m syncline ps PID`: who waits for whom in another process.

A process that has called `dump_on` is asked by its signal, which also interrupts a main thread that sleeps in the
kernel. Any other one is asked by `sys.remote_exec`, if it runs this very version of Python, 3.14 or later.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _proc, _questions
from .errors import Error

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

_LOOK_AGAIN = 0.01
_TELL = (
    "have it call, at its start: syncline.dump_on(signal.SIGUSR1); until then, look at its threads with a tool that "
    "needs no help of the process, such as py-spy"
)
_SCRIPT = """\
import os, sys
if "syncline" not in sys.modules:
    _text = "syncline: this process has not imported syncline, so no call of it waits\\n"
else:
    try:
        from syncline._dumping import dump_anyhow as _dump_anyhow
        _text = _dump_anyhow()
    except BaseException as _error:
        _text = "syncline: the dump failed: " + repr(_error) + "\\n"
with open({new!r}, "w", encoding="utf-8", errors="backslashreplace") as _file:
    _file.write(_text)
os.replace({new!r}, {answer!r})
"""


def add_arguments(parser: ArgumentParser) -> None:
    """See the package."""
    parser.add_argument("pid", metavar="PID", type=int, help="the process")
    parser.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for an answer (default: 10)",
    )


def run(parsed: Namespace) -> int:
    """Prints the dump."""
    text = dump_of(parsed.pid, parsed.timeout)
    sys.stdout.write(text)
    sys.stdout.flush()
    return 0


def dump_of(pid: int, timeout: float) -> str:
    """The dump of that process. Raises Error where it gives none."""
    _check(pid)
    questions = _questions_of(pid)
    if questions is not None:
        try:
            return _by_signal(pid, questions, timeout)
        finally:
            os.close(questions)
    return _by_remote_exec(pid, timeout)


def _check(pid: int) -> None:
    if pid <= 0:
        raise Error(f"{pid} is no process; give the number of one, as `ps` shows it")
    if pid == os.getpid():
        raise Error(f"{pid} is this very process")
    if not _is_there(pid):
        raise Error(f"there is no process {pid}")


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_dead(pid)


def _is_dead(pid: int) -> bool:
    """Whether it has ended, and its parent has not asked how."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def _answer(pid: int, timeout: float, look: Callable[[], str | None]) -> str | None:
    """What `look` finds in time; None if it finds nothing. Raises Error where the process has ended without an
    answer."""
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        # Asked first: what has ended by now, and has answered, has answered before `look` does.
        is_gone = not _is_there(pid)
        if (answer := look()) is not None:
            return answer
        if is_gone:
            raise Error(f"the process {pid} has ended before it answered")
        time.sleep(_LOOK_AGAIN)
    return None


# By a signal.


def _questions_of(pid: int) -> int | None:
    """The descriptor of the file by which that process is asked; None if it has none."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:
        raise Error(f"the process {pid} is not yours: run this as its user, or as root") from None
    except OSError:
        return None  # there is no /proc, or no such process any more
    for number in numbers:
        link = f"/proc/{pid}/fd/{number}"
        with contextlib.suppress(OSError):
            if _questions.NAME not in os.readlink(link):
                continue
            opened = os.open(link, os.O_RDWR)
            with contextlib.suppress(ValueError, TypeError):
                if _questions.read(opened).pid in (pid, _pid_within(pid)):
                    return opened
            os.close(opened)
    return None


def _pid_within(pid: int) -> int:
    """The number that the process knows itself by: in a container it is another one."""
    numbers = _proc.status(pid, "NSpid")
    return int(numbers.split()[-1]) if numbers else pid


def _by_signal(pid: int, questions: int, timeout: float) -> str:
    number = _questions.ask(questions)
    signum = signal.Signals(_questions.read(questions).signum)
    caught = _proc.caught(pid)
    if caught is not None and signum not in caught:
        _questions.take_back(questions)
        raise Error(
            f"the process {pid} has called dump_on({signum.name}), but does not handle that signal any more, which "
            "would end it; something has set another handler since"
        )
    with contextlib.suppress(ProcessLookupError):  # it has ended just now, and the next line says so
        os.kill(pid, signum)
    answer = _answer(pid, timeout, lambda: _questions.answer_to(questions, number))
    if answer is not None:
        return answer
    _questions.take_back(questions)
    raise Error(
        f"the process {pid} has not answered {signum.name} within {timeout:g} s. Python runs signal handlers in the "
        "main thread, between two steps of Python code: that thread may be in a function written in C that takes no "
        "notice of signals. A tool that needs no help of the process, such as py-spy, shows which"
    )


# By remote debugging.


def _by_remote_exec(pid: int, timeout: float) -> str:
    remote_exec: Any = getattr(sys, "remote_exec", None)
    if not _is_python(pid):
        raise Error(f"the process {pid} runs no Python")
    told = f"the process {pid} has not called dump_on()"
    if remote_exec is None:
        version = ".".join(map(str, sys.version_info[:2]))
        raise Error(
            f"{told}, and Python {version} has no other way to ask it: from 3.14 on there is sys.remote_exec; {_TELL}"
        )
    with tempfile.TemporaryDirectory(prefix="syncline-ps-") as folder:
        script, answer = Path(folder, "ask.py"), Path(folder, "answer")
        script.write_text(_SCRIPT.format(new=str(Path(folder, "new")), answer=str(answer)), encoding="utf-8")
        _give_to_owner(pid, folder, script)
        try:
            remote_exec(pid, str(script))
        except PermissionError as error:
            raise Error(
                f"{told}, and this user may not run code in it: as root it works, or where the system lets a process "
                f"debug others of its user (/proc/sys/kernel/yama/ptrace_scope is 0). Without that {_TELL}"
            ) from error
        except (OSError, RuntimeError, ValueError) as error:
            raise Error(
                f"{told}, and it can't be asked by sys.remote_exec ({error}): it has to run the same version of Python "
                f"as this command, with remote debugging not switched off; {_TELL}"
            ) from error
        text = _answer(pid, timeout, lambda: answer.read_text(encoding="utf-8") if answer.exists() else None)
        if text is not None:
            return text
    raise Error(
        f"the process {pid} has not answered sys.remote_exec within {timeout:g} s. Its main thread answers, between "
        "two steps of Python code, and now sleeps in the kernel or runs a function written in C; or it does not see "
        f"the files in {tempfile.gettempdir()}, as in a container. {told}, whose signal would wake it: {_TELL}"
    )


def _give_to_owner(pid: int, folder: str, script: Path) -> None:
    """Where root asks a process of somebody else's, that has to read the script and write the answer."""
    with contextlib.suppress(OSError):
        owner = os.stat(f"/proc/{pid}")
        if owner.st_uid != os.getuid():
            os.chown(folder, owner.st_uid, owner.st_gid)
            os.chown(script, owner.st_uid, owner.st_gid)


def _is_python(pid: int) -> bool:
    """Whether the process has Python's interpreter in it; yes where that can't be seen."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return True
    return any(
        "python" in os.path.basename(line.split(maxsplit=5)[-1]) for line in maps.splitlines() if "/" in line
    )
