"""Speaker labels: who speaks, by the voice alone. Beta: docs/speakers.md says how often it is wrong.

While an utterance is spoken, the voices of its new windows are embedded beside the stream, so that its final rarely has
anything left to wait for. What is known by then labels its partials; the labels of the final are settled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from streaming_asr.core.annotator import Annotation, Annotator, Blocking, Speech, TooLate, Watch
from streaming_asr.core.events import Final, Partial, SpeakerIdentified
from streaming_asr.core.options import ChannelMode, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Capabilities
from streaming_asr.core.speaker_clusters import Embedding, Embeddings
from streaming_asr.core.speaker_labels import SpeakerLabels, UtteranceSpeakers
from streaming_asr.core.speaker_windows import SpeakerWindow, plan_windows
from streaming_asr.speakers.campplus import SIZE, CamPlus

AT_ONCE = 4
"""Windows embedded by one question: about 30 ms of a core. If that is late, it is lost."""
MAX_LATE = 24
"""Windows of a live final that are embedded after its end; of more, every second or third. There are as many only where
the client wants no partials, or the recognizer is late with them."""


@dataclass(slots=True)
class _Spoken:
    """What is known of an utterance that has no final yet."""

    embeddings: dict[SpeakerWindow, Embedding] = field(default_factory=dict)
    speaker: int | None = None
    """As far as it is known."""


class Speakers(Annotator):
    """Of one channel, which may have several voices."""

    name = "speaker labels"
    options = ("speakers",)
    budget_ms = 300
    needs_audio = True
    changes_partials = True

    def __init__(self) -> None:
        self._network = CamPlus()
        self._labels = SpeakerLabels()
        self._spoken: dict[int, _Spoken] = {}
        """By utterance. At most as many as may wait for their final, each with at most as many embeddings as it has
        windows."""

    def partial(self, partial: Partial) -> Partial:
        spoken = self._spoken.get(partial.utterance)
        return partial if spoken is None else replace(partial, speaker=spoken.speaker)

    def watch(self, partial: Partial, speech: Speech) -> Watch:
        spoken = self._spoken.setdefault(partial.utterance, _Spoken())
        windows = plan_windows(speech.voiced, len(speech.audio), over=partial.speculative)
        missing = [window for window in windows if window not in spoken.embeddings]
        for batch in _batches(missing):
            spoken.embeddings.update(zip(batch, (yield self._question(batch, speech.audio)), strict=True))
        speaker = self._labels.provisional(windows, _stacked(windows, spoken.embeddings))
        if speaker is None or speaker == spoken.speaker:
            return ()
        spoken.speaker = speaker
        return (SpeakerIdentified(partial.utterance, partial.channel, speaker, partial.end_ms),)

    def final(self, final: Final, speech: Speech | None) -> Annotation:
        if speech is None:
            return final
        embeddings = self._spoken.get(final.utterance, _Spoken()).embeddings
        # Finals come in order: nothing before this one is spoken any more.
        self._spoken = {number: spoken for number, spoken in self._spoken.items() if number > final.utterance}
        windows = plan_windows(speech.voiced, len(speech.audio), over=True)
        missing = [window for window in windows if window not in embeddings]
        if len(missing) > MAX_LATE and not self.recorded:
            missing = missing[:: -(-len(missing) // MAX_LATE)]
        try:
            for batch in _batches(missing):
                embeddings.update(zip(batch, (yield self._question(batch, speech.audio)), strict=True))
        except TooLate:
            if not embeddings:
                raise
        windows = [window for window in windows if window in embeddings]
        speakers = self._labels.settle(windows, _stacked(windows, embeddings), len(speech.audio))
        return final if speakers is None else _labelled(final, speakers, speech.start_ms)

    def _question(self, windows: Sequence[SpeakerWindow], audio: Audio) -> Blocking:
        cut = [audio[window.start : window.end] for window in windows]
        return Blocking(lambda: self._network.embed(cut))


class ChannelSpeakers(Annotator):
    """Of channels that have a party each: the label is the channel's number. It is certain, and costs nothing."""

    name = "speaker labels"
    options = ("speakers",)
    changes_partials = True

    def partial(self, partial: Partial) -> Partial:
        return replace(partial, speaker=partial.channel)

    def final(self, final: Final, speech: Speech | None) -> Final:
        words = final.words and tuple(replace(word, speaker=final.channel) for word in final.words)
        return replace(final, speaker=final.channel, words=words)


def speakers(options: SessionOptions, capabilities: Capabilities) -> Annotator | None:
    """The annotator that the options ask for.

    Raises:
        OptionError: it can't run here.
    """
    if not options.speakers:
        return None
    return Speakers() if compares_voices(options) else ChannelSpeakers()


def load_voices() -> None:
    """Load what compares voices, which blocks: else the first finals would wait for it."""
    CamPlus().load()


def compares_voices(options: SessionOptions) -> bool:
    """Whether the session's voices are compared, which has a cost: not if each channel is a party."""
    return options.speakers and not (options.channels > 1 and options.channel_mode is ChannelMode.SPLIT)


def _batches(windows: Sequence[SpeakerWindow]) -> Sequence[Sequence[SpeakerWindow]]:
    return [windows[first : first + AT_ONCE] for first in range(0, len(windows), AT_ONCE)]


def _stacked(windows: Sequence[SpeakerWindow], embeddings: dict[SpeakerWindow, Embedding]) -> Embeddings:
    """The embeddings of the windows, in this order."""
    return np.stack([embeddings[window] for window in windows]) if windows else np.empty((0, SIZE), np.float32)


def _labelled(final: Final, speakers: UtteranceSpeakers, start_ms: int) -> Final:
    """The final with the label of each word, and that of most of its speech.

    Args:
        start_ms: of the stream, where the utterance's audio begins.
    """

    def speaker_of(since_ms: int, until_ms: int) -> int:
        since, until = ((ms - start_ms) * SAMPLE_RATE // 1000 for ms in (since_ms, until_ms))
        return speakers.of(since, until)

    words = final.words and tuple(replace(word, speaker=speaker_of(word.start_ms, word.end_ms)) for word in final.words)
    return replace(final, speaker=speaker_of(final.start_ms, final.end_ms), words=words)
