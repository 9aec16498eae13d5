"""Runs the sync code of a program."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, closing
from typing import Any

import trio
import uvloop

import syncline

from .base import LOST, Base, Here, Inconclusive, Owner, made_bridge, shielded, until
from .tree import Block, Op


def twin(bridge: syncline.Bridge, **functions: Callable[..., object]) -> Any:
    """The twin of an object that has these methods."""
    methods = {name: staticmethod(function) for name, function in functions.items()}
    return bridge.blocking(type("AsyncThing", (), methods))()


def entered_twin(bridge: syncline.Bridge, manager: AbstractAsyncContextManager[object]) -> Any:
    """One that is entered, and left, as the manager is."""

    class AsyncThing:
        async def __aenter__(self) -> object:
            return await manager.__aenter__()

        async def __aexit__(self, *raised: object) -> bool | None:
            return await manager.__aexit__(*raised)  # type: ignore[arg-type]

    return bridge.blocking(AsyncThing)()


class SyncCode(Base):
    """The operations of sync code."""

    def sync(self, block: Block, here: Here) -> None:
        for op in block:
            if not self.simple(op, here):
                getattr(self, f"sync_{op.kind}")(op, here)

    def sync_attempt(self, op: Op, here: Here) -> None:
        try:
            self.sync(op.bodies[0], here)
        except BaseException as error:
            if not self.may_catch(error):
                raise
            here.note(f"caught {self.described(error)}")

    def sync_ensure(self, op: Op, here: Here) -> None:
        try:
            self.sync(op.bodies[0], here)
        finally:
            here.note("finally")
            with shielded():
                self.sync(op.bodies[1], here)

    def sync_call(self, op: Op, here: Here) -> None:
        bridge, token = here.bridges[op.bridge], object()
        # Where a loop runs, one gets the coroutine, unless one asks for the result.
        asked = {"_sync": True} if syncline.in_event_loop() else {}

        inside = here.called()

        async def work(given: object) -> object:
            await self.aio(op.bodies[0], inside)
            return given

        ways: dict[str, Callable[[], object]] = {
            "run_sync": lambda: bridge.run_sync(work, token),
            "run": lambda: bridge.run(work(token)),
            "limited": lambda: bridge.run(work(token), timeout=600),
            "submit": lambda: bridge.submit(work, token).result(),
            "synced": lambda: bridge.synced(work)(token),
            "dual": lambda: bridge.coroutine(work)(token).run(),
            "compatible": lambda: bridge.sync_compatible(work)(token, **asked),
            "new_loop": lambda: syncline.run_in_new_loop(work, token),
            "twin": lambda: twin(bridge, work=work).work(token),
        }
        try:
            got = ways[op.how]()
        except RuntimeError as error:
            if "nested=" not in str(error) and "is onto the very loop" not in str(error):
                raise
            here.note("refused")
            return
        here.note(f"returned: {self.context()}" if got is token else f"returned {got!r}")

    def sync_finalize(self, op: Op, here: Here) -> None:
        bridge, owner, done = here.bridges[op.bridge], Owner(), threading.Event()
        finalizer = bridge.finalize(owner, self.clean, op, here, done)
        if op.how == "called":
            finalizer()
        del owner
        bridge.run_sync(until, done)
        here.note("still alive" if finalizer.alive else "finalized")

    def sync_plain(self, op: Op, here: Here) -> None:
        token = object()

        def work(given: object) -> object:
            self.sync(op.bodies[0], here)
            return given

        got = here.bridges[op.bridge].call(work, token)
        here.note("returned" if got is token else f"returned {got!r}")

    def sync_iterate(self, op: Op, here: Here) -> None:
        bridge = here.bridges[op.bridge]
        step, last, *bodies = op.bodies
        end, made = op.how.split()
        left = []

        async def items() -> AsyncGenerator[int, None]:
            try:
                for number, body in enumerate(bodies):
                    await self.aio(body, here)
                    yield number
            finally:
                # Of what was fetched ahead nobody knows when it ends.
                left.append(True) if op.number else here.note("generator left")
                with shielded():
                    await self.aio(last, here)

        def iterator() -> Any:
            if made == "iterate":
                return bridge.iterate(items(), prefetch=op.number)
            if made == "twin":
                return twin(bridge, items=items).items()
            return bridge.iterator(items)() if made == "iterator" else bridge.synced(items)()

        def take(number: int) -> None:
            here.note(f"item {number}")
            self.sync(step, here)

        try:
            if end == "all":
                for number in iterator():
                    take(number)
            elif end == "break":
                for number in iterator():
                    take(number)
                    here.note("break")
                    break
            elif end == "close":
                with closing(iterator()) as it:
                    take(next(it))
                    here.note("close")
            else:
                it = iterator()
                try:
                    take(next(it))
                    here.note("drop")
                finally:
                    del it
        finally:
            if left:
                here.note("generator left")

    def sync_enter(self, op: Op, here: Here) -> None:
        bridge, token = here.bridges[op.bridge], object()
        entered, body, left = op.bodies

        async def manager() -> AsyncGenerator[object, None]:
            await self.aio(entered, here)
            try:
                yield token
            finally:
                here.note("exit")
                with shielded():
                    await self.aio(left, here)

        ways: dict[str, Callable[[], AbstractContextManager[object]]] = {
            "enter": lambda: bridge.enter(asynccontextmanager(manager)()),
            "contextmanager": bridge.contextmanager(manager),
            "twin": lambda: entered_twin(bridge, asynccontextmanager(manager)()),
        }
        with ways[op.how]() as got:
            assert got is token
            self.sync(body, here)

    def sync_generator(self, op: Op, here: Here) -> None:
        async def steps() -> AsyncGenerator[int, Any]:
            at, got = 0, None
            try:
                while True:
                    await self.aio(op.bodies[0], here)
                    if at:
                        here.note(f"got {got}")
                    try:
                        got = yield at
                    except Exception as error:
                        got = self.described(error)
                    at += 1
            finally:
                here.note("generator left")

        it = here.bridges[op.bridge].generator(steps)()
        try:
            for at, letter in enumerate(op.how):
                if letter == "c":
                    it.close()
                    return
                if letter == "d":
                    break
                if letter == "n":
                    got = next(it)
                elif letter == "s":
                    got = it.send(at)
                else:
                    got = it.throw(self.throwable(op.number * 1000 + at))
                here.note(f"yielded {got}")
        finally:
            del it  # the tracebacks of errors that were raised in its steps keep this frame

    def sync_many(self, op: Op, here: Here) -> None:
        bridge = here.bridges[op.bridge]
        heres = [here.apart() for _ in op.bodies]

        async def work(body: Block, apart: Here) -> Here:
            await self.aio_attempt(Op("attempt", (body,)), apart)
            return apart

        try:
            if op.how == "group":
                with bridge.group() as group:
                    calls = [group.start(work, *each) for each in zip(op.bodies, heres, strict=True)]
                    got = [call.result() for call in calls]
            else:
                got = list(bridge.map(work, op.bodies, heres, limit=op.number, ordered=op.how == "map"))
                if op.how == "unordered":
                    got.sort(key=heres.index)
        finally:
            for apart in heres:
                here.notes += apart.notes
        here.note("gathered" if got == heres else f"gathered {got!r}")

    def sync_trace(self, op: Op, here: Here) -> None:
        with tempfile.NamedTemporaryFile() as file, syncline.trace(file.name):
            self.sync(op.bodies[0], here)

    def sync_thread(self, op: Op, here: Here) -> None:
        self.in_thread(lambda: self.sync(op.bodies[0], here))

    def in_thread(self, work: Callable[[], None]) -> None:
        """In a thread with an empty context; what it raises is raised here."""
        thread, raised = self.started(work)
        thread.join()
        if raised:
            raise raised.pop()

    def started(self, work: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
        raised: list[BaseException] = []

        def run() -> None:
            try:
                contextvars.Context().run(work)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread, raised

    def sync_loop(self, op: Op, here: Here) -> None:
        async def main() -> None:
            await self.aio(op.bodies[0], here)

        async def installed() -> None:
            undo = syncline.install()
            try:
                await asyncio.create_task(main())
            finally:
                undo()

        if op.how == "run_until_complete":
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(main())
            finally:
                loop.close()
        elif op.how == "trio":
            trio.run(main)
        elif op.how == "uvloop":
            uvloop.run(main())
        elif op.how == "nestable":
            asyncio.run(syncline.nestable(main)())
        else:
            asyncio.run(installed() if op.how == "installed" else main())

    def doomed_call(self, op: Op, here: Here, call: Callable[[Here], object]) -> None:
        """A call that is ended while it waits for ever; what it raises is noted."""
        inside = here.doomed(op.bodies[0])
        try:
            call(inside)
        except Inconclusive:
            raise
        except BaseException as error:
            self.has_begun(inside)
            here.note(type(error).__name__)
        else:
            here.note("nothing was raised")

    def sync_timeout(self, op: Op, here: Here) -> None:
        bridge = here.bridges[op.bridge]
        self.doomed_call(
            op, here, lambda inside: bridge.run(self.aio(op.bodies[0], inside), timeout=self.limit(op))
        )

    def sync_cancel(self, op: Op, here: Here) -> None:
        ended = threading.Event()

        async def work(inside: Here) -> None:
            try:
                await self.aio(op.bodies[0], inside)
            finally:
                ended.set()

        def call(inside: Here) -> None:
            assert inside.latch is not None
            opened = inside.latch.opened

            def done(future: Future[None]) -> None:
                opened.set()
                if not future.cancelled():
                    ended.set()

            future = here.bridges[op.bridge].submit(work, inside)
            future.add_done_callback(done)
            opened.wait()
            future.cancel()
            ended.wait()
            try:
                future.result()
            except CancelledError:
                raise
            except BaseException as error:
                here.note(f"the future has {error!r}")

        self.doomed_call(op, here, call)

    def sync_close(self, op: Op, here: Here) -> None:
        bridge = made_bridge(self.program.bridges[op.bridge], self.hosts[op.bridge])
        inside = here.doomed(op.bodies[0])
        inside.bridges = [*here.bridges[: op.bridge], bridge, *here.bridges[op.bridge + 1 :]]
        assert inside.latch is not None
        opened = inside.latch.opened

        def work() -> None:
            try:
                bridge.run_sync(self.aio, op.bodies[0], inside)
            finally:
                opened.set()

        thread, raised = self.started(work)
        opened.wait()
        bridge.close()
        thread.join()
        here.note(type(raised[0]).__name__ if raised else "nothing was raised")
        try:
            bridge.run_sync(self.aio, (), here)
        except BaseException as error:
            here.note(f"closed: {type(error).__name__}")
        else:
            here.note("closed: it still runs calls")

    def sync_interrupt(self, op: Op, here: Here) -> None:
        def call(inside: Here) -> None:
            assert inside.latch is not None
            opened, over = inside.latch.opened, threading.Event()
            is_own = self.program.bridges[op.bridge].scope == "caller"

            def watch() -> None:
                opened.wait()
                LOST.clear()
                if not over.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                while not over.wait(0.01):
                    if LOST.is_set():
                        LOST.clear()
                        os.kill(os.getpid(), signal.SIGINT)
                    elif is_own:
                        # A loop that the main thread drives sleeps in Python's own selector, which overlooks a signal
                        # that comes between its last look and its sleep, until another one wakes it.
                        os.kill(os.getpid(), signal.SIGUSR1)

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                here.bridges[op.bridge].run_sync(self.aio, op.bodies[0], inside)
            finally:
                over.set()
                opened.set()
                watcher.join()

        self.doomed_call(op, here, call)

    def sync_from_thread(self, op: Op, here: Here) -> None:
        token, inside = object(), here.called()

        async def work(given: object) -> object:
            await self.aio(op.bodies[0], inside)
            return given

        got = syncline.from_thread(work, token)
        here.note("returned" if got is token else f"returned {got!r}")
