"""The part of a final that has not been sent yet, where the part that was sent can't be taken back."""

from __future__ import annotations

import difflib

from streaming_asr.core.scripts import CLOSING, find_words


def rest_of(final: str, told: str) -> str:
    """The end of `final`, its leading space included, from where `told` ends in it.

    Exact where `told` begins `final`. Where they differ, their words are aligned, and words that differ are taken
    for one another; so told words may be wrong, but none that follow are lost.
    """
    if final.startswith(told):
        return final[len(told) :]
    words = find_words(final)
    told_words = [word.group().lower() for word in find_words(told)]
    matcher = difflib.SequenceMatcher(None, told_words, [word.group().lower() for word in words], autojunk=False)
    # The last block is an empty one, at the ends.
    matched = matcher.get_matching_blocks()[:-1]
    told_end, end = (matched[-1].a + matched[-1].size, matched[-1].b + matched[-1].size) if matched else (0, 0)
    end = min(end + len(told_words) - told_end, len(words))
    if end == len(words):
        return ""
    if end == 0:
        return final
    rest = final[words[end - 1].end() :]
    # The punctuation after the last word told has been told too, or is past telling.
    return rest[len(rest) - len(rest.lstrip(CLOSING)) :] if rest else ""
