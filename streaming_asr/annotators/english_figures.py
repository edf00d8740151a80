"""English figures as people write them: `$23.50`, `July 4, 2024`, `10%`, `415-555-2671`, `5:30 p.m.`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streaming_asr.annotators.edits import Edit

if TYPE_CHECKING:
    from streaming_asr.annotators.figures import Found

_DIGITS = "zero|oh|one|two|three|four|five|six|seven|eight|nine"
_TEENS = "ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen"
_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_NUMBER = f"(?:{_DIGITS}|{_TEENS}|{_TENS})"
NUMBERS = re.compile(
    rf"(?:{_NUMBER}|hundred|thousand|million|first|second|third|fifth|half|quarter|noon)", re.IGNORECASE
)
"""In every text with a number, and in some without."""
_ORDINAL = "(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth)"
_HYPHEN = re.compile(rf"(?<=ty)-(?=(?:{_DIGITS}|{_ORDINAL})\b)", re.IGNORECASE)
"""In `twenty-three`."""
_AND = re.compile(rf"(?<=(?:hundred|housand|million) )and (?={_NUMBER}\b)", re.IGNORECASE)
"""In `two hundred and thirty`, whose grammar is `two hundred thirty`."""
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_MONTH = re.compile(rf"\b(?:{_MONTHS})\b")
_MONTH_FIRST = re.compile(rf"^((?:{_MONTHS}) \d\d?) (\d{{4}})$")
_LARGE = re.compile(r"\b(?:hundred|thousand|million|billion)\b")
_TENS_OR_TEENS = re.compile(rf"\b(?:{_TEENS}|{_TENS})\b")
_UNIT = re.compile(
    rf"^(?:(?:minus|negative|point|and|hundred|thousand|million|billion|trillion|{_NUMBER})\b[ -]?)+(?=\w)"
)
"""What is before the unit of a quantity."""
_QUANTITY = re.compile(r"^-?[\d.,]+(?: (?:thousand|million|billion|trillion)\b)?")
_LARGEST_WORD = 12
"""Whole numbers up to this stay words before a unit, too: `every eight hours`."""
_DIGITS_BETWEEN = re.compile(rf",? ((?:{_DIGITS})(?:,? (?:{_DIGITS}))*),? ")
_DIGITS_AFTER = re.compile(rf",? ((?:{_DIGITS})(?: (?:{_DIGITS}))+)\b")
"""Digits of a row that the grammar leaves alone, because they are but one or two."""
_SPELT = re.compile(r"^((?:[a-z] ){2,})(?![a-z]\b)")
"""The letters of `u a two three four`."""
_HALF_TIME = re.compile(r"^0(?=\d:)")
_O_CLOCK = re.compile(r"^0?(\d+):00$")
_FULL_HOUR = re.compile(r"^0?(\d+):00(?= [ap]\.m)")
_TOLL_FREE = re.compile(rf"\b(?:(one) )?(eight) hundred ((?:(?:{_DIGITS})(?:, | )?){{7}})(?<! )(?<!, )", re.IGNORECASE)
BETWEEN_DIGITS = re.compile(rf"\b(?:{_DIGITS}) (?:{_DIGITS}) (?=(?:{_DIGITS}) (?:{_DIGITS})\b)")
"""The place at its end is within a row of four digits or more."""
_VALUES = {word: str(max(0, n - 1)) for n, word in enumerate(f"{_DIGITS}|ten|eleven|twelve".split("|"))}
_SMALL_BEFORE = re.compile(r"\b(two|three|four|five|six|seven|eight|nine|ten|eleven|twelve) (?:to|or|and) $")
"""Numbers that stay words by themselves, but not beside one in figures."""
_SIGNS = "$€£¥₹₩₽"
_SKIPPED = frozenset({"whitelist", "electronic"})
"""`mister` and `seven eleven` are not figures, and the grammar's addresses take in the word before them."""


def prepare(text: str) -> tuple[str, Sequence[int]]:
    """In lower case, `twenty-three` as `twenty three`, `two hundred and five` as `two hundred five`."""
    lower = "".join(char.lower() if char.isascii() else char for char in text)
    lower = _HYPHEN.sub(" ", lower)
    dropped = {place for match in _AND.finditer(lower) for place in range(*match.span())}
    places = [place for place in range(len(lower)) if place not in dropped]
    return "".join(lower[place] for place in places), places


