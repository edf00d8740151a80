"""A conversation with everything around it in reach: what it does is recorded, and nothing happens by itself."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.events import Event
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import Audio, DecodeFailed, DecodeJob
from streaming_asr.core.scheduler import Limits, Scheduler
from streaming_asr.core.session import Session
from streaming_asr.core.turn import Pause, TurnDetector
from streaming_asr.core.voice import Detection, VoiceDetector
from streaming_asr.protocols.base import Claim, Close, Handshake, Resumable, Send, Translator
from streaming_asr.protocols.failures import Failure, FailureKind
from streaming_asr.protocols.native import NativeTranslator
from streaming_asr.server.live.actions import (
    AskTurn,
    AskVoice,
    DecoderAction,
    EndDecoder,
    FeedDecoder,
    MarkDecoder,
    StartDecoder,
    StopDecoder,
    Yield,
)
from streaming_asr.server.live.conversation import Conversation
from streaming_asr.server.live.conversation_state import State
from streaming_asr.server.live.limits import ConversationLimits
from streaming_asr.server.session_port import Refused
from tests.support.fakes import CAPABILITIES, FRAME, FakeDetector, read

LIMITS = ConversationLimits(
    max_message_bytes=2_000_000,
    max_session_s=3600.0,
    max_held_s=20.0,
    max_unread=100,
    max_unread_bytes=1_000_000,
    idle_timeout_s=30.0,
)
TOKEN = "unguessable"
TIGHT = dataclasses.replace(LIMITS, max_message_bytes=64_000, max_session_s=8.0, idle_timeout_s=10.0)


FILE = b"\x1aE\xdf\xa3"
"""How a file begins that the fake decoder reads: as raw audio of one channel behind this, the same on every channel."""


class FakeDecoder:
    """The decoder of a file, which does one thing asked for with each `step`."""

    def __init__(self) -> None:
        self.todo: deque[DecoderAction] = deque()
        self.starts = 0
        self.runs = False
        self._data = b""
        self._channels = 1

    def ask(self, action: DecoderAction) -> None:
        if isinstance(action, StartDecoder):
            assert not self.runs, "a second decoder was started beside the first"
            self._channels = action.channels
            self.starts += 1
            self.runs, self._data = True, b""
        elif isinstance(action, StopDecoder):
            assert self.runs, "there is no decoder to stop"
            self.stop()
        else:
            assert self.runs, "there is no decoder"
            self.todo.append(action)

    def stop(self) -> None:
        self.runs = False
        self.todo.clear()

    def step(self, conversation: Conversation, now: float) -> None:
        action = self.todo.popleft()
        if isinstance(action, MarkDecoder):
            conversation.decoder_marked(now)
        elif isinstance(action, EndDecoder):
            self.runs = False
            conversation.decoder_ended(now)
        else:
            assert isinstance(action, FeedDecoder)
            self._data += action.data
            if (whole := self._data.removeprefix(FILE)) and not FILE.startswith(self._data):
                size = len(whole) - len(whole) % 2
                self._data = FILE + whole[size:]
                samples = np.frombuffer(whole[:size], "<i2").astype(np.float32) / 32768
                conversation.audio_decoded(np.repeat(samples[:, None], self._channels, axis=1), now)


class FakeNetwork:
    """Answers as the fake detector decides; it fails when the test says so."""

    fails = False

    def answer(self, queries: Sequence[FakeQuery]) -> list[NDArray[np.bool_]]:
        if self.fails:
            raise ArithmeticError("a fault of the network")
        return [np.abs(query.frames).max(axis=1, initial=0) > 0.1 for query in queries]


@dataclass
class FakeQuery:
    network: FakeNetwork
    frames: Audio


class AskingDetector(FakeDetector):
    """The fake detector, which leaves its decisions to a network: one query a call."""

    frame_samples = FRAME

    def __init__(self, network: FakeNetwork) -> None:
        self._network = network

    def detect(self, frames: Audio) -> Detection[NDArray[np.bool_]]:
        decisions: NDArray[np.bool_] = yield FakeQuery(self._network, frames)
        return decisions


class FakeTurns:
    """Is never asked itself: the client answers its questions."""

    asks_at_ms = (200,)

    def probability(self, pause: Pause) -> float:
        raise AssertionError("a conversation asked by itself")


def _turn_detector(options: SessionOptions) -> TurnDetector | None:
    return FakeTurns() if options.endpointing == "turn" else None


class FakeSessions:
    """Opens sessions whose decodes run when `decode` is called."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.refusal: Failure | None = None
        """Why no session is opened, if none is."""
        self.scheduler = Scheduler(slots=4, limits=Limits(final_objective_s=1e9))
        self.open_sessions: dict[str, Session] = {}
        self.opened = 0
        self.jobs: list[tuple[Session, DecodeJob]] = []
        self._listeners: dict[str, Callable[[Sequence[Event]], None]] = {}

    def open(
        self,
        options: SessionOptions,
        listener: Callable[[Sequence[Event]], None],
        broke: Callable[[Exception], None],
        *,
        address: str = "",
    ) -> Session:
        if self.refusal is not None:
            raise Refused(self.refusal)
        self.opened += 1
        try:
            session = Session(
                f"s{self.opened}", options, CAPABILITIES, self._detector, make_turn_detector=_turn_detector
            )
        except OptionError as error:
            raise Refused(Failure(FailureKind.BAD_OPTION, str(error))) from None
        self.scheduler.add(session, 0.0)
        self.open_sessions[session.key] = session
        self._listeners[session.key] = listener
        return session

    def _detector(self, options: SessionOptions) -> VoiceDetector:
        """`silero` asks a network, the others do not."""
        return AskingDetector(self.network) if options.vad == "silero" else FakeDetector()

    def update(self, session: Session) -> None:
        self._fill(session)

    def fill(self, session: Session) -> None:
        self._fill(session)

    def _fill(self, session: Session) -> None:
        session.take_superseded()
        self.scheduler.update(session, 0.0)
        while chosen := self.scheduler.next_job(0.0):
            self.jobs.append((chosen.session, chosen.job))

    def remove(self, session: Session) -> None:
        session.abandon()
        self.scheduler.remove(session)
        self.open_sessions.pop(session.key, None)
        self._listeners.pop(session.key, None)

    def decode(self) -> None:
        """Finish the decodes that run now."""
        jobs, self.jobs = self.jobs, []
        for session, job in jobs:
            self._finish(session, job)

    def finish_one(self, number: int, *, fails: bool = False) -> None:
        """Finish one of the decodes that run now, if there are any; numbers beyond the last begin again."""
        if self.jobs:
            self._finish(*self.jobs.pop(number % len(self.jobs)), fails=fails)

    def _finish(self, session: Session, job: DecodeJob, *, fails: bool = False) -> None:
        self.scheduler.finished(job.id, 0.0)
        if session.key not in self._listeners:
            return
        if fails:
            events = session.fail(job.id, DecodeFailed("a fault of the recognizer"), 0.0)
        else:
            events = session.complete(job.id, read(job), 0.0)
        if events:
            self._listeners[session.key](events)
        self._fill(session)


