"""Changes of a text, carried over to its words, their times and its tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from streaming_asr.core.annotator import Annotator, Speech
from streaming_asr.core.events import Final, Partial
from streaming_asr.core.recognizer import TimesFrom, Word
from streaming_asr.core.scripts import split, width

Tokens = Sequence[tuple[str, float]]
"""Text and natural log-probability of each."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters ``[start, end)`` of a text become `text`."""

    start: int
    end: int
    text: str


def apply(text: str, edits: Iterable[Edit], start: int = 0, end: int | None = None) -> str:
    """Characters ``[start, end)`` of a text, edited.

    Args:
        edits: in order, without overlap; those that are not within ``[start, end)`` do not count.
    """
    end = len(text) if end is None else end
    parts = []
    for edit in edits:
        if start <= edit.start and edit.end <= end:
            parts += [text[start : edit.start], edit.text]
            start = edit.end
    return "".join([*parts, text[start:end]])


def without_overlap(edits: Iterable[Edit]) -> list[Edit]:
    """In order; of those that overlap the one that begins first stays, of those the longest."""
    kept: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, -edit.end)):
        if not kept or edit.start >= kept[-1].end:
            kept.append(edit)
    return kept


def edit_final(final: Final, edits: Sequence[Edit]) -> Final:
    """A final with its text edited. A group of words that an edit changes has their time together; if several words
    come out of it, each has a part in proportion to its width.
    """
    if not edits:
        return final
    logprobs = final.logprobs and edit_tokens(final.logprobs, final.text, edits, len(final.text))
    words = final.words and edit_words(final.words, final.text, edits)
    return replace(final, text=apply(final.text, edits).strip(), words=words, logprobs=logprobs)


def edit_words(words: Sequence[Word], text: str, edits: Sequence[Edit]) -> tuple[Word, ...] | None:
    """The words of an edited text; None if `text` does not consist of `words`."""
    spans = _spans([word.text for word in words], text)
    if spans is None:
        return None
    edited: list[Word] = []
    for first, last, start, end in _groups(spans, edits):
        if first == last:
            continue
        if not any(start <= edit.start and edit.end <= end for edit in edits):
            edited += words[first:last]
        else:
            edited += _regrouped(words[first:last], apply(text, edits, start, end))
    return tuple(edited)


def edit_tokens(tokens: Tokens, text: str, edits: Sequence[Edit], end: int) -> tuple[tuple[str, float], ...] | None:
    """The tokens of an edited text, as far as they are before its character `end`; None if `text` does not consist of
    `tokens`. Tokens that an edit changes become one, with the probability of all of them together.
    """
    whole = "".join(token for token, _ in tokens)
    lead = whole.find(text) if text else 0
    if lead < 0 or whole.strip() != text.strip():
        return None
    spans, at = [], -lead
    for token, _ in tokens:
        spans.append((at, at + len(token)))
        at += len(token)
    edited: list[tuple[str, float]] = []
    for first, last, start, stop in _groups(spans, edits):
        if stop > end or first == last:
            continue
        if not any(start <= edit.start and edit.end <= stop for edit in edits):
            edited += tokens[first:last]
        else:
            edited.append((apply(text, edits, max(0, start), stop), sum(logprob for _, logprob in tokens[first:last])))
            if start < 0:
                edited[-1] = whole[:-start] + edited[-1][0], edited[-1][1]
    return tuple(edited)


