"""Options are validated where they are made, and the docs' tables say what they are."""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from pathlib import Path

import pytest

from streaming_asr.core.options import OptionError, SessionOptions, options_of
from streaming_asr.server.options import ServerOptions
from tests.support.docs_tables import DOCS, TABLES, updated


@pytest.mark.parametrize("page", TABLES)
def test_the_tables_in_the_docs_are_up_to_date(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text == updated(page, text), "run `python -m tests.support.docs_tables --write`"


@pytest.mark.parametrize("cls", [SessionOptions, ServerOptions])
def test_values_out_of_range_are_refused_with_the_range(cls: type) -> None:
    limits = {name: declared.range for name, declared in options_of(cls).items() if declared.range is not None}
    assert limits
    for name, (low, high) in limits.items():
        cls(**{name: low})
        cls(**{name: high})
        for wrong in (low - 1, high + 1, math.nan, math.inf):
            with pytest.raises(OptionError, match=rf"^{name}: \S+ is out of range; \S+ to \S+ is allowed$"):
                cls(**{name: wrong})


def test_large_numbers_are_written_out_in_errors() -> None:
    with pytest.raises(OptionError, match=re.escape("sample_rate: 1000000 is out of range; 8000 to 48000 is allowed")):
        SessionOptions(sample_rate=1_000_000)


def test_an_unknown_choice_is_refused_with_the_choices() -> None:
    with pytest.raises(OptionError, match="encoding: 'mp3' is not one of s16le, f32le, mulaw, alaw"):
        SessionOptions(encoding="mp3")  # type: ignore[arg-type]


def test_the_example_of_the_page_on_options_is_the_code_s() -> None:
    page = Path(__file__).parents[2] / "docs" / "extending" / "option.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert textwrap.indent(example, "    ") in inspect.getsource(SessionOptions)
