"""KNOWN: what fails today and would drown all else. No program has it; a fault that is fixed loses its line.

Each entry is a sentence, and a function that tells whether an operation meets the fault where it stands.
"""

from __future__ import annotations

from collections.abc import Callable

from .place import Place, parks
from .tree import Op, Options, used

Meets = Callable[[Op, Place, tuple[Options, ...]], bool]

KNOWN: dict[str, Meets] = {
    "What sync code sets between two steps, the next step sees in a task of the loop, and nowhere else.": (
        lambda op, place, bridges: (
            op.kind in ("iterate", "enter")
            and (place.loop == op.bridge or parks(place, op.bridge, bridges))
            and "set" in used(op.bodies[:2][op.kind == "enter"])
        )
    ),
    "A task that was started below a call that awaits in place has the waiting thread of the call around that.": (
        lambda op, place, bridges: (
            op.kind == "to_caller"
            and place.is_child
            and place.caller is not None
            and place.caller.loop is not None
        )
    ),
}


def is_known(op: Op, place: Place, bridges: tuple[Options, ...]) -> bool:
    """Whether an operation meets a known fault."""
    return any(meets(op, place, bridges) for meets in KNOWN.values())
