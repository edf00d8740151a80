"""`compare`: one model's text of whole files, of streams, and of the last partials, by set and language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from benchmarks.accuracy.side_by_side import Column, columns_of
from benchmarks.accuracy.sources import NoTranscript, Source
from benchmarks.accuracy.word_errors import Errors, count_errors, difference_interval, interval, pooled
from benchmarks.accuracy.working import work_through
from benchmarks.common.normalization import measure_of, units
from benchmarks.common.speech import Clip, NoSpeech
from benchmarks.common.stats import percentiles, spread


class Way(str, Enum):
    """How a clip was transcribed."""

    OFFLINE = "offline"
    """The whole file at once."""
    FINALS = "finals"
    """The finals of a stream."""
    PARTIALS = "last partials"
    """What was shown just before each final, be it made at a pause as the likely final."""
    WHILE_SPEAKING = "while speaking"
    """The last partial of each utterance that was not made at a pause."""


@dataclass(slots=True)
class ClipResult:
    """One clip, and its text by each way that it was transcribed."""

    set: str
    clip: Clip
    texts: dict[Way, str] = field(default_factory=dict)
    utterances: int = 0
    waits_s: list[float] = field(default_factory=list)
    """From each end of speech to the moment when a pause was taken for the end of the utterance."""
    against_whole: bool = False
    """Whether the text of the whole file is the reference: of recordings that have none."""

    def errors(self, way: Way) -> Errors:
        return count_errors(self._said(), units(self.texts[way], self.clip.language))

    def columns(self) -> list[Column]:
        """What was said, under it the whole file's text, then the finals."""
        language = self.clip.language
        return columns_of(self._said(), *(units(self.texts[way], language) for way in (Way.OFFLINE, Way.FINALS)))

    def _said(self) -> list[str]:
        return units(self.texts[Way.OFFLINE] if self.against_whole else self.clip.text, self.clip.language)


@dataclass(frozen=True, slots=True)
class Group:
    """The clips of one language, of one set or (`all`) of several."""

    name: str
    language: str
    measure: str
    clips: tuple[ClipResult, ...]

    def errors(self, way: Way) -> list[Errors]:
        """By clip; empty where it was not transcribed that way."""
        return [result.errors(way) for result in self.clips if way in result.texts]

    def as_json(self) -> dict[str, Any]:
        ways: dict[str, Any] = {}
        for way in Way:
            if by_clip := self.errors(way):
                total = pooled(by_clip)
                ways[way.value] = {
                    "rate": total.rate,
                    "interval_95": interval(by_clip),
                    "substituted": total.substituted,
                    "deleted": total.deleted,
                    "inserted": total.inserted,
                }
        return {
            "name": self.name,
            "language": self.language,
            "measure": self.measure,
            "clips": len(self.clips),
            "units": pooled(self.errors(Way.FINALS)).reference,
            "ways": ways,
            "utterances": self.utterances,
            "wait_s": spread([wait for result in self.clips for wait in result.waits_s]),
            "finals_minus_offline_interval_95": self.added(),
        }

    @property
    def utterances(self) -> int:
        return sum(result.utterances for result in self.clips)

    @property
    def median_wait_s(self) -> float | None:
        """Of all utterances that a pause ended; None where that is not known."""
        found = percentiles([wait for result in self.clips for wait in result.waits_s], 50)
        return found[0] if found else None

    def added(self) -> tuple[float, float] | None:
        """95 % of what streaming adds to the rate of whole files."""
        return difference_interval(self.errors(Way.FINALS), self.errors(Way.OFFLINE))


@dataclass(slots=True)
class Comparison:
    """Fills while it runs."""

    wanted: list[ClipResult] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Clips that could not be compared, and why."""
    model: str = ""

    async def run(
        self,
        streams: Source,
        files: Source,
        sets: dict[str, list[Clip]],
        *,
        detect: bool,
        against_whole: bool = False,
    ) -> None:
        """Transcribe every clip in each way.

        Args:
            streams: transcribes the clips as streams.
            files: transcribes them as whole files.
            against_whole: compare with the text of the whole file, which clips without a reference need.

        Raises:
            NoSpeech: the model knows the language of none of the clips.
        """
        self.model = streams.model
        self.wanted = [
            ClipResult(name, clip, against_whole=against_whole)
            for name, of_set in sets.items()
            for clip in of_set
            if self._fits(clip, streams, against_whole)
        ]
        if not self.wanted:
            raise NoSpeech("no clip is left to compare: " + "; ".join(self.left_out[:5]))

        async def work(result: ClipResult) -> None:
            language = None if detect else result.clip.language
            try:
                audio = result.clip.audio()
                result.texts[Way.OFFLINE] = await files.offline(audio, language)
                stream = await streams.stream(audio, language, lambda _: None)
            except (NoTranscript, NoSpeech) as error:
                self.left_out.append(f"{result.clip.id}: {error}")
                return
            if streams.has_partials:
                result.texts[Way.PARTIALS] = stream.partials
                result.texts[Way.WHILE_SPEAKING] = stream.while_speaking
            result.texts[Way.FINALS] = stream.finals
            result.utterances = len(stream.utterances)
            result.waits_s = [
                one.paused_s - one.end_s for one in stream.utterances.values() if one.paused_s is not None
            ]

        await work_through(self.wanted, streams.at_once, work, title=f"{streams.model}: comparing")

    @property
    def done(self) -> list[ClipResult]:
        """The clips that are done, in the order of their sets."""
        return [result for result in self.wanted if Way.FINALS in result.texts]

    def groups(self) -> list[Group]:
        """By set and language, then by language where a language is in several sets."""
        found: dict[tuple[str, str], list[ClipResult]] = {}
        for result in self.done:
            found.setdefault((result.set, result.clip.language), []).append(result)
        groups = [_group(name, language, clips) for (name, language), clips in found.items()]
        for language in sorted({group.language for group in groups}):
            same = [group for group in groups if group.language == language]
            if len(same) > 1:
                groups.append(_group("all", language, [result for group in same for result in group.clips]))
        return groups

    def worst(self) -> list[ClipResult]:
        """Clips with an error: first those that streaming made worse, then those with most errors."""

        def badness(result: ClipResult) -> tuple[int, int]:
            finals, offline = result.errors(Way.FINALS).total, result.errors(Way.OFFLINE).total
            return finals - offline, finals

        wrong = [result for result in self.done if any(not column.right for column in result.columns())]
        return sorted(wrong, key=badness, reverse=True)

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "groups": [group.as_json() for group in self.groups()],
            "left_out": self.left_out,
            "clips": [
                {
                    "set": result.set,
                    "id": result.clip.id,
                    "language": result.clip.language,
                    "said": result.clip.text,
                    "utterances": result.utterances,
                    "waits_s": result.waits_s,
                    "texts": {way.value: text for way, text in result.texts.items()},
                    "errors": {way.value: result.errors(way).total for way in result.texts},
                    "aligned": [[column.said, *column.recognized] for column in result.columns()],
                }
                for result in self.done
            ],
        }

    def _fits(self, clip: Clip, source: Source, against_whole: bool) -> bool:
        if not against_whole and not units(clip.text, clip.language):
            self.left_out.append(f"{clip.id}: nothing is said in it")
        elif source.languages and clip.language not in source.languages:
            self.left_out.append(f"{clip.id}: {source.model} does not know {clip.language!r}")
        else:
            return True
        return False


def _group(name: str, language: str, clips: Sequence[ClipResult]) -> Group:
    return Group(name, language, measure_of(language), tuple(clips))
