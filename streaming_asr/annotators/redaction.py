"""What must not be sent: `redact=numbers`, `pci`, `ssn`, `pii`.

The rules go by how many digits are said in a row, in figures or in words, rather than by check digits: one digit that
was misrecognized must not let a card's number through. They work without a model, so names and places stay.

A number may go on in the next utterance, and the final decode may find digits where a partial had none. So shorter
rows are redacted at the ends of a final, and what is sent before it has no figures at all: stable text ends before the
first, tentative text has `…` for each, and the last word, which may become one, is missing.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streaming_asr.annotators.edits import Edit, TextAnnotator, without_overlap
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Capabilities
from streaming_asr.core.scripts import find_words

HIDDEN = "…"
"""For figures in tentative text."""
NUMBER, CARD, PHONE, SSN, EMAIL = "[NUMBER]", "[CREDIT_CARD]", "[PHONE_NUMBER]", "[SSN]", "[EMAIL_ADDRESS]"
CARD_DIGITS = 12
"""A card's number has 13 to 19; a recognizer may miss one."""
SSN_DIGITS = (8, 9, 10)
PHONE_DIGITS = 7
EDGE_DIGITS = 3
"""A row of this many digits at an end of a final may be a part of a longer one. A final of nothing else is in any case.
"""
CODE_CHARS = 40
"""After a word for a card's security code or its expiry, as many characters may be before the figures."""

# Digits and numbers by language: what stands for one digit, for two, and what may stand between figures.
_ONE = {
    "en": "zero oh nought one two three four five six seven eight nine",
    "de": "null eins ein eine zwei zwo drei vier fünf sechs sieben acht neun",
    "fr": "zéro un une deux trois quatre cinq six sept huit neuf",
    "es": "cero un uno una dos tres cuatro cinco seis siete ocho nueve",
    "it": "zero uno una due tre quattro cinque sei sette otto nove",
    "pt": "zero um uma dois duas três quatro cinco seis meia sete oito nove",
    "nl": "nul een één twee drie vier vijf zes zeven acht negen",
}
_MORE = {
    "en": (
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty "
        "sixty seventy eighty ninety hundred thousand million double triple"
    ),
    "de": (
        "zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn siebzehn achtzehn neunzehn zwanzig dreißig vierzig fünfzig "
        "sechzig siebzig achtzig neunzig hundert tausend million millionen"
    ),
    "fr": (
        "dix onze douze treize quatorze quinze seize vingt vingts trente quarante cinquante soixante septante huitante "
        "nonante cent cents mille million millions"
    ),
    "es": (
        "diez once doce trece catorce quince dieciséis diecisiete dieciocho diecinueve veinte veintiuno veintidós "
        "veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho veintinueve treinta cuarenta cincuenta "
        "sesenta setenta ochenta noventa cien ciento doscientos trescientos mil millón millones"
    ),
    "it": (
        "dieci undici dodici tredici quattordici quindici sedici diciassette diciotto diciannove venti trenta quaranta "
        "cinquanta sessanta settanta ottanta novanta cento mille mila milione milioni"
    ),
    "pt": (
        "dez onze doze treze quatorze catorze quinze dezesseis dezasseis dezessete dezassete dezoito dezenove dezanove "
        "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa cem cento mil milhão milhões"
    ),
    "nl": (
        "tien elf twaalf dertien veertien vijftien zestien zeventien achttien negentien twintig dertig veertig vijftig "
        "zestig zeventig tachtig negentig honderd duizend miljoen"
    ),
}
_COMPOUND = {
    "de": r"(?:ein|zwei|zwo|drei|vier|fünf|sechs|sieben|acht|neun)(?:und(?:\w+zig|dreißig)|hundert\w*|tausend\w*)",
    "nl": r"(?:een|één|twee|drie|vier|vijf|zes|zeven|acht|negen)(?:en|ën)(?:twintig|dertig|veertig|vijftig|\w+tig)",
    "it": r"(?:venti?|\w+anta?)(?:uno|due|tre|tré|quattro|cinque|sei|sette|otto|nove)",
}
_LONE = frozenset(
    ["a", "one", "oh", "ein", "eine", "eins", "un", "une", "uno", "una", "um", "uma", "een", "één", "six", "meia"]
)
"""Alone, these are more often other words than figures."""
_HAN = "零〇一二三四五六七八九十百千万億亿两兩幺壹贰叁肆伍陆柒捌玖ゼロ"
_HAN_DIGITS = "零〇一二三四五六七八九两兩幺壹贰叁肆伍陆柒捌玖"
_JOINT = (
    r"(?:[\s,.;:/\-–—()+，、．。・]|\band\b|\bund\b|\bet\b|\by\b|\be\b|\ben\b|のの?|\bpoint\b|\bdash\b|\bhyphen\b)*"
)
"""Between figures that belong together."""

