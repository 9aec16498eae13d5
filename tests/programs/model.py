"""What must come out of a program, without syncline: a walk through the tree that notes what the program would note.

1. A context is a dict. Who shares a context has the same dict, who gets a copy has a copy.
2. Bodies that run at the same time note into lists of their own, which are put together in the bodies' order.
3. What would wait for ever raises Doom, as a cancellation goes.
4. Of bodies that run at the same time no two may have their loops wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from .known import is_known
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
    is_trio,
    parks,
    plainly,
    refuses,
)
from .tree import KINDS, Block, Op, Program, cleanups, holding, limits, limits_in_sync_code, used, waits

Notes = list[str]


class Value:
    """What a context variable is set to. As in the program, the same number set again is another value."""

    def __init__(self, number: int) -> None:
        self.number = number


Context = dict[str, Value]
UNSET = Value(0)


class Raised(Exception):  # noqa: N818 -- it stands for whatever the program raises
    """An error of the program, by its description."""


class Doom(Exception):  # noqa: N818
    """A wait that only a cancellation ends (by 3)."""


def predict(program: Program) -> Notes:
    """The notes of a program. Raises Meaningless where it isn't one."""
    notes: Notes = []
    model = Model(program)
    try:
        model.run(program.main, Place(), {}, notes)
    except Raised as error:
        notes.append(f"ended by {error}")
    return notes


def changed(before: Context, now: Context) -> Context:
    return {name: value for name, value in now.items() if before.get(name) is not value}


