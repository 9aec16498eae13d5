"""Random programs: from a seed, a tree whose every operation means something where it stands.

The model says what means something: an operation is made, tried in its place, and made anew if it is refused.
"""

from __future__ import annotations

import random

from .model import Doom, Model, Raised, predict
from .place import (
    Meaningless,
    Place,
    awaited,
    called,
    finalized,
    in_caller,
    in_child,
    in_closed,
    in_many,
    in_new_loop,
    in_own_thread,
    in_sender,
    in_thread,
    in_users_loop,
    in_worker,
    plainly,
)
from .tree import ITERATIONS, KINDS, Block, Op, Options, Program

WEIGHTS = {
    "set": 4, "see": 5, "fail": 1, "attempt": 3, "ensure": 3, "pause": 6, "finalize": 1, "sync": 5, "to_thread": 4,
    "from_thread": 8, "task": 2, "gather": 3, "gather_fails": 1, "dual": 2, "run_async": 3, "to_caller": 3,
    "aiterate": 1, "aenter": 1, "thread_items": 1, "thread_enter": 1, "expire": 1, "cancel_task": 2, "call": 8,
    "plain": 2, "iterate": 4, "enter": 4, "generator": 2, "many": 3, "trace": 1, "thread": 2, "loop": 2,
    "timeout": 0.7, "cancel": 2, "close": 0.7, "interrupt": 0.7, "fork": 0.1,
}  # fmt: skip
HOWS = {
    "set": ("a", "b"),
    "see": ("a", "b"),
    "fail": ("OwnError", "OwnError", "OwnBase", "SystemExit", "KeyboardInterrupt"),
    "to_thread": ("to_thread", "threaded", "limiter"),
    "gather": ("gather", "group"),
    "call": (
        "run_sync",
        "run_sync",
        "run",
        "limited",
        "submit",
        "synced",
        "dual",
        "compatible",
        "new_loop",
        "twin",
    ),
    "iterate": tuple(
        f"{end} {made}"
        for end in ("all", "all", "break", "close", "drop")
        for made in ("iterate", "iterator", "synced", "twin")
        # A twin's steps are Python code, whose frames, and so the iterator, live as long as an error that shows them.
        if made != "twin" or end in ("all", "close")
    ),
    "aiterate": ("all",),
    "thread_items": ("aiterate", "threaded"),
    "finalize": ("called", "dropped"),
    "enter": ("enter", "contextmanager", "twin"),
    "generator": ("nsc", "nntc", "nst", "nc", "nsstnc", "ntd"),
    "many": ("map", "map", "unordered", "group"),
    "loop": ("asyncio", "uvloop", "trio", "run_until_complete", "nestable", "installed"),
    "fork": ("_exit", "exit"),
}
DOOMED = ("expire", "cancel_task", "timeout", "cancel", "close", "interrupt")
TRIES = 12


def make(seed: int) -> Program:
    """A random program; the same one for the same seed."""
    return Maker(random.Random(seed)).program()


