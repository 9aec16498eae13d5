"""What Linux says of a process in /proc. Elsewhere nothing is known."""

from __future__ import annotations

from pathlib import Path


def status(pid: int | str, name: str) -> str | None:
    """The field of that name in the process's status; None where that is not known. `pid` may be "self"."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:")), None)


def caught(pid: int | str) -> set[int] | None:
    """The signals for which the process has a handler, whoever has set it; None where that is not known."""
    mask = status(pid, "SigCgt")
    if mask is None:
        return None
    bits = int(mask, 16)
    return {number for number in range(1, 65) if bits >> (number - 1) & 1}
