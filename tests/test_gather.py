"""Groups that keep results: by key and in order, with every error, on asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NoReturn, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
import trio
import uvloop

import syncline
from child import run_script

R = TypeVar("R")
Run = Callable[[Callable[[], Coroutine[Any, Any, R]]], R]


@pytest.fixture(params=["asyncio", "uvloop", "trio", "our own loop", "our own trio"])
def run(request: pytest.FixtureRequest, make_bridge: Callable[..., syncline.Bridge]) -> Run[Any]:
    """Runs an async program on each library, and on loops of syncline's."""
    if request.param == "asyncio":
        return lambda main: asyncio.run(main())
    if request.param == "uvloop":
        return lambda main: uvloop.run(main())
    if request.param == "trio":
        return trio.run
    backend = "trio" if request.param == "our own trio" else "asyncio"
    return make_bridge(backend=backend).run_sync


async def double(number: int) -> int:
    await anyio.lowlevel.checkpoint()
    return 2 * number


async def fail(error: BaseException) -> NoReturn:
    await anyio.lowlevel.checkpoint()
    raise error


class Incomparable:
    """What arrays and data frames do."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth of this is ambiguous")

    def __bool__(self) -> bool:
        raise ValueError("neither is this true or false")


def test_gather_returns_results_in_order(run: Run[Any]) -> None:
    """In the order of the functions, whichever ends first."""

    async def main() -> list[int]:
        second_is_done = anyio.Event()

        async def first() -> int:
            await second_is_done.wait()
            return 1

        async def second() -> int:
            second_is_done.set()
            return 2

        return await syncline.gather(first, second, partial(double, 2))

    assert run(main) == [1, 2, 4]


def test_gather_of_nothing_is_nothing(run: Run[Any]) -> None:
    """An empty list."""

    async def main() -> list[Any]:
        return await syncline.gather()

    assert run(main) == []


def test_a_group_gives_results_by_key(run: Run[Any]) -> None:
    """Each `start_soon` returns a key of its own, also for the same function."""

    async def main() -> None:
        async with syncline.create_gather_task_group() as group:
            keys = [group.start_soon(double, number) for number in range(5)]
            named = group.start_soon(double, 7, name="seven")
        assert [group.get_result(key) for key in keys] == [0, 2, 4, 6, 8]
        assert group.get_result(named) == 14
        assert len({*keys, named}) == 6
        assert (repr(keys[0]), repr(named)) == ("<GatherKey of double>", "<GatherKey of seven>")

    run(main)


def test_a_result_may_be_anything(run: Run[Any]) -> None:
    """Values that break `==` and bool(), None, exceptions, and GatherIncomplete itself (case 78)."""
    values = [Incomparable(), None, ValueError(), syncline.GatherIncomplete, (), NotImplemented]

    async def main() -> list[Any]:
        async def give(value: Any) -> Any:
            return value

        return await syncline.gather(*(partial(give, value) for value in values))

    results = run(main)
    assert len(results) == len(values)
    assert all(result is value for result, value in zip(results, values, strict=True))


def test_a_result_that_is_not_there_yet_is_an_error(run: Run[Any]) -> None:
    """While the task runs, and for good where it was cancelled; other keys are a KeyError."""

    async def main() -> None:
        async with syncline.create_gather_task_group() as group:
            key = group.start_soon(anyio.sleep_forever)
            with pytest.raises(syncline.GatherIncomplete, match="sleep_forever"):
                group.get_result(key)
            group.cancel()
        with pytest.raises(syncline.GatherIncomplete, match="was cancelled"):
            group.get_result(key)
        with pytest.raises(KeyError):
            syncline.create_gather_task_group().get_result(key)

    run(main)


def test_a_cancel_scope_ends_the_group(run: Run[Any]) -> None:
    """As with anyio's groups; results that were there stay."""

    async def main() -> None:
        done = anyio.Event()

        async def quick() -> str:
            done.set()
            return "quick"

        async with syncline.create_gather_task_group() as group:
            key = group.start_soon(quick)
            group.start_soon(anyio.sleep_forever)
            await done.wait()
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert group.cancel_scope.cancelled_caught
        assert group.get_result(key) == "quick"

    run(main)