# Parts and their number are bounded: a recognizer that repeats itself must not make the search take seconds.
_PART = r"[\w+\-]{1,64}"
_BEGIN = r"(?<![\w+\-])"
_SPOKEN = r"\s{1,9}(?:dot|punkt|underscore|hyphen)"
_AT = r"(?:\s{0,9}@\s{0,9}|\s{1,9}at\s{1,9})"
_DOT = r"(?:\s{0,9}\.\s{0,9}|\s{1,9}(?:dot|punkt|point)\s{1,9})"
_LOCAL = rf"{_BEGIN}{_PART}(?:(?:\.|\s{{1,9}}(?:dot|punkt|point|underscore|dash|hyphen|plus)\s{{1,9}}){_PART}){{0,9}}"
_LOCAL_CHAIN = rf"{_BEGIN}{_PART}(?:{_SPOKEN}\s{{1,9}}{_PART}){{1,9}}"
_EMAIL = re.compile(
    rf"{_LOCAL_CHAIN}{_AT}{_PART}(?:{_DOT}{_PART}){{0,9}}|{_LOCAL}{_AT}{_PART}(?:{_DOT}{_PART}){{1,9}}", re.IGNORECASE
)
"""An address; its last dot may be misrecognized if there is another before "at"."""
_CHAIN = re.compile(_LOCAL_CHAIN, re.IGNORECASE)
"""What may become an address if its next words are decoded anew."""
_EMAIL_EDGES = re.compile(
    rf"{_LOCAL_CHAIN}(?:{_AT}(?:{_PART})?|\s{{1,9}}at)?\W{{0,9}}$"
    rf"|{_LOCAL}{_SPOKEN}\W{{0,9}}$"
    rf"|^\W{{0,9}}(?:at\s{{1,9}}|@\s{{0,9}})?{_PART}(?:\s{{1,9}}(?:dot|punkt)\s{{1,9}}{_PART}){{1,9}}"
    rf"|^\W{{0,9}}(?:dot|punkt|underscore|hyphen)\s{{1,9}}{_PART}(?:{_SPOKEN}\s{{1,9}}{_PART}){{0,9}}",
    re.IGNORECASE,
)
"""A part of an address at an end of a final, as a pause may split it."""
_EMAIL_OPEN = re.compile(
    rf"{_LOCAL}(?:\.|\s{{1,9}}(?:dot|punkt|point|underscore|dash|hyphen|plus)\b)?(?:{_AT}|\s{{1,9}}at|\s{{0,9}}@)?"
    rf"(?:{_PART}(?:{_DOT}{_PART}){{0,9}})?(?:\s{{1,9}}(?:dot|punkt|point))?[\s.]{{0,9}}$",
    re.IGNORECASE,
)
"""What may be the beginning of an address at the end of a text: the last word at least."""
_CODE = re.compile(
    r"\b(?:cvv|cvc|cvn|c v v|c v c|security code|card code|verification (?:code|value)|expir\w*"
    r"|valid (?:thru|through|until)|pin(?: number| code)?|prüfziffer|gültig bis)\b"
    r"|安全码|有效期|验证码|セキュリティコード|有効期限",
    re.IGNORECASE,
)
"""What a card's short figures follow."""


@dataclass(frozen=True, slots=True)
class Run:
    """Figures in a row."""

    start: int
    end: int
    digits: int
    """About how many digits they have."""
    lone: bool
    """Whether it is one word that is probably no figure."""


@functools.cache
def _figure(language: str) -> re.Pattern[str]:
    """A figure: digits, or a word for a number."""
    words = [*_ONE[language].split(), *_MORE[language].split()]
    if language != "en":
        words += [*_ONE["en"].split(), *_MORE["en"].split()]
    alternatives = "|".join(sorted(set(words), key=len, reverse=True))
    tens = f"(?:-(?:{alternatives}))*"
    compound = f"|{_COMPOUND[language]}" if language in _COMPOUND else ""
    return re.compile(rf"\d+|[{_HAN}]|\b(?:(?:{alternatives}){tens}{compound})\b", re.IGNORECASE)


