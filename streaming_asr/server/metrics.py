"""The metrics for Prometheus."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from streaming_asr.core.events import Event, Final, Partial, SessionWarning, SpeechEnded, SpeechStarted
from streaming_asr.core.recognizer import DecodeFailed, DecodeJob, Hypothesis, Kind
from streaming_asr.server.live.parking import Outcome

logger = logging.getLogger(__name__)

LAG_INTERVAL_S = 0.25
_LATENCY = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30)
_WAIT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class Metrics:
    """All metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.ready = Gauge("streaming_asr_ready", "1 while the recognizer takes work.", registry=registry)
        self.sessions = Gauge("streaming_asr_sessions", "Sessions open now.", ["protocol"], registry=registry)
        self.sessions_total = Counter(
            "streaming_asr_sessions_opened", "Sessions opened.", ["protocol"], registry=registry
        )
        self.audio_seconds = Counter("streaming_asr_audio_seconds", "Audio received, seconds.", registry=registry)
        self.utterances = Counter(
            "streaming_asr_utterances", "Utterances ended, by why.", ["reason"], registry=registry
        )
        self.decodes = Counter(
            "streaming_asr_decodes", "Decodes, by kind and outcome.", ["kind", "outcome"], registry=registry
        )
        self.decode_seconds = Histogram(
            "streaming_asr_decode_seconds", "Time of a decode.", ["kind"], buckets=_LATENCY, registry=registry
        )
        self.queue_seconds = Histogram(
            "streaming_asr_queue_seconds",
            "Wait of a final or speculative final for a free slot.",
            ["kind"],
            buckets=_LATENCY,
            registry=registry,
        )
        self.encoded_seconds = Counter(
            "streaming_asr_encoded_audio_seconds", "Audio that went through the encoder, seconds.", registry=registry
        )
        self.tokens = Counter(
            "streaming_asr_tokens", "Tokens: prompt, cached (of the prompt), generated.", ["what"], registry=registry
        )
        self.first_partial = Histogram(
            "streaming_asr_first_partial_seconds",
            "From the detection of speech to the utterance's first partial.",
            buckets=_LATENCY,
            registry=registry,
        )
        self.final = Histogram(
            "streaming_asr_final_seconds", "From the endpoint to the final.", buckets=_LATENCY, registry=registry
        )
        self.held = Gauge(
            "streaming_asr_held_audio_seconds", "Audio kept for decoding, all sessions.", registry=registry
        )
        self.loop_lag = Histogram(
            "streaming_asr_event_loop_lag_seconds",
            f"How late the event loop wakes, measured every {LAG_INTERVAL_S} s.",
            buckets=_LAG,
            registry=registry,
        )
        self.tasks = Gauge("streaming_asr_event_loop_tasks", "Tasks of the event loop.", registry=registry)
        self.tasks.set_function(_tasks)
        self.turn_wait = Histogram(
            "streaming_asr_turn_wait_seconds",
            "Wait of data from clients until it is handled, the longest of each round of turns.",
            buckets=_WAIT,
            registry=registry,
        )
        self.turn_questions = Counter(
            "streaming_asr_turn_questions",
            "Pauses to be judged by a turn detector, by outcome: answered, dropped, late, failed.",
            ["outcome"],
            registry=registry,
        )
        self.annotator_questions = Counter(
            "streaming_asr_annotator_questions",
            "Questions of annotators, by annotator and outcome: answered, late, failed.",
            ["annotator", "outcome"],
            registry=registry,
        )
        self.repairs = Counter(
            "streaming_asr_repairs",
            "Repairs of what clients sent; of a session each kind counts once.",
            ["kind"],
            registry=registry,
        )
        self.resumptions = Counter(
            "streaming_asr_resumptions",
            "What became of sessions that lost their connection, and of claims to them.",
            ["outcome"],
            registry=registry,
        )
        self.decoders = Gauge("streaming_asr_decoders", "Decoders of files that sessions send.", registry=registry)
        self.decoders_lost = Counter(
            "streaming_asr_decoders_lost",
            "Decoders that crashed, or were ended for what they took, by what they decoded: recording, session.",
            ["of"],
            registry=registry,
        )
        self.refusals = Counter("streaming_asr_refusals", "Connections refused.", ["code"], registry=registry)
        self.errors = Counter("streaming_asr_errors", "Errors sent to clients.", ["code"], registry=registry)

    def resumption(self, outcome: Outcome) -> None:
        """A session without a connection, or a claim to one, had this outcome."""
        self.resumptions.labels(outcome.value).inc()

    def watch_load(self, load: Callable[[], float]) -> None:
        """Export the load, from now on. A server that still loads exports none, so no average counts it as idle."""
        gauge = Gauge(
            "streaming_asr_load",
            "Load from 0 to 1, smoothed: of the sessions allowed, or of the wait of finals, whichever is more.",
            registry=self.registry,
        )
        gauge.set_function(load)

    def watch_status(self, statuses: Iterable[str], status: Callable[[], str]) -> None:
        """Export which of its statuses the server has."""
        gauge = Gauge("streaming_asr_status", "1 for what the server is now.", ["status"], registry=self.registry)
        for name in statuses:
            gauge.labels(name).set_function(lambda name=name: float(status() == name))  # type: ignore[misc]

    def watch_memory(self, resident: Callable[[], int], limit: int | None) -> None:
        """Export the memory of this process, and the limit, in bytes."""
        memory = Gauge("streaming_asr_memory_bytes", "Memory of this process in RAM.", registry=self.registry)
        memory.set_function(resident)
        if limit is not None:
            Gauge(
                "streaming_asr_memory_limit_bytes", "Beyond it no new sessions are accepted.", registry=self.registry
            ).set(limit)

    def watch_parked(self, count: Callable[[], int]) -> None:
        """Export the number of sessions without a connection, which is read when the metrics are."""
        parked = Gauge(
            "streaming_asr_parked_sessions",
            "Sessions that have lost their connection and wait for their client.",
            registry=self.registry,
        )
        parked.set_function(count)

    def began(self, job: DecodeJob, waited_s: float) -> None:
        """A decode has got its slot."""
        if job.kind is not Kind.PARTIAL:
            self.queue_seconds.labels(job.kind.name.lower()).observe(waited_s)

    def decoded(self, job: DecodeJob, outcome: Hypothesis | DecodeFailed | None, took_s: float) -> None:
        """A decode has ended; None: it was cancelled."""
        kind = job.kind.name.lower()
        if not isinstance(outcome, Hypothesis):
            self.decodes.labels(kind, "cancelled" if outcome is None else "failed").inc()
            return
        cost = outcome.cost
        self.decodes.labels(kind, "ok").inc()
        self.decode_seconds.labels(kind).observe(took_s)
        self.encoded_seconds.inc(cost.audio_s)
        for what, count in (
            ("prompt", cost.prompt_tokens),
            ("cached", cost.cached_tokens),
            ("generated", cost.generated_tokens),
        ):
            self.tokens.labels(what).inc(count)

    def turn_asked(self, outcome: str) -> None:
        """A pause was judged, or was not."""
        self.turn_questions.labels(outcome).inc()

    def annotator_asked(self, annotator: str, outcome: str) -> None:
        """A question of an annotator was answered, or was not."""
        self.annotator_questions.labels(annotator, outcome).inc()

    def watch_engine(self, gauges: Callable[[], Mapping[str, float]]) -> None:
        """Export an engine's own gauges, which are read when the metrics are."""
        for name in gauges():
            gauge = Gauge(
                f"streaming_asr_engine_{name}", f"Of the engine: {name.replace('_', ' ')}.", registry=self.registry
            )
            gauge.set_function(lambda name=name: gauges()[name])  # type: ignore[misc]

    def text(self) -> bytes:
        """In Prometheus' exposition format."""
        return generate_latest(self.registry)

    async def watch_loop(self, on_lag: Callable[[float], None]) -> None:
        """Measure the event loop's lag until cancelled.

        Args:
            on_lag: is called with each lag, seconds.
        """
        while True:
            due = time.perf_counter() + LAG_INTERVAL_S
            await asyncio.sleep(LAG_INTERVAL_S)
            lag_s = max(0.0, time.perf_counter() - due)
            self.loop_lag.observe(lag_s)
            on_lag(lag_s)


