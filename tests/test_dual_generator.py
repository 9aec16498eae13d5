"""generator: send, throw and close, as with a native generator, in both worlds."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import syncline
from neutral import cleanup, this_task, turn

Inside = Callable[[Callable[[], Any]], Any]
RunAsync = Callable[[Callable[[], Any]], Any]


def native(log: list[str]) -> Generator[Any, Any, None]:
    """What the dual one is compared with: answers what it is sent, ends on "stop", fails on "fail"."""
    sent: Any = "begun"
    try:
        while sent != "stop":
            if sent == "fail":
                raise ValueError("failed")
            try:
                sent = yield ("got", sent)
            except KeyError as error:
                sent = ("caught", error.args)
            except OSError as error:
                raise RuntimeError("instead") from error
            except LookupError:
                return
    finally:
        log.append("closed")


async def twin(log: list[str]) -> AsyncGenerator[Any, Any]:
    """The same, asynchronous."""
    sent: Any = "begun"
    try:
        while sent != "stop":
            await turn()
            if sent == "fail":
                raise ValueError("failed")
            try:
                sent = yield ("got", sent)
            except KeyError as error:
                sent = ("caught", error.args)
            except OSError as error:
                await turn()
                raise RuntimeError("instead") from error
            except LookupError:
                return
    finally:
        await cleanup()
        log.append("closed")


# Not StopIteration: a coroutine can't let it out, so that an async generator which isn't begun can't either.
ERRORS = [
    KeyError(1), KeyError, OSError("gone"), IndexError, ValueError("unseen"), ZeroDivisionError,
    GeneratorExit, GeneratorExit("why"), KeyboardInterrupt("now"), 5, "text",
]  # fmt: skip
operations = st.one_of(
    st.just(("next",)),
    st.tuples(st.just("send"), st.sampled_from([None, 0, "x", "stop", "fail"])),
    st.tuples(st.just("throw"), st.sampled_from(ERRORS)),
    st.just(("close",)),
)


def outcome(generator: Any, operation: tuple[Any, ...]) -> Any:
    """What one step gives: a value, or an error; errors of the interpreter's own differ in their text."""
    try:
        if operation[0] == "next":
            return next(generator)
        return getattr(generator, operation[0])(*operation[1:])
    except (TypeError, RuntimeError) as error:
        return type(error), type(error.__cause__)
    except BaseException as error:
        return type(error), error.args


@pytest.fixture(scope="module", params=["process", "thread", "caller"])
def lasting_bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """One for all examples of a hypothesis test."""
    with syncline.Bridge(scope=request.param) as bridge:
        yield bridge


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(operations, max_size=8))
def test_every_sequence_of_steps_gives_what_a_native_generator_gives(
    lasting_bridge: syncline.Bridge, steps: list[tuple[Any, ...]]
) -> None:
    """Values, errors, what is over and when the finally runs, up to being dropped (case 39)."""
    logs: tuple[list[str], list[str]] = ([], [])
    expected, dual = native(logs[0]), lasting_bridge.generator(twin)(logs[1])
    for step in steps:
        assert outcome(dual, step) == outcome(expected, step), step
        assert logs[1] == logs[0], step
    del expected, dual
    assert logs[1] == logs[0]


