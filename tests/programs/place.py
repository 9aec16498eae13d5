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


UNSURE = "unsure"
"""Of a worker: whether a loop sent it."""


@dataclass(frozen=True)
class Place:
    """The code, its thread and its loop."""

    is_async: bool = False
    is_main: bool = True
    """The main thread, in sync code that no loop runs."""
    may_be_main: bool = True
    """Whether it may be the main thread, whatever it runs."""
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
    """In a task of the user's loop that opted in to awaiting in place, as the calls of a bridge onto that loop have."""
    is_task: bool = False
    """What is raised here comes to a task that isn't a call's own, or to a loop of the user's: SystemExit would end
    that."""
    is_child: bool = False
    """In a task of a call's task."""
    caller: Place | None = None
    """In a call: where the sync code is that waits for it."""
    is_forked: bool = False
    """In a forked child, where nobody runs the loops that bridges are onto."""

    def inside(self, **changes: object) -> Place:
        """The place of a body."""
        return replace(self, is_top=False, **changes)  # type: ignore[arg-type]

    def without_doom(self) -> Place:
        return self.inside(is_doomed=False)


def is_trio(place: Place, bridges: tuple[Options, ...]) -> bool:
    """Whether trio runs here."""
    return place.loop == "trio" or (isinstance(place.loop, int) and bridges[place.loop].loop == "trio")


def parks(place: Place, bridge: int, bridges: tuple[Options, ...]) -> bool:
    """Whether a call awaits in place: on the bridge's own loops, and in tasks of its library's that opted in."""
    nests = place.nests and is_trio(place, bridges) == (bridges[bridge].loop == "trio")
    is_own = place.loop == bridge and bridges[bridge].scope != "onto"
    return (nests or is_own) and bridges[bridge].nested == "switch"


def opts_in(bridge: int, bridges: tuple[Options, ...]) -> bool:
    """Whether a call of the bridge's is a task that opted in, on somebody's loop."""
    return bridges[bridge].scope == "onto" and bridges[bridge].nested == "switch"


def reached(place: Place, bridge: int, bridges: tuple[Options, ...]) -> None:
    """Raises Meaningless where no call comes to the bridge's loop (by 1)."""
    if bridge in place.still:
        raise Meaningless("its loop stands still")
    if place.is_forked and bridges[bridge].scope == "onto":
        raise Meaningless("nobody runs its loop")


def called(place: Place, op: Op, bridges: tuple[Options, ...], *, submitted: bool = False) -> Place:
    """Where the coroutine of a call runs. Raises Meaningless (by 1, 2)."""
    bridge = op.bridge
    options = bridges[bridge]
    waits = op.kind == "call" and not submitted
    moved = place.inside(is_async=True, is_main=False, sender=None, caller=place if waits else None)
    if place.loop is None and place.sender is not None and joins(op, options):
        if place.sender == UNSURE:
            raise Meaningless("no loop may have sent this thread")
        # What another backend's loop is given is written for that one; programs are the same on both.
        nests = place.sender == "installed"
        return moved.inside(may_be_main=True, loop=place.sender, nests=nests, is_child=True)
    # Twins' objects live on their bridge's loop, and are used nowhere else.
    is_away = op.how.endswith("twin") and place.loop != bridge
    if parks(place, bridge, bridges) and not (submitted or is_away):
        return moved
    if place.loop == bridge and not submitted:
        if place.is_doomed:
            raise Meaningless("a cancellation doesn't come through")
        # Its caller is on a loop that stands still, and so below.
        return moved.inside(may_be_main=False, still=place.still | {bridge}, is_child=False, caller=None)
    reached(place, bridge, bridges)
    moved = moved.inside(loop=bridge, nests=opts_in(bridge, bridges), is_child=False)
    if place.loop is None:
        drives = options.scope == "caller" and not submitted
        return moved.inside(may_be_main=place.may_be_main and drives)
    if place.is_doomed or (submitted and place.loop == bridge):
        raise Meaningless("a cancellation doesn't come through")
    still = place.still | stopped(place)
    return moved.inside(may_be_main=False, still=still, caller=None)


def plainly(place: Place, op: Op, bridges: tuple[Options, ...]) -> Place:
    """Where a sync function runs that is called on a bridge's loop."""
    if place.loop == op.bridge or parks(place, op.bridge, bridges):
        return place.inside()
    if place.is_doomed:
        raise Meaningless("a cancellation doesn't come through")
    return called(place, op, bridges).inside(is_async=False)


def finalized(place: Place, op: Op, bridges: tuple[Options, ...]) -> Place:
    """Where the cleanup of an object runs: on the loop that a call gets, if dropped in a task of nobody's."""
    is_dropped = op.how == "dropped"
    if place.is_doomed:
        raise Meaningless("a cancellation doesn't come through")
    if place.is_async:
        if place.loop != op.bridge:
            raise Meaningless("it would block its loop")
        return on_loop(place, op.bridge, is_task=True) if is_dropped else place.inside()
    if place.loop is not None or (place.sender is not None and bridges[op.bridge].in_worker == "sender"):
        raise Meaningless("its loop is not the one that a later call gets")
    inside = called(place, op, bridges)
    return inside.inside(is_task=True, nests=False) if is_dropped else inside


