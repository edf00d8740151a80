"""One conversation in the event loop, with a connection or without: its time, its voice queries, its turns."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from streaming_asr.core.events import Event, SessionWarning
from streaming_asr.protocols.base import Claim, Close, Resumable, Send, Translator
from streaming_asr.protocols.failures import BROKEN, CloseCode, Failure, FailureKind
from streaming_asr.server.live.actions import Action, AskTurn, AskVoice, Yield
from streaming_asr.server.live.client_link import Link
from streaming_asr.server.live.conversation import Conversation
from streaming_asr.server.live.file_decoder import FileDecoder
from streaming_asr.server.live.file_sessions import FileSessions
from streaming_asr.server.live.limits import ConversationLimits
from streaming_asr.server.live.outbox import SlowReader
from streaming_asr.server.live.parking import Outcome, Parking, WrongOwner
from streaming_asr.server.live.turn_questions import TurnPool
from streaming_asr.server.live.voice_batches import VoiceBatcher
from streaming_asr.server.observer import Observer
from streaming_asr.server.session_port import Sessions

logger = logging.getLogger(__name__)

_NOT_YOURS = Failure(FailureKind.UNAUTHORIZED, "The session of this token was opened with another API key.")


class Seat(Protocol):
    """The connection of a live conversation, as far as that needs to know."""

    def send(self, message: Send) -> None:
        """Send a message.

        Raises:
            SlowReader: too much is unread.
        """

    def close(self, close: Close) -> None:
        """Send what is left, and close."""

    def hang_up(self) -> None:
        """Close, even if no `Close` could be sent."""

    def drop_unsent(self) -> None:
        """The client reads too little: what is unsent is dropped."""

    def read_on(self) -> None:
        """More messages may come, if they were stopped."""

    @property
    def wait_s(self) -> float:
        """How long to wait before the event loop does more for this client, seconds."""

    def charge(self, cost_s: float) -> None:
        """The event loop has worked for this client beside its turns, for this much processor time."""

    def ask_turn(self, turn: Callable[[], None]) -> None:
        """Have a turn, after the other connections."""

    def move(self, live: LiveConversation) -> None:
        """Serve another conversation from now on."""

    def pass_on(self, token: str) -> bool:
        """Have another process of this server go on with the client, if it may have the session of this token.

        Returns:
            Whether it does; the connection is then no longer this process's.
        """

    def cut_off(self) -> None:
        """Another connection took the conversation over: close the socket at once."""


class LiveConversation:
    """Runs a conversation until it is over and its client knows, or nobody comes back for it.

    Args:
        owner: API key of the client; empty without one.
        resume_s: how long the conversation is kept without a connection.
        over: is called once, when nothing of it is left.
        address: of the client.
    """

    def __init__(
        self,
        translator: Translator,
        sessions: Sessions,
        limits: ConversationLimits,
        observer: Observer,
        voice: VoiceBatcher,
        turns: TurnPool,
        parking: Parking[LiveConversation],
        files: FileSessions,
        owner: str = "",
        resume_s: float = 0.0,
        over: Callable[[LiveConversation], None] = lambda live: None,
        address: str = "",
    ) -> None:
        self.conversation = Conversation(
            translator, sessions, limits, observer, self._decoded, self._session_broke, address
        )
        self._decoder = FileDecoder(files, self.conversation, self._act, time.monotonic, address)
        self._voice = voice
        self._turns = turns
        self._parking = parking
        self._owner = owner
        self._resume_s = resume_s
        self._over = over
        self._seat: Seat | None = None
        self._token: str | None = None
        """With which its client may claim it; None if it ends with its connection."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        """While it is parked: until when."""

    @property
    def size(self) -> int:
        """About how many bytes the conversation keeps."""
        return self.conversation.size

    @property
    def resumable(self) -> bool:
        """Whether its client may claim it on another connection."""
        return self._token is not None and self._resume_s > 0 and self.conversation.resumable

    def start(self, seat: Seat) -> None:
        """Its client has connected."""
        self._seat = seat
        self._input(self.conversation.start, time.monotonic())
        self._set_timer()

    def receive(self, messages: Iterable[str | bytes]) -> bool:
        """Give messages to the conversation; returns whether more may come now."""
        self._input(self.conversation.receive, messages, time.monotonic())
        return self.conversation.reading

    def end(self, failure: Failure) -> None:
        """End the session for a reason of the server's: what was received is transcribed, then the failure is sent."""
        self._input(self.conversation.end, failure, time.monotonic())

    def end_at_pause(self, failure: Failure, within_s: float) -> None:
        """As `end`, at the next pause of the speaker, or within this time (seconds)."""
        self._input(self.conversation.end_at_pause, failure, time.monotonic(), within_s)
        if self._timer is not None:
            self._timer.cancel()
        self._input(self._set_timer)

    def warn(self, warning: SessionWarning) -> None:
        """Send the client a warning; the session goes on."""
        self._input(self.conversation.warn, warning, time.monotonic())

    def leave(self, *, for_good: bool) -> None:
        """The connection is over.

        Args:
            for_good: the client ended it, and does not come back.
        """
        self._seat = None
        if for_good or self._token is None or not self.resumable:
            self.drop()
            return
        self.conversation.park()
        if not self._parking.park(self._token):
            self.drop()
            return
        self._expiry = self._loop.call_later(self._resume_s, self._expire)

    def drop(self) -> None:
        """End the conversation at once; whatever its client has not received is lost."""
        self._cancel_expiry()
        if self._timer is not None:
            self._timer.cancel()
        if self._token is not None:
            self._parking.forget(self._token)
        try:
            self.conversation.lost()
            self._decoder.stop()
        finally:
            self._over(self)

    def _expire(self) -> None:
        if self._token is not None:
            self._parking.forget(self._token, Outcome.EXPIRED)
        self.drop()

    def _cancel_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    # Claims

    def _claim(self, claim: Claim) -> None:
        """The client wants to go on with another conversation, in place of this one."""
        if self._seat is not None and self._seat.pass_on(claim.token):
            self._seat = None
            self.drop()
            return
        now = time.monotonic()
        try:
            wanted = self._parking.find(claim.token, self._owner)
        except WrongOwner:
            self.conversation.claim_refused(_NOT_YOURS)
        else:
            seat = self._seat
            if wanted is None or seat is None or not wanted._take(seat, claim, now):
                self.conversation.claim_failed(now)
            else:
                self._seat = None
                self.drop()
                return
        self._act()

    def _take(self, seat: Seat, claim: Claim, now: float) -> bool:
        """Continue on another connection; returns whether that can be. If not, this conversation is over."""
        if self.conversation.link is Link.CONNECTED:
            self.conversation.park()
            self.conversation.take_actions()
        if not self.conversation.claimed(claim.seen, now):
            self._parking.forget(claim.token, Outcome.UNKNOWN)
            old, self._seat = self._seat, None
            self.drop()
            if old is not None:
                old.cut_off()
            return False
        self._parking.claim(claim.token)
        self._cancel_expiry()
        old, self._seat = self._seat, seat
        if old is not None:
            old.cut_off()
        seat.move(self)
        self._act()
        return True

    # What the event loop brings

    def _voice_answered(self, answer: Any) -> None:
        self._input(self.conversation.voice_answered, answer, time.monotonic())

    def _voice_failed(self) -> None:
        self._input(self.conversation.voice_failed)

    def _turn_judged(self, asked: AskTurn, probability: float) -> None:
        self._input(self.conversation.turn_judged, asked, probability, time.monotonic())

    def _resume(self) -> None:
        self._input(self.conversation.resume, time.monotonic())

    def _decoded(self, events: Sequence[Event]) -> None:
        self._input(self.conversation.decoded, events, time.monotonic())

    def _session_broke(self, error: Exception) -> None:
        self._input(self.conversation.session_broke)

    def _tick(self) -> None:
        self._input(self.conversation.tick, time.monotonic())
        self._input(self._set_timer)

    def _set_timer(self) -> None:
        now = time.monotonic()
        deadline = self.conversation.next_deadline(now)
        self._timer = self._loop.call_later(max(0.0, deadline - now), self._tick) if deadline is not None else None

    # What the conversation asks for

    def _input(self, give: Callable[..., None], *arguments: Any) -> None:
        """Give the conversation an input, and do what it asks for then. A fault ends this conversation alone."""
        try:
            give(*arguments)
        except Exception:
            logger.exception("A connection failed")
            self.give_up()
        else:
            self._act()

    def _act(self) -> None:
        """Do what the conversation asks for. Call it after each input. A fault ends this conversation alone."""
        try:
            self._act_once()
        except Exception:
            logger.exception("A connection failed")
            self.give_up()

    def give_up(self) -> None:
        """Send why the session can't go on, if that can be sent, and close."""
        seat = self._seat
        if seat is not None:
            seat.drop_unsent()
        self.conversation.broken("its connection failed")
        try:
            self._carry_out(self.conversation.take_actions())
        except Exception:
            logger.exception("A connection could not be closed in order")
            if seat is not None:
                seat.close(Close(CloseCode.INTERNAL, BROKEN.code))
        if seat is not None:
            seat.hang_up()

    def _act_once(self) -> None:
        actions = self.conversation.take_actions()
        try:
            self._carry_out(actions)
        except SlowReader:
            if self._seat is not None:
                self._seat.drop_unsent()
            self.conversation.too_much_unread()
            # It may have been about to close for another reason.
            self._carry_out([action for action in actions if isinstance(action, Close)])
            self._carry_out(self.conversation.take_actions())
        self._decoder.resume()
        if self._seat is not None and self.conversation.reading:
            self._seat.read_on()

    def _carry_out(self, actions: Sequence[Action]) -> None:
        """Carry out actions, in order.

        Raises:
            SlowReader: too much is unread.
        """
        for action in actions:
            if isinstance(action, Send):
                if self._seat is not None:
                    self._seat.send(action)
            elif isinstance(action, AskVoice):
                self._ask_voice(action)
            elif isinstance(action, AskTurn):
                self._turns.ask(action.question, functools.partial(self._turn_judged, action))
            elif isinstance(action, Close):
                self._decoder.stop()
                if self._seat is not None:
                    self._seat.close(action)
            elif isinstance(action, Resumable):
                self._token = action.token
                self._parking.offer(action.token, self._owner, self)
            elif isinstance(action, Claim):
                self._claim(action)
            elif isinstance(action, Yield):
                if self._seat is not None:
                    self._seat.ask_turn(self._resume)
                else:
                    self._loop.call_soon(self._resume)
            else:
                self._decoder.carry_out(action)

    def _ask_voice(self, asked: AskVoice) -> None:
        ask = functools.partial(
            self._voice.ask, asked.query, self._voice_answered, self._voice_failed, self._voice_cost
        )
        wait_s = self._seat.wait_s if self._seat is not None else 0.0
        if wait_s:
            self._loop.call_later(wait_s, ask)
        else:
            ask()

    def _voice_cost(self, cost_s: float) -> None:
        if self._seat is not None:
            self._seat.charge(cost_s)