def test_every_error_is_kept(run: Run[Any]) -> None:
    """Of tasks, and of the body; a single one comes in a group too (case 58)."""

    async def main() -> None:
        # Both are on their way before the first one ends the group.
        ready = [anyio.Event(), anyio.Event()]

        async def fails(mine: int, error: BaseException) -> None:
            ready[mine].set()
            try:
                await ready[1 - mine].wait()
            finally:
                raise error

        with pytest.raises(ExceptionGroup) as caught:
            await syncline.gather(partial(fails, 0, ValueError("a")), partial(fails, 1, KeyError("b")))
        assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyError}
        with pytest.raises(ExceptionGroup) as caught:
            await syncline.gather(partial(fail, ValueError("c")), partial(double, 1))
        assert [str(error) for error in caught.value.exceptions] == ["c"]

    run(main)


def test_a_single_error_comes_as_itself_if_asked_for(run: Run[Any]) -> None:
    """The very object, with its own cause and context; of several none is dropped (case 58)."""
    cause = OSError("cause")
    problem = ValueError("problem")
    problem.__cause__ = cause

    async def main() -> None:
        with pytest.raises(ValueError, match="problem") as caught:
            await syncline.gather(partial(fail, problem), anyio.sleep_forever, unwrap=True)
        assert caught.value is problem
        assert (problem.__cause__, problem.__context__) == (cause, None)

        async with anyio.create_task_group():
            with pytest.raises(ValueError, match="problem"):
                async with syncline.create_gather_task_group(unwrap=True) as group:
                    group.start_soon(partial(syncline.gather, partial(fail, problem)))  # a group in a group

        async def is_waiting() -> None:
            async with syncline.create_gather_task_group(unwrap=True) as group:
                group.start_soon(fail, problem)
                await anyio.sleep_forever()

        with pytest.raises(ValueError, match="problem"):
            await is_waiting()
        assert problem.__context__ is None  # not the cancelled wait of the body

        async def two_fail() -> None:
            async with syncline.create_gather_task_group(unwrap=True) as group:
                group.start_soon(fail, OSError("a"))
                try:
                    await anyio.sleep_forever()
                finally:
                    raise KeyError("b")

        with pytest.raises(ExceptionGroup) as several:
            await two_fail()
        assert {type(error) for error in several.value.exceptions} == {OSError, KeyError}

    run(main)


def test_an_error_of_the_body_comes_as_itself_if_asked_for(run: Run[Any]) -> None:
    """Also where other errors are being handled."""

    before = OSError("before")
    problem = ValueError("problem")

    async def handles() -> None:
        try:
            raise before
        except OSError:
            async with syncline.create_gather_task_group(unwrap=True) as group:
                group.start_soon(anyio.sleep_forever)
                raise problem  # noqa: B904 -- its context is what is tested

    async def main() -> None:
        with pytest.raises(ValueError, match="problem") as caught:
            await handles()
        assert caught.value is problem
        assert problem.__context__ is before

    run(main)


def test_an_unwrapped_error_keeps_nothing_alive() -> None:
    """Neither the group nor the tasks' arguments, without help of the garbage collector (case 60)."""

    class Argument:
        pass

    argument = Argument()
    seen = weakref.ref(argument)

    async def task(_: Any) -> None:
        raise ValueError

    async def main(argument: Argument) -> None:
        with contextlib.suppress(ValueError):
            await syncline.gather(partial(task, argument), unwrap=True)

    gc.disable()
    try:
        asyncio.run(main(argument))
        del argument
        assert seen() is None
    finally:
        gc.enable()


def test_start_is_refused(run: Run[Any]) -> None:
    """With what to use instead."""

    async def main() -> None:
        async with syncline.create_gather_task_group() as group:
            with pytest.raises(RuntimeError, match=r"has no start\(\).*Use start_soon\(\)"):
                await group.start(double, 1)

    run(main)


def test_a_group_is_one_of_anyios(run: Run[Any]) -> None:
    """isinstance says so, and coroutines can be started with anyio's handle."""

    async def main() -> None:
        async with syncline.create_gather_task_group() as group:
            assert isinstance(group, anyio.abc.TaskGroup)
            handle = group.create_task(double(4))
            assert await handle == 8

    run(main)


def test_older_anyio_has_no_create_task() -> None:
    """Then the error says so, and the coroutine is closed."""

    class Old:
        pass

    group = syncline.GatherTaskGroup(Old())
    coro = double(1)
    with pytest.raises(RuntimeError, match=r"anyio 4\.14 or newer"):
        group.create_task(coro)
    assert coro.cr_frame is None


