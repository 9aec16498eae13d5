"""Items of `map` and calls of groups in traces and as spans: each as one of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from opentelemetry.trace import StatusCode

import syncline
from span_code import Spans, instrumented, spans
from trace_format import read

__all__ = ["instrumented", "spans"]
MakeBridge = Callable[..., syncline.Bridge]


async def item(number: int) -> int:
    return number


async def slow_item(number: int) -> int:
    await asyncio.sleep(0)
    if number == 2:
        raise LookupError(number)
    return number


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_each_item_is_a_slice_of_its_own(tmp_path: Path, make_bridge: MakeBridge, scope: str) -> None:
    """Also where calls end at once; those that suspend have a track. The file keeps the format's rules."""
    bridge = make_bridge(scope=scope)
    path = tmp_path / "trace.json"
    with syncline.trace(path):
        assert list(bridge.map(item, range(5))) == list(range(5))
        errors = list(bridge.map(slow_item, range(5), return_exceptions=True))
    assert isinstance(errors[2], LookupError)
    recorded = read(path)
    assert len(recorded.named("item", "step")) == 5
    assert len(recorded.named("slow_item", "step")) == 10
    assert len(recorded.named("map", "call")) == 10
    spans = [span for track in recorded.tracks.values() for span in track.spans if span[1] == "slow_item"]
    assert len(spans) == 5
    assert sum("raised LookupError" in str(span[4]) for span in spans) == 1


def test_sync_code_that_an_item_calls_may_call_back(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """A nested call parks the item: others have their steps meanwhile, and the thread's slices still nest."""
    bridge = make_bridge()
    path = tmp_path / "trace.json"

    async def nests(number: int) -> int:
        return bridge.run_sync(slow_item, number + 3)

    with syncline.trace(path):
        assert list(bridge.map(nests, range(4))) == [3, 4, 5, 6]
    recorded = read(path)
    name = nests.__qualname__
    assert len([span for track in recorded.tracks.values() for span in track.spans if span[1] == name]) == 4


def test_calls_of_a_group_are_slices(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """By the name of what was started."""
    path = tmp_path / "trace.json"
    with syncline.trace(path), make_bridge().group() as group:
        assert group.start(item, 1).result() == 1
        assert group.start(slow_item, 3).result() == 3
    recorded = read(path)
    assert len(recorded.named("item", "step")) == 1
    assert len(recorded.named("slow_item", "step")) == 2
    assert len(recorded.named("group", "call")) == 2


def test_each_call_has_a_span(instrumented: Spans, make_bridge: MakeBridge) -> None:
    """Below that of the code that iterates, or that has started it; with what it raised."""
    bridge = make_bridge()
    with instrumented.tracer.start_as_current_span("outer") as outer:
        list(bridge.map(item, range(2)))
        list(bridge.map(slow_item, range(3), return_exceptions=True))
        with bridge.group() as group:
            group.start(item, 1)
        asyncio.run(amapped())
    found = [span for span in instrumented.exporter.get_finished_spans() if "item" in span.name]
    kinds = [(span.name, span.attributes["syncline.call"]) for span in found if span.attributes]
    assert sorted(kinds) == [
        ("item", "amap"),
        ("item", "group"),
        *[("item", "map")] * 2,
        *[("slow_item", "map")] * 3,
    ]
    assert {span.parent.span_id for span in found if span.parent} == {outer.get_span_context().span_id}
    assert [span.status.status_code for span in found].count(StatusCode.ERROR) == 1


async def amapped() -> None:
    assert [result async for result in syncline.amap(item, [1])] == [1]


def test_an_item_that_is_cancelled_ends_its_span(instrumented: Spans, make_bridge: MakeBridge) -> None:
    """It is none that failed; what it does in its cleanup is seen."""
    cleaned: list[int] = []

    async def waits(number: int) -> int:
        if number == 0:
            return 0
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(number)
        return number

    results = make_bridge().map(waits, range(3), ordered=False)
    assert next(results) == 0
    results.close()
    assert sorted(cleaned) == [1, 2]
    spans = [span for span in instrumented.exporter.get_finished_spans() if span.name == waits.__qualname__]
    assert len(spans) == 3
    assert all(span.status.status_code is StatusCode.UNSET for span in spans)
    with suppress(StopIteration):
        next(results)


def test_trio_s_items_have_spans_too(instrumented: Spans, make_bridge: MakeBridge) -> None:
    """In a run of trio's, whose tasks are made otherwise."""
    import trio

    async def waits(number: int) -> int:
        await trio.lowlevel.checkpoint()
        return number

    assert list(make_bridge(backend="trio").map(waits, range(3))) == [0, 1, 2]
    names = [span.name for span in instrumented.exporter.get_finished_spans()]
    assert names.count(waits.__qualname__) == 3