@dataclass
class FakeObserver:
    """Counts what it is notified of."""

    open: int = 0
    audio_ms: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    """Of errors sent and sessions refused."""

    def opened(self, session: str) -> None:
        self.open += 1

    def closed(self) -> None:
        self.open -= 1

    def refused(self, code: str) -> None:
        self.codes[f"refused {code}"] += 1

    def failed(self, code: str) -> None:
        self.codes[code] += 1

    def received(self, audio_ms: int) -> None:
        self.audio_ms += audio_ms

    def on_events(self, events: Sequence[Event], now: float) -> None:
        pass


class Client:
    """A client, and the server around its conversation.

    Args:
        translator: of the native protocol, if none is given.
        query: of the native protocol's URL: options of the session.
    """

    def __init__(self, limits: ConversationLimits = LIMITS, translator: Translator | None = None, **query: str) -> None:
        self.sessions = FakeSessions()
        self.observer = FakeObserver()
        self.now = 0.0
        self.messages: list[dict[str, Any]] = []
        """All that the client was sent."""
        self.close: Close | None = None
        self.queries: list[FakeQuery] = []
        """That wait for their answers."""
        self.asked: list[AskTurn] = []
        """Pauses that have not been judged."""
        self.decoder = FakeDecoder()
        self.yields = 0
        """That wait for `resume`."""
        self.claims: list[Claim] = []
        self.connected = True
        """Without a connection, what is sent is lost."""
        self.translator = translator or NativeTranslator(
            Handshake(
                "/v1/stream",
                query=tuple({"vad": "webrtc", "sample_rate": "16000", **query}.items()),
                resume_token=TOKEN,
                resume_s=60.0,
            ),
            SessionOptions(),
        )
        self.conversation = Conversation(
            self.translator, self.sessions, limits, self.observer, self._decoded, self._session_broke
        )

    @property
    def state(self) -> State:
        return self.conversation.state

    def started(self) -> Client:
        self.start()
        return self

    def start(self) -> None:
        self.conversation.start(self.now)
        self._act()

    def send(self, *messages: str | bytes) -> None:
        """Send messages that reach the server in one piece."""
        self.conversation.receive(messages, self.now)
        self._act()

    def answer(self) -> None:
        """Have the network answer."""
        (query,) = self.queries
        self.queries.clear()
        try:
            (answer,) = query.network.answer([query])
        except ArithmeticError:
            self.conversation.voice_failed()
        else:
            self.conversation.voice_answered(answer, self.now)
        self._act()

    def judge(self, probability: float) -> None:
        """Answer the oldest question about a pause."""
        self.conversation.turn_judged(self.asked.pop(0), probability, self.now)
        self._act()

    def step_decoder(self) -> None:
        """Have the decoder of the file do the next thing asked for, if its output is read."""
        if self.decoder.todo and self.conversation.takes_decoded:
            self.decoder.step(self.conversation, self.now)
            self._act()

    def fail_decoder(self) -> None:
        self.decoder.stop()
        self.conversation.decoder_failed(Failure(FailureKind.BAD_AUDIO, "It is damaged."), self.now)
        self._act()

    def fill_decoder(self, full: bool) -> None:
        self.conversation.decoder_full(full, self.now)
        self._act()

    def resume(self) -> None:
        assert self.yields
        self.yields -= 1
        self.conversation.resume(self.now)
        self._act()

    def decode(self) -> None:
        self.sessions.decode()

    def lose_connection(self) -> None:
        """The server is left without a connection, and keeps the conversation if it may be resumed."""
        self.connected = False
        if self.conversation.resumable:
            self.conversation.park()
        else:
            self.conversation.lost()
        self._act()

    def come_back(self, seen: int | None = None) -> bool:
        """On another connection, by the conversation's token.

        Args:
            seen: number of the last message received; None: of the last one that there is.
        """
        if not self.conversation.claimed(self.seen if seen is None else seen, self.now):
            return False
        self.connected = True
        self._act()
        return True

    @property
    def seen(self) -> int:
        return max((message.get("seq", 0) for message in self.messages), default=0)

    def wait(self, seconds: float) -> None:
        """Let time pass, ticking when the conversation asks for it."""
        until = self.now + seconds
        while (deadline := self.conversation.next_deadline(self.now)) is not None and deadline <= until:
            assert deadline > self.now, "the timer would spin"
            self.now = deadline
            self.conversation.tick(self.now)
            self._act()
        self.now = until

    def end(self, kind: FailureKind = FailureKind.RESTARTING) -> None:
        self.conversation.end(Failure(kind, "The server has its reasons."), self.now)
        self._act()

    def end_at_pause(self, within_s: float = 5.0) -> None:
        self.conversation.end_at_pause(
            Failure(FailureKind.RESTARTING, "The server has its reasons."), self.now, within_s
        )
        self._act()

    def overflow(self) -> None:
        """Leave too much unread."""
        self.conversation.too_much_unread()
        self._act()

    def finish(self) -> None:
        """Let all happen that can, until the conversation waits for the client or is over."""
        while self.queries or self.yields or self.sessions.jobs or self.decoder.todo:
            if self.queries:
                self.answer()
            if self.yields:
                self.resume()
            self.decode()
            self.step_decoder()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    @property
    def kinds(self) -> list[str]:
        """Types of the messages, but for the `ready` that a session begins with."""
        return [message["type"] for message in self.messages if message["type"] != "ready"]

    @property
    def errors(self) -> list[str]:
        return [message["code"] for message in self.of("error")]

    def _decoded(self, events: Sequence[Event]) -> None:
        self.conversation.decoded(events, self.now)
        self._act()

    def _session_broke(self, error: Exception) -> None:
        self.conversation.session_broke()
        self._act()

    def _act(self) -> None:
        for action in self.conversation.take_actions():
            assert self.close is None or not self.connected, f"{action} came after the close"
            if isinstance(action, Send):
                if self.connected:
                    self.messages.append(json.loads(action.message))
            elif isinstance(action, Close):
                self.decoder.stop()
                if self.connected:
                    self.close = action
            elif isinstance(action, Resumable):
                assert action.token == TOKEN
            elif isinstance(action, Claim):
                self.claims.append(action)
            else:
                self._do(action)

    def _do(self, action: AskVoice | AskTurn | Yield | DecoderAction) -> None:
        if isinstance(action, Yield):
            self.yields += 1
        elif isinstance(action, AskTurn):
            self.asked.append(action)
        elif isinstance(action, AskVoice):
            assert not self.queries, "a second query came before the answer to the first"
            assert isinstance(action.query, FakeQuery)
            self.queries.append(action.query)
        else:
            self.decoder.ask(action)


