"""What docs/extending/turn_detector.md has readers write works as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from streaming_asr.core.events import SpeechEnded
from streaming_asr.core.options import Encoding, OptionError, SessionOptions
from streaming_asr.core.recognizer import Hypothesis
from streaming_asr.core.session import Session
from streaming_asr.turns import detectors
from tests.support.fakes import CAPABILITIES, FakeDetector, silence, speech

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "turn_detector.md"


def _written_detector() -> Any:
    (source,) = re.findall(r"```python\n(from .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(source, str(PAGE), "exec"), namespace)
    return namespace["SentenceTurns"]


@pytest.mark.parametrize(("text", "ended"), [("That is all.", True), ("That is", False), ("", False)])
def test_the_page_s_detector_decides_by_the_text(text: str, ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match="'new' is not one of silence"):
        detectors.make_turn_detector(SessionOptions(endpointing="new"))
    monkeypatch.setitem(detectors.TURN_DETECTORS, "new", _written_detector())
    options = SessionOptions(endpointing="new", encoding=Encoding.F32LE, withheld_words=0)
    session = Session(
        "s", options, CAPABILITIES, lambda _: FakeDetector(), make_turn_detector=detectors.make_turn_detector
    )
    session.receive(speech(1).tobytes(), 0.0)
    if text:
        demand = session.demand()
        assert demand is not None
        job = demand.take(1, 0.0)
        assert job is not None
        session.complete(1, Hypothesis(tokens=(1, 2), pieces=(text[:4], text[4:])), 0.0)
    session.receive(silence(0.4).tobytes(), 0.0)
    (question,) = session.take_questions()
    events = session.judged(question, question.answer(), 0.0)
    assert any(isinstance(event, SpeechEnded) for event in events) is ended


def test_by_default_silence_decides() -> None:
    assert detectors.make_turn_detector(SessionOptions()) is None