def write(text: str, found: Sequence[Found]) -> list[Edit]:
    """The edits of a prepared text."""
    edits = [_toll_free(match) for match in _TOLL_FREE.finditer(text)]
    taken = [(edit.start, edit.end) for edit in edits]
    rest = [one for one in found if not any(one.start < end and start < one.end for start, end in taken)]
    n = 0
    while n < len(rest):
        one = rest[n]
        n += 1
        source, end = text[one.start : one.end], one.end
        start = one.start
        if one.kind == "telephone":
            groups = [_dialled(one.text)]
            # A number that is said in groups is one number.
            while True:
                if n < len(rest) and rest[n].kind == "telephone":
                    between = _DIGITS_BETWEEN.fullmatch(text, end, rest[n].start)
                    if between is not None or text[end : rest[n].start] in (" ", ", "):
                        groups += [_digits(between[1])] if between is not None else []
                        groups.append(_dialled(rest[n].text))
                        end = rest[n].end
                        n += 1
                        continue
                after = _DIGITS_AFTER.match(text, end)
                if after is None or (n < len(rest) and after.end() > rest[n].start):
                    break
                groups.append(_digits(after[1]))
                end = after.end()
            written = _telephone(groups, source)
        elif one.kind == "decimal" and one.text.startswith(".") and edits and edits[-1].end == start - 1:
            # `three point one point four`: a version.
            before = edits.pop()
            start, written = before.start, before.text + one.text
        else:
            written = _written(one.kind, one.text, source)
            if one.kind == "time" and source.startswith("quarter") and text.endswith("a ", 0, start):
                start -= 2
        if one.kind == "cardinal" and written is not None and (small := _SMALL_BEFORE.search(text, 0, one.start)):
            if "," in written:
                # `ten or fifteen thousand` says two numbers of thousands.
                continue
            edits.append(Edit(small.start(1), small.end(1), _VALUES[small[1]]))
        if written is not None:
            if written.endswith(".") and text.startswith(".", end):
                # The full stop of `p.m.` is that of the sentence, too.
                written = written[:-1]
            edits.append(Edit(start, end, written))
    return edits


def _written(kind: str, figures: str, source: str) -> str | None:
    """What is found, as people write it; None to leave it as it is."""
    if kind in _SKIPPED:
        return None
    if kind == "ordinal":
        # As people write them: `first`, but `21st`.
        return figures if len(figures) > 3 else None
    if kind == "date":
        dated = _MONTH_FIRST.sub(r"\1, \2", figures)
        return _MONTH.sub(lambda month: month.group().title(), dated)
    if kind == "time":
        if "o'clock" in source and (hour := _O_CLOCK.match(figures)):
            return f"{hour[1]} o'clock"
        return _HALF_TIME.sub("", _FULL_HOUR.sub(r"\1", figures))
    if kind == "measure":
        return figures.replace(" %", "%") if "%" in figures else _measure(figures, source)
    if kind == "decimal" and figures.startswith("."):
        return "0" + figures
    if kind == "money" and figures[0] not in _SIGNS:
        # Of few currencies the name is another word, too: `one real passion`.
        return None
    if kind in ("cardinal", "money") and _LARGE.search(source):
        least = 5 if kind == "cardinal" else 4
        return re.sub(rf"(?<![\d.])\d{{{least},}}", lambda digits: f"{int(digits.group()):,}", figures)
    return figures


def _measure(figures: str, source: str) -> str | None:
    """A quantity with its unit as it was said: the grammar's `2 "` and `8 h` are not what people write."""
    quantity, before = _QUANTITY.match(figures), _UNIT.match(source)
    if quantity is None or before is None:
        return None
    number = quantity.group()
    if number.isdigit() and int(number) <= _LARGEST_WORD:
        return None
    if number.isdigit() and int(number) > 9999:
        number = f"{int(number):,}"
    return f"{number} {source[before.end() :]}"


def _dialled(figures: str) -> str:
    """The digits, with a plus sign if there is one; letters stay before them."""
    return re.sub(r"[^\w+]", "", figures)


def _digits(words: str) -> str:
    return "".join(_VALUES[word] for word in re.findall(_DIGITS, words))


def _telephone(groups: Sequence[str], source: str) -> str | None:
    """A row of digits, in the groups in which it was said: grouped as telephone numbers are, if it has the length of
    one.
    """
    digits = "".join(groups)
    if any(char.isalpha() for char in digits):
        letters = _SPELT.match(source)
        named = letters is not None and digits.lstrip(letters[1].replace(" ", "")).isdigit()
        return digits.upper() if named else None
    if len(digits) < 7 and _TENS_OR_TEENS.search(source):
        # `twenty four seven` is not 2047.
        return None
    if digits.startswith("+"):
        american = len(digits) == 12 and digits[1] == "1"
        return f"+1 {digits[2:5]}-{digits[5:8]}-{digits[8:]}" if american else digits
    if len(digits) == 7:
        return f"{digits[:3]}-{digits[3:]}"
    if [len(group) for group in groups] == [3, 2, 4]:
        return "-".join(groups)
    if len(digits) == 10 and digits[0] not in "01":
        return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"
    if len(digits) == 11 and digits[0] == "1":
        return f"1-{digits[1:4]}-{digits[4:7]}-{digits[7:]}"
    if len(digits) == 16:
        return " ".join(digits[n : n + 4] for n in range(0, 16, 4))
    return digits


def _toll_free(match: re.Match[str]) -> Edit:
    """`one eight hundred …`, which the grammar takes for 805."""
    digits = _digits(match[3])
    number = f"{'1-' if match[1] else ''}800-{digits[:3]}-{digits[3:]}"
    return Edit(match.start(), match.end(), number)
