"""Spans of OpenTelemetry: one for each session and each utterance, and below these what its final waited for.

Nothing of OpenTelemetry is imported, and nothing is done, unless an endpoint is given. A thread of the SDK's sends the
spans, by OTLP over HTTP, from a queue with a bound (``OTEL_BSP_MAX_QUEUE_SIZE``, 2048); what does not fit is dropped.
So a collector that is slow or away costs spans, and no session its time. No attribute has any text of a transcript.

    session                       from its opening to its end
      utterance                   from the detection of speech to the final
        endpoint                  from the end of the voice to the decision that the utterance is over
        queue, decode             of the final, and of those decoded ahead at pauses
        final                     from that decision to the final
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streaming_asr import __version__
from streaming_asr.core.channel import utterance_name
from streaming_asr.core.events import Done, Event, Final, Partial, SpeechEnded, SpeechStarted
from streaming_asr.core.options import OptionError
from streaming_asr.core.recognizer import DecodeFailed, DecodeJob, Hypothesis, Kind
from streaming_asr.server.observer import Observer

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

logger = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""Variables that give an endpoint, as OpenTelemetry's specification has them: the whole address, and one to which the
path is added."""
PATH = "/v1/traces"
MAX_DECODES = 32
"""Of one utterance that get spans: one that pauses again and again is decoded ahead at each pause."""
FLUSH_S = 2.0
"""Time at the end of the server for the spans that are left."""
LAST_SPANS = "send the last spans"
"""Name of the thread that does."""


def make_tracing(endpoint: str | None, environment: Mapping[str, str]) -> Tracing | None:
    """What makes the spans; None where they are off.

    Args:
        endpoint: of a collector, as ``OTEL_EXPORTER_OTLP_ENDPOINT``. None: the environment may give one.
        environment: with the variables of OpenTelemetry.

    Raises:
        OptionError: an endpoint is given, and OpenTelemetry is not installed.
    """
    given = any(environment.get(name) for name in ENDPOINTS)
    if endpoint is None:
        disabled = environment.get("OTEL_SDK_DISABLED", "").lower() == "true"
        if disabled or not given or environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
            return None
        protocol = environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environment.get(
            "OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"
        )
        if protocol != "http/protobuf":
            logger.warning("No spans are sent: OTLP over %s is not supported, only http/protobuf", protocol)
            return None
    elif not endpoint.endswith(PATH):
        endpoint = endpoint.rstrip("/") + PATH
    try:
        return Tracing(endpoint)
    except ModuleNotFoundError as error:
        missing = f"OpenTelemetry is not installed ({error.name}): pip install 'streaming-asr[otel]'"
        if endpoint is None:
            # The environment may be that of many programs.
            logger.warning("No spans are sent: %s", missing)
            return None
        raise OptionError("otlp_endpoint", missing) from None


