"""Runs the async code of a program, in asyncio and in trio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial

import anyio
import anyio.lowlevel

import syncline

from .base import Base, Here, Owner, shielded, until
from .tree import Block, Op


class AsyncCode(Base):
    """The operations of async code."""

    async def aio(self, block: Block, here: Here) -> None:
        for op in block:
            if not self.simple(op, here):
                await getattr(self, f"aio_{op.kind}")(op, here)

    async def aio_attempt(self, op: Op, here: Here) -> None:
        try:
            await self.aio(op.bodies[0], here)
        except BaseException as error:
            if not self.may_catch(error):
                raise
            here.note(f"caught {self.described(error)}")

    async def aio_ensure(self, op: Op, here: Here) -> None:
        try:
            await self.aio(op.bodies[0], here)
        finally:
            here.note("finally")
            with shielded():
                await self.aio(op.bodies[1], here)

    async def aio_forever(self, op: Op, here: Here) -> None:
        assert here.latch is not None
        here.latch.arrive()
        await anyio.sleep_forever()

    async def aio_pause(self, op: Op, here: Here) -> None:
        for _ in range(op.number):
            await anyio.lowlevel.checkpoint()

    async def aio_finalize(self, op: Op, here: Here) -> None:
        owner, done = Owner(), threading.Event()
        finalizer = here.bridges[op.bridge].finalize(owner, self.clean, op, here, done)
        if op.how == "called":
            await finalizer.aio()
        del owner
        await until(done)
        here.note("still alive" if finalizer.alive else "finalized")

    async def aio_sync(self, op: Op, here: Here) -> None:
        self.sync(op.bodies[0], here)

    async def aio_to_thread(self, op: Op, here: Here) -> None:
        token = object()

        def work(given: object) -> object:
            self.sync(op.bodies[0], here)
            return given

        if op.how == "to_thread":
            got = await syncline.to_thread(work, token)
        elif op.how == "threaded":
            got = await syncline.threaded(work)(token)
        else:
            got = await syncline.ThreadLimiter(1).to_thread(work, token)
        here.note("returned" if got is token else f"returned {got!r}")

    async def aio_task(self, op: Op, here: Here) -> None:
        task = syncline.create_task(self.aio(op.bodies[0], here))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            # It gets the cancellation once: anyio's scopes cancel who waits again and again, and cleanup may await.
            task.cancel()
            with shielded():
                await task
            raise  # it ended by itself just then
        here.note("returned")

    async def aio_gather(self, op: Op, here: Here) -> None:
        heres = [here.apart() for _ in op.bodies]

        async def work(body: Block, apart: Here) -> Here:
            await self.aio_attempt(Op("attempt", (body,)), apart)
            return apart

        try:
            calls = [partial(work, body, apart) for body, apart in zip(op.bodies, heres, strict=True)]
            if op.how == "gather":
                got = await syncline.gather(*calls)
            else:
                async with syncline.create_gather_task_group() as group:
                    keys = [group.start_soon(call) for call in calls]
                got = [group.get_result(key) for key in keys]
        finally:
            self.put_together(here, heres)
        here.note("gathered" if got == heres else f"gathered {got!r}")

    def put_together(self, here: Here, heres: list[Here]) -> None:
        for apart in heres:
            here.notes += apart.notes

    async def aio_gather_fails(self, op: Op, here: Here) -> None:
        inside = here.doomed(*op.bodies[1:])
        heres = [inside.apart() for _ in op.bodies]
        latch = inside.latch
        assert latch is not None

        async def failing() -> None:
            while not (latch.opened.is_set() or self.is_inconclusive):
                await anyio.lowlevel.checkpoint()
            await self.aio(op.bodies[0], heres[0])

        calls = [partial(self.aio, *each) for each in zip(op.bodies[1:], heres[1:], strict=True)]
        try:
            await syncline.gather(failing, *calls)
        except BaseExceptionGroup as error:

            def may_catch(one: BaseException) -> bool:  # `split` takes no method before Python 3.13
                return self.may_catch(one)

            if (others := error.split(Exception)[1]) and others.split(may_catch)[1]:
                # A cancellation from outside came too early (by 3 in base.py), which is not the program's to catch.
                self.is_inconclusive = True
                raise
            self.put_together(here, heres)
            here.note(self.described(error))

    async def aio_dual(self, op: Op, here: Here) -> None:
        token = object()

        async def work(given: object) -> object:
            await self.aio(op.bodies[0], here)
            return given

        got = await here.bridges[op.bridge].coroutine(work)(token)
        here.note("returned" if got is token else f"returned {got!r}")

    async def aio_run_async(self, op: Op, here: Here) -> None:
        token = object()

        async def work(given: object) -> object:
            await self.aio(op.bodies[0], here)
            return given

        got = await here.bridges[op.bridge].run_async(work, token)
        here.note("returned" if got is token else f"returned {got!r}")

    async def aio_to_caller(self, op: Op, here: Here) -> None:
        token = object()

        def work(given: object) -> object:
            if threading.get_ident() != here.caller:
                here.note("in another thread than the caller's")
            self.sync(op.bodies[0], here)
            return given

        got = await syncline.to_caller(work, token)
        here.note("returned" if got is token else f"returned {got!r}")

    async def aio_aiterate(self, op: Op, here: Here) -> None:
        step, last, *bodies = op.bodies

        async def items() -> AsyncGenerator[int, None]:
            try:
                for number, body in enumerate(bodies):
                    await self.aio(body, here)
                    yield number
            finally:
                here.note("generator left")
                with shielded():
                    await self.aio(last, here)

        it = here.bridges[op.bridge].generator(items)()
        try:
            async for number in it:
                here.note(f"item {number}")
                await self.aio(step, here)
        finally:
            await it.aclose()

    async def aio_aenter(self, op: Op, here: Here) -> None:
        entered, body, left = op.bodies

        async def manager() -> AsyncGenerator[None, None]:
            await self.aio(entered, here)
            try:
                yield
            finally:
                here.note("exit")
                with shielded():
                    await self.aio(left, here)

        bridge = here.bridges[op.bridge]
        made = (
            bridge.contextmanager(manager)()
            if op.number % 2
            else bridge.enter(asynccontextmanager(manager)())
        )
        async with made:
            await self.aio(body, here)

    async def aio_thread_items(self, op: Op, here: Here) -> None:
        step, last, *bodies = op.bodies
        left = []

        def items() -> Generator[int, None, None]:
            try:
                for number, body in enumerate(bodies):
                    self.sync(body, here)
                    yield number
            finally:
                # Of what was fetched ahead nobody knows when it ends.
                left.append(True) if op.number else here.note("generator left")
                self.sync(last, here)

        made = (
            syncline.threaded(items)()
            if op.how == "threaded"
            else syncline.aiterate(items(), prefetch=op.number)
        )
        try:
            async with aclosing(made) as it:
                async for number in it:
                    here.note(f"item {number}")
                    await self.aio(step, here)
        finally:
            if left:
                here.note("generator left")

    async def aio_thread_enter(self, op: Op, here: Here) -> None:
        entered, body, left = op.bodies
        token = object()

        @contextmanager
        def manager() -> Generator[object, None, None]:
            self.sync(entered, here)
            try:
                yield token
            finally:
                here.note("exit")
                self.sync(left, here)

        async with syncline.aenter(manager()) as got:
            assert got is token
            await self.aio(body, here)

    async def aio_expire(self, op: Op, here: Here) -> None:
        inside = here.doomed(op.bodies[0])
        try:
            with anyio.fail_after(self.limit(op)):
                await self.aio(op.bodies[0], inside)
        except TimeoutError:
            self.has_begun(inside)
            here.note("TimeoutError")

    async def aio_cancel_task(self, op: Op, here: Here) -> None:
        inside = here.doomed(op.bodies[0])
        me = asyncio.current_task()
        assert inside.latch is not None
        assert me is not None
        cancelling = me.cancelling()
        task = syncline.create_task(self.aio(op.bodies[0], inside))
        while not (inside.latch.opened.is_set() or task.done() or self.is_inconclusive):
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if me.cancelling() > cancelling:
                self.is_inconclusive = True  # this task was cancelled too, and too early (by 3 in base.py)
                raise
            here.note("CancelledError")