@functools.cache
def _singles(language: str) -> frozenset[str]:
    return frozenset([*_ONE[language].split(), *_ONE["en"].split()])


_JOINED = re.compile(_JOINT, re.IGNORECASE)


def find_runs(text: str, language: str | None) -> list[Run]:
    """The figures of a text, in rows: what stands between two of a row is punctuation or a word such as `and`."""
    language = language if language in _ONE else "en"
    runs: list[Run] = []
    for match in _figure(language).finditer(text):
        word = match.group().lower()
        if word.isdigit():
            digits = len(word)
        elif word in _HAN_DIGITS or word in _singles(language):
            digits = 1
        else:
            digits = 2
        lone = word in _LONE or (word in _HAN and word not in "〇零幺")
        if runs and _JOINED.fullmatch(text, runs[-1].end, match.start()):
            last = runs.pop()
            runs.append(Run(last.start, match.end(), last.digits + digits, False))
        else:
            runs.append(Run(match.start(), match.end(), digits, lone))
    return runs


class Redaction(TextAnnotator):
    """Puts a name of what it is in the place of what must not be sent."""

    name = "redaction"
    options = ("redact",)
    guards = True

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = frozenset(kinds)

    def edits(self, text: str, language: str | None) -> list[Edit]:
        return without_overlap([*self._addresses(text), *self._split_addresses(text), *self._figures(text, language)])

    def text(self, text: str, language: str | None) -> str:
        """As in a partial: the text may go on."""
        return self.unsure(text, language, 0).strip()

    def open_from(self, text: str, language: str | None) -> int:
        end = self.shown_until(text, language)
        for run in find_runs(text, language):
            # A lone word is not a figure unless another follows.
            if not run.lone or _JOINED.fullmatch(text, run.end, max(run.end, end)):
                return min(run.start, end)
        return end

    def shown_until(self, text: str, language: str | None) -> int:
        words = find_words(text)
        end = words[-1].start() if words else 0
        if "pii" in self._kinds and (address := _EMAIL_OPEN.search(text)):
            end = min(end, address.start())
        return end

    def hidden(self, text: str, language: str | None) -> list[Edit]:
        figures = [Edit(run.start, run.end, HIDDEN) for run in find_runs(text, language) if not run.lone]
        chains = _CHAIN.finditer(text) if "pii" in self._kinds else ()
        return without_overlap([*self._addresses(text), *figures, *(Edit(*one.span(), HIDDEN) for one in chains)])

    def _addresses(self, text: str) -> Iterator[Edit]:
        if "pii" in self._kinds:
            for match in _EMAIL.finditer(text):
                yield Edit(*match.span(), EMAIL)

    def _split_addresses(self, text: str) -> Iterator[Edit]:
        if "pii" in self._kinds:
            for match in _EMAIL_EDGES.finditer(text):
                yield Edit(*match.span(), EMAIL)

    def _figures(self, text: str, language: str | None) -> Iterator[Edit]:
        codes = [match.end() for match in _CODE.finditer(text)] if self._kinds & {"pci", "pii"} else []
        for run in find_runs(text, language):
            before = [code for code in codes if code <= run.start]
            # Only the first row after the word.
            codes = codes[len(before) :] if not run.lone else codes
            is_code = bool(before) and run.start - before[-1] <= CODE_CHARS
            if name := self._name(run, text, is_code=is_code):
                yield Edit(run.start, run.end, name)

    def _name(self, run: Run, text: str, *, is_code: bool) -> str | None:
        """What stands for a row of figures; None if it may be sent."""
        if "numbers" in self._kinds and not run.lone:
            return NUMBER
        pii = "pii" in self._kinds
        if run.digits >= CARD_DIGITS:
            return CARD if pii or "pci" in self._kinds else SSN
        if run.digits in SSN_DIGITS and (pii or "ssn" in self._kinds):
            return SSN if run.digits == 9 else PHONE if pii else SSN
        if pii and run.digits >= PHONE_DIGITS:
            return PHONE
        if is_code and not run.lone:
            return NUMBER
        first, last = not _letters(text[: run.start]), not _letters(text[run.end :])
        if (first and last) or ((first or last) and run.digits >= EDGE_DIGITS):
            return NUMBER
        return None


def _letters(text: str) -> bool:
    return any(char.isalnum() for char in text)


def redaction(options: SessionOptions, capabilities: Capabilities) -> Redaction | None:
    """The factory."""
    return Redaction(options.redact) if options.redact else None