def test_a_group_that_has_ended_takes_no_tasks(run: Run[Any]) -> None:
    """anyio's error, and no key."""

    async def main() -> None:
        async with syncline.create_gather_task_group() as group:
            pass
        with pytest.raises(RuntimeError, match="not active"):
            group.start_soon(double, 1)
        assert group._results == {}

    run(main)


@pytest.mark.parametrize("who", ["gather", "start_soon"])
def test_coroutines_are_refused(run: Run[Any], who: str) -> None:
    """In the place of functions, at once; none is left un-awaited."""

    async def main() -> None:
        coros: list[Any] = [double(1)]

        async def refused() -> None:
            if who == "gather":
                coros.append(double(2))
                await syncline.gather(partial(double, 3), *coros)
            syncline.create_gather_task_group().start_soon(*coros)

        with pytest.raises(TypeError, match=rf"{who}\(\) takes async functions.*{who}\(double, \.\.\.\)"):
            await refused()
        assert all(coro.cr_frame is None for coro in coros)

    run(main)


def test_sync_functions_are_refused(run: Run[Any]) -> None:
    """With how to run them."""

    def load() -> int:
        return 1

    async def main() -> None:
        wrong: Any = load
        with pytest.raises(
            TypeError, match=r"sync function 'load' has run and returned int.*to_thread, load\)"
        ):
            await syncline.gather(wrong, unwrap=True)
        with pytest.raises(TypeError, match="not int"):
            await syncline.gather(5)

    run(main)


def test_an_eager_task_is_no_task_lost() -> None:
    """Where tasks run before `start_soon` returns, their results are kept as well."""
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("eager tasks came with Python 3.12")

    async def at_once() -> int:
        return 5

    async def main() -> list[int]:
        asyncio.get_running_loop().set_task_factory(factory)
        return await syncline.gather(at_once, at_once)

    assert asyncio.run(main()) == [5, 5]


def test_gather_can_be_cancelled_from_outside(run_async: Run[Any]) -> None:
    """wait_for returns when its time is over, the tasks have cleaned up, and cancelling() is back at 0 (54, 56)."""

    async def main() -> None:
        cleaned_up = []

        async def slow(name: str) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cleaned_up.append(name)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(syncline.gather(partial(slow, "a"), partial(slow, "b")), 0.05)
        assert sorted(cleaned_up) == ["a", "b"]
        current = asyncio.current_task()
        assert current is not None
        assert current.cancelling() == 0
        assert await syncline.gather(partial(double, 1)) == [2]

    run_async(main)


def test_a_cancel_as_the_last_result_lands_is_a_cancel(run_async: Run[Any]) -> None:
    """The caller is cancelled; what was gathered is settled (case 52)."""

    async def main() -> None:
        steps = []
        caller: asyncio.Task[Any]

        async def last() -> int:
            # The task that gathers is cancelled in the very step in which its last result is there.
            caller.cancel()
            steps.append("landed")
            return 1

        async def gathers() -> None:
            await syncline.gather(last)
            steps.append("went on")

        caller = asyncio.create_task(gathers())
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert steps == ["landed"]

    run_async(main)


def test_gather_works_while_a_cancel_is_handled(run_async: Run[Any]) -> None:
    """In `except CancelledError` (case 57)."""

    async def main() -> None:
        results = []
        is_waiting = asyncio.Event()

        async def cleans_up() -> None:
            try:
                is_waiting.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                results.extend(await syncline.gather(partial(double, 1), partial(double, 2)))
                raise

        task = asyncio.create_task(cleans_up())
        await is_waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert results == [2, 4]

    run_async(main)


def test_without_anyio_the_error_names_the_extra() -> None:
    """anyio is optional; everything else works without it, and importing syncline doesn't import it."""
    run_script(
        """
        import asyncio, sys
        import syncline
        assert "anyio" not in sys.modules
        sys.modules["anyio"] = None

        async def fetch():
            return 1

        async def main():
            try:
                await syncline.gather(fetch)
            except ImportError as error:
                assert 'gather() needs anyio: pip install "syncline[anyio]"' in str(error), error
            else:
                raise AssertionError
            assert await syncline.create_task(fetch()) == 1

        asyncio.run(main())
        try:
            syncline.create_gather_task_group()
        except ImportError as error:
            assert "syncline[anyio]" in str(error)
        else:
            raise AssertionError
        """
    ).assert_clean()
