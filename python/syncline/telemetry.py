"""OpenTelemetry: a span for each call between sync and async code.

    pip install "syncline[opentelemetry]"

    from syncline.telemetry import SynclineInstrumentor

    SynclineInstrumentor().instrument()

Without it, too, a span that was opened around a call is the parent of those that its coroutine opens, and the other way
round: OpenTelemetry keeps the current span in a context variable, and those cross every bridge.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Token
from typing import Any, ClassVar, cast

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, TracerProvider

from . import _core
from ._bridge import Bridge
from ._kinds import named
from ._raised import text_of

__all__ = ["SynclineInstrumentor"]


class SynclineInstrumentor:
    """Makes a span of each call, from the moment it is made until its caller has the result.

    The span has the name of the function. Its attributes are `code.function.name`, `syncline.call` ("run_sync" for all
    calls that sync code waits for, "submit", "run_async", "to_thread", "to_caller", "from_thread", "map", "amap" or
    "group"), and `syncline.bridge`, the bridge's name, where there is one. What the call raised is recorded as
    OpenTelemetry does it, and `error.type` names its class.

    It is current in the coroutine, or in the function that a worker thread runs. Steps of iterators, generators and
    managers, and the calls of `gather` have none of their own: what is opened there has the parent that was current
    where they were begun.

    It is the process that is instrumented: all objects of this class say and do the same. `opentelemetry-instrument`
    finds it by the package's entry point. A forked child goes on.
    """

    _tracer: ClassVar[Tracer | None] = None

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether `instrument()` was called, and not `uninstrument()` since."""
        return self._tracer is not None

    def instrumentation_dependencies(self) -> Collection[str]:
        """What has to be installed besides: nothing."""
        return ()

    def instrument(self, *, tracer_provider: TracerProvider | None = None, **_: Any) -> None:
        """From now on makes spans, with `tracer_provider` or the global one.

        Raises RuntimeError where it does already.
        """
        if self._tracer is not None:
            raise RuntimeError(
                "SynclineInstrumentor().instrument() was called before; call uninstrument() first"
            )
        tracer = trace.get_tracer("syncline", _core.__version__, tracer_provider)
        SynclineInstrumentor._tracer = tracer
        spans = _Spans(tracer)
        _core.set_span_maker(spans)
        # These are looked up at each call, so that one in place of them costs nothing while there is none.
        bridge = cast("Any", Bridge)
        bridge._submit = _submit(spans)
        bridge._run_async = _run_async(spans)

    def uninstrument(self, **_: Any) -> None:
        """From now on makes no spans any more; those that have begun end with their calls."""
        if self._tracer is not None:
            SynclineInstrumentor._tracer = None
            _core.set_span_maker(None)
            bridge = cast("Any", Bridge)
            del bridge._submit, bridge._run_async


class _Begun:
    """A span that has begun, and what makes the one before it current again."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.token: Token[context.Context] | None = context.attach(trace.set_span_in_context(span))


class _Spans:
    """Makes spans, as the core tells it: `begin`, then `end`, both in one context, in which the span is the current
    one; or `begin`, then `leave` in the same context, and `end` in any."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(self, fn: Any, kind: str, bridge: str | None) -> _Begun:
        fn = named(fn)
        name: str = fn.__qualname__
        module = getattr(fn, "__module__", None)
        attributes = {
            "code.function.name": f"{module}.{name}" if module is not None else name,
            "syncline.call": kind,
        }
        if bridge is not None:
            attributes["syncline.bridge"] = bridge
        return _Begun(self._tracer.start_span(name, kind=SpanKind.INTERNAL, attributes=attributes))

    def leave(self, begun: _Begun) -> None:
        token, begun.token = begun.token, None
        if token is not None:
            context.detach(token)

    def end(self, begun: _Begun, error: BaseException | None) -> None:
        self.leave(begun)
        if error is not None:
            begun.span.set_attribute("error.type", type(error).__qualname__)
            if isinstance(error, Exception):  # not for a cancellation, or an exit: nothing failed
                with suppress(Exception):  # it asks the error for its text
                    begun.span.record_exception(error)
                begun.span.set_status(StatusCode.ERROR, f"{type(error).__qualname__}: {text_of(error)}")
        begun.span.end()


def _submit(spans: _Spans) -> Callable[..., Any]:
    def submit(self: Bridge, future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        begun = spans.begin(fn, "submit", self.name)
        try:
            submitted = super(Bridge, self)._submit(future, fn, args, kwargs)
        except BaseException as error:
            spans.end(begun, error)
            raise
        spans.leave(begun)

        def done(_future: object) -> None:
            # Not by `exception()`, which would count as if the program had asked for the error.
            error = cast("Any", future)._exception
            spans.end(begun, CancelledError() if error is None and future.cancelled() else error)

        future.add_done_callback(done)
        return submitted

    return submit


def _run_async(spans: _Spans) -> Callable[..., Any]:
    def run_async(self: Bridge, fn: Callable[..., Awaitable[Any]], args: Any, kwargs: Any) -> Any:
        async def awaited() -> Any:
            begun = spans.begin(fn, "run_async", self.name)
            try:
                result = await super(Bridge, self)._run_async(fn, args, kwargs)
            except BaseException as error:
                spans.end(begun, error)
                raise
            spans.end(begun, None)
            return result

        return awaited()

    return run_async
