"""The part of a final that has not been sent yet, where the part that was sent can't be taken back."""

from __future__ import annotations

import difflib

from streaming_asr.core.scripts import CLOSING, find_words


def unsent_part(final: str, sent: str) -> str:
    """The end of `final`, its leading space included, from where `sent` ends in it.

    Exact if `final` begins with `sent`. Otherwise their words are aligned, and a word that differs is taken for the one
    in its place: a word that was sent may be wrong, but none after it is lost.
    """
    if final.startswith(sent):
        return final[len(sent) :]
    words = find_words(final)
    sent_words = [word.group().lower() for word in find_words(sent)]
    matcher = difflib.SequenceMatcher(None, sent_words, [word.group().lower() for word in words], autojunk=False)
    # The last block is an empty one, at the ends.
    matched = matcher.get_matching_blocks()[:-1]
    sent_end, end = (matched[-1].a + matched[-1].size, matched[-1].b + matched[-1].size) if matched else (0, 0)
    end = min(end + len(sent_words) - sent_end, len(words))
    if end == len(words):
        return ""
    if end == 0:
        return final
    rest = final[words[end - 1].end() :]
    # The punctuation after the last word sent was sent too, or can't be sent any more.
    return rest[len(rest) - len(rest.lstrip(CLOSING)) :] if rest else ""
