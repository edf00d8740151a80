"""What a conversation has its caller do."""

from __future__ import annotations

from dataclasses import dataclass

from streaming_asr.core.session import Session
from streaming_asr.core.turn import TurnQuestion
from streaming_asr.core.voice import Query
from streaming_asr.protocols.base import Claim, Close, Resumable, Send


@dataclass(frozen=True, slots=True)
class AskVoice:
    """Have the query's network answer it, then call `Conversation.voice_answered` or `voice_failed`."""

    query: Query


@dataclass(frozen=True, slots=True)
class AskTurn:
    """Have the pause judged if there is time for it, then call `Conversation.turn_judged`. It may go unanswered."""

    question: TurnQuestion
    session: Session
    """That asks."""


@dataclass(frozen=True, slots=True)
class Yield:
    """Let other clients have their turn, then call `Conversation.resume`."""


@dataclass(frozen=True, slots=True)
class StartDecoder:
    """Decode a file from now on, until `StopDecoder`, a call of `Conversation.decoder_ended` or `.decoder_failed`, or
    the close. What is decoded goes to `Conversation.audio_decoded`, while `takes_decoded`."""

    channels: int
    """Of the decoded audio."""


@dataclass(frozen=True, slots=True)
class FeedDecoder:
    """The next bytes of the file. `Conversation.decoder_full` says when there are too many."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class MarkDecoder:
    """Once all audio of the bytes so far has been decoded, call `Conversation.decoder_marked`."""


@dataclass(frozen=True, slots=True)
class EndDecoder:
    """The file is complete. Once all its audio has been decoded, call `Conversation.decoder_ended`."""


@dataclass(frozen=True, slots=True)
class StopDecoder:
    """Nothing more of the file is wanted."""


DecoderAction = StartDecoder | FeedDecoder | MarkDecoder | EndDecoder | StopDecoder
Action = Send | Close | AskVoice | AskTurn | Yield | Resumable | Claim | DecoderAction
"""Neither results of questions or of a decoder nor `resume` may be reported at once."""