def _tasks() -> int:
    """Tasks of the running event loop; 0 where none is running."""
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return 0


class ConversationMetrics:
    """What one conversation reports, an `Observer` of it.

    Args:
        protocol: that the client speaks.
    """

    def __init__(self, metrics: Metrics, protocol: str) -> None:
        self._metrics = metrics
        self._protocol = protocol
        self._clock = SessionClock(metrics)
        self._session = ""

    def opened(self, session: str) -> None:
        self._session = session
        self._metrics.sessions.labels(self._protocol).inc()
        self._metrics.sessions_total.labels(self._protocol).inc()

    def closed(self) -> None:
        self._metrics.sessions.labels(self._protocol).dec()

    def refused(self, code: str) -> None:
        self._metrics.refusals.labels(code).inc()

    def failed(self, code: str) -> None:
        self._metrics.errors.labels(code).inc()

    def received(self, audio_ms: int) -> None:
        self._metrics.audio_seconds.inc(audio_ms / 1000)

    def on_events(self, events: Sequence[Event], now: float) -> None:
        self._clock.on_events(events, now)
        for event in events:
            if isinstance(event, SessionWarning) and event.repair:
                self._metrics.repairs.labels(event.code).inc()
                logger.warning("Session %s on %s: %s (%s)", self._session, self._protocol, event.message, event.code)


class SessionClock:
    """Latencies of one session's utterances, from the times at which their events are sent."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._started: dict[int, tuple[int, float]] = {}
        """The open utterance of each channel that has no partial yet, and when it began."""
        self._ended: dict[int, float] = {}

    def on_events(self, events: Iterable[Event], now: float) -> None:
        for event in events:
            if isinstance(event, SpeechStarted):
                self._started[event.channel] = (event.utterance, now)
            elif isinstance(event, Partial):
                utterance, began = self._started.get(event.channel, (0, 0.0))
                if utterance == event.utterance:
                    del self._started[event.channel]
                    self._metrics.first_partial.observe(now - began)
            elif isinstance(event, SpeechEnded):
                self._started.pop(event.channel, None)
                self._ended[event.utterance] = now
                self._metrics.utterances.labels(event.reason.value).inc()
            elif isinstance(event, Final) and (ended := self._ended.pop(event.utterance, None)) is not None:
                self._metrics.final.observe(now - ended)
