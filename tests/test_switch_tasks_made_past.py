"""Tasks that the loop doesn't make: a nested call in one blocks the loop, which is said, with what to do."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import trio
import uvloop

import syncline
from switching import ON_OUR_LOOPS, Place, place, turns

__all__ = ["place"]


def past_the_loop(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """As aiohttp's server makes its tasks, but not eagerly."""
    return asyncio.Task(coroutine, loop=asyncio.get_running_loop())


def are_switched(place: Place) -> bool:
    return place.name in ON_OUR_LOOPS or "installed" in place.name


def test_a_task_that_the_loop_did_not_make_says_that_it_blocks(place: Place) -> None:
    """A warning names its coroutine and run_nestable; the call ends all the same."""
    if not are_switched(place):
        pytest.skip("nothing was promised for this loop's tasks")

    async def handler() -> int:
        return place.bridge.run_sync(turns, 2)

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match=r"handler.* blocks its event loop.*run_nestable") as caught:
            assert await past_the_loop(handler()) == 2
        assert [warning.filename for warning in caught] == [__file__]

    place.run(main)


def test_it_is_said_once_for_each_place_in_the_code(place: Place) -> None:
    """With Python's default filter, however often such tasks call."""
    if not are_switched(place):
        pytest.skip("nothing was promised for this loop's tasks")

    async def handler() -> int:
        return place.bridge.run_sync(turns)

    async def main() -> None:
        await asyncio.gather(*(past_the_loop(handler()) for _ in range(5)))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", RuntimeWarning)
        place.run(main)
    assert [warning.category for warning in caught] == [RuntimeWarning]


def test_its_code_opts_in(place: Place) -> None:
    """A nestable function, or run_nestable around the handler, awaits in place in such a task, too; nothing is said."""

    def sync_code() -> int:
        return place.call(turns, 2)

    async def handler() -> int:
        return sync_code()

    async def middleware() -> int:
        return await syncline.run_nestable(handler)

    async def main() -> None:
        assert await past_the_loop(syncline.nestable(handler)()) == 2
        assert await past_the_loop(middleware()) == 2

    place.run(main)


def test_tasks_from_before_the_opt_in_and_after_its_end_block_without_a_word() -> None:
    """install() concerns what the loop starts from then on, and until it is undone."""

    async def main() -> None:
        go_on = asyncio.Event()

        async def earlier() -> int:
            await go_on.wait()
            return syncline.run_sync(turns)

        task = asyncio.create_task(earlier())
        await turns(1)
        undo = syncline.install()
        go_on.set()
        syncline.run_sync(turns)
        assert await task == 1
        undo()
        assert await past_the_loop(earlier()) == 1

    asyncio.run(main())


def test_callbacks_and_plain_threads_block_without_a_word(place: Place) -> None:
    """A callback is no task, and no task could be made nestable for it."""

    async def main() -> None:
        done = asyncio.get_running_loop().create_future()

        def callback() -> None:
            done.set_result(place.bridge.run_sync(turns))

        asyncio.get_running_loop().call_soon(callback)
        assert await done == 1
        assert await asyncio.to_thread(place.bridge.run_sync, turns) == 1

    place.run(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize(
    "make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_tasks_stay_eager_on_an_installed_loop(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Whatever keywords the loop gives a factory, those without an answer don't reach the one below."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        syncline.install()
        steps: list[str] = []

        async def eager() -> None:
            steps.append("began")
            assert syncline.run_sync(turns, 2) == 2
            steps.append("ended")

        tasks = [asyncio.create_task(eager()), loop.create_task(eager(), name="named")]
        assert steps == ["began", "began"]
        await asyncio.gather(*tasks)
        assert tasks[1].get_name() == "named"

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize("given", [{}, {"name": None}, {"eager_start": None, "context": None, "other": None}])
def test_the_factory_below_gets_the_keywords_that_have_an_answer(given: dict[str, None]) -> None:
    """None is how a loop says that it was not asked for a name, a context or an eager start; others are passed on."""
    got: list[dict[str, Any]] = []

    def below(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        got.append(options)
        return asyncio.Task(coroutine, loop=loop)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(below)
        syncline.install()
        factory = loop.get_task_factory()
        assert factory is not None
        await factory(loop, turns(), **given)
        assert got == [{name: None for name in given if name == "other"}]

    asyncio.run(main())


class TestFromThread:
    """Tasks that from_thread starts."""

    def test_they_nest_on_an_installed_loop(self, place: Place) -> None:
        """As every other task of that loop; below another factory, too."""
        if "nestable" in place.name:
            pytest.skip("that opt-in is for one task, and not for its children")

        async def task() -> bool:
            thread = threading.get_ident()
            assert place.bridge.run_sync(turns, 2) == 2
            await turns()
            return place.bridge.run_sync(where) == thread

        async def where() -> int:
            await turns()
            return threading.get_ident()

        async def main() -> None:
            assert await syncline.to_thread(syncline.from_thread, task)
            loop = asyncio.get_running_loop()
            below = loop.get_task_factory()
            if below is None:
                return
            # Another factory, which uses ours.
            loop.set_task_factory(functools.partial(below))
            assert await syncline.to_thread(syncline.from_thread, task)

        place.run(main)

    def test_cancelling_one_in_a_nested_call_ends_it(self, place: Place) -> None:
        """The loop turns meanwhile, so that the cancel arrives."""
        if "nestable" in place.name:
            pytest.skip("that opt-in is for one task, and not for its children")
        waits = threading.Event()

        async def task() -> None:
            place.bridge.run_sync(forever)

        async def forever() -> None:
            waits.set()
            await asyncio.Event().wait()

        async def main() -> None:
            sent = asyncio.create_task(syncline.to_thread(syncline.from_thread, task))
            await asyncio.to_thread(waits.wait)
            sent.cancel()
            await asyncio.wait([sent])
            assert sent.cancelled()

        place.run(main)

    def test_they_nest_in_an_installed_trio_run(self) -> None:
        """And what the run's other tasks call meanwhile is not taken for a part of theirs, which is being cancelled."""
        waits = threading.Event()
        cleaned_up: list[int] = []

        async def forever() -> None:
            try:
                waits.set()
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await may_end.wait()
                cleaned_up.append(threading.get_ident())

        with (
            syncline.Bridge(backend="trio", roams=True) as bridge,
            syncline.Bridge(name="elsewhere") as elsewhere,
        ):

            async def task() -> None:
                bridge.run_sync(forever)

            async def main() -> None:
                syncline.install()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(syncline.to_thread, syncline.from_thread, task)
                    while not waits.is_set():
                        await trio.sleep(0.001)
                    nursery.cancel_scope.cancel()
                    # Now its end waits for `may_end`. This task hasn't opted in: its call blocks, to its own end.
                    assert elsewhere.run_sync(turns, 3) == 3
                    may_end.set()

            may_end = trio.Event()
            trio.run(main)
        assert cleaned_up == [threading.get_ident()]
