"""What docs/extending/voice_detector.md has readers write works as it is printed."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from streaming_asr.core.events import SpeechEnded, SpeechStarted
from streaming_asr.core.options import Encoding, OptionError, SessionOptions
from streaming_asr.core.session import Session
from streaming_asr.voice import detectors
from tests.support.fakes import CAPABILITIES, silence, speech

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "voice_detector.md"


def _written(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of this name, from the block of the page that has it."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (source,) = (block for block in blocks if f"class {name}" in block)
    module = ModuleType("written_by_a_reader")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(source, str(PAGE), "exec"), module.__dict__)
    return module.__dict__[name]


@pytest.mark.parametrize("name", ["LoudnessDetector", "LevelDetector"])
def test_the_page_s_detectors_hear_speech(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = _written(name, monkeypatch)
    with pytest.raises(OptionError, match="'new' is not one of"):
        detectors.make_detector(SessionOptions(vad="new"))
    factory = written if name == "LevelDetector" else lambda options: written()
    monkeypatch.setitem(detectors.DETECTORS, "new", factory)
    options = SessionOptions(vad="new", encoding=Encoding.F32LE)
    session = Session("s", options, CAPABILITIES, detectors.make_detector)
    room = np.random.default_rng(0).normal(0, 0.001, 16_000).astype(np.float32)
    events = session.receive(np.concatenate([room, speech(1), silence(1)]).tobytes(), 0.0)
    (started,) = (event for event in events if isinstance(event, SpeechStarted))
    (ended,) = (event for event in events if isinstance(event, SpeechEnded))
    assert started.start_ms == pytest.approx(1000, abs=40)
    assert ended.end_ms == pytest.approx(2000, abs=300)