def full_client() -> Client:
    """More speech than is kept for decoding: of 20 s, in utterances of 5 s."""
    client = Client(max_utterance_s="5").started()
    while client.state is not State.FULL:
        client.send(voiced(1))
        while client.yields:
            client.resume()
    return client


def fail(*_: Any, **__: Any) -> Any:
    raise KeyError("a fault of the server")


def break_at(client: Client, place: str) -> None:
    """Let something that the conversation calls raise an exception from now on."""
    (session,) = client.sessions.open_sessions.values()
    owner, name = {
        "translator": (client.translator, "received"),
        "session": (session, "receiving"),
        "events": (client.translator, "on_events"),
        "sessions": (client.sessions, "fill"),
        "observer": (client.observer, "received"),
        "removal": (client.sessions, "remove"),
    }[place]
    setattr(owner, name, fail)


def voiced(seconds: float, channels: int = 1) -> bytes:
    """Wire audio, s16le at 16 kHz, that the fake detector takes for speech."""
    samples = np.random.default_rng(0).uniform(0.2, 0.9, round(seconds * 16_000) * channels)
    return (samples * np.resize([1, -1], len(samples)) * 32767).astype("<i2").tobytes()


def quiet(seconds: float) -> bytes:
    return bytes(2 * round(seconds * 16_000))


def command(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})
