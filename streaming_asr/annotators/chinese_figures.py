"""Chinese figures as people write them: the numbers in figures, the units as they were said.

`2024年7月4日`, `下午3点15分`, `320元`, `23.5元`, `15%`, `13800138000`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streaming_asr.annotators.edits import Edit

if TYPE_CHECKING:
    from streaming_asr.annotators.figures import Found

_DIGITS = {char: n for n, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2, "幺": 1}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_GROUPS = {"万": 10_000, "亿": 100_000_000}
_NUMBER = re.compile("[零一二三四五六七八九〇两幺十百千]+(?:[万亿][零一二三四五六七八九〇两十百千]*)*")
_DECIMAL = re.compile(f"({_NUMBER.pattern})点([零一二三四五六七八九〇]+)(?![零一二三四五六七八九〇十百千分刻])")
"""`三点五`, but neither `五点四十` nor `八点一刻`."""
_WHOLE = re.compile(f"{_NUMBER.pattern}点$")
"""In `三点五万`, of which the grammar finds `五万`."""
_TENTHS = re.compile("([零一二三四五六七八九〇两十百千万]+)块([一二三四五六七八九])毛?([一二三四五六七八九])?分?")
"""`二十三块五`: 23.5 yuan."""
_AS_SAID = frozenset({"date", "time", "money", "measure"})
"""Of these the grammar changes the units, too."""
_ABOUT = ("几", "来")
"""After a number that stays as it is: `十几个`."""
_VERY = re.compile("(?<![点时])十分(?!钟)")


def write(text: str, found: Sequence[Found]) -> list[Edit]:
    """The edits of a text."""
    edits = []
    for one in found:
        start, end = one.start, one.end
        if text.startswith(_ABOUT, end) or " " in one.text or (_VERY.match(text, start) and end - start == 2):
            continue
        tenths = _TENTHS.match(text, one.start) if one.kind in ("measure", "money") else None
        if tenths is not None and tenths.end() >= end:
            price = f"{_value(tenths[1])}.{_DIGITS[tenths[2]]}{_DIGITS[tenths[3]] if tenths[3] else ''}元"
            edits.append(Edit(one.start, tenths.end(), price))
        elif one.kind not in _AS_SAID or "%" in one.text:
            edits.append(Edit(one.start, end, one.text))
        elif "~" not in one.text:
            if one.kind != "time" and (whole := _WHOLE.search(text, 0, start)):
                start = whole.start()
            edits.append(Edit(start, end, _in_figures(text[start:end], decimals=one.kind != "time")))
    return edits


def _in_figures(source: str, *, decimals: bool) -> str:
    """The text with its numbers in figures.

    Args:
        decimals: whether 点 may be a decimal point rather than an hour.
    """
    if decimals:
        source = _DECIMAL.sub(
            lambda number: f"{_value(number[1])}.{''.join(str(_DIGITS[char]) for char in number[2])}", source
        )
    return _NUMBER.sub(lambda number: _value(number.group()), source)


def _value(number: str) -> str:
    """A number in figures, as far as they are usual: `123万`, but `1234567`."""
    if not any(char in _UNITS or char in _GROUPS for char in number):
        return "".join(str(_DIGITS[char]) for char in number)
    if number[-1] in _GROUPS and not any(char in _GROUPS for char in number[:-1]):
        return _value(number[:-1]) + number[-1]
    total = section = digit = 0
    unit = 1
    for char in number:
        if char in _DIGITS:
            digit = _DIGITS[char]
            unit = 10 if digit == 0 else unit
        elif char in _UNITS:
            unit = _UNITS[char]
            section += (digit or 1) * unit
            digit = 0
        else:
            unit = _GROUPS[char]
            total = (total + section + digit) * unit if unit == _GROUPS["亿"] else total + (section + digit) * unit
            section = digit = 0
    # `三百五` is 350, `三百零五` 305.
    return str(total + section + digit * (unit // 10 if unit >= 100 else 1))
