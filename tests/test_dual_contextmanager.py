"""contextmanager and enter: `with` over what is entered and left asynchronously."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import syncline
from child import eventually
from neutral import cleanup, other_tasks, this_task, turn

Inside = Callable[[Callable[[], Any]], Any]
RunAsync = Callable[[Callable[[], Any]], Any]


class Log:
    """Makes managers that write down what happens to them."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    async def held(self, value: int = 42) -> AsyncIterator[int]:
        task = this_task()
        await turn()
        self.lines.append("entered")
        try:
            yield value
        except KeyError as error:
            self.lines.append(error)
        finally:
            await cleanup()
            self.lines.append("left" if this_task() is task else "left in another task")


class Lock:
    """An async manager that may be entered again after it was left."""

    def __init__(self) -> None:
        self.entered = 0
        self.seen: list[Any] = []

    async def __aenter__(self) -> int:
        await turn()
        self.entered += 1
        return self.entered

    async def __aexit__(self, *exc_info: object) -> None:
        await turn()
        kind, error, trace = exc_info
        self.seen.append((kind, error, trace is None))


def test_it_is_entered_and_left_in_sync_code(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """In one task, from plain code, inside running loops and on the bridge's own loop (cases 1, 28)."""
    log = Log()

    def body() -> list[Any]:
        with each_bridge.contextmanager(log.held)(value=7) as value:
            assert value == 7
            log.lines.append("body")
        return list(log.lines)

    assert inside(body) == ["entered", "body", "left"]


def test_it_is_entered_and_left_in_async_code(run_async: RunAsync) -> None:
    """`async with`, in the task that does it."""
    log = Log()

    @syncline.contextmanager
    async def where() -> AsyncIterator[Any]:
        yield this_task()

    async def main() -> None:
        async with syncline.contextmanager(log.held)() as value, where() as task:
            assert value == 42
            assert task is this_task()

    run_async(main)
    assert log.lines == ["entered", "left"]


def test_it_sees_an_error_of_the_body_and_may_suppress_it(
    each_bridge: syncline.Bridge, inside: Inside
) -> None:
    """The same object arrives at the yield; what is caught there doesn't come out."""
    log = Log()
    problem = KeyError("mine")

    def body() -> None:
        with each_bridge.contextmanager(log.held)():
            raise problem

    inside(body)
    assert log.lines == ["entered", problem, "left"]


def test_an_error_that_it_does_not_catch_travels_on(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """The same object, after the cleanup (case 35)."""
    log = Log()
    problem = ValueError("mine")

    def body() -> None:
        with each_bridge.contextmanager(log.held)():
            raise problem

    with pytest.raises(ValueError, match="mine") as caught:
        inside(body)
    assert caught.value is problem
    assert log.lines == ["entered", "left"]


@pytest.mark.parametrize("raised", [StopIteration("x"), StopAsyncIteration("x"), GeneratorExit("x")])
def test_errors_that_mean_something_to_generators_travel_too(
    each_bridge: syncline.Bridge, raised: BaseException
) -> None:
    """As through contextlib's: the body's own StopIteration is no end of anything."""
    log = Log()
    with pytest.raises(type(raised)) as caught, each_bridge.contextmanager(log.held)():
        raise raised
    assert caught.value is raised
    assert log.lines == ["entered", "left"]


def test_an_error_of_the_cleanup_replaces_the_bodys(each_bridge: syncline.Bridge) -> None:
    """With the body's as its context."""
    problem, body = ValueError("cleanup"), KeyError("body")

    @each_bridge.contextmanager
    async def fails() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await cleanup()
            raise problem

    with pytest.raises(ValueError, match="cleanup") as caught, fails():
        raise body
    assert caught.value is problem
    assert caught.value.__context__ is body


def test_leaving_the_body_early_leaves_it(each_bridge: syncline.Bridge) -> None:
    """By return, and by break."""
    log = Log()

    def returns() -> int:
        with each_bridge.contextmanager(log.held)() as value:
            return value

    assert returns() == 42
    for _ in range(2):
        with each_bridge.contextmanager(log.held)():
            break
    assert log.lines == ["entered", "left"] * 2


def test_an_error_while_it_is_entered_arrives_once(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """The same object; the body doesn't run, `__aexit__` isn't called, no task stays behind (case 30)."""
    problem = ValueError("mine")
    calls: list[str] = []

    class Broken:
        async def __aenter__(self) -> None:
            calls.append("enter")
            await turn()
            raise problem

        async def __aexit__(self, *_: object) -> None:
            calls.append("exit")

    def body() -> None:
        with each_bridge.enter(Broken()):
            calls.append("body")

    with pytest.raises(ValueError, match="mine") as caught:
        inside(body)
    assert caught.value is problem
    assert calls == ["enter"]
    assert eventually(lambda: each_bridge.run_sync(other_tasks) == [])


@pytest.mark.parametrize("yields", [0, 2])
def test_it_yields_exactly_once(each_bridge: syncline.Bridge, yields: int) -> None:
    """Otherwise RuntimeError, as contextlib's."""

    @each_bridge.contextmanager
    async def wrong() -> AsyncIterator[int]:
        for number in range(yields):
            yield number

    with pytest.raises(RuntimeError, match=r"didn't (yield|stop)"), wrong():
        pass


def test_it_is_entered_only_once(each_bridge: syncline.Bridge) -> None:
    """Neither inside itself nor after it was left, as contextlib's."""
    log = Log()
    manager = each_bridge.contextmanager(log.held)()
    with manager, pytest.raises(RuntimeError), manager:
        pass
    with pytest.raises(RuntimeError), manager:
        pass
    assert log.lines == ["entered", "left"]


def test_enter_takes_what_nobody_decorated(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Classes with __aenter__ and __aexit__, and contextlib's; __aexit__ gets all three arguments."""
    log, lock, problem = Log(), Lock(), ValueError("mine")

    def body() -> None:
        with each_bridge.enter(contextlib.asynccontextmanager(log.held)(5)) as value:
            assert value == 5
        with pytest.raises(ValueError, match="mine"), each_bridge.enter(lock):
            raise problem

    inside(body)
    assert log.lines == ["entered", "left"]
    assert lock.seen == [(ValueError, problem, False)]


def test_what_may_be_entered_again_is_entered_again(each_bridge: syncline.Bridge) -> None:
    """After it was left, on the same loop; but not while it is entered, which says so."""
    lock = Lock()
    manager = each_bridge.enter(lock)
    for time in (1, 2):
        with manager as entered:
            assert entered == time
            with pytest.raises(RuntimeError, match="entered"), manager:
                pass
    assert lock.entered == len(lock.seen) == 2


def test_it_stands_in_exit_stacks(each_bridge: syncline.Bridge) -> None:
    """contextlib's sync and async stacks take it."""
    log = Log()
    manager = each_bridge.contextmanager(log.held)
    with contextlib.ExitStack() as stack:
        assert [stack.enter_context(manager(number)) for number in range(2)] == [0, 1]
    assert log.lines == ["entered"] * 2 + ["left"] * 2

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            assert await stack.enter_async_context(manager(3)) == 3

    asyncio.run(main())
    assert log.lines == ["entered"] * 2 + ["left"] * 2 + ["entered", "left"]


def in_another_thread(function: Callable[[], Any]) -> Any:
    """What it returns, or the error it raises."""
    result: list[Any] = []

    def call() -> None:
        try:
            result.append(function())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return result[0]


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_it_may_be_left_in_another_thread(scope: Any) -> None:
    """In the task that entered it all the same, with the error of the body (case 31)."""
    log, problem = Log(), KeyError("mine")
    with syncline.Bridge(scope=scope) as bridge:
        manager = bridge.contextmanager(log.held)()
        assert manager.__enter__() == 42
        assert in_another_thread(lambda: manager.__exit__(KeyError, problem, None)) is True
    assert log.lines == ["entered", problem, "left"]


def test_in_scope_caller_only_its_own_thread_leaves_it() -> None:
    """No other thread may drive that loop: an error that says so, after which the right one can (case 31)."""
    log = Log()
    with syncline.Bridge(scope="caller") as bridge:
        manager = bridge.contextmanager(log.held)()
        manager.__enter__()
        error = in_another_thread(lambda: manager.__exit__(None, None, None))
        assert isinstance(error, RuntimeError)
        assert "thread" in str(error)
        assert log.lines == ["entered"]
        manager.__exit__(None, None, None)
    assert log.lines == ["entered", "left"]


def test_a_subclass_defines_aenter_and_aexit(
    each_bridge: syncline.Bridge, inside: Inside, run_async: RunAsync
) -> None:
    """`with` and `async with` work; a true result of `__aexit__` suppresses the error."""

    class Suppressing(syncline.DualContextManager[str]):
        bridge = each_bridge

        def __init__(self) -> None:
            self.error: BaseException | None = None

        async def __aenter__(self) -> str:
            await turn()
            return "value"

        async def __aexit__(self, *exc_info: object) -> bool:
            await turn()
            self.error = exc_info[1]
            return True

    problem = ValueError("mine")

    def body() -> Any:
        with Suppressing() as value, (manager := Suppressing()):
            assert value == "value"
            raise problem
        return manager.error

    async def main() -> Any:
        async with (manager := Suppressing()) as value:
            assert value == "value"
            raise problem
        return manager.error

    assert inside(body) is problem
    assert run_async(main) is problem


def test_a_subclass_without_aenter_gives_itself(
    each_bridge: syncline.Bridge, inside: Inside, run_async: RunAsync
) -> None:
    """As contextlib's classes do, which have that method; `__aexit__` has to be there."""

    class Closing(syncline.DualContextManager[Any]):
        bridge = each_bridge
        left = 0

        async def __aexit__(self, *_exc_info: object) -> None:
            await turn()
            self.left += 1

    def body(manager: Closing) -> None:
        with manager as entered:
            assert entered is manager
        assert manager.left == 1

    async def main() -> None:
        async with (manager := Closing()) as entered:
            assert entered is manager
        assert manager.left == 1

    inside(lambda: body(Closing()))
    run_async(main)
    with pytest.raises(TypeError, match="or a subclass that defines __aenter__ and __aexit__"):
        syncline.DualContextManager()