def on_loop(place: Place, loop: int | str, **changes: object) -> Place:
    """A coroutine on a loop whose tasks did not opt in, in a task of its own, for which no thread is known to wait."""
    return place.inside(
        is_async=True,
        is_main=False,
        sender=None,
        loop=loop,
        is_child=False,
        caller=None,
        **{"nests": False, **changes},
    )


def awaited(place: Place, op: Op, bridges: tuple[Options, ...]) -> Place:
    """Where what a task awaits by `run_async` runs. The task's own loop goes on."""
    if place.loop == op.bridge:
        if bridges[op.bridge].context == "share":
            return place.inside()
        # in a task with a context of its own
        nests = place.nests or opts_in(op.bridge, bridges)
        return place.inside(caller=None, is_child=False, nests=nests)
    reached(place, op.bridge, bridges)
    return on_loop(place, op.bridge, may_be_main=False, nests=opts_in(op.bridge, bridges))


def in_caller(place: Place, bridges: tuple[Options, ...]) -> Place:
    """The sync code that waits for the call that this place is in, if it is known."""
    caller = place.caller
    if caller is None:
        raise Meaningless("nobody waits")
    own = isinstance(place.loop, int) and bridges[place.loop].scope == "caller" and caller.loop is None
    still = place.still | (stopped(place) if own else frozenset())
    # Ctrl-C would end the function, and then the call.
    return caller.inside(is_main=False, is_doomed=False, still=still, is_task=place.is_task or caller.is_task)


def in_users_loop(place: Place, op: Op) -> Place:
    """What an operation `loop` runs."""
    loop = op.how if op.how in ("trio", "installed") else "asyncio"
    nests = op.how in ("nestable", "installed")
    return place.inside(
        is_async=True, is_main=False, loop=loop, sender=None, is_task=True, nests=nests, caller=None
    )


def in_new_loop(place: Place) -> Place:
    """What run_in_new_loop runs: a task that opted in is parked meanwhile."""
    if place.nests:
        return on_loop(place, "new", may_be_main=False)
    if place.is_doomed:
        raise Meaningless("a cancellation doesn't come through")
    still = place.still | stopped(place)
    return on_loop(place, "new", still=still)


def in_child(place: Place) -> Place:
    """A task of a task."""
    return place.inside(is_task=True, is_child=True, nests=place.loop == "installed")


def in_many(place: Place) -> Place:
    """One of many calls, which are tasks of their own that have opted in like the call around them."""
    inside = in_child(place)
    return inside.inside(nests=inside.nests or (place.nests and isinstance(place.loop, int)))


def in_worker(place: Place) -> Place:
    """A worker thread that a loop sends."""
    return place.inside(
        is_async=False, is_main=False, may_be_main=False, loop=None, nests=False, sender=place.loop
    )


def in_own_thread(place: Place) -> Place:
    """The thread of a sync iterator, or manager, when that is closed, or left: sent by its task, or only awaited."""
    return in_worker(place).inside(sender=UNSURE)


def in_sender(place: Place) -> Place:
    """The loop that sent this worker thread."""
    if place.sender in (None, UNSURE) or place.loop is not None:
        raise Meaningless("not in a worker")
    nests = place.sender == "installed"
    return place.inside(
        is_async=True,
        may_be_main=True,
        loop=place.sender,
        sender=None,
        is_task=True,
        is_child=True,
        nests=nests,
        caller=place,
    )


def in_thread(place: Place) -> Place:
    """A thread that is joined."""
    still = place.still | stopped(place)
    return place.inside(is_main=False, may_be_main=False, loop=None, nests=False, sender=None, still=still)


def in_closed(place: Place, op: Op, bridges: tuple[Options, ...]) -> Place:
    """A call of a thread on a bridge of its own, which is closed."""
    still = place.still | stopped(place)
    if bridges[op.bridge].scope == "onto":
        reached(place.inside(still=still), op.bridge, bridges)  # the loop is the same
    nests = opts_in(op.bridge, bridges)
    return on_loop(place, op.bridge, may_be_main=False, still=still - {op.bridge}, is_task=False, nests=nests)


def joins(op: Op, options: Options) -> bool:
    """Whether a call in a worker runs on the loop that sent it."""
    if op.kind == "call" and op.how == "compatible":
        return True
    is_run = op.kind in ("timeout", "interrupt", "plain") or op.how in (
        "run_sync",
        "run",
        "limited",
        "synced",
        "dual",
    )
    return options.in_worker == "sender" and is_run


def stopped(place: Place) -> frozenset[int]:
    """The loop that stands still while sync code waits here."""
    return frozenset({place.loop} if isinstance(place.loop, int) else ())


def refuses(place: Place, op: Op, bridges: tuple[Options, ...]) -> bool:
    """Whether a call is an error here: `nested="error"`, or a wait for the very loop that a bridge is onto."""
    if op.how.endswith("twin") and bridges[op.bridge].in_worker == "sender":
        raise Meaningless("it makes no twins")
    if place.loop != op.bridge:
        return False
    if bridges[op.bridge].scope == "onto":
        return not parks(place, op.bridge, bridges)
    return bridges[op.bridge].nested == "error"