def test_the_protocol_holds_in_every_place(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """From plain code, inside running loops, and on the bridge's own loop (case 39)."""
    log: list[str] = []
    problem = KeyError("mine")

    def body() -> list[Any]:
        generator = each_bridge.generator(twin)(log)
        items = [next(generator), generator.send(1), generator.throw(problem), generator.send("x")]
        generator.close()
        with pytest.raises(StopIteration):
            next(generator)
        return items

    assert inside(body) == [("got", "begun"), ("got", 1), ("got", ("caught", ("mine",))), ("got", "x")]
    assert log == ["closed"]


def test_the_async_protocol_holds(run_async: RunAsync) -> None:
    """asend, athrow and aclose, in the user's own task (case 39)."""
    log: list[str] = []
    tasks: list[Any] = []

    @syncline.generator
    async def echo() -> AsyncGenerator[Any, Any]:
        inner = twin(log)
        try:
            sent: Any = None
            item = await inner.asend(None)
            while True:
                tasks.append(this_task())
                try:
                    sent = yield item
                except KeyError as error:
                    item = await inner.athrow(error)
                else:
                    item = await inner.asend(sent)
        finally:
            await inner.aclose()

    async def main() -> list[Any]:
        generator = echo()
        items = [await anext(generator), await generator.asend(1), await generator.athrow(KeyError("mine"))]
        async for item in generator:
            items.append(item)
            break
        await generator.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(generator)
        assert set(tasks) == {this_task()}
        return items

    assert run_async(main) == [
        ("got", "begun"), ("got", 1), ("got", ("caught", ("mine",))), ("got", None),
    ]  # fmt: skip
    assert log == ["closed"]


def test_a_thrown_error_is_the_object_that_arrives_and_that_comes_back(
    each_bridge: syncline.Bridge,
) -> None:
    """Neither copied nor wrapped, on the way in and on the way out (case 35)."""
    problem = ValueError("mine")
    seen: list[BaseException] = []

    @each_bridge.generator
    async def watch() -> AsyncGenerator[int, None]:
        try:
            yield 1
        except ValueError as error:
            seen.append(error)
            await turn()
            raise

    generator = watch()
    assert next(generator) == 1
    with pytest.raises(ValueError, match="mine") as caught:
        generator.throw(problem)
    assert caught.value is problem
    assert seen == [problem]


def test_one_that_ignores_its_close_is_told_so(each_bridge: syncline.Bridge) -> None:
    """RuntimeError, as with a native one."""

    @each_bridge.generator
    async def stubborn() -> AsyncGenerator[int, None]:
        with contextlib.suppress(GeneratorExit):
            yield 1
        yield 2

    generator = stubborn()
    assert next(generator) == 1
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()


def test_a_sync_generator_delegates_to_it(each_bridge: syncline.Bridge) -> None:
    """`yield from` hands on what is sent and thrown, and closes it (case 39)."""
    log: list[str] = []

    def outer() -> Generator[Any, Any, str]:
        yield from each_bridge.generator(twin)(log)
        return "over"

    generator = outer()
    assert next(generator) == ("got", "begun")
    assert generator.send(1) == ("got", 1)
    assert generator.throw(KeyError(2)) == ("got", ("caught", (2,)))
    with pytest.raises(StopIteration, match="over"):
        generator.send("stop")
    assert log == ["closed"]


def test_a_loop_drives_it_and_breaks_off(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """`for` sends None; leaving early closes it at once (case 36)."""
    log: list[str] = []

    def body() -> list[str]:
        for item in each_bridge.generator(twin)(log):
            if item == ("got", None):
                break
        return list(log)

    assert inside(body) == ["closed"]


def test_the_class_wraps_an_async_generator() -> None:
    """DualGenerator(async_generator), for one that nobody decorated."""
    log: list[str] = []
    generator = syncline.DualGenerator(twin(log))
    assert [next(generator), generator.send(1)] == [("got", "begun"), ("got", 1)]
    generator.close()
    assert log == ["closed"]


def test_a_subclass_defines_asend_and_athrow(
    each_bridge: syncline.Bridge, inside: Inside, run_async: RunAsync
) -> None:
    """The rest of the protocol follows from them, as in collections.abc.AsyncGenerator."""

    class Doubler(syncline.DualGenerator[int, int]):
        bridge = each_bridge

        def __init__(self) -> None:
            self.log: list[str] = []

        async def asend(self, value: int | None) -> int:
            await turn()
            if value == 0:
                raise StopAsyncIteration
            return 2 * (value or 0)

        async def athrow(self, kind: Any, value: Any = None, trace: Any = None) -> int:
            await turn()
            error = kind if isinstance(kind, BaseException) else value or kind()
            self.log.append(type(error).__name__)
            if isinstance(error, KeyError):
                return -1
            raise error

    def body() -> list[Any]:
        doubler = Doubler()
        items: list[Any] = [next(doubler), doubler.send(4), doubler.throw(KeyError("x"))]
        doubler.close()
        other = Doubler()
        with pytest.raises(StopIteration):
            other.send(0) if next(other) == 0 else None
        return [*items, *doubler.log]

    async def main() -> list[Any]:
        doubler = Doubler()
        items: list[Any] = [await anext(doubler), await doubler.asend(4), await doubler.athrow(KeyError("x"))]
        await doubler.aclose()
        return [*items, *doubler.log]

    assert inside(body) == run_async(main) == [0, 8, -1, "KeyError", "GeneratorExit"]
