"""Where a piece of a program runs, and what may be done there.

1. A loop that waits for something outside of it stands still: a call that would need it can't end. Programs don't make
   such calls (they raise DeadlockError, which other tests are about).
2. A wait without end stands only where its cancellation arrives: each step from what cancels it must be an await, or a
   nested call that awaits in place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from .tree import Op, Options


class Meaningless(Exception):  # noqa: N818 -- says what the program is
    """An operation stands where it can't be."""


@dataclass(frozen=True)
class Place:
    """The code, its thread and its loop."""

    is_async: bool = False
    is_main: bool = True
    """The main thread, in sync code that no loop runs."""
    is_top: bool = True
    """The program's outermost block."""
    loop: int | str | None = None
    """What runs in this thread: a loop of that bridge, or somebody's, or none."""
    sender: int | str | None = None
    """In a worker: the loop that sent it."""
    still: frozenset[int] = frozenset()
    """Bridges whose loops stand still (by 1)."""
    is_doomed: bool = False
    """All that is here will be cancelled."""
    nests: bool = False
    """In a task of the user's loop that opted in to awaiting in place."""
    is_task: bool = False
    """What is raised here comes to a task that isn't a call's own, or to a loop of the user's: SystemExit would end
    that."""
    is_child: bool = False
    """In a task of a call's task."""

    def inside(self, **changes: object) -> Place:
        """The place of a body."""
        return replace(self, is_top=False, **changes)  # type: ignore[arg-type]

    def without_doom(self) -> Place:
        return self.inside(is_doomed=False)


def is_trio(place: Place, bridges: tuple[Options, ...]) -> bool:
    """Whether trio runs here."""
    return place.loop == "trio" or (isinstance(place.loop, int) and bridges[place.loop].loop == "trio")


def parks(place: Place, bridge: int, bridges: tuple[Options, ...]) -> bool:
    """Whether a call awaits in place: in the bridge's own tasks, and in tasks of its library's that opted in."""
    nests = place.nests and is_trio(place, bridges) == (bridges[bridge].loop == "trio")
    return (nests or place.loop == bridge) and bridges[bridge].nested == "switch"


def called(place: Place, op: Op, bridges: tuple[Options, ...], *, submitted: bool = False) -> Place:
    """Where the coroutine of a call runs. Raises Meaningless (by 1, 2)."""
    bridge = op.bridge
    options = bridges[bridge]
    moved = place.inside(is_async=True, is_main=False, sender=None)
    if place.loop is None and place.sender is not None and joins(op, options):
        # What another backend's loop is given is written for that one; programs are the same on both.
        return moved.inside(loop=place.sender, nests=place.sender == "installed", is_child=True)
    if parks(place, bridge, bridges) and not submitted:
        return moved
    if place.loop == bridge and not submitted:
        if place.is_doomed:
            raise Meaningless("a cancellation doesn't come through")
        return moved.inside(still=place.still | {bridge}, is_child=False)
    if bridge in place.still:
        raise Meaningless("its loop stands still")
    if place.loop is None:
        return moved.inside(loop=bridge, nests=False, is_child=False)
    if place.is_doomed or (submitted and place.loop == bridge):
        raise Meaningless("a cancellation doesn't come through")
    return moved.inside(loop=bridge, nests=False, is_child=False, still=place.still | stopped(place))


def in_users_loop(place: Place, op: Op) -> Place:
    """What an operation `loop` runs."""
    loop = op.how if op.how in ("trio", "installed") else "asyncio"
    nests = op.how in ("nestable", "installed")
    return place.inside(is_async=True, is_main=False, loop=loop, sender=None, is_task=True, nests=nests)


def in_new_loop(place: Place) -> Place:
    """What run_in_new_loop runs: where a task opted in, it awaits that in place."""
    if place.nests:
        return place.inside(is_async=True)
    if place.is_doomed:
        raise Meaningless("a cancellation doesn't come through")
    still = place.still | stopped(place)
    return place.inside(is_async=True, is_main=False, sender=None, loop="new", still=still, is_child=False)


def in_child(place: Place) -> Place:
    """A task of a task."""
    return place.inside(is_task=True, is_child=True, nests=place.loop == "installed")


def in_worker(place: Place) -> Place:
    """A worker thread that a loop sends."""
    return place.inside(is_async=False, is_main=False, loop=None, nests=False, sender=place.loop)


def in_sender(place: Place) -> Place:
    """The loop that sent this worker thread."""
    if place.sender is None or place.loop is not None:
        raise Meaningless("not in a worker")
    nests = place.sender == "installed"
    return place.inside(
        is_async=True, loop=place.sender, sender=None, is_task=True, is_child=True, nests=nests
    )


def in_thread(place: Place) -> Place:
    """A thread that is joined."""
    still = place.still | stopped(place)
    return place.inside(is_main=False, loop=None, nests=False, sender=None, still=still)


def in_closed(place: Place, op: Op) -> Place:
    """A call of a thread on a bridge of its own, which is closed."""
    still = (place.still | stopped(place)) - {op.bridge}
    return place.inside(
        is_async=True,
        is_main=False,
        sender=None,
        loop=op.bridge,
        nests=False,
        still=still,
        is_task=False,
        is_child=False,
    )


def joins(op: Op, options: Options) -> bool:
    """Whether a call in a worker runs on the loop that sent it."""
    if op.kind == "call" and op.how == "compatible":
        return True
    is_run = op.kind in ("timeout", "interrupt") or op.how in ("run_sync", "run", "limited", "synced", "dual")
    return options.in_worker == "sender" and is_run


def stopped(place: Place) -> frozenset[int]:
    """The loop that stands still while sync code waits here."""
    return frozenset({place.loop} if isinstance(place.loop, int) else ())


def refuses(place: Place, op: Op, bridges: tuple[Options, ...]) -> bool:
    """Whether a call is an error here: `nested="error"`."""
    return place.loop == op.bridge and bridges[op.bridge].nested == "error"