@dataclass(slots=True)
class _Utterance:
    """One that has no final yet."""

    span: Span
    context: Context
    clock: _Clock
    ended: float | None = None
    """When it was over."""
    partials: int = 0
    decodes: int = 0
    begun: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Job that runs -> when it was wanted, and when it began."""


class _Clock:
    """Wall clock of a session, from that of the event loop: it never goes back while the session lasts."""

    def __init__(self, now: float) -> None:
        self._offset_ns = time.time_ns() - round(now * 1e9)

    def ns(self, now: float) -> int:
        return self._offset_ns + round(now * 1e9)


class Tracing:
    """Makes the spans. It is an observer of the runner's decodes.

    Args:
        endpoint: the whole address; None for that of the environment.

    Raises:
        ModuleNotFoundError: OpenTelemetry is not installed.
    """

    def __init__(self, endpoint: str | None) -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from streaming_asr.server.span_exporter import EndingExporter

        named: dict[str, Any] = {"service.version": __version__}
        if "service.name" not in OTELResourceDetector().detect().attributes:
            named["service.name"] = "streaming-asr"
        # At the end of the process it would wait for a collector that is away; `close` waits for as long as it may.
        self._provider = TracerProvider(resource=Resource.create(named), shutdown_on_exit=False)
        self._exporter = EndingExporter(endpoint)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("streaming_asr", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._utterances: dict[str, _Utterance] = {}

    def session(self, protocol: str, headers: Mapping[str, str], *, live: bool = True) -> SessionTrace:
        """The trace of a session that is about to be opened.

        Args:
            protocol: path by which the client came.
            headers: of its handshake or request, in lower case; ``traceparent`` names the span that asked for it.
            live: whether the audio comes as it is spoken.
        """
        return SessionTrace(self, protocol, self._propagator.extract(headers), live=live)

    def began(self, job: DecodeJob, waited_s: float) -> None:
        """A decode has got its slot."""
        utterance = self._utterances.get(job.utterance)
        if utterance is None or job.kind is Kind.PARTIAL or utterance.decodes >= MAX_DECODES:
            return
        now = time.monotonic()
        utterance.decodes += 1
        utterance.begun[job.id] = now - waited_s, now

    def decoded(self, job: DecodeJob, outcome: Hypothesis | DecodeFailed | None, took_s: float) -> None:
        """A decode has ended; None: it was cancelled."""
        utterance = self._utterances.get(job.utterance)
        if utterance is None or (begun := utterance.begun.pop(job.id, None)) is None:
            return
        wanted, began = begun
        attributes: dict[str, Any] = {"streaming_asr.kind": job.kind.name.lower()}
        self.child(utterance, "queue", wanted, began, attributes)
        attributes["streaming_asr.outcome"] = "cancelled" if outcome is None else "failed"
        if isinstance(outcome, Hypothesis):
            cost = outcome.cost
            attributes |= {
                "streaming_asr.outcome": "ok",
                "streaming_asr.encoded_s": cost.audio_s,
                "streaming_asr.prompt_tokens": cost.prompt_tokens,
                "streaming_asr.cached_tokens": cost.cached_tokens,
                "streaming_asr.generated_tokens": cost.generated_tokens,
            }
        self.child(utterance, "decode", began, time.monotonic(), attributes)

    def child(
        self, utterance: _Utterance, name: str, began: float, ended: float, attributes: Mapping[str, Any] | None = None
    ) -> None:
        """A span below the utterance's, which is over."""
        ns = utterance.clock.ns
        span = self._tracer.start_span(name, context=utterance.context, start_time=ns(began), attributes=attributes)
        span.end(ns(max(began, ended)))

    def start(
        self, name: str, context: Context, at_ns: int, attributes: Mapping[str, Any], *, server: bool = False
    ) -> tuple[Span, Context]:
        """A span that goes on, and the context of those below it."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        kind = SpanKind.SERVER if server else SpanKind.INTERNAL
        span = self._tracer.start_span(name, context=context, kind=kind, start_time=at_ns, attributes=attributes)
        return span, set_span_in_context(span, context)

    def watch(self, name: str, utterance: _Utterance) -> None:
        """Give an utterance the decodes of this name."""
        self._utterances[name] = utterance

    def forget(self, name: str) -> None:
        """The utterance is over."""
        self._utterances.pop(name, None)

    async def close(self) -> None:
        """Send what is left, for `FLUSH_S` at most. Then nothing is tried again, and nothing logged."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def shut_down() -> None:
            try:
                self._provider.shutdown()
            finally:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(done.set)

        # Not in the loop's executor, whose threads the process waits for.
        threading.Thread(target=shut_down, name=LAST_SPANS, daemon=True).start()
        try:
            await asyncio.wait_for(done.wait(), FLUSH_S)
        except asyncio.TimeoutError:
            logger.warning("The last spans were not sent within %g s", FLUSH_S)
            self._exporter.end()


