"""Successive hypotheses of one utterance -> stable text + tentative text.

Two decodes that agree on a prefix make it stable, except its last tokens, which the next audio may still change.
(LocalAgreement-2, Macháček et al. 2023, arXiv 2307.14743, on token ids rather than words.) The next decode is forced to
begin with the stable tokens, so they are decoded once, and it can't contradict them.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass

from streaming_asr.core import scripts
from streaming_asr.core.recognizer import Hypothesis

ROLLBACK_TOKENS = 3
"""Tokens at a hypothesis's end that are never made stable: they were decoded from audio cut in mid-word."""
_NEAR = 6
"""Tokens on either side that show whether a word goes on from one to the next."""


@dataclass(frozen=True, slots=True)
class PartialText:
    """What a partial shows."""

    stable: str
    """Never changes from here on, and is only extended."""
    tentative: str
    """Replaced by the next partial."""


class Transcript:
    """The text of one open utterance."""

    def __init__(self, rollback: int = ROLLBACK_TOKENS) -> None:
        self._rollback = rollback
        self._stable: tuple[int, ...] = ()
        self._latest = Hypothesis()
        self.partial = PartialText("", "")
        self.revision = 0
        """How many times `partial` has changed."""

    @property
    def prefix(self) -> tuple[int, ...]:
        """Token ids that the next decode must begin with."""
        return self._stable

    @property
    def logprobs(self) -> tuple[tuple[str, float], ...] | None:
        """Text and natural log-probability of each stable token; None where they are not known."""
        latest, end = self._latest, len(self._stable)
        if latest.logprobs is None:
            return None
        return tuple(zip(latest.pieces[:end], latest.logprobs[:end], strict=True))

    @property
    def language(self) -> str | None:
        return self._latest.language

    def update(
        self, hypothesis: Hypothesis, withheld: int = 0, *, doubtful: bool = False, unsure: bool = False
    ) -> bool:
        """Take the next hypothesis; returns whether the text changed.

        A hypothesis that contradicts the stable tokens is ignored: stable text can't be taken back, and the final,
        which is decoded without a prefix, corrects it. If it has the same words by other tokens, and no word is
        withheld, as at a pause, what follows them is shown.

        Args:
            withheld: words at the end to leave out, unless there are no others: the last one was cut by the end of the
                audio.
            doubtful: whether all of it may still be wrong, so that none of it becomes stable.
            unsure: whether its words are likely to be taken back: none of them becomes stable, only those that the
                hypothesis before it had too are shown, and nothing that is shown is taken back for it.
        """
        tokens = hypothesis.tokens
        if tokens[: len(self._stable)] != self._stable:
            rest = None if withheld or unsure else _after_words_of(self.partial.stable, hypothesis.text)
            return rest is not None and self._show(PartialText(self.partial.stable, rest))
        agreed = _common_prefix(tokens, self._latest.tokens)
        end = max(len(self._stable), 0 if doubtful or unsure else min(agreed, len(tokens) - self._rollback))
        while end > len(self._stable) and not _word_boundary(hypothesis.pieces, end):
            end -= 1
        shown = _before_last_words(hypothesis.pieces, withheld, end)
        if unsure:
            shown = max(end, min(shown, _with_words_of(self._latest.text, hypothesis.pieces)))
        self._stable = tokens[:end]
        self._latest = hypothesis
        partial = PartialText("".join(hypothesis.pieces[:end]), "".join(hypothesis.pieces[end:shown]).rstrip())
        if unsure and not _goes_on(self.partial, partial):
            return False
        if not partial.stable.startswith(self.partial.stable):
            # The same tokens with other text: the recognizer breaks its contract.
            return False
        return self._show(partial)

    def _show(self, partial: PartialText) -> bool:
        changed = partial != self.partial
        self.partial = partial
        self.revision += changed
        return changed


def _before_last_words(pieces: tuple[str, ...], words: int, least: int) -> int:
    """Number of pieces before the last words, at least `least`; all of them if no text would be left."""
    shown = len(pieces)
    for _ in range(words):
        end = shown
        while shown > least:
            shown -= 1
            # Punctuation that follows a word goes with it.
            if _word_boundary(pieces, shown) and any(char.isalnum() for char in "".join(pieces[shown:end])):
                break
    return shown if "".join(pieces[:shown]).strip() else len(pieces)


def _with_words_of(text: str, pieces: tuple[str, ...]) -> int:
    """Number of pieces up to which the words, without regard to case and punctuation, are those that `text` has."""
    whole = "".join(pieces)
    until = len(whole)
    known = iter(scripts.lower_words(text))
    for word in scripts.find_words(whole):
        if word.group().lower() != next(known, None):
            until = word.start()
            break
    end = bisect.bisect_right(list(itertools.accumulate(map(len, pieces))), until)
    while end and not _word_boundary(pieces, end):
        end -= 1
    return end


def _after_words_of(stable: str, text: str) -> str | None:
    """What follows the words of the stable text in another one that begins with them, without regard to case and
    punctuation; None if it does not."""
    known = scripts.lower_words(stable)
    found = scripts.find_words(text)
    if [word.group().lower() for word in found[: len(known)]] != known:
        return None
    if len(found) == len(known):
        return ""
    between = text[found[len(known) - 1].end() : found[len(known)].start()] if known else ""
    return (" " if any(map(str.isspace, between)) else "") + text[found[len(known)].start() :].rstrip()


def _goes_on(shown: PartialText, new: PartialText) -> bool:
    """Whether the new text has all words of the one that is shown, without regard to case and punctuation."""
    words = scripts.lower_words(shown.stable + shown.tentative)
    return scripts.lower_words(new.stable + new.tentative)[: len(words)] == words


def _common_prefix(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    for index, (left, right) in enumerate(zip(a, b, strict=False)):
        if left != right:
            return index
    return min(len(a), len(b))


def _word_boundary(pieces: tuple[str, ...], end: int) -> bool:
    """Whether a word (or a character, in scripts without spaces) may end before token `end`."""
    if end == len(pieces):
        return True
    if not pieces[end - 1]:
        # An empty piece begins a character of several tokens.
        return False
    before = "".join(pieces[max(0, end - _NEAR) : end])
    after = "".join(pieces[end : end + _NEAR])
    if after.startswith(("'", "’", "-")):
        return False
    # A word with hyphens counts as one, as one with apostrophes does.
    text = (before + after).replace("-", "’")
    return not any(word.start() < len(before) < word.end() for word in scripts.find_words(text))
