"""What is wrong with a server, in words: faults that averages hide, found from what each session received.

Where a transcript does not fit its reference, the words themselves are counted, whatever their order: where many are
missing they were lost, where there are many more they were said twice, and the right ones may be in the wrong places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer

from benchmarks.common.normalization import units
from benchmarks.common.session_log import Outcome, Shown
from benchmarks.load.figures import has_speech, is_talk, last_final
from benchmarks.load.speaking import Take

SHARE = 0.3
"""Share of a session's words: this many that are missing, added or misplaced are not just misrecognized."""
LEAST = 3
"""Words; fewer mean nothing in a short sentence."""


@dataclass(frozen=True, slots=True)
class Symptom:
    name: str
    sessions: int
    example: str
    """Which session, and what it received."""


def symptoms(takes: Sequence[Take], late_s: float) -> list[Symptom]:
    """The faults that the sessions of a run show, the most frequent first.

    Args:
        late_s: after the end of its clip a session's last final is late.
    """
    seen: dict[str, list[str]] = {}
    for take in takes:
        for name, example in _of(take, late_s):
            seen.setdefault(name, []).append(f"session {take.log.session} ({take.log.clip}): {example}")
    found = [Symptom(name, len(examples), examples[0]) for name, examples in seen.items()]
    return sorted(found, key=lambda symptom: -symptom.sessions)


def _of(take: Take, late_s: float) -> Iterable[tuple[str, str]]:
    log = take.log
    if log.outcome is Outcome.REFUSED:
        yield "refused", log.reason
        return
    if log.outcome is Outcome.FAILED:
        yield "failed", log.reason
        return
    language = take.utterance.clip.language
    reference = units(take.utterance.clip.text, language)
    if not reference:
        yield from _of_talk(take, late_s)
        return
    last = log.shown[-1] if log.shown else Shown(0.0, "")
    final, shown = units(last.final, language), units(last.final + last.partial, language)
    if not shown:
        yield "silent", f"none of {len(reference)} words came"
        return
    many = max(LEAST, SHARE * len(reference))
    stuck = not final or len(shown) - len(final) >= many
    if stuck:
        yield "never final", f"{len(shown) - len(final)} of {len(shown)} words stayed partial"
    wanted, got = Counter(reference), Counter(shown)
    lost, more = sum((wanted - got).values()), sum((got - wanted).values())
    # Words that were only misrecognized are missing and too many at once.
    net = len(shown) - len(reference)
    errors = jiwer.wer(" ".join(reference), " ".join(shown)) * len(reference)
    if -net >= many:
        yield "lost words", f"{-net} of {len(reference)} words are missing"
    elif net >= many:
        yield "doubled words", f"{net} words more than the {len(reference)} that were said"
    elif errors - max(lost, more) >= many and not stuck:
        yield "out of order", f"{errors:.0f} word errors, {max(lost, more)} if the order did not matter"
    if (late := _lateness(take)) > late_s:
        yield "late", f"the last final came {late:.1f} s after the end of the clip"


def _of_talk(take: Take, late_s: float) -> Iterable[tuple[str, str]]:
    """Of a session whose words are not known: talk, or nothing at all."""
    if not (is_talk(take) and has_speech(take)):
        return
    if not take.log.shown:
        yield "silent", f"no text in {take.utterance.speech_s:.0f} s of talk"
    elif partial := take.log.shown[-1].partial.strip():
        yield "never final", f"{len(partial.split())} words stayed partial"
    elif (late := _lateness(take)) > late_s:
        yield "late", f"the last final came {late:.1f} s after the end of the clip"


def _lateness(take: Take) -> float:
    """From the end of the clip to the last final, in seconds."""
    return (last_final(take) or 0.0) - take.utterance.speech_s