class Model:
    def __init__(self, program: Program) -> None:
        self.bridges = program.bridges
        self.waits: set[tuple[int, int]] = set()
        """Which bridge's loop stands still until something on which other's has gone on."""

    def run(self, block: Block, place: Place, context: Context, notes: Notes) -> None:
        for op in block:
            stands = KINDS[op.kind].stands
            if stands not in ("both", "async" if place.is_async else "sync"):
                raise Meaningless(f"{op.kind} in the wrong code")
            if is_known(op, place, self.bridges):
                raise Meaningless("known to fail")
            if isinstance(place.loop, int):
                self.waits |= {(still, place.loop) for still in place.still}
            getattr(self, op.kind)(op, place, context, notes)

    def attempted(self, block: Block, place: Place, context: Context, notes: Notes) -> None:
        try:
            self.run(block, place, context, notes)
        except Raised as error:
            notes.append(f"caught {error}")

    def doomed(self, block: Block, place: Place, context: Context, notes: Notes) -> None:
        """A body that is cancelled where it waits for ever."""
        if not waits(block):
            raise Meaningless("nothing waits to be cancelled")
        try:
            self.run(block, place.inside(is_doomed=True), context, notes)
        except Doom:
            return
        except Raised:
            pass
        raise Meaningless("it ends by itself")

    def calm(self, block: Block, place: Place, context: Context, notes: Notes) -> None:
        """A body that ends by itself."""
        try:
            self.run(block, place.without_doom(), context, notes)
        except Doom:
            raise Meaningless("it waits for ever") from None

    def of_call(self, op: Op, context: Context) -> Context:
        return context if self.bridges[op.bridge].context == "share" else dict(context)

    # In both kinds of code.

    def set(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        context[op.how] = Value(op.number)

    def see(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        notes.append(f"{op.how} = {context.get(op.how, UNSET).number}")

    def fail(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if op.how in ("SystemExit", "KeyboardInterrupt") and place.is_task:
            raise Meaningless("it would end the loop")
        raise Raised(f"{op.how} {op.number}")

    def attempt(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        self.attempted(op.bodies[0], place.inside(), context, notes)

    def ensure(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        try:
            self.run(op.bodies[0], place.inside(), context, notes)
        finally:
            notes.append("finally")
            self.calm(op.bodies[1], place, context, notes)

    def finalize(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        inside = finalized(place, op, self.bridges)
        if op.how == "dropped":
            context = dict(context)
        elif not place.is_async:
            context = self.of_call(op, context)
        self.calm(op.bodies[0], inside, context, notes)
        notes.append("finalized")

    # In async code.

    def forever(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if not place.is_doomed:
            raise Meaningless("nobody cancels it")
        raise Doom

    def pause(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        pass

    def sync(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        self.run(op.bodies[0], place.inside(is_async=False), context, notes)

    def to_thread(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        self.calm(op.bodies[0], in_worker(place), context, notes)
        notes.append("returned")

    def from_thread(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        self.calm(op.bodies[0], in_sender(place), context, notes)
        notes.append("returned")

    def task(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if is_trio(place, self.bridges):
            raise Meaningless("trio has no such tasks")
        self.run(op.bodies[0], in_child(place), dict(context), notes)
        notes.append("returned")

    def at_once(self, op: Op, inside: Place) -> None:
        """Bodies that run at the same time, on one loop."""
        if inside.nests or (isinstance(inside.loop, int) and parks(inside, inside.loop, self.bridges)):
            return
        blocking = [limits_in_sync_code(body) for body in op.bodies]
        others = [limits(body) - blocks for body, blocks in zip(op.bodies, blocking, strict=True)]
        if any(blocking) and any(others):
            raise Meaningless("a time limit may pass while another one blocks the loop")

    def beside(self, op: Op) -> Iterator[Block]:
        """The bodies of an operation that run at the same time (by 4). Where the loops are the bridges' own, calls
        move to others instead."""
        around, before = self.waits, set[tuple[int, int]]()
        for body in op.bodies:
            self.waits = set()
            yield body
            for one, other in self.waits:
                if (other, one) in before and "onto" in (self.bridges[one].scope, self.bridges[other].scope):
                    raise Meaningless("two loops may wait for each other")
            before |= self.waits
        self.waits = around | before

    def gather(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        self.at_once(op, in_child(place))
        doomed = 0
        for body in self.beside(op):
            try:
                self.attempted(body, in_child(place), dict(context), notes)
            except Doom:
                doomed += 1
        if doomed:
            raise Doom
        notes.append("gathered")

    def gather_fails(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        inside = in_child(place)
        self.at_once(op, inside)
        bodies = self.beside(op)
        try:
            self.calm(next(bodies), inside, dict(context), notes)
            raise Meaningless("it doesn't fail")
        except Raised as error:
            failed = error
        for body in bodies:
            self.doomed(body, inside, dict(context), notes)
        notes.append(f"group of {failed}")

    def is_away(self, op: Op, place: Place) -> bool:
        """Whether what async code uses runs on another loop than that code's."""
        return self.bridges[op.bridge].in_async == "home" and place.loop != op.bridge

    def dual(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if self.is_away(op, place):
            self.run_async(op, place, context, notes)
            return
        self.run(op.bodies[0], place.inside(), context, notes)
        notes.append("returned")

    def run_async(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        self.run(op.bodies[0], awaited(place, op, self.bridges), self.of_call(op, context), notes)
        notes.append("returned")

    def to_caller(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        inside = in_caller(place, self.bridges)
        try:
            self.calm(op.bodies[0], inside, context, notes)
        except Raised as error:
            if inside.may_be_main and str(error).startswith("KeyboardInterrupt"):
                raise Meaningless("it counts as a Ctrl-C, and ends the call") from None
            raise
        notes.append("returned")

    def aiterate(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if self.is_away(op, place):
            self.items(op, awaited(place, op, self.bridges), place, dict(context), context, notes)
        else:
            self.items(op, place, place, context, context, notes)

    def aenter(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if self.is_away(op, place):
            self.held(op, awaited(place, op, self.bridges), place, context, notes)
            return
        entered, body, left = op.bodies
        self.run(entered, place.inside(), context, notes)
        try:
            self.run(body, place.inside(), context, notes)
        finally:
            notes.append("exit")
            self.calm(left, place, context, notes)

    def thread_items(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        step, last, *items = op.bodies
        if op.number and any([last, *items]):
            raise Meaningless("the thread runs ahead")
        own = dict(context)
        try:
            for number, item in enumerate(items):
                self.calm(item, in_worker(place), own, notes)
                notes.append(f"item {number}")
                self.run(step, place.inside(), context, notes)
        finally:
            notes.append("generator left")
            self.calm(last, in_own_thread(place), own, notes)

    def thread_enter(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        entered, body, left = op.bodies
        own = dict(context)
        self.calm(entered, in_worker(place), own, notes)
        try:
            self.run(body, place.inside(), context, notes)
        finally:
            notes.append("exit")
            self.calm(left, in_own_thread(place), own, notes)

    def expire(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        self.doomed(op.bodies[0], place, context, notes)
        notes.append("TimeoutError")

    def cancel_task(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if is_trio(place, self.bridges):
            raise Meaningless("trio has no such tasks")
        self.doomed(op.bodies[0], in_child(place), dict(context), notes)
        notes.append("CancelledError")

    # In sync code.

    def call(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        how = op.how
        if how == "new_loop":
            self.run(op.bodies[0], in_new_loop(place), context, notes)
        elif refuses(place, op, self.bridges):
            if how == "submit":
                raise Meaningless("a wait for its own loop")
            notes.append("refused")
            return
        else:
            inside = called(place, op, self.bridges, submitted=how == "submit")
            self.run(
                op.bodies[0], inside, dict(context) if how == "submit" else self.of_call(op, context), notes
            )
        notes.append(f"returned: a = {context.get('a', UNSET).number}, b = {context.get('b', UNSET).number}")

    def plain(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        inside = plainly(place, op, self.bridges)
        self.calm(op.bodies[0], inside, self.of_call(op, context), notes)
        notes.append("returned")

    def session(self, op: Op, place: Place) -> Place:
        if refuses(place, op, self.bridges):
            raise Meaningless("refused")
        return called(place, op, self.bridges)

    def iterate(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if op.number and place.is_doomed:
            raise Meaningless("how far it has got is not known")
        self.items(op, self.session(op, place), place, dict(context), context, notes)

    def items(
        self, op: Op, inside: Place, place: Place, own: Context, callers: Context, notes: Notes
    ) -> None:
        """The steps of an iterator; what it changes in its own context, its caller sees."""
        step, last, *items = op.bodies
        shares = own is not callers and self.bridges[op.bridge].context == "share"
        if op.number and any([last, *items]):
            # What is fetched ahead notes nothing, as nobody knows when.
            raise Meaningless("the producer runs ahead")
        try:
            for number, item in enumerate(items):
                before = dict(own)
                try:
                    self.run(item, inside.inside(), own, notes)
                finally:
                    if shares:
                        callers.update(changed(before, own))
                notes.append(f"item {number}")
                self.run(step, place.inside(), callers, notes)
                end = op.how.split()[0]
                if end != "all":
                    notes.append(end)
                    break
        finally:
            notes.append("generator left")
            before = dict(own)
            self.calm(last, inside, own, notes)
            if shares:
                callers.update(changed(before, own))

    def enter(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        self.held(op, self.session(op, place), place, context, notes)

    def held(self, op: Op, inside: Place, place: Place, context: Context, notes: Notes) -> None:
        """The steps of a manager that is entered in a context of its own."""
        entered, body, left = op.bodies
        shares = self.bridges[op.bridge].context == "share"
        own = dict(context)
        try:
            self.run(entered, inside.inside(), own, notes)
        finally:
            if shares:
                context.update(own)
        try:
            self.run(body, place.inside(), context, notes)
        finally:
            notes.append("exit")
            before = dict(own)
            self.calm(left, inside, own, notes)
            if shares:
                # What the body has set since stays: a step hands out what it changes itself.
                context.update(changed(before, own))

    def generator(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        inside = self.session(op, place)
        own = dict(context)
        for at, letter in enumerate(op.how):
            if at == 0 and letter != "n":
                raise Meaningless("it begins with next")
            if letter in "cd":
                break
            self.calm(op.bodies[0], inside, own, notes)
            if at:
                got = {"n": "None", "s": str(at), "t": f"ToThrow {op.number * 1000 + at}"}[letter]
                notes.append(f"got {got}")
            notes.append(f"yielded {at}")
        notes.append("generator left")
        if self.bridges[op.bridge].context == "share":
            context.update(own)

    def many(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        inside = in_many(self.session(op, place))
        self.at_once(op, inside)
        if place.is_doomed and op.how != "group" and op.number < len(op.bodies):
            raise Meaningless("not all of them begin")
        doomed = 0
        for body in self.beside(op):
            try:
                self.attempted(body, inside, dict(context), notes)
            except Doom:
                doomed += 1
        if doomed:
            raise Doom
        notes.append("gathered")

    def trace(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if not place.is_top:
            raise Meaningless("there is one at a time")
        self.run(op.bodies[0], place.inside(), context, notes)

    def thread(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if place.is_doomed:
            raise Meaningless("a cancellation doesn't come through")
        self.calm(op.bodies[0], in_thread(place), {}, notes)

    def loop(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if place.loop is not None or place.is_doomed:
            raise Meaningless("a loop runs here")
        self.calm(op.bodies[0], in_users_loop(place, op), dict(context), notes)

    def timeout(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if place.loop == op.bridge and not parks(place, op.bridge, self.bridges):
            raise Meaningless("refused, or deeper")
        inside = called(place.without_doom(), op, self.bridges)
        self.doomed(op.bodies[0], inside, self.of_call(op, context), notes)
        notes.append("TimeoutError")

    def cancel(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        inside = called(place.without_doom(), op, self.bridges, submitted=True)
        self.doomed(op.bodies[0], inside, dict(context), notes)
        notes.append("CancelledError")

    def close(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        tasks = {"task", "gather", "iterate", "enter", "run_async", "many"}
        if any(bridge.in_async == "home" for bridge in self.bridges):
            tasks |= {"dual", "aiterate", "aenter"}
        if tasks & holding(op.bodies[0]):
            raise Meaningless("all tasks are cancelled at once: the order of their ends isn't known")
        calls = (tasks | {"sync", "to_thread", "from_thread", "finalize", "thread_items", "thread_enter"}) - {
            "task",
            "gather",
        }
        if not calls.isdisjoint(set[str]().union(*map(used, cleanups(op.bodies[0])))):
            raise Meaningless("a bridge that closes takes no calls, not even of cleanup")
        self.doomed(op.bodies[0], in_closed(place, op, self.bridges), {}, notes)
        notes += ["RunnerClosedError", "closed: RunnerClosedError"]

    def interrupt(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if not place.is_main or place.loop is not None:
            raise Meaningless("not in the main thread")
        inside = called(place.without_doom(), op, self.bridges)
        self.doomed(op.bodies[0], inside, self.of_call(op, context), notes)
        notes.append("KeyboardInterrupt")

    def fork(self, op: Op, place: Place, context: Context, notes: Notes) -> None:
        if not place.is_top:
            raise Meaningless("only at the top")
        with suppress(Raised):  # the child notes it
            self.calm(op.bodies[0], place.inside(is_forked=True), dict(context), [])
        notes.append("child: 0")
