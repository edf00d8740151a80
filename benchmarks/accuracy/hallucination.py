"""`hallucination`: words that the recognizer makes up in recordings without speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.accuracy.sources import NoTranscript, Source
from benchmarks.accuracy.working import work_through
from benchmarks.common.normalization import plain_words
from benchmarks.common.speech import Clip, NoSpeech
from streaming_asr.core.recognizer import SAMPLE_RATE


@dataclass(frozen=True, slots=True)
class Noise:
    """The text of a recording without speech."""

    id: str
    minutes: float
    utterances: int
    """That the voice detector took for speech."""
    finals: str
    partials: str | None
    """The last partials; None where none are shown."""
    offline: str
    """What the model writes for the whole file; a long one goes through the voice detector too."""


@dataclass(slots=True)
class Hallucinations:
    """Fills while it runs."""

    done: list[Noise] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    model: str = ""

    async def run(self, streams: Source, files: Source, noises: Sequence[Clip]) -> None:
        """Transcribe recordings without speech.

        Args:
            streams: transcribes the clips as streams.
            files: transcribes them as whole files.

        Raises:
            NoSpeech: in all of the clips somebody speaks.
        """
        self.model = streams.model
        wanted = [clip for clip in noises if not clip.text]
        if not wanted:
            raise NoSpeech("in all of these clips somebody speaks; name a set without speech by --set")

        async def work(clip: Clip) -> None:
            try:
                audio = clip.audio()
                offline = await files.offline(audio, None)
                stream = await streams.stream(audio, None, lambda _: None)
            except (NoTranscript, NoSpeech) as error:
                self.left_out.append(f"{clip.id}: {error}")
                return
            minutes = len(audio) / SAMPLE_RATE / 60
            partials = stream.partials if streams.has_partials else None
            self.done.append(Noise(clip.id, minutes, len(stream.utterances), stream.finals, partials, offline))

        await work_through(wanted, streams.at_once, work, title=f"{streams.model}: transcribing noise")

    @property
    def minutes(self) -> float:
        return sum(noise.minutes for noise in self.done)

    def per_minute(self, way: str) -> float | None:
        """Words a minute of `finals`, `partials` or `offline`; None where there are none to count."""
        texts = [getattr(noise, way) for noise in self.done]
        if not texts or any(text is None for text in texts):
            return None
        return sum(len(plain_words(text)) for text in texts) / self.minutes

    def show(self, console: Console) -> None:
        table = Table(title=f"{self.model}: words a minute in {self.minutes:.1f} min without speech")
        table.add_column("text")
        table.add_column("words a minute", justify="right")
        for way, name in (("offline", "whole files"), ("finals", "finals"), ("partials", "last partials")):
            if (rate := self.per_minute(way)) is not None:
                table.add_row(name, f"{rate:.2f}")
        console.print(table)
        opened = sum(noise.utterances for noise in self.done)
        console.print(f"{len(self.done)} recordings; the voice detector opened {opened} utterances.")
        for noise in self.done:
            if noise.finals:
                console.print(f"{noise.id}: {noise.finals}", markup=False)
        for reason in self.left_out:
            console.print(f"left out: {reason}", style="yellow", markup=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "minutes": self.minutes,
            "words_per_minute": {way: self.per_minute(way) for way in ("offline", "finals", "partials")},
            "left_out": self.left_out,
            "clips": [
                {
                    "id": noise.id,
                    "minutes": noise.minutes,
                    "utterances": noise.utterances,
                    "finals": noise.finals,
                    "partials": noise.partials,
                    "offline": noise.offline,
                }
                for noise in self.done
            ],
        }
