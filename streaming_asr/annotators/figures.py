"""Numbers, dates, money and units as people write them: `itn=true`, inverse text normalization.

Wetext finds them: finite-state grammars of WeTextProcessing for English, Mandarin and Japanese. Its output alone is not
what people write (`10 %`, `july 4 2024`, `03:15:00p.m.` for 下午三点十五分), so `english_figures.py` and
`chinese_figures.py` write what it found. Everything else of the text stays as it is.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from streaming_asr.annotators import chinese_figures, english_figures
from streaming_asr.annotators.edits import Edit, edit_final, without_overlap
from streaming_asr.core.annotator import Annotation, Annotator, Blocking, Speech, Watch
from streaming_asr.core.events import Final, Partial
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import Capabilities

LIBRARY = "wetext"
_BETWEEN = '.,;:?!。，；：？！、…"“”()（）\\{}'
_CLAUSE = re.compile(rf"[^{re.escape(_BETWEEN)}]+(?:\.(?=\w)[^{re.escape(_BETWEEN)}]*)*")
"""Text between punctuation; a full stop within a word, as in `p.m`, belongs to it."""
_NEAR = 12
"""Characters on both sides of a cut between two parts of a clause, within which no number begins or ends."""
_MOST_WINDOWS = 8
"""Of one row of numbers. A longer row stays as it is, so that a final does not wait too long for its other numbers."""
_AS_SAID = frozenset({"word", "char", "punctuation"})
"""Tags of what is not a figure."""
_NOT_SAID = frozenset({"preserve_order", "kind", "style"})
"""What a tag has besides parts of the text."""


@dataclass(frozen=True, slots=True)
class Found:
    """Something that the grammar found in a text."""

    kind: str
    """Of wetext: `cardinal`, `ordinal`, `decimal`, `fraction`, `money`, `date`, `time`, `measure`, `telephone` …"""
    start: int
    """In the text that it was given."""
    end: int
    text: str
    """As the grammar writes it."""


@dataclass(frozen=True, slots=True)
class Language:
    """How the figures of one language are found and written."""

    code: str
    """For wetext."""
    numbers: re.Pattern[str]
    """Found in every text that has something to write in figures: the grammar takes its time for any text."""
    prepare: Callable[[str], tuple[str, Sequence[int]]]
    """Makes of a text what the grammar understands, and says where each of its characters was."""
    write: Callable[[str, Sequence[Found]], list[Edit]]
    """Makes edits of the prepared text of what was found in it."""
    longest: int
    """Characters that go to the grammar at once: it works for some 30 ms."""
    between_digits: re.Pattern[str] | None = None
    """Finds places within a row of single digits, which may be cut there: the parts are written as one number again."""


def _as_it_is(text: str) -> tuple[str, Sequence[int]]:
    return text, range(len(text))


def _as_found(text: str, found: Sequence[Found]) -> list[Edit]:
    return [Edit(one.start, one.end, one.text) for one in found]


_HAN = re.compile("[零一二三四五六七八九〇两幺十百千万亿億]")
_CHINESE = Language("zh", _HAN, _as_it_is, chinese_figures.write, 50)
LANGUAGES = {
    "en": Language(
        "en",
        english_figures.NUMBERS,
        english_figures.prepare,
        english_figures.write,
        160,
        english_figures.BETWEEN_DIGITS,
    ),
    "zh": _CHINESE,
    "yue": _CHINESE,
    "ja": Language("ja", _HAN, _as_it_is, _as_found, 50),
}
"""By ISO 639 code. Texts in other languages stay as they are."""


class Figures(Annotator):
    """Writes figures in finals. Keywords of the session stay as they are."""

    name = "writing of numbers"
    options = ("itn", "keywords")
    budget_ms = 500
    # For `watch`: it loads the library while the first utterance is spoken.
    needs_audio = True

    def __init__(self, keywords: Sequence[str]) -> None:
        self._keywords = [re.compile(re.escape(keyword), re.IGNORECASE) for keyword in keywords if keyword.strip()]
        self._loaded = False

    def warm_up(self) -> None:
        for language in LANGUAGES.values():
            _grammar(language.code)

    def watch(self, partial: Partial, speech: Speech) -> Watch | None:
        if self._loaded or partial.language not in LANGUAGES:
            return None
        self._loaded = True
        return _load(LANGUAGES[partial.language])

    def final(self, final: Final, speech: Speech | None) -> Final | Annotation:
        language = LANGUAGES.get(final.language or "")
        if language is None or not language.numbers.search(final.text):
            return final
        return self._annotate(final, language)

    def _annotate(self, final: Final, language: Language) -> Annotation:
        edits = yield Blocking(lambda: find_edits(final.text, language))
        kept = [span.span() for keyword in self._keywords for span in keyword.finditer(final.text)]
        return edit_final(
            final, [edit for edit in edits if not any(edit.start < end and start < edit.end for start, end in kept)]
        )


def _load(language: Language) -> Watch:
    yield Blocking(lambda: find_edits("", language))
    return ()


def find_edits(text: str, language: Language) -> list[Edit]:
    """What is to be written otherwise in a text. Takes some milliseconds, the first time a third of a second.

    Each clause with a number goes to the grammar by itself, a long one in parts: it holds Python's lock for as long as
    it works, which grows faster than the text, and the event loop waits for that.
    """
    prepared, places = language.prepare(text)
    grammar = _grammar(language.code)
    found = [
        one
        for clause in _CLAUSE.finditer(prepared)
        for start, end in _parts(prepared, *clause.span(), language)
        if language.numbers.search(prepared, start, end)
        for one in _find(grammar, prepared, start, end, language)
    ]
    edits = language.write(prepared, found)
    # A prepared text may lack characters of the text: an edit reaches to the place after its last character.
    return without_overlap(
        Edit(places[edit.start], places[edit.end - 1] + 1, edit.text)
        for edit in edits
        if edit.start < edit.end and any(char.isdigit() for char in edit.text)
    )


def _parts(text: str, start: int, end: int, language: Language) -> Iterator[tuple[int, int]]:
    """The parts of a clause, cut where there is no number. A part that has no such place is longer than
    `language.longest`.
    """
    while end - start > language.longest:
        cuts = (cut for cut in range(start + language.longest, start, -1) if _can_cut(text, cut, language))
        cut = next(cuts, None)
        if cut is None:
            cut = next((cut for cut in range(start + language.longest, end) if _can_cut(text, cut, language)), end)
        yield start, cut
        start = cut
    yield start, end


def _find(grammar: Grammar, text: str, start: int, end: int, language: Language) -> Sequence[Found]:
    """What is in a part of a text. A long row of numbers goes to the grammar in windows. Each but the last ends within
    a row of digits; or else a number may go on beyond it, so its last find is left to the next window, which begins
    after the one before. A row that is one number stays as it is.
    """
    row: list[Found] = []
    for _ in range(_MOST_WINDOWS if end - start <= _MOST_WINDOWS * language.longest else 0):
        if end - start <= language.longest:
            return [*row, *grammar.find(text[start:end], start)]
        latest = start + language.longest
        places = language.between_digits.finditer(text, start, latest) if language.between_digits is not None else ()
        between = max((place.end() for place in places), default=start)
        cut = between
        if cut <= start:
            cut = next((cut for cut in range(latest, start, -1) if _between_words(text, cut)), latest)
        found = grammar.find(text[start:cut], start)
        if cut != between or not found or found[-1].kind != "telephone":
            del found[-1:]
            if not found:
                break
            cut = found[-1].end
        row += found
        start = cut
    return ()


def _between_words(text: str, place: int) -> bool:
    return text[place - 1].isspace() or not text[place - 1].isascii()


def _can_cut(text: str, place: int, language: Language) -> bool:
    return _between_words(text, place) and not language.numbers.search(text, max(0, place - _NEAR), place + _NEAR)


class Grammar:
    """The grammars of one language. The tagger says what is what in a text, in order, and the verbalizer writes it."""

    def __init__(self, code: str) -> None:
        from wetext.token_parser import TokenParser
        from wetext.utils import tag, verbalize

        self._code = code
        self._parser = TokenParser
        self._tag = tag
        self._verbalize = verbalize
        self.find("1")

    def find(self, text: str, offset: int = 0) -> list[Found]:
        """What is in a text, which stands at `offset` of another; empty if the tags can't be found in it."""
        parser = self._parser(self._code, "itn")
        parser.parse(self._tag(text, self._code, "itn"))
        found: list[Found] = []
        at = 0
        for token in parser.tokens:
            said = [value.strip() for key, value in token.members.items() if value.strip() and key not in _NOT_SAID]
            span = _located(text, at, said)
            if span is None:
                return []
            start, end = span
            if token.name not in _AS_SAID:
                written = self._verbalize(token.string(parser.orders), self._code, "itn")
                found.append(Found(token.name, offset + start, offset + end, written))
            at = end
        return found


def _located(text: str, at: int, values: Sequence[str]) -> tuple[int, int] | None:
    """Where the values stand in a text from `at` on, all together; None if one does not."""
    starts, ends = [], [at]
    for value in values:
        # Mostly in this order.
        start = text.find(value, ends[-1])
        start = text.find(value, at) if start < 0 else start
        if start < 0:
            return None
        starts.append(start)
        ends.append(start + len(value))
    return (min(starts), max(ends)) if starts else None


@functools.cache
def _grammar(code: str) -> Grammar:
    return Grammar(code)


def available() -> bool:
    """Whether the library is installed."""
    return importlib.util.find_spec(LIBRARY) is not None


def figures(options: SessionOptions, capabilities: Capabilities) -> Figures | None:
    """The factory. A recognizer that writes figures itself needs none.

    Raises:
        OptionError: the library is not installed.
    """
    if not options.itn or capabilities.writes_figures:
        return None
    if not available():
        raise OptionError("itn", f"needs {LIBRARY}, which is not installed: pip install 'streaming-asr[itn]'")
    return Figures(options.keywords)