class Maker:
    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.number = 0
        self.left = 0
        self.bridges: tuple[Options, ...] = ()

    def program(self) -> Program:
        while True:
            self.left = self.chance.randrange(4, 28)
            self.bridges = tuple(self.options() for _ in range(self.chance.randrange(1, 4)))
            program = Program(self.bridges, self.block(Place(), 0, 5))
            try:
                predict(program)
            except Meaningless:
                continue
            return program

    def options(self) -> Options:
        choice = self.chance.choice
        loop = choice(("asyncio", "asyncio", "asyncio", "uvloop", "trio"))
        scopes = ("process", "process", "thread", "onto", *(() if loop == "trio" else ("caller",)))
        return Options(
            scope=choice(scopes),  # type: ignore[arg-type]
            nested=choice(("switch", "switch", "switch", "thread", "error")),
            context=choice(("share", "share", "copy")),
            loop=loop,  # type: ignore[arg-type]
            in_worker=choice(("own", "own", "sender")),
            in_async=choice(("task", "home")),
            visible=loop != "trio" and choice((False, False, True)),
            timed=choice((False, True)),
        )

    def block(self, place: Place, depth: int, length: int = 3) -> Block:
        """Operations that all mean something, and end by themselves."""
        made: list[Op] = []
        for _ in range(self.chance.randrange(1, length + 1)):
            op = self.op(place, depth)
            if op is None:
                break
            made.append(op)
            if self.fails(op, place):
                break  # what follows is never run
        return tuple(made)

    def op(self, place: Place, depth: int) -> Op | None:
        kinds = [
            kind for kind, what in KINDS.items()
            if kind in WEIGHTS and what.stands in ("both", "async" if place.is_async else "sync")
            and (kind not in ("fork", "trace") or place.is_top)
        ]  # fmt: skip
        for _ in range(TRIES):
            if self.left <= 0:
                return None
            kind = self.chance.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
            if KINDS[kind].bodies and (self.left < 2 or depth > 7):
                continue
            before = self.left
            op = self.filled(kind, place, depth)
            if op is not None:
                try:
                    Model(Program(self.bridges)).run((op,), place, {}, [])
                except (Meaningless, Doom):
                    pass
                except Raised:
                    return op
                else:
                    return op
            self.left = before - 1
        return None

    def fails(self, op: Op, place: Place) -> bool:
        try:
            Model(Program(self.bridges)).run((op,), place, {}, [])
        except Raised:
            return True
        return False

    def filled(self, kind: str, place: Place, depth: int) -> Op | None:
        """An operation with bodies; None where it can't stand here."""
        self.left -= 1
        self.number += 1
        bridge = self.chance.randrange(len(self.bridges))
        how = self.chance.choice(HOWS.get(kind, ("",)))
        number = self.number
        if kind == "pause":
            number = self.chance.randrange(1, 4)
        if kind == "many":
            number = self.chance.randrange(1, 4)
        op = Op(kind, (), bridge, how, number)
        if kind in ("iterate", "thread_items"):
            op = Op(kind, (), bridge, how, 0)
        try:
            bodies = self.bodies(op, place, depth + 1)
        except Meaningless:
            return None
        if (
            kind in ("iterate", "thread_items")
            and how.endswith("iterate")
            and not any(bodies[1:])
            and self.chance.random() < 0.5
        ):
            op = Op(kind, (), bridge, how, self.chance.choice((1, 3, 20)))
        return Op(kind, bodies, op.bridge, op.how, op.number)

    def bodies(self, op: Op, place: Place, depth: int) -> tuple[Block, ...]:
        kind = op.kind
        inside = self.place(op, place)
        here = place.inside()
        if kind in DOOMED:
            return (self.doomed(inside.inside(is_doomed=True), depth),)
        if kind == "gather_fails":
            others = tuple(
                self.doomed(inside.inside(is_doomed=True), depth) for _ in range(self.chance.randrange(1, 3))
            )
            return ((Op("pause", number=2), Op("fail", how="OwnError", number=op.number)), *others)
        if kind in ("iterate", "aiterate"):
            if self.chance.random() < 0.3:
                items: tuple[Block, ...] = ((),) * self.chance.randrange(1, 5)
            else:
                items = tuple(self.block(inside, depth) for _ in range(self.chance.randrange(1, 4)))
            return (self.block(here, depth, 2), self.cleanup(inside, depth), *items)
        if kind in ("enter", "aenter"):
            return (self.block(inside, depth, 2), self.block(here, depth), self.cleanup(inside, depth))
        if kind == "thread_items":
            made = tuple(self.block(inside, depth, 2) for _ in range(self.chance.randrange(1, 4)))
            items = made if self.chance.random() < 0.7 else tuple(() for _ in made)
            last = self.cleanup(in_own_thread(place), depth) if any(items) else ()
            return (self.block(here, depth, 2), last, *items)
        if kind == "thread_enter":
            last = self.cleanup(in_own_thread(place), depth)
            return (self.block(inside, depth, 2), self.block(here, depth), last)
        if kind == "ensure":
            return (self.block(inside, depth), self.cleanup(inside, depth))
        if kind in ("generator", "finalize"):
            return (self.cleanup(inside, depth),)
        if kind in ("gather", "many"):
            return tuple(self.block(inside, depth, 2) for _ in range(self.chance.randrange(1, 4)))
        return tuple(self.block(inside, depth) for _ in KINDS[kind].bodies.split())

    def cleanup(self, place: Place, depth: int) -> Block:
        """A block that doesn't fail."""
        return tuple(op for op in self.block(place, depth, 2) if not self.fails(op, place))

    def doomed(self, place: Place, depth: int) -> Block:
        """A block that comes to wait for ever."""
        before = tuple(
            op
            for op in self.block(place.without_doom(), depth, 2)
            if op.kind not in ITERATIONS and not self.fails(op, place.without_doom())
        )
        for _ in range(4):
            kind = self.chance.choice(
                ("forever", "forever", "ensure", "sync", "task", "gather", "attempt", "dual", "run_async")
            )
            if kind == "forever" or depth > 8:
                break
            if kind == "ensure":
                op = Op(
                    "ensure", (self.doomed(place, depth + 1), self.cleanup(place.without_doom(), depth + 1))
                )
            elif kind == "gather":
                bodies = (self.doomed(in_child(place), depth + 1) for _ in range(2))
                op = Op("gather", tuple(bodies), how="gather")
            elif kind == "sync":
                op = Op("sync", ((self.doomed_sync(place.inside(is_async=False), depth + 1)),))
            else:
                bridge = self.chance.randrange(len(self.bridges))
                try:
                    inside = self.place(Op(kind, bridge=bridge), place)
                except Meaningless:
                    continue
                op = Op(kind, (self.doomed(inside, depth + 1),), bridge)
            if self.waits_for_ever((*before, op), place):
                return (*before, op)
        return (*before, Op("forever"))

    def doomed_sync(self, place: Place, depth: int) -> Block:
        """Sync code in a task, whose nested call waits for ever."""
        bridge = place.loop if isinstance(place.loop, int) else 0
        inside = place.inside(is_async=True)
        body = self.doomed(inside, depth)
        calm = place.without_doom()
        kind = self.chance.choice(("call", "call", "iterate", "enter", "ensure", "many"))
        if kind == "call":
            return (Op("call", (body,), bridge, self.chance.choice(("run_sync", "run", "dual"))),)
        if kind == "many":
            bodies = tuple(self.doomed(in_many(inside), depth) for _ in range(2))
            return (Op("many", bodies, bridge, self.chance.choice(("map", "group")), 2),)
        cleanup = self.cleanup(inside.without_doom(), depth)
        if kind == "iterate":
            return (Op("iterate", ((), cleanup, body), bridge, "all iterate"),)
        call = (Op("call", (body,), bridge, "run_sync"),)
        if kind == "enter":
            return (Op("enter", ((), call, cleanup), bridge, "enter"),)
        return (Op("ensure", (call, self.cleanup(calm, depth))),)

    def waits_for_ever(self, block: Block, place: Place) -> bool:
        try:
            Model(Program(self.bridges)).run(block, place, {}, [])
        except Doom:
            return True
        except (Meaningless, Raised):
            pass
        return False

    def place(self, op: Op, place: Place) -> Place:
        """Where the (async) bodies of an operation run; the model checks all of it afterwards."""
        kind = op.kind
        if op.how == "new_loop":
            return in_new_loop(place)
        if kind in ("call", "iterate", "enter", "generator", "timeout", "cancel", "interrupt"):
            return called(place, op, self.bridges, submitted=op.how == "submit" or kind == "cancel")
        if kind == "many":
            return in_many(called(place, op, self.bridges))
        if kind == "run_async" or (
            kind in ("dual", "aiterate", "aenter") and self.bridges[op.bridge].in_async == "home"
        ):
            return awaited(place, op, self.bridges)
        if kind == "to_caller":
            return in_caller(place, self.bridges)
        if kind == "close":
            return in_closed(place, op, self.bridges)
        if kind == "loop":
            return in_users_loop(place, op)
        if kind == "thread":
            return in_thread(place)
        if kind in ("to_thread", "thread_items", "thread_enter"):
            return in_worker(place)
        if kind == "finalize":
            return finalized(place, op, self.bridges)
        if kind == "plain":
            return plainly(place, op, self.bridges)
        if kind == "from_thread":
            return in_sender(place)
        if kind == "sync":
            return place.inside(is_async=False)
        if kind in ("task", "gather", "gather_fails", "cancel_task"):
            return in_child(place)
        return place.inside()
