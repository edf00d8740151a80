"""What docs/extending/annotator.md has readers write works as it is printed."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from streaming_asr.annotators import registry
from streaming_asr.core.annotations import Annotations
from streaming_asr.core.events import Final
from streaming_asr.core.options import SessionOptions
from tests.support.fakes import CAPABILITIES

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "annotator.md"


def _written_factory() -> Any:
    (source,) = re.findall(r"```python\n(from .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(source, str(PAGE), "exec"), namespace)
    return namespace["capitals"]


@pytest.mark.parametrize(("asked", "text"), [(True, "HELLO"), (False, "hello")])
def test_the_page_s_annotator_writes_in_capital_letters(
    asked: bool, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ANNOTATORS", (_written_factory(),))
    options: Any = SimpleNamespace(**dataclasses.asdict(SessionOptions()), capitals=asked)
    annotations = Annotations(0, registry.make_annotators(options, CAPABILITIES), recorded=False)
    (final,) = annotations.passed([Final(1, 0, "hello", "en", 0, 100, None, None)], 0.0)
    assert isinstance(final, Final)
    assert final.text == text


def test_by_default_there_is_none() -> None:
    assert registry.make_annotators(SessionOptions(), CAPABILITIES) == []
