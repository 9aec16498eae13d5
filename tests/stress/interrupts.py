"""The script of test_interrupts.py: operations of one kind after the other, each hit at a random moment.

    python interrupts.py KIND,... SCOPE SEED SECONDS HOW

A signal handler raises an error of its own number, and counts it. Each must come out of the operation during which it
was raised: not a later one, not another error in its place, and none may be kept. HOW is "timer" (SIGALRM, by
setitimer), or "thread" (SIGINT, from another thread). Each kind is printed, and then what was seen as one line of
JSON; a hang ends with all stacks.

What Python code itself swallows can't be charged to the operation: a handler that would raise in a finalizer, a
weakref's callback, or a thread's shutdown says so (sys.unraisablehook), and is counted as "unraisable", apart from
"lost".
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from types import FrameType
from typing import Any

import syncline

LONG = 60.0
HANGS = int(os.environ.get("HANGS", "100"))
STEP = 0.0002
AGAIN = 0.005


class Struck(KeyboardInterrupt):
    """An interrupt, by its number. (asyncio itself logs and drops an Exception that is raised in its own code.)"""


class Striker:
    """Raises at a random moment of what runs in `window`, once."""

    def __init__(self, how: str, chance: random.Random) -> None:
        self.how = how
        self.chance = chance
        self.armed = False
        self.is_pythons = False
        """Whether the main thread drives asyncio's own loop. That overlooks a signal that comes just before it
        sleeps, and an error that is raised between two of its lines may lose what it was about to run."""
        self.raised = 0
        self.request = threading.Semaphore(0)
        self.delay = 0.0
        self.at_rest = threading.Event()
        self.at_rest.set()
        number = signal.SIGALRM if how == "timer" else signal.SIGINT
        signal.signal(number, self.handle)
        if how == "thread":
            threading.Thread(target=self.strike, daemon=True, name="striker").start()

    def handle(self, _number: int, frame: FrameType | None) -> None:
        # Not armed: the operation was over first, and this one is nobody's.
        if self.armed and not is_deaf(frame) and (not self.is_pythons or is_safe(frame)):
            self.armed = False
            self.raised += 1
            raise Struck(self.raised)

    def strike(self) -> None:
        while True:
            self.request.acquire()
            time.sleep(self.delay)
            os.kill(os.getpid(), signal.SIGINT)
            while self.is_pythons and self.armed:
                time.sleep(AGAIN)
                os.kill(os.getpid(), signal.SIGINT)
            self.at_rest.set()

    def aim(self, delay: float) -> None:
        self.delay = delay
        self.armed = True
        if self.how == "timer":
            signal.setitimer(signal.ITIMER_REAL, max(delay, 1e-6), AGAIN if self.is_pythons else 0)
        else:
            self.at_rest.clear()
            self.request.release()

    def stop(self) -> None:
        """No signal comes any more after this."""
        self.armed = False
        if self.how == "timer":
            signal.setitimer(signal.ITIMER_REAL, 0)
        else:
            self.at_rest.wait()
        for _ in range(3):  # one that has come is handled here, unarmed
            time.sleep(0)


def is_deaf(frame: FrameType | None) -> bool:
    """Whether Python itself drops an error that is raised here, in a callback of the garbage collector's."""
    while frame is not None:
        if frame.f_code.co_filename.endswith("_weakrefset.py"):
            return True
        frame = frame.f_back
    return False


def is_safe(frame: FrameType | None) -> bool:
    """Whether asyncio itself bears an error here: amid its own code, but for the wait, it loses what it was about to
    run."""
    while frame is not None:
        folder, file = os.path.split(frame.f_code.co_filename)
        if file == "selectors.py":
            return frame.f_code.co_name == "select"
        if folder.endswith("syncline"):
            return True
        if folder.endswith("asyncio"):
            return False
        if file == "interrupts.py":
            return True
        frame = frame.f_back
    return False


USERS_LOOP = ("asyncio", "to_thread", "from_thread", "in_a_loop", "new_loop")