class SessionTrace:
    """The spans of one session, an `Observer` of its conversation.

    Args:
        parent: what the client sent.
        live: see `Tracing.session`.
    """

    def __init__(self, tracing: Tracing, protocol: str, parent: Context, *, live: bool) -> None:
        self._tracing = tracing
        self._protocol = protocol
        self._parent = parent
        self._live = live
        self._span: Span | None = None
        self._began = False
        self._context = parent
        self._clock = _Clock(time.monotonic())
        self._session = ""
        self._audio_ms = 0
        self._utterances: dict[int, tuple[int, _Utterance]] = {}
        """Number of each that has no final -> its channel and its state."""

    def opened(self, session: str) -> None:
        self._session, self._audio_ms = session, 0
        self._start({"streaming_asr.session": session})

    def _start(self, attributes: Mapping[str, Any]) -> Span:
        now = time.monotonic()
        self._began = True
        self._clock = _Clock(now)
        attributes = {"streaming_asr.protocol": self._protocol, "streaming_asr.live": self._live, **attributes}
        self._span, self._context = self._tracing.start(
            "session", self._parent, self._clock.ns(now), attributes, server=True
        )
        return self._span

    def closed(self) -> None:
        now = time.monotonic()
        for number in list(self._utterances):
            self._end_utterance(number, now, {"streaming_asr.dropped": True})
        if self._span is not None:
            self._span.set_attribute("streaming_asr.audio_ms", self._audio_ms)
            self._span.end(self._clock.ns(now))
            self._span = None

    def refused(self, code: str) -> None:
        self.failed(code)

    def failed(self, code: str) -> None:
        if self._span is not None:
            _fail(self._span, code)
        elif not self._began:
            # No session was opened: the span has no length, and says why.
            _fail(self._start({}), code)
            self.closed()

    def received(self, audio_ms: int) -> None:
        self._audio_ms += audio_ms

    def on_events(self, events: Sequence[Event], now: float) -> None:
        for event in events:
            if isinstance(event, SpeechStarted):
                self._started(event, now)
            elif isinstance(event, Done):
                self._audio_ms = event.audio_ms
            elif isinstance(event, Partial | SpeechEnded | Final) and event.utterance in self._utterances:
                _, utterance = self._utterances[event.utterance]
                if isinstance(event, Partial):
                    utterance.partials += 1
                    if utterance.partials == 1:
                        utterance.span.add_event("first partial", timestamp=self._clock.ns(now))
                elif isinstance(event, SpeechEnded):
                    self._ended(utterance, event, now)
                else:
                    self._final(utterance, event, now)

    def _started(self, event: SpeechStarted, now: float) -> None:
        for number, (channel, utterance) in list(self._utterances.items()):
            if channel == event.channel and utterance.ended is None:
                # The client had it cleared: it gets no final.
                self._end_utterance(number, now, {"streaming_asr.dropped": True})
        attributes = {"streaming_asr.utterance": event.utterance, "streaming_asr.channel": event.channel}
        span, context = self._tracing.start("utterance", self._context, self._clock.ns(now), attributes)
        utterance = _Utterance(span, context, self._clock)
        self._utterances[event.utterance] = event.channel, utterance
        self._tracing.watch(utterance_name(self._session, event.channel, event.utterance), utterance)

    def _ended(self, utterance: _Utterance, event: SpeechEnded, now: float) -> None:
        utterance.ended = now
        utterance.span.set_attribute("streaming_asr.speech_ms", event.end_ms - event.start_ms)
        utterance.span.set_attribute("streaming_asr.reason", event.reason.value)
        if self._live:
            attributes = {} if event.probability is None else {"streaming_asr.probability": event.probability}
            self._tracing.child(utterance, "endpoint", now - event.silence_ms / 1000, now, attributes)

    def _final(self, utterance: _Utterance, event: Final, now: float) -> None:
        if utterance.ended is not None:
            self._tracing.child(utterance, "final", utterance.ended, now)
        attributes: dict[str, Any] = {"streaming_asr.empty": not event.text}
        if event.language is not None:
            attributes["streaming_asr.language"] = event.language
        self._end_utterance(event.utterance, now, attributes)

    def _end_utterance(self, number: int, now: float, attributes: Mapping[str, Any]) -> None:
        channel, utterance = self._utterances.pop(number)
        self._tracing.forget(utterance_name(self._session, channel, number))
        utterance.span.set_attribute("streaming_asr.partials", utterance.partials)
        for key, value in attributes.items():
            utterance.span.set_attribute(key, value)
        utterance.span.end(self._clock.ns(now))


def _fail(span: Span, code: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", code)
    span.set_status(Status(StatusCode.ERROR, code))


class NotObserved:
    """An observer that nothing is reported to."""

    def opened(self, session: str) -> None:
        pass

    def closed(self) -> None:
        pass

    def refused(self, code: str) -> None:
        pass

    def failed(self, code: str) -> None:
        pass

    def received(self, audio_ms: int) -> None:
        pass

    def on_events(self, events: Sequence[Event], now: float) -> None:
        pass


class Traced:
    """An observer of a conversation, and beside it a trace, whose faults are no session's."""

    def __init__(self, observer: Observer, trace: SessionTrace) -> None:
        self._observer = observer
        self._trace = trace

    def opened(self, session: str) -> None:
        self._observer.opened(session)
        _quietly(self._trace.opened, session)

    def closed(self) -> None:
        self._observer.closed()
        _quietly(self._trace.closed)

    def refused(self, code: str) -> None:
        self._observer.refused(code)
        _quietly(self._trace.refused, code)

    def failed(self, code: str) -> None:
        self._observer.failed(code)
        _quietly(self._trace.failed, code)

    def received(self, audio_ms: int) -> None:
        self._observer.received(audio_ms)
        _quietly(self._trace.received, audio_ms)

    def on_events(self, events: Sequence[Event], now: float) -> None:
        self._observer.on_events(events, now)
        _quietly(self._trace.on_events, events, now)


def _quietly(method: Callable[..., None], *arguments: Any) -> None:
    try:
        method(*arguments)
    except Exception:
        logger.exception("A span could not be made")
