"""OpenTelemetry: the parents of spans in each kind of call, with and without spans of our own."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock

import pytest
import trio
from opentelemetry import trace
from opentelemetry.trace import StatusCode

import syncline
from child import FORKS, eventually, run_script
from span_code import Spans, instrumented, spans
from syncline.telemetry import SynclineInstrumentor

__all__ = ["instrumented", "spans"]
MakeBridge = Callable[..., syncline.Bridge]


Call = Callable[[syncline.Bridge, Callable[[], object]], object]
"""Has a function called, by way of one kind of call: it opens a span. Called inside of the span "caller"."""


def as_async(fn: Callable[[], object]) -> Callable[[], Any]:
    async def called() -> object:
        await asyncio.sleep(0)
        return fn()

    return called


def run_sync(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    bridge.run_sync(as_async(fn))


def run(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    bridge.run(as_async(fn)())


def synced(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    bridge.synced(as_async(fn))()


def call(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    bridge.call(fn)


def nested(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    async def outer() -> None:
        run_sync(bridge, fn)

    bridge.run_sync(outer)


def submit(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    bridge.submit(as_async(fn)).result()


def run_async(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    asyncio.run(bridge.run_async(as_async(fn)))


def run_async_in_trio(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    trio.run(bridge.run_async, as_async(fn))


def to_thread(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    async def outer() -> None:
        await syncline.to_thread(fn)

    bridge.run_sync(outer)


def from_thread(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    async def outer() -> None:
        await syncline.to_thread(syncline.from_thread, as_async(fn))

    bridge.run_sync(outer)


def to_caller(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    async def outer() -> None:
        await syncline.to_caller(fn)

    bridge.run_sync(outer)


def iterate(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    async def items() -> AsyncIterator[int]:
        await asyncio.sleep(0)
        fn()
        yield 1

    assert list(bridge.iterate(items())) == [1]


def enter(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        await asyncio.sleep(0)
        fn()
        yield

    with bridge.enter(manager()):
        pass


def map_(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    async def one(_item: int) -> None:
        await asyncio.sleep(0)
        fn()

    list(bridge.map(one, [1]))


def group(bridge: syncline.Bridge, fn: Callable[[], object]) -> None:
    with bridge.group() as calls:
        calls.start(as_async(fn))


CALLS = [
    run_sync, run, synced, call, nested, submit, run_async, run_async_in_trio,
    to_thread, from_thread, to_caller, iterate, enter, map_, group,
]  # fmt: skip
by_kind = pytest.mark.parametrize("kind", CALLS, ids=lambda kind: kind.__name__)


@by_kind
def test_the_span_around_a_call_is_the_parent_of_what_it_opens(
    spans: Spans, make_bridge: MakeBridge, kind: Call
) -> None:
    """Without spans of ours: context variables cross each bridge."""
    bridge = make_bridge()

    def opens() -> None:
        with spans.tracer.start_as_current_span("inside"):
            pass

    with spans.tracer.start_as_current_span("caller"):
        kind(bridge, opens)
    assert spans.line("inside") == ["inside", "caller"]


@by_kind
def test_spans_of_ours_stand_between_the_two(
    instrumented: Spans, make_bridge: MakeBridge, kind: Call
) -> None:
    """And the caller's span is current again afterwards."""
    bridge = make_bridge()

    def opens() -> None:
        with instrumented.tracer.start_as_current_span("inside"):
            pass

    with instrumented.tracer.start_as_current_span("caller") as caller:
        kind(bridge, opens)
        assert trace.get_current_span() is caller
    line = instrumented.line("inside")
    assert line[0] == "inside"
    assert line[-1] == "caller"
    has_own = kind not in (iterate, enter)
    assert (len(line) > 2) == has_own, line


def test_a_span_tells_its_function_its_kind_and_its_bridge(
    instrumented: Spans, make_bridge: MakeBridge
) -> None:
    """By OpenTelemetry's names for the first."""
    bridge = make_bridge(name="shop")

    async def fetch() -> None:
        await syncline.to_thread(functools.partial(load))

    def load() -> None:
        pass

    bridge.run_sync(fetch)
    (fetched,) = [span for span in instrumented.exporter.get_finished_spans() if span.name.endswith("fetch")]
    assert fetched.attributes == {
        "code.function.name": f"{__name__}.{fetch.__qualname__}",
        "syncline.call": "run_sync",
        "syncline.bridge": "shop",
    }
    (loaded,) = [span for span in instrumented.exporter.get_finished_spans() if span.name.endswith("load")]
    assert loaded.attributes is not None
    assert loaded.attributes["syncline.call"] == "to_thread"
    assert fetched.status.status_code is StatusCode.UNSET


async def broken() -> None:
    raise LookupError("nothing there")


def load_broken() -> None:
    raise LookupError("nothing there")


def awaits_broken(bridge: syncline.Bridge) -> None:
    asyncio.run(bridge.run_async(broken))


def threads_broken(bridge: syncline.Bridge) -> None:
    bridge.run_sync(syncline.to_thread, load_broken)