class Work:
    """Coroutines of a few suspensions, and a check that each one that began has ended."""

    def __init__(self, scope: Any) -> None:
        self.scope = scope
        self.entered = 0
        self.left = 0
        self.bridge = syncline.Bridge(scope=scope, cleanup_timeout=LONG)
        self.loop = asyncio.new_event_loop()

    @contextlib.contextmanager
    def inside(self) -> Any:
        self.entered += 1
        try:
            yield
        finally:
            self.left += 1

    async def work(self) -> int:
        with self.inside():
            await asyncio.sleep(0)
            await asyncio.sleep(STEP)
        return 1

    async def items(self) -> AsyncIterator[int]:
        with self.inside():
            for number in range(3):
                yield number
                await asyncio.sleep(0)

    @contextlib.asynccontextmanager
    async def manager(self) -> AsyncIterator[int]:
        with self.inside():
            await asyncio.sleep(0)
            yield 1
            await asyncio.sleep(0)

    def asyncio(self) -> None:
        """The control: no code of ours."""
        self.in_users_loop(self.work())

    # The operations: each is made again and again, and hit.

    def run_sync(self) -> None:
        self.bridge.run_sync(self.work)

    def run(self) -> None:
        self.bridge.run(self.work(), timeout=LONG)

    def run_late(self) -> None:
        with contextlib.suppress(TimeoutError):
            self.bridge.run(self.work(), timeout=STEP / 2)

    def synced(self) -> None:
        self.bridge.synced(self.work)()

    def submit(self) -> None:
        self.bridge.submit(self.work).result()

    def iterate(self) -> None:
        assert list(self.bridge.iterate(self.items())) == [0, 1, 2]

    def iterate_ahead(self) -> None:
        assert list(self.bridge.iterate(self.items(), prefetch=2)) == [0, 1, 2]

    def iterate_left(self) -> None:
        for _ in self.bridge.iterate(self.items()):
            break

    def enter(self) -> None:
        with self.bridge.enter(self.manager()) as got:
            assert got == 1

    def dual(self) -> None:
        self.bridge.coroutine(self.work)().run()

    def nested(self) -> None:
        async def outer() -> int:
            with self.inside():
                return self.bridge.run_sync(self.work)

        self.bridge.run_sync(outer)

    def first(self) -> None:
        bridge = syncline.Bridge(scope=self.scope, cleanup_timeout=LONG)
        try:
            bridge.run_sync(self.work)
        finally:
            self.calmly(bridge.close)

    def close(self) -> None:
        bridge = syncline.Bridge(scope=self.scope, cleanup_timeout=LONG)
        try:
            bridge.run_sync(self.work)
            bridge.close()
        finally:
            self.calmly(bridge.close)

    def new_loop(self) -> None:
        syncline.run_in_new_loop(self.work)

    def to_thread(self) -> None:
        self.in_users_loop(syncline.to_thread(time.sleep, STEP))

    def from_thread(self) -> None:
        async def main() -> None:
            await syncline.to_thread(syncline.from_thread, self.work)

        self.in_users_loop(main())

    def in_a_loop(self) -> None:
        """A call that blocks a loop of the user's."""

        async def main() -> None:
            self.bridge.run_sync(self.work)

        self.in_users_loop(main())

    def in_users_loop(self, main: Coroutine[Any, Any, object]) -> None:
        try:
            self.loop.run_until_complete(main)
        finally:
            self.calmly(self.renew)
            main.close()  # if it was hit before it began

    def renew(self) -> None:
        """A loop that was interrupted may stop at once when it is used again."""
        cancel_all(self.loop)
        self.loop.close()
        self.loop = asyncio.new_event_loop()

    def calmly(self, last: Callable[[], None]) -> None:
        """What puts things in order again isn't hit: what was to be hit is over."""
        raise NotImplementedError


def cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """As asyncio.run does at its end."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))


def hit(work: Work, kind: str, striker: Striker, seconds: float) -> dict[str, Any]:
    """Operations of one kind for so long, each hit once; what became of the hits."""
    operation = getattr(work, kind)
    striker.is_pythons = work.scope == "caller" or kind in USERS_LOOP
    begun = time.perf_counter()
    for _ in range(5):
        operation()
    usual = (time.perf_counter() - begun) / 5
    ends: Counter[str] = Counter()
    examples: list[str] = []
    deadline = time.monotonic() + seconds
    turn = 0
    while time.monotonic() < deadline:
        turn += 1
        raised, caught = striker.raised, None
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try:
            try:
                striker.aim(striker.chance.random() * usual * 1.5)
                operation()
            finally:
                striker.stop()
        except BaseException as error:
            caught = error
        if isinstance(caught, Struck) and caught.args == (striker.raised,) and striker.raised == raised + 1:
            ends["caught"] += 1
        elif caught is None and striker.raised == raised:
            ends["too late"] += 1
        else:
            ends["lost" if caught is None else f"{type(caught).__name__} instead"] += 1
            if len(examples) < 3:
                examples.append(f"turn {turn}: raised {striker.raised - raised}, came {caught!r}")
    faulthandler.dump_traceback_later(HANGS, exit=True)
    work.bridge.close()
    work.loop.close()
    faulthandler.cancel_dump_traceback_later()
    return {"ends": ends, "examples": examples, "not left": work.entered - work.left}


def main() -> None:
    kinds, scope, seed, seconds, how = sys.argv[1:]
    striker = Striker(how, random.Random(int(seed)))
    unraisable: list[str] = []
    sys.unraisablehook = lambda hook: unraisable.append(f"{hook.exc_value!r} in {hook.object!r}")

    def calmly(last: Callable[[], None]) -> None:
        striker.stop()
        last()

    for kind in kinds.split(","):
        unraisable.clear()
        work = Work(scope)
        work.calmly = calmly  # type: ignore[method-assign]
        print(kind, flush=True)
        seen = hit(work, kind, striker, float(seconds))
        print(json.dumps({**seen, "unraisable": unraisable[:3], "raised": striker.raised}), flush=True)


if __name__ == "__main__":
    main()
