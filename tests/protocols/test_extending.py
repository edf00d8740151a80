"""The example of docs/extending/protocol.md, as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from streaming_asr.core.events import Done, Final
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Audio, Close, Handshake, Stop
from tests.support.dialogue import Dialogue

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "protocol.md"


def test_the_example_works_and_so_does_its_test() -> None:
    protocol, _, test = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {
        **{kind.__name__: kind for kind in (Audio, Close, Dialogue, Done, Final, Handshake, SessionOptions, Stop)},
        "__name__": "lines",
    }
    exec(compile(protocol, str(PAGE), "exec"), names)
    exec(compile(test, str(PAGE), "exec"), names)
    names["test_each_utterance_is_a_line"]()
