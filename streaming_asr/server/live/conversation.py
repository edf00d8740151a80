"""The server's side of one client: messages and results in, actions out. No socket, no event loop, no clock.

A conversation has its translator turn messages into commands, and carries these out on a session, in order. While
something must be waited for, messages are kept and `reading` is False. Each input is a method that takes the time (of
any clock that never goes back, seconds) and raises nothing: an exception in anything it calls ends this conversation
alone. After each input, `take_actions` returns what the caller has to do.

A conversation can outlive its connection, if its translator says so: `park` and `claimed`. Beside its state, which says
what it waits for, it has a link to its client.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_asr.core.events import Done, Event, Final, SessionWarning
from streaming_asr.core.options import Encoding, OptionError
from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.core.session import Session, SessionStopped
from streaming_asr.core.wav_header import UnexpectedFormat
from streaming_asr.protocols.base import (
    AtPosition,
    Audio,
    Claim,
    Clear,
    Close,
    Command,
    Configure,
    Finalize,
    Lifetime,
    Open,
    Opened,
    ReportRepair,
    Resumable,
    Send,
    Stop,
    Translator,
)
from streaming_asr.protocols.failures import BROKEN, CloseCode, Failure, FailureKind
from streaming_asr.server.live.actions import Action, AskTurn, AskVoice, StopDecoder, Yield
from streaming_asr.server.live.client_link import ClientLink, Link
from streaming_asr.server.live.command_queue import CommandQueue
from streaming_asr.server.live.conversation_state import TRANSITIONS, State
from streaming_asr.server.live.deadlines import Deadlines
from streaming_asr.server.live.intake import Content, Decoded, Intake
from streaming_asr.server.live.limits import ConversationLimits
from streaming_asr.server.live.reception import Reception
from streaming_asr.server.live.session_meter import SessionMeter
from streaming_asr.server.observer import Observer
from streaming_asr.server.session_port import Refused, Sessions

logger = logging.getLogger(__name__)

MESSAGES_AT_ONCE = 32
"""Messages acted on before other clients have their turn; audio of several in a row counts as one."""
SAMPLE_BYTES = 4
"""Of audio kept for decoding."""


class Conversation:
    """One client, from `start` to the `Close` among its actions or to `lost`.

    Args:
        translator: of the client's protocol.
        listener: is given to `Sessions.open`; it must call `decoded`.
        broke: is given to `Sessions.open`; it must call `session_broke`.
        address: of the client.
    """

    def __init__(
        self,
        translator: Translator,
        sessions: Sessions,
        limits: ConversationLimits,
        observer: Observer,
        listener: Callable[[Sequence[Event]], None],
        broke: Callable[[Exception], None],
        address: str = "",
    ) -> None:
        self._translator = translator
        self._address = address
        self._sessions = sessions
        self._limits = limits
        self._observer = observer
        self._listener = listener
        self._broke = broke
        self._state = State.OPEN
        self._link = ClientLink()
        self._otherwise: tuple[Command, ...] = ()
        """What to do if the session that the client claims is gone."""
        self._actions: list[Action] = []
        """Bounded as each input is: by the answers to `MESSAGES_AT_ONCE` messages."""
        self._queue = CommandQueue(translator, limits)
        self._session: Session | None = None
        self._key = "(not open)"
        """Of the last session, for the log."""
        self._intake = Intake(Encoding.S16LE)
        """Of the session."""
        self._reception: Reception | None = None
        """Of the session."""
        self._ending: Failure | None = None
        """Why the server ends the session; sent once what is pending has its final."""
        self._changes = 0
        """`Configure` and `Clear` carried out in the session."""
        self._deadlines = Deadlines(limits.idle_timeout_s)
        self._awaited: AtPosition | None = None
        """What the translator waits for."""

    @property
    def state(self) -> State:
        return self._state

    @property
    def link(self) -> Link:
        return self._link.state

    @property
    def resumable(self) -> bool:
        """Whether it outlives its connection."""
        return self._link.resumable

    @property
    def size(self) -> int:
        """About how many bytes it keeps: audio for decoding, audio that waits, and messages."""
        waiting = self._queue.audio_bytes + self._intake.size
        return round(self.held_s * SAMPLE_RATE) * SAMPLE_BYTES + waiting + self._link.size

    @property
    def reading(self) -> bool:
        """Whether more messages may be received now."""
        return not self._queue.has_messages

    @property
    def takes_decoded(self) -> bool:
        """Whether more audio of a decoder may be reported now."""
        return not self._intake.decoded

    @property
    def has_session(self) -> bool:
        """Whether its session is open."""
        return self._session is not None

    @property
    def key(self) -> str:
        """Of the last session, for the log."""
        return self._key

    @property
    def held_s(self) -> float:
        """Seconds of audio that the session keeps for decoding."""
        return self._session.held_s if self._session is not None else 0.0

    def take_actions(self) -> Sequence[Action]:
        """What to do, in order; each action is returned once."""
        if not self._actions:
            return ()
        actions, self._actions = self._actions, []
        return actions

    def next_deadline(self, now: float) -> float | None:
        """When to call `tick` next, after `start` and after each `tick`; None once the conversation ends anyway."""
        if self._state is State.ENDING or self._state is State.CLOSED:
            return None
        if not self._may_end or self.link is Link.PARKED:
            return now + self._deadlines.idle_timeout_s
        return self._deadlines.next(now, idle=self._state is State.OPEN)

    # Inputs

    def start(self, now: float) -> None:
        """The client has connected."""
        if self._state is State.OPEN and self.link is Link.CONNECTED:
            self._guarded(self._start, now)

    def receive(self, messages: Iterable[str | bytes], now: float) -> None:
        """The client sent messages. Call it only while `reading`."""
        if self._state is State.ENDING or self._state is State.CLOSED:
            return
        self._queue.receive(messages)
        if self._state is State.OPEN:
            self._guarded(self._act, now)

    def voice_answered(self, answer: Any, now: float) -> None:
        """The network answered the query of the last `AskVoice`."""
        if self._reception is not None and self._reception.waiting:
            self._guarded(self._answered, self._reception, answer, now)

    def voice_failed(self) -> None:
        """The network failed on the query of the last `AskVoice`: the session can't go on."""
        if self._reception is not None and self._reception.waiting:
            self.broken("its voice detection failed")

    def broken(self, reason: str) -> None:
        """Something that this conversation depends on failed, and nothing else does: end at once."""
        logger.error("Session %s was ended: %s", self._key, reason)
        self._abort(BROKEN)

    def turn_judged(self, asked: AskTurn, probability: float, now: float) -> None:
        """The turn detector has judged a pause: how likely it is that the speaker is done, 0..1."""
        if self._session is asked.session:
            self._guarded(self._judged, asked, probability, now)

    def audio_decoded(self, frames: NDArray[np.float32], now: float) -> None:
        """The decoder returned audio, shape ``[n, channels]``. Call it only while `takes_decoded`."""
        if self._intake.decoding:
            self._intake.decoded.append(Decoded(frames))
            self._decoder_answered(now)

    def decoder_warned(self, warning: SessionWarning, now: float) -> None:
        """The decoder repaired something in the file; reported once for each kind."""
        if self._intake.decoding and self._session is not None:
            self._guarded(self._report, self._session, warning, now)

    def decoder_full(self, full: bool, now: float) -> None:
        """Too many bytes wait for the decoder, or no longer."""
        self._intake.full = full and self._intake.decoding
        if not full:
            self._decoder_answered(now)

    def decoder_marked(self, now: float) -> None:
        """All audio has been reported that was received before the last `MarkDecoder`."""
        if self._intake.decoding:
            self._intake.marked()
            self._decoder_answered(now)

    def decoder_ended(self, now: float) -> None:
        """All audio of the file has been reported."""
        if self._intake.decoding:
            self._intake.ended()
            self._decoder_answered(now)

    def decoder_failed(self, failure: Failure, now: float) -> None:
        """The file can't be decoded, or not to its end: what was decoded is transcribed, then the failure is sent."""
        if self._intake.decoding:
            self._intake.decoding = False
            self.end(failure, now)

    def resume(self, now: float) -> None:
        """Other clients have had their turn, as `Yield` asked."""
        if self._state is State.YIELDING:
            self._go(State.OPEN)
            self._guarded(self._act, now)

    def decoded(self, events: Sequence[Event], now: float) -> None:
        """Decodes brought these events."""
        if self._session is not None:
            self._guarded(self._decoded, events, now)

    def session_broke(self) -> None:
        """The session failed and was removed."""
        if self._session is not None:
            self._abort(BROKEN)

    def warn(self, warning: SessionWarning, now: float) -> None:
        """Send the client a warning; the session goes on."""
        if self._session is not None and not self._session.done:
            self._guarded(self._on_events, [warning], now)

    def tick(self, now: float) -> None:
        """Time has passed: end what has lasted too long, or whose client has sent nothing for too long."""
        if self.link is Link.PARKED:
            return
        if failure := self._deadlines.passed(now, idle=self._state is State.OPEN, in_speech=self._in_speech):
            self.end(failure, now)

    def end(self, failure: Failure, now: float) -> None:
        """End the session for a reason of the server's: what was received is transcribed, then the failure is sent.
        A session that ends already, by the client's stop or another failure, ends as it would.
        """
        self._guarded(self._end, failure, now)

    def end_at_pause(self, failure: Failure, now: float, within_s: float) -> None:
        """As `end`, but at the next pause of the speaker, or within this time (seconds): the words of one who is
        speaking are not cut. `next_deadline` may be earlier now.
        """
        self._deadlines.end_at_pause(failure, now, within_s)
        if not self._in_speech():
            self.end(failure, now)

    def too_much_unread(self) -> None:
        """The client leaves too much unread, and what is unsent was dropped: end at once."""
        self._abort(self._limits.too_much_unread())

    def park(self) -> None:
        """The connection is lost, and the client may come back: go on with what was received, of which messages that
        have not been acted on are no part. Call it only if `resumable`.
        """
        self._queue.drop_messages()
        self._link.park()

    def claimed(self, seen: int, now: float) -> bool:
        """The client of a parked conversation is back on another connection; its messages come next.

        Args:
            seen: number of the last message that it received.

        Returns:
            Whether the session goes on; if not, the client has missed what is not kept, and nothing has changed.
        """
        missed = self._link.resume(seen)
        if missed is None:
            return False
        self._deadlines.idle_since = now
        self._actions.extend(missed)
        return True

    def claim_failed(self, now: float) -> None:
        """The session that the client claimed, by the last `Claim`, is gone: it gets a new one."""
        if self._state is State.CLAIMING:
            self._go(State.OPEN)
            self._queue.put_first(*self._otherwise)
            self._guarded(self._act, now)

    def claim_refused(self, failure: Failure) -> None:
        """The client may not have the session that it claimed: end at once."""
        if self._state is State.CLAIMING:
            self._abort(failure)

    def lost(self) -> None:
        """The client is gone."""
        self._link.end()
        self._guarded(self._close)
        self._actions.clear()

    def meter(self) -> None:
        """Report all audio received so far to the observer."""
        if self._reception is not None:
            self._reception.meter.report()

    # Messages and commands

    def _start(self, now: float) -> None:
        self._queue.add(self._translator.connected())
        self._act(now)

    def _act(self, now: float) -> None:
        """Do what the client asked for, until something must be waited for."""
        acted_on = 0
        while self._state is State.OPEN:
            if self._intake.decoded and self._reception is not None:
                self._feed(self._reception, self._intake.decoded.popleft(), now)
            elif self._intake.blocked:
                self._go(State.WAITING_FOR_DECODER)
            elif self._queue:
                self._carry_out(self._queue.take(), now)
            elif not self._queue.has_messages:
                break
            elif acted_on == MESSAGES_AT_ONCE:
                self._give_turn()
            else:
                acted_on += 1
                if failure := self._queue.translate():
                    self._end(failure, now)
        self._deadlines.idle_since = now

    def _carry_out(self, command: Command, now: float) -> None:
        session = self._session
        if isinstance(command, Audio):
            if self._reception is not None:
                self._take(self._reception, command, now)
        elif isinstance(command, Send | Close):
            self._emit((command,))
        elif isinstance(command, Lifetime):
            self._deadlines.limit(command, now)
        elif isinstance(command, Resumable):
            self._link.keep(command.replay)
            self._actions.append(command)
        elif isinstance(command, Claim):
            self._otherwise = command.otherwise
            self._go(State.CLAIMING)
            self._actions.append(command)
        elif isinstance(command, Open):
            self._queue.put_first(*self._open(command))
        elif session is not None and self._in_order(command):
            self._control(session, command, now)

    def _in_order(self, command: Command) -> bool:
        """Whether all audio before a command has reached the session; if not, the command waits for it."""
        if isinstance(command, ReportRepair):
            return True
        if head := self._intake.settle():
            self._queue.put_first(Audio(head), command)
            return False
        anew = isinstance(command, Configure) and not command.changes.keys().isdisjoint({"encoding", "sample_rate"})
        request = self._intake.decode_all(ends=anew or isinstance(command, Stop))
        if request is None:
            return True
        self._actions.append(request)
        self._queue.put_first(command)
        return False

    def _open(self, command: Open) -> list[Command]:
        self._drop_session()
        try:
            session = self._sessions.open(command.options, self._listener, self._broke, address=self._address)
        except Refused as refused:
            self._observer.refused(refused.failure.code)
            return self._failed(refused.failure)
        self._session = session
        self._key = session.key
        self._changes = 0
        self._intake = Intake(session.options.encoding)
        meter = SessionMeter(session, self._observer)
        self._reception = Reception(session, meter)
        meter.open()
        return self._translator.opened(Opened(session.key, session.options, session.capabilities))

    def _control(self, session: Session, command: Command, now: float) -> None:
        if isinstance(command, Configure | Clear):
            self._changes += 1
            if self._changes > self._limits.changes(session):
                self._end(self._limits.too_many_changes(), now)
                return
        try:
            if isinstance(command, Configure):
                self._configure(session, command, now)
                self._queue.put_first(*self._translator.configured(session.options))
            elif isinstance(command, Finalize):
                self._on_events(session.finalize(now), now)
            elif isinstance(command, Clear):
                self._on_events(session.clear(now), now)
            elif isinstance(command, Stop):
                self._on_events(session.stop(now), now)
            elif isinstance(command, ReportRepair):
                self._on_events(session.report_repair(command.code, command.message), now)
        except OptionError as error:
            self._emit(self._failed(Failure(FailureKind.BAD_OPTION, str(error), goes_on=True)))
        except SessionStopped as error:
            self._refuse_more(error)
        if self._session is session:
            self._sessions.update(session)

    def _configure(self, session: Session, command: Configure, now: float) -> None:
        before = session.options
        self._on_events(session.configure(now, **command.changes), now)
        after = session.options
        if (before.encoding, before.sample_rate) != (after.encoding, after.sample_rate):
            self._intake = Intake(after.encoding)

    def _refuse_more(self, error: SessionStopped) -> None:
        self._emit(self._failed(Failure(FailureKind.STOPPED, f"{error}.")))

    def _give_turn(self) -> None:
        self._go(State.YIELDING)
        self._actions.append(Yield())

    # Audio

    def _take(self, reception: Reception, audio: Audio, now: float) -> None:
        """Take audio as the client sent it."""
        data = audio.data
        if self._intake.content is Content.UNKNOWN:
            data = self._intake.recognize(data)
        if self._intake.content is Content.RAW:
            self._feed(reception, Audio(data), now)
        elif self._intake.content is Content.FILE and not reception.session.stopped:
            self._actions += self._intake.decode(data, reception.session.tracks)

    def _feed(self, reception: Reception, audio: Audio | Decoded, now: float) -> None:
        """Feed audio, no faster than decoding frees the audio held."""
        session = reception.session
        if session.done:
            return
        if session.held_s > self._limits.held_s(session):
            self._put_back(audio)
            self._go(State.FULL)
            return
        rest = reception.begin(audio, now)
        if rest is not None:
            self._put_back(rest)
        self._receive(reception, None, now)
        if rest is not None and self._state is State.OPEN:
            self._give_turn()

    def _put_back(self, audio: Audio | Decoded) -> None:
        """Have audio be the next that is fed."""
        if isinstance(audio, Decoded):
            self._intake.decoded.appendleft(audio)
        else:
            self._queue.put_first(audio)

    def _receive(self, reception: Reception, answer: Any, now: float) -> None:
        """Have a slice received up to its next query, or to its end.

        Args:
            answer: to the query before; None at first.
        """
        try:
            result = reception.go_on(answer)
        except SessionStopped as error:
            self._refuse_more(error)
        except UnexpectedFormat as error:
            self._end(Failure(FailureKind.BAD_AUDIO, f"{error}."), now)
        else:
            if isinstance(result, AskVoice):
                if self._state is State.OPEN:
                    self._go(State.WAITING_FOR_VOICE)
                self._actions.append(result)
                return
            if self._state is State.WAITING_FOR_VOICE:
                self._go(State.OPEN)
            self._received(reception.session, result, now)

    def _answered(self, reception: Reception, answer: Any, now: float) -> None:
        self._receive(reception, answer, now)
        if self._state is State.OPEN:
            self._act(now)

    def _received(self, session: Session, events: list[Event], now: float) -> None:
        """The session has received audio, which brought these events."""
        if events:
            self._on_events(events, now)
        else:
            self._report_position()
        if self._session is not session:
            return
        if self._ending is not None:
            self._stop(session, now)
            return
        self._actions += [AskTurn(question, session) for question in session.take_questions()]
        if events:
            self._sessions.update(session)
        else:
            self._sessions.fill(session)
        if failure := self._limits.exceeded(session) or self._deadlines.planned(now, self._in_speech):
            self._end(failure, now)

    def _judged(self, asked: AskTurn, probability: float, now: float) -> None:
        events = asked.session.judged(asked.question, probability, now)
        if events:
            self._on_events(events, now)
            if self._session is asked.session:
                self._sessions.update(asked.session)

    def _decoder_answered(self, now: float) -> None:
        if self._state is State.WAITING_FOR_DECODER:
            self._go(State.OPEN)
        if self._state is State.OPEN:
            self._guarded(self._act, now)

    def _report(self, session: Session, warning: SessionWarning, now: float) -> None:
        self._on_events(session.report_repair(warning.code, warning.message), now)

    # Events

    def _decoded(self, events: Sequence[Event], now: float) -> None:
        self._on_events(events, now)
        if self._state is State.FULL and any(isinstance(event, Final) for event in events):
            # Not at once: whoever reports the events may have to finish with the session first.
            self._give_turn()

    def _on_events(self, events: Sequence[Event], now: float) -> None:
        self._observer.on_events(events, now)
        failure = self._ending
        if failure is None or not any(isinstance(event, Done) for event in events):
            self._emit(self._translator.on_events(events))
            return
        self._emit(self._translator.on_events([event for event in events if not isinstance(event, Done)]))
        self._finish(failure)

    def _emit(self, commands: Iterable[Command]) -> None:
        """Do what a translator answers to events: its messages become actions; nothing follows a close."""
        for command in commands:
            if self._state is State.CLOSED:
                return
            if isinstance(command, Send):
                self._actions.append(command)
            elif isinstance(command, Close):
                self._actions.append(command)
                self._close()
            elif isinstance(command, AtPosition):
                self._awaited = command
        self._report_position()

    def _report_position(self) -> None:
        """Have the translator know that the audio has reached the position that it waits for, if it has."""
        session, awaited = self._session, self._awaited
        if session is None or awaited is None or session.audio_ms < awaited.audio_ms:
            return
        # While a query of the voice detector is open, it is not known what the latest audio brings.
        if self._reception is not None and self._reception.waiting:
            return
        self._awaited = None
        self._emit(awaited.then(session.audio_ms))

    def _failed(self, failure: Failure) -> list[Command]:
        try:
            self._observer.failed(failure.code)
        except Exception:
            # Whatever is wrong with the metrics, the client must get its error.
            logger.exception("The failure of session %s was not counted", self._key)
        return self._translator.failed(failure)

    # Ends

    def _in_speech(self) -> bool:
        return self._session is not None and self._session.in_speech

    @property
    def _may_end(self) -> bool:
        """Whether the server can still end the session; one that the client has stopped ends by itself."""
        return self._session is None or not self._session.stopped

    def _end(self, failure: Failure, now: float) -> None:
        if self._state is State.ENDING or self._state is State.CLOSED or not self._may_end:
            return
        self._ending = failure
        self._queue.drop_requests()
        self._stop_decoder()
        if self._session is None:
            self._finish(failure)
            return
        self._go(State.ENDING)
        if self._reception is not None and not self._reception.waiting:
            self._stop(self._session, now)

    def _stop(self, session: Session, now: float) -> None:
        """Stop a session that the server ends; its `Done` follows, now or after the last final."""
        self._on_events(session.stop(now), now)
        if self._session is session:
            self._sessions.update(session)
        self._emit(self._queue.take_all())

    def _finish(self, failure: Failure) -> None:
        """Send why the server ends the session, and close."""
        self._emit(self._failed(failure))
        self._emit((_closing(failure),))

    def _abort(self, failure: Failure) -> None:
        """End at once: send why, and close. Nothing more is transcribed."""
        if self._state is State.CLOSED:
            return
        try:
            self._emit(self._failed(failure))
        except Exception:
            logger.exception("The translator of session %s failed to report %s", self._key, failure.code)
        try:
            self._emit((_closing(failure),))
        except Exception:
            logger.exception("Session %s could not be given up", self._key)

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except Exception:
            logger.exception("Session %s failed and was ended", self._key)
            self._abort(BROKEN)

    def _close(self) -> None:
        """Give up everything, once."""
        if self._state is State.CLOSED:
            return
        self._go(State.CLOSED)
        self._queue.clear()
        # Whoever closes the connection stops the decoder.
        self._intake.decoding = False
        self._drop_session()

    def _stop_decoder(self) -> None:
        intake, self._intake = self._intake, Intake(Encoding.S16LE)
        if intake.decoding:
            self._actions.append(StopDecoder())

    def _drop_session(self) -> None:
        session, self._session = self._session, None
        reception, self._reception = self._reception, None
        if session is None:
            return
        self._stop_decoder()
        try:
            self._sessions.remove(session)
        finally:
            if reception is not None:
                reception.meter.close()

    def _go(self, state: State) -> None:
        """Change the state.

        Raises:
            RuntimeError: the state can't follow this one.
        """
        if state not in TRANSITIONS[self._state]:
            raise RuntimeError(f"{self._state.name} can't be followed by {state.name}")
        self._state = state


def _closing(failure: Failure) -> Close:
    return Close(failure.close or CloseCode.INTERNAL, failure.code)
