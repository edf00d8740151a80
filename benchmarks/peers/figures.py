"""What one server showed at one number of streams, over all rounds; the figures are those of `benchmarks.load`."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.common.session_log import Outcome
from benchmarks.load.figures import WORD_SHOWN, Figure, WordErrors, figures, is_whole, steadiness, word_errors
from benchmarks.load.speaking import Take

FIRST, FINAL, WORDS = "first text", "time to final", WORD_SHOWN


@dataclass
class Result:
    """Collected round by round."""

    streams: int
    takes: list[Take] = field(default_factory=list)
    """The sessions that count."""
    cpu_s: float = 0.0
    audio_s: float = 0.0
    rss_mib: float = 0.0
    invalid: list[str] = field(default_factory=list)
    """Why rounds say more of the generator than of the server."""

    @property
    def done(self) -> list[Take]:
        return [take for take in self.takes if take.log.outcome is Outcome.DONE]

    @property
    def failures(self) -> list[str]:
        """Of each session that was refused or failed, its clip and reason."""
        logs = (take.log for take in self.takes if take.log.outcome is not Outcome.DONE)
        return [f"{log.clip}: {log.outcome.value}: {log.reason}" for log in logs]

    @property
    def final_share(self) -> float | None:
        """Of sessions whose text was whole and all final at their end; only these have a time to final."""
        return sum(map(is_whole, self.done)) / len(self.done) if self.done else None

    @property
    def cpu_per_audio_s(self) -> float | None:
        """CPU seconds of the server and its children for each second of audio."""
        return self.cpu_s / self.audio_s if self.audio_s and self.cpu_s else None

    @property
    def erasure(self) -> float | None:
        """Words taken back for each word of the last texts; a change of case or punctuation is none."""
        return steadiness(self.takes).erasure

    def errors(self) -> WordErrors:
        return word_errors(self.takes)

    def times(self) -> dict[str, Figure]:
        """By name, seconds: from the onset of speech to the first text, from its end to the last final, and from the
        end of each word to its first showing."""
        known = {figure.name: figure for figure in figures(self.done)}
        return {name: known.get(name, Figure(name, ())) for name in (FIRST, WORDS, FINAL)}
