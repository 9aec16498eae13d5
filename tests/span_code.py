"""Spans that are exported to memory, for tests of telemetry."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from child import eventually
from syncline.telemetry import SynclineInstrumentor


class Spans:
    """What was exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer: Tracer = self.provider.get_tracer("tests")

    def named(self, name: str) -> ReadableSpan:
        """The one of that name; some end a moment after their call has."""
        assert eventually(lambda: any(span.name == name for span in self.exporter.get_finished_spans())), name
        (found,) = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return found

    def line(self, name: str) -> list[str]:
        """The names from that span up to the root."""
        span: ReadableSpan | None = self.named(name)
        found = []
        while span is not None:
            found.append(span.name)
            parent = span.parent
            known = {
                one.context.span_id: one
                for one in self.exporter.get_finished_spans()
                if one.context is not None
            }
            span = known[parent.span_id] if parent is not None else None
        return found


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def instrumented(spans: Spans) -> Iterator[Spans]:
    instrumentor = SynclineInstrumentor()
    instrumentor.instrument(tracer_provider=spans.provider)
    yield spans
    instrumentor.uninstrument()