@pytest.mark.parametrize(
    ("fails", "name"),
    [
        (lambda bridge: bridge.run_sync(broken), "broken"),
        (lambda bridge: bridge.submit(broken).result(), "broken"),
        (awaits_broken, "broken"),
        (threads_broken, "load_broken"),
    ],
    ids=["run_sync", "submit", "run_async", "to_thread"],
)
def test_an_error_is_recorded(
    instrumented: Spans, make_bridge: MakeBridge, fails: Callable[[syncline.Bridge], object], name: str
) -> None:
    """As an event and as the status, and the caller gets it as ever."""
    with pytest.raises(LookupError, match="nothing there"):
        fails(make_bridge())
    span = instrumented.named(name)
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "LookupError: nothing there"
    assert [event.name for event in span.events] == ["exception"]
    assert span.attributes is not None
    assert span.attributes["error.type"] == "LookupError"


def test_a_cancellation_is_no_failure(instrumented: Spans, make_bridge: MakeBridge) -> None:
    """Its class is told, and the status is none."""
    bridge = make_bridge()

    async def sleeps() -> None:
        await asyncio.sleep(3600)

    sleeps.__qualname__ = "sleeps"
    future = bridge.submit(sleeps)
    assert future.cancel()
    span = instrumented.named("sleeps")
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes is not None
    assert span.attributes["error.type"] == "CancelledError"


def test_a_second_instrument_is_refused_and_uninstrument_ends_it(
    spans: Spans, make_bridge: MakeBridge
) -> None:
    """All objects of the class stand for the process."""
    bridge = make_bridge()
    SynclineInstrumentor().instrument(tracer_provider=spans.provider)
    assert SynclineInstrumentor().is_instrumented_by_opentelemetry
    with pytest.raises(RuntimeError, match="uninstrument"):
        SynclineInstrumentor().instrument()
    SynclineInstrumentor().uninstrument()
    SynclineInstrumentor().uninstrument()
    assert not SynclineInstrumentor().is_instrumented_by_opentelemetry
    for kind in CALLS:
        kind(bridge, bool)
    assert not spans.exporter.get_finished_spans()


def test_a_tracer_that_fails_does_not_make_calls_fail(
    instrumented: Spans, make_bridge: MakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error is shown as one that nobody can catch."""
    shown = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: shown.append(unraisable.exc_value))

    def fails(*_args: object, **_options: object) -> None:
        raise ValueError("no span today")

    monkeypatch.setattr(SynclineInstrumentor._tracer, "start_span", fails)
    assert make_bridge().run_sync(as_async(lambda: 5)) == 5
    assert [str(error) for error in shown] == ["no span today"]


def test_a_forked_child_makes_spans_too() -> None:
    """It inherits the instrumentor."""
    run_script(
        """
        import os
        import syncline
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from syncline.telemetry import SynclineInstrumentor

        async def quick():
            return 1

        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        SynclineInstrumentor().instrument(tracer_provider=provider)
        syncline.run_sync(quick)
        pid = os.fork()
        syncline.run_sync(quick)
        names = [span.name for span in exporter.get_finished_spans()]
        assert names == ["quick", "quick"], names
        if pid:
            assert os.waitpid(pid, 0)[1] == 0
    """,
        flags=FORKS,
    ).assert_clean()


def test_the_import_of_the_package_does_not_look_for_opentelemetry() -> None:
    """It is there for those who import `syncline.telemetry`."""
    run_script("""
        import sys
        import syncline
        syncline.run_sync(lambda: syncline.to_thread(bool))
        assert not [name for name in sys.modules if name.startswith("opentelemetry")]
    """).assert_clean()


class AsyncTicker:
    """What is there to be made a twin of."""

    def __init__(self, dropped: list[str]) -> None:
        self._dropped = dropped

    async def number(self) -> int:
        return 1

    async def ticks(self) -> AsyncIterator[int]:
        yield await self.number()

    def __del__(self) -> None:
        self._dropped.append("dropped")


def test_what_twins_do_for_themselves_has_no_span(instrumented: Spans, make_bridge: MakeBridge) -> None:
    """A method of theirs has one, from async code too; the task that makes a generator's steps has none, and neither
    has the end of an object."""
    dropped: list[str] = []
    make = make_bridge().blocking(AsyncTicker)

    async def main(ticker: Any) -> None:
        assert await ticker.aio.number() == 1
        assert [tick async for tick in ticker.aio.ticks()] == [1]

    asyncio.run(main(make(dropped)))
    gc.collect()
    assert eventually(lambda: dropped == ["dropped"])
    names = [span.name for span in instrumented.exporter.get_finished_spans()]
    assert names.count("AsyncTicker.number") == 1
    assert not [name for name in names if name.endswith(("_ask", "_serve", "_emptied"))]


def test_what_has_no_name_has_a_span_of_its_class_s_name(
    instrumented: Spans, make_bridge: MakeBridge
) -> None:
    """Such as a mock, which has whatever attribute it is asked for, but no name; a partial has its function's."""
    bridge = make_bridge()
    assert bridge.run_sync(AsyncMock(return_value=5)) == 5
    bridge.run_sync(functools.partial(functools.partial(asyncio.sleep), 0))
    names = [span.name for span in instrumented.exporter.get_finished_spans()]
    assert names == ["AsyncMock", "sleep"]