def _spans(parts: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """Where each part is in a text; None if the text has letters or digits that belong to none."""
    spans, at = [], 0
    for part in parts:
        start = text.find(part, at)
        if start < 0 or any(char.isalnum() for char in text[at:start]):
            return None
        at = start + len(part)
        spans.append((start, at))
    return None if any(char.isalnum() for char in text[at:]) else spans


def _groups(spans: Sequence[tuple[int, int]], edits: Sequence[Edit]) -> list[tuple[int, int, int, int]]:
    """Runs of parts that belong together, because an edit changes them: (first, last, start, end), the characters those
    of the parts and of the edits. A part that no edit changes is a run of its own.
    """
    groups: list[tuple[int, int, int, int]] = []
    n = 0
    for edit in edits:
        while n < len(spans) and spans[n][1] <= edit.start:
            groups.append((n, n + 1, *spans[n]))
            n += 1
        first, start, end = n, edit.start, edit.end
        while n < len(spans) and spans[n][0] < edit.end:
            start, end = min(start, spans[n][0]), max(end, spans[n][1])
            n += 1
        if groups and groups[-1][3] > edit.start:
            # The edit before changes a part that this one changes, too.
            first, _, start, before = groups.pop()
            end = max(end, before)
        groups.append((first, n, start, end))
    groups += [(index, index + 1, *spans[index]) for index in range(n, len(spans))]
    return groups


def _regrouped(words: Sequence[Word], text: str) -> list[Word]:
    """The words of `text`, which stands for `words`."""
    pieces = [piece.strip() for part in text.split() for piece in split(part)]
    if len(pieces) == len(words):
        return [replace(word, text=piece) for word, piece in zip(words, pieces, strict=True)]
    first, last = words[0], words[-1]
    known = [word.probability for word in words if word.probability is not None]
    probability = sum(known) / len(known) if known else None
    speaker = first.speaker if all(word.speaker == first.speaker for word in words) else None
    widths = [max(1, width(piece)) for piece in pieces]
    regrouped, passed, start = [], 0, first.start_ms
    for piece, columns in zip(pieces, widths, strict=True):
        passed += columns
        end = first.start_ms + (last.end_ms - first.start_ms) * passed // sum(widths)
        source = first.times_from if len(pieces) == 1 else TimesFrom.ESTIMATE
        regrouped.append(Word(piece, start, end, probability, speaker, source))
        start = end
    return regrouped


class TextAnnotator(Annotator):
    """Edits texts by rules that see nothing but the text."""

    changes_partials = True

    def edits(self, text: str, language: str | None) -> list[Edit]:
        """In order, without overlap."""
        raise NotImplementedError

    def open_from(self, text: str, language: str | None) -> int:
        """The character from which on more text may change the edits; those before are certain."""
        raise NotImplementedError

    def shown_until(self, text: str, language: str | None) -> int:
        """Where a partial of this text ends: if this annotator guards texts, where more text may change them."""
        return self.open_from(text, language) if self.guards else len(text)

    def hidden(self, text: str, language: str | None) -> list[Edit]:
        """Edits of a text that may go on, where they are not certain."""
        return self.edits(text, language)

    def unsure(self, text: str, language: str | None, start: int) -> str:
        """What is shown of a text that may go on, from character `start` on."""
        end = max(start, self.shown_until(text, language))
        edits = []
        for edit in self.hidden(text, language):
            if edit.start < end < edit.end:
                end = max(start, edit.start)
            elif edit.end > start:
                edits.append(Edit(max(start, edit.start), edit.end, edit.text))
        return apply(text, edits, start, end)

    def final(self, final: Final, speech: Speech | None) -> Final:
        return edit_final(final, self.edits(final.text, final.language))

    def text(self, text: str, language: str | None) -> str:
        return apply(text, self.edits(text, language)).strip()

    def partial(self, partial: Partial) -> Partial:
        """What is certain of the stable text stays stable. The rest becomes tentative, or, if this annotator guards
        texts, is left out where more text could change it.
        """
        language, stable, whole = partial.language, partial.stable, partial.stable + partial.tentative
        certain = self.edits(stable, language)
        limit = min(len(stable), self.open_from(stable, language))
        for edit in reversed(certain):
            if edit.start < limit < edit.end:
                limit = edit.start
        limit = len(stable[:limit].rstrip())
        shown = apply(stable, certain, 0, limit)
        tentative = self.unsure(whole, language, limit).rstrip()
        logprobs = partial.logprobs and edit_tokens(partial.logprobs, stable, certain, limit)
        return replace(partial, stable=shown, tentative=tentative, logprobs=logprobs)
