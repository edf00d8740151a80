"""What all connections share: one recognizer, its scheduler, the sessions, and whether new ones are accepted."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping

import numpy as np

from streaming_asr.annotators.registry import make_annotators
from streaming_asr.annotators.speakers import compares_voices, load_voices
from streaming_asr.core.events import SessionWarning
from streaming_asr.core.load import Load
from streaming_asr.core.options import Encoding, OptionError, SessionOptions
from streaming_asr.core.recognizer import Health, Recognizer, Supervised
from streaming_asr.core.scheduler import Busy, Limits, Scheduler
from streaming_asr.core.session import Session
from streaming_asr.core.voice import run_inline
from streaming_asr.engine.media.decoders import Decoders
from streaming_asr.engine.runner import Broke, Listener, Runner
from streaming_asr.engine.runner import Observer as DecodeObserver
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.model_names import ModelNames
from streaming_asr.server.chat_translator import ChatTranslator
from streaming_asr.server.head_starts import HeadStarts
from streaming_asr.server.live.fair_loop import Account, FairLoop
from streaming_asr.server.live.file_sessions import FileSessions
from streaming_asr.server.live.live_conversation import LiveConversation
from streaming_asr.server.live.parking import Parking
from streaming_asr.server.live.turn_questions import TurnPool
from streaming_asr.server.live.voice_batches import VoiceBatcher
from streaming_asr.server.memory import MemoryBound, default_limit, resident_bytes, trim
from streaming_asr.server.metrics import ConversationMetrics, Metrics
from streaming_asr.server.observer import Observer
from streaming_asr.server.options import ServerOptions
from streaming_asr.server.session_port import Refused
from streaming_asr.server.tracing import NotObserved, Traced, Tracing, make_tracing
from streaming_asr.turns.detectors import make_turn_detector
from streaming_asr.voice.detectors import make_detector

logger = logging.getLogger(__name__)

VOICES_PER_CORE = 10
"""Sessions whose voices are compared: about a fifth of a core, while all of them speak. See docs/speakers.md."""

TRANSLATE_KEY = "STREAMING_ASR_TRANSLATE_KEY"
"""Environment variable with the key for `--translate-url`."""

LOADING, DRAINING = "loading", "draining"
STATUSES = (LOADING, *(health.value for health in Health), DRAINING)


class Service:
    """The server without its sockets.

    Args:
        recognizer: not started yet.
        warn: sends a warning to all open sessions.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        options: ServerOptions,
        warn: Callable[[SessionWarning], None] = lambda warning: None,
    ) -> None:
        self.recognizer = recognizer
        self.options = options
        self.metrics = Metrics()
        self.failed = asyncio.Event()
        """Set when the recognizer died and is not restarted: the server can only exit."""
        self._warn = warn
        self.voice = VoiceBatcher()
        self.turns = TurnPool(self._overloaded, self.metrics.turn_asked)
        self.decoders = Decoders(options.max_recording_s, background=True)
        """Of recordings."""
        self._live_decoders = Decoders(options.max_recording_s)
        self._low_decoders = Decoders(options.max_recording_s, background=True)
        """Of files from addresses that have had more than their share. It is given no spare child."""
        self.files = FileSessions(
            self._live_decoders, self._low_decoders, self.metrics, options.max_file_sessions, options.max_session_s
        )
        self.fair_loop = FairLoop(self.metrics.turn_wait.observe, self._somebody_speaks)
        self.parking: Parking[LiveConversation] = Parking(options.max_parked_mib << 20, self.metrics.resumption)
        self.metrics.watch_parked(lambda: len(self.parking.parked))
        self._recordings = Account()
        """All recordings together are one client of the event loop."""
        self._head_starts = HeadStarts()
        self._memory = MemoryBound(options.max_memory_mib << 20 or default_limit())
        self.metrics.watch_memory(resident_bytes, self._memory.limit)
        self.metrics.watch_status(STATUSES, lambda: self.status)
        self.tracing: Tracing | None = None
        """Valid after `start`; None where spans are off."""
        self._load = Load(options.max_sessions, options.load_objective_s)
        self._health = Health.READY
        self._draining = False
        self._runner: Runner | None = None
        self._numbers = itertools.count(1)
        self._voices: set[str] = set()
        """Keys of the open sessions whose voices are compared."""
        self._loading: asyncio.Future[None] | None = None
        """Of what compares voices, from the first session on that needs it."""
        self._instance = secrets.token_hex(3)
        self._watch: asyncio.Task[None] | None = None
        self._translator = (
            ChatTranslator(options.translate_url, options.translate_model, os.environ.get(TRANSLATE_KEY))
            if options.translate_url
            else None
        )
        self.make_annotators = functools.partial(make_annotators, translator=self._translator)

    @property
    def ready(self) -> bool:
        return self._runner is not None and self._health is Health.READY and not self._draining

    @property
    def status(self) -> str:
        """`ready`, or why not: `loading`, `recovering`, `failed`, `draining`."""
        if self._draining:
            return DRAINING
        return self._health.value if self._runner is not None else LOADING

    async def start(self) -> None:
        """Load the recognizer and accept sessions.

        Raises:
            RecognizerUnavailable: the recognizer can't run here.
            OptionError: the recognizer can't do what a default for sessions asks.
        """
        self.tracing = make_tracing(self.options.otlp_endpoint, os.environ)
        detector = make_detector(self.options.session)
        # Loads its network now: the first client may come when no more files can be opened.
        run_inline(detector.detect(np.zeros((1, detector.frame_samples), np.float32)))
        turns = make_turn_detector(self.options.session)
        self._watch = asyncio.create_task(self.metrics.watch_loop(self._loop_woke), name="watch the event loop")
        began = time.monotonic()
        await self.recognizer.start()
        if turns is not None:
            await self.turns.warm_up(turns)
        can = self.recognizer.capabilities
        Session(
            "check",
            self.options.session,
            can,
            make_detector,
            make_turn_detector=make_turn_detector,
            make_annotators=self.make_annotators,
        )
        for annotator in self.make_annotators(self.options.session, can):
            await asyncio.to_thread(annotator.warm_up)
        limits = Limits(self.options.max_sessions, self.options.final_objective_s)
        self._runner = Runner(
            self.recognizer, Scheduler(can.concurrency, limits), self._observers, self.metrics.annotator_asked
        )
        self.metrics.ready.set(1)
        self.metrics.watch_load(lambda: self._load.value)
        if isinstance(self.recognizer, Supervised):
            self.recognizer.subscribe(self._health_changed)
            self.metrics.watch_engine(self.recognizer.gauges)
        took = time.monotonic() - began
        logger.info("Ready: %s with %s on %s (loaded in %.1f s)", can.name, can.model, can.device, took)

    @property
    def _observers(self) -> tuple[DecodeObserver, ...]:
        return (self.metrics,) if self.tracing is None else (self.metrics, self.tracing)

    def observer(self, protocol: str, headers: Mapping[str, str]) -> Observer:
        """What a conversation reports to: the metrics, and a trace where spans are on.

        Args:
            protocol: path by which the client came.
            headers: of its handshake, in lower case.
        """
        observer = ConversationMetrics(self.metrics, protocol)
        return observer if self.tracing is None else Traced(observer, self.tracing.session(protocol, headers))

    def recording_observer(self, path: str, headers: Mapping[str, str]) -> Observer:
        """As `observer`, for a recording, which the metrics of live sessions leave out."""
        if self.tracing is None:
            return NotObserved()
        return Traced(NotObserved(), self.tracing.session(path, headers, live=False))

    @property
    def models(self) -> ModelNames:
        """The names that clients may give to the model."""
        if self._runner is None:
            return ModelNames(None, self.options.model_aliases)
        can = self.recognizer.capabilities
        return ModelNames(can.model, (*self.options.model_aliases, *can.aliases))

    def room(self, taken: int) -> bool:
        """Whether it would accept one more session now.

        Args:
            taken: sessions, and connections that may still open one.
        """
        if not self.ready or self._runner is None or taken >= self.options.max_sessions:
            return False
        now = time.monotonic()
        try:
            self._runner.scheduler.admit(now)
        except Busy:
            return False
        return not (self._runner.scheduler.sessions and self._memory.excess(now))

    def drain(self) -> None:
        """Refuse new sessions from now on; those that are open go on."""
        self._draining = True
        self.metrics.ready.set(0)
        self.parking.drop_all()

    def open(
        self,
        options: SessionOptions,
        listener: Listener,
        broke: Broke,
        *,
        recorded: bool = False,
        address: str = "",
    ) -> Session:
        """Open a session.

        Args:
            listener, broke: see `Runner.add`.
            recorded: see `Session`.
            address: of the client.

        Raises:
            Refused: the server takes no session now, or not with these options.
        """
        if self._draining:
            raise Refused(Failure(FailureKind.RESTARTING, "The server is shutting down; connect again shortly."))
        if self._runner is None or self._health is not Health.READY:
            raise Refused(Failure(FailureKind.NOT_READY, f"The recognizer is {self.status}; try again shortly."))
        self._make_room(self._runner.scheduler)
        # With none open there is nothing to wait for.
        if self._runner.scheduler.sessions and (excess := self._memory.excess(time.monotonic())):
            raise Refused(Failure(FailureKind.BUSY, f"The server is busy: {excess}."))
        if compares_voices(options):
            self._check_voices()
        key = f"{self._instance}-{next(self._numbers)}"
        try:
            session = Session(
                key,
                options,
                self.recognizer.capabilities,
                make_detector,
                make_turn_detector=make_turn_detector,
                make_annotators=self.make_annotators,
                recorded=recorded,
                head_start=not recorded and self._head_starts.take(address, time.monotonic()),
            )
            self._runner.add(session, listener, broke)
            if compares_voices(session.options):
                self._voices.add(key)
                if self._loading is None:
                    self._loading = asyncio.get_running_loop().run_in_executor(None, load_voices)
        except OptionError as error:
            raise Refused(Failure(FailureKind.BAD_OPTION, str(error))) from None
        except Busy as error:
            raise Refused(Failure(FailureKind.BUSY, f"The server is busy: {error}.")) from None
        if options.encoding is Encoding.AUTO and not recorded:
            # If it sends a file, that comes sooner than a child starts.
            self._live_decoders.prepare()
        return session

    def _check_voices(self) -> None:
        """Check that the voices of another session can be compared.

        Raises:
            Refused: they can't.
        """
        most = self.options.max_speaker_sessions or VOICES_PER_CORE * (os.cpu_count() or 1)
        if len(self._voices) >= most:
            reason = f"speaker labels are on in {most} sessions, as many as are allowed; connect without, or later."
            raise Refused(Failure(FailureKind.BUSY, f"The server is busy: {reason}"))

    def _make_room(self, scheduler: Scheduler) -> None:
        """Drop sessions whose clients are away, if one that is there needs their place."""
        while scheduler.sessions >= self.options.max_sessions and self.parking.drop_first():
            pass
        if self.parking.parked and self._memory.excess(time.monotonic()):
            self.parking.drop_all()
            trim()

    def update(self, session: Session) -> None:
        """Call after a session received audio, a command or a result."""
        self._started.update(session)

    def fill(self, session: Session) -> None:
        """Enough after a session received audio that led to no event."""
        if session.pending:
            self._started.fill(session)

    def remove(self, session: Session) -> None:
        """Remove a session and cancel its jobs."""
        self._voices.discard(session.key)
        self._started.remove(session)

    @property
    def _started(self) -> Runner:
        """The runner, without which no session was opened."""
        assert self._runner is not None
        return self._runner

    def recordings_rest_s(self, cost_s: float) -> float:
        """How long no recording should be worked on now, after one took this much processor time, in seconds."""
        self._recordings.charge(cost_s)
        return self.fair_loop.wait_s(self._recordings)

    def _somebody_speaks(self) -> bool:
        return self._runner is not None and self._runner.scheduler.speaking

    def _overloaded(self) -> bool:
        """Whether a final waits for a slot."""
        return self._runner is not None and self._runner.scheduler.final_waits

    def _loop_woke(self, late_s: float) -> None:
        """Called regularly, with how late that was."""
        if self._runner is None:
            return
        now = time.monotonic()
        self._runner.scheduler.caller_was_late(late_s, now)
        if self._health is not Health.READY:
            self._load.observe_outage(now)
            return
        # Those whose clients are away make room for others.
        sessions = self._runner.scheduler.sessions - len(self.parking.parked)
        self._load.observe(sessions, self._runner.scheduler.wait_s(now), now)

    def _health_changed(self, health: Health) -> None:
        self._health = health
        self.metrics.ready.set(self.ready)
        if health is Health.RECOVERING:
            self._started.scheduler.recognizer_lost()
            self._warn(SessionWarning("recognizer_recovering", "The recognizer is being restarted; text will be late."))
        elif health is Health.READY:
            self._started.scheduler.recognizer_back(time.monotonic())
            self._warn(SessionWarning("recognizer_recovered", "The recognizer is back."))
        else:
            self.failed.set()

    async def close(self) -> None:
        """Cancel all jobs and close the recognizer."""
        self.metrics.ready.set(0)
        if self._watch is not None:
            self._watch.cancel()
        self.turns.close()
        await self.decoders.close()
        await self._live_decoders.close()
        await self._low_decoders.close()
        if self._translator is not None:
            self._translator.close()
        if self._runner is not None:
            await self._runner.close()
        if self.tracing is not None:
            await self.tracing.close()
        await self.recognizer.close()
