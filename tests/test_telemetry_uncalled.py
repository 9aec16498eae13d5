"""Spans of functions that a task had sent to a thread, and that were never called."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import syncline
from syncline.telemetry import SynclineInstrumentor


def uncalled() -> None:
    raise AssertionError("it is not called")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def test_a_call_that_is_cancelled_in_the_queue_ends_its_span(
    exporter: InMemorySpanExporter, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """A span that never ends is never exported."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = SynclineInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    release = threading.Event()

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)
        holds = asyncio.create_task(limiter.to_thread(release.wait))
        while limiter.borrowed_tokens == 0:
            await asyncio.sleep(0)
        # Order forced: it is in the queue, as the one token is held.
        queued = asyncio.create_task(limiter.to_thread(uncalled))
        while limiter.statistics().tasks_waiting == 0:
            await asyncio.sleep(0)
        queued.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await queued
        release.set()
        await holds

    try:
        make_bridge().run_sync(main)
    finally:
        release.set()
        instrumentor.uninstrument()
    assert [span.name for span in exporter.get_finished_spans()].count("uncalled") == 1
