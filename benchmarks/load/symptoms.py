"""What is wrong with a server, in words: faults that averages hide, told apart by what the sessions saw.

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
from benchmarks.load.speaking import Take

SHARE = 0.3
"""Of a session's words: so many that are missing, or too many, or in another place, were not just misheard."""
LEAST = 3
"""Words; fewer tell nothing in a short sentence."""


@dataclass(frozen=True, slots=True)
class Symptom:
    name: str
    sessions: int
    told: str
    """An example: which session, and what it saw."""


def symptoms(takes: Sequence[Take], late_s: float) -> list[Symptom]:
    """The faults that the sessions of a run show, the most frequent first.

    Args:
        late_s: after the end of its clip a session's last final is late.
    """
    seen: dict[str, list[str]] = {}
    for take in takes:
        for name, told in _of(take, late_s):
            seen.setdefault(name, []).append(f"session {take.log.session} ({take.log.clip}): {told}")
    found = [Symptom(name, len(told), told[0]) for name, told in seen.items()]
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
        return
    last = log.shown[-1] if log.shown else Shown(0.0, "")
    final, told = units(last.final, language), units(last.final + last.partial, language)
    if not told:
        yield "silent", f"none of {len(reference)} words came"
        return
    many = max(LEAST, SHARE * len(reference))
    stuck = not final or len(told) - len(final) >= many
    if stuck:
        yield "never final", f"{len(told) - len(final)} of {len(told)} words stayed partial"
    wanted, got = Counter(reference), Counter(told)
    lost, more = sum((wanted - got).values()), sum((got - wanted).values())
    # Words that were only misheard are missing and too many at once.
    net = len(told) - len(reference)
    errors = jiwer.wer(" ".join(reference), " ".join(told)) * len(reference)
    if -net >= many:
        yield "lost words", f"{-net} of {len(reference)} words are missing"
    elif net >= many:
        yield "doubled words", f"{net} words more than the {len(reference)} that were said"
    elif errors - max(lost, more) >= many and not stuck:
        yield "out of order", f"{errors:.0f} word errors, {max(lost, more)} if the order did not matter"
    if (late := _lateness(take)) > late_s:
        yield "late", f"the last final came {late:.1f} s after the end of the clip"


def _lateness(take: Take) -> float:
    """From the end of the clip to the last final, in seconds."""
    final, at_s = "", 0.0
    for shown in take.log.shown:
        if shown.final != final:
            final, at_s = shown.final, shown.at_s
    return at_s - take.utterance.speech_s
