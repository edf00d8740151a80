"""Where speech begins and ends in talk among several, who speak at once, murmur and rest.

A *stretch* is time in which somebody speaks, but for rests of less than a second. So where speakers overlap, it ends
with the last of them, and an "mm-hm" within another's sentence is not an end. A rest of a second or more is one for
every server that waits for silence, and ends a stretch. A stretch may be an "mm-hm" alone, which has no text for some
recognizers: it counts only if text came of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from benchmarks.common.session_log import Shown

Span = tuple[float, float]
"""Begin and end, seconds."""
REST_S = 1.0
"""Silence of everybody that ends a stretch."""
MURMUR_S = 0.6
"""A stretch of at most this length may have no text."""
WORDS_S = 2.0
"""A longer stretch has words; a shorter one may be laughter."""
LABELLED_WITHIN_S = 0.5
"""The ends of turns are those of the reference: a voice may end this much before."""


def stretches(turns: Iterable[tuple[str, float, float]]) -> list[Span]:
    """The stretches of a recording, in order.

    Args:
        turns: (speaker, begin, end) in seconds.
    """
    found: list[Span] = []
    for begin, end in sorted((begin, end) for _, begin, end in turns):
        if found and begin - found[-1][1] < REST_S:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def has_words(spans: Sequence[Span]) -> bool:
    """Whether talk surely has a text."""
    return any(end - begin > WORDS_S for begin, end in spans)


def onset(spans: Sequence[Span], first_text_s: float) -> float | None:
    """Begin of the speech that the first text is of: of the first stretch, or, if only murmurs were before, of the
    stretch in which the text came; None for a text before all speech.
    """
    begun = [span for span in spans if span[0] <= first_text_s]
    if not begun:
        return None
    return next((begin for begin, end in begun if end - begin > MURMUR_S), begun[-1][0])


def end_of_speech(spans: Sequence[Span], last_final_s: float) -> float:
    """End of the last stretch; murmurs at the end of which no final came are left out, unless there is nothing else."""
    longer = (end for begin, end in reversed(spans) if end - begin > MURMUR_S or last_final_s >= end)
    return next(longer, spans[-1][1])


def final_in_rests(spans: Sequence[Span], shown: Sequence[Shown]) -> Iterator[float | None]:
    """For each rest between two stretches: from its begin to the final with which all text was final.

    None where there was no such final before somebody spoke again.
    """
    for (_, end), (again, _) in pairwise(spans):
        finals = [at_s for at_s in whole_finals(shown) if end - LABELLED_WITHIN_S <= at_s <= again]
        yield finals[-1] - end if finals else None


def final_after_stops(asked_s: Sequence[float], shown: Sequence[Shown], early_s: float) -> Iterator[float | None]:
    """For each time at which the client asked for the final: how long after it all text was final.

    None where it was not before the client asked again.

    Args:
        early_s: a final may come this long before it is asked for.
    """
    for asked, again in pairwise((*asked_s, float("inf"))):
        yield next((at - asked for at in whole_finals(shown) if asked - early_s < at < again - early_s), None)


def whole_finals(shown: Sequence[Shown]) -> Iterator[float]:
    """When text became final and none was left that was not."""
    for before, after in pairwise((Shown(0.0, ""), *shown)):
        if after.final != before.final and not after.partial.strip():
            yield after.at_s
