"""KNOWN: what fails today and would drown all else. No program has it; a fault that is fixed loses its line.

Each entry is a sentence, and a function that tells whether an operation meets the fault where it stands.
"""

from __future__ import annotations

from collections.abc import Callable

from .place import Place
from .tree import Op, Options

Meets = Callable[[Op, Place, tuple[Options, ...]], bool]

KNOWN: dict[str, Meets] = {
    'Scope "caller": a Ctrl-C that comes while the calling thread drives its loop is lost, or skips cleanup.': (
        lambda op, place, bridges: op.kind == "interrupt" and bridges[op.bridge].scope == "caller"
    ),
}


def is_known(op: Op, place: Place, bridges: tuple[Options, ...]) -> bool:
    """Whether an operation meets a known fault."""
    return any(meets(op, place, bridges) for meets in KNOWN.values())
