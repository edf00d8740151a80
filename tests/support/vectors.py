"""Behaviour that the server, the Python clients and the browser's module share, from one description in
`tests/vectors/`."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "vectors"
MODULES = Path(__file__).parents[2] / "clients" / "browser"

_PARTS = (
    *("Hello", "world.", "don't", "ça", "«", "»", "?", "…", "—", "-->", "<b>", "&", "“", "”", "100", "²", "_", "😀"),
    *("안녕", "하세요.", "नमस्ते", "؟", "我", "用", "，", "。", "「", "」", "（", "）", "𠀀", "〇", "々", "ㄅㄚˋ"),
    *("ラーメン", "ちゃ", "ﾊﾞ", "สวัสดี", "เด็ก", "น้ำ", "๒๕", "ខ្មែរ", "မြန်မာ", "e\u0301", "x" * 90, "字" * 50),
    *(" ", " ", " ", " ", " ", " ", "  ", "\n"),
)


def load(name: str) -> dict[str, Any]:
    """A file of vectors."""
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def cases(name: str, section: str) -> list[dict[str, Any]]:
    """The cases of a file of vectors, under one of its headings."""
    found: list[dict[str, Any]] = load(name)[section]
    return found


def run_javascript(**cases: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """What `clients/browser` makes of each case, by kind: see `tests/vectors/run.mjs`. Runs the node of Playwright."""
    import playwright

    node = Path(playwright.__file__).parent / "driver" / "node"
    done = subprocess.run(
        [node, VECTORS / "run.mjs"],
        input=json.dumps({"modules": MODULES.as_uri(), **cases}),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    given: dict[str, list[Any]] = json.loads(done.stdout)
    return given


def random_final(chance: random.Random) -> dict[str, Any]:
    """A final as in the native protocol: text in any scripts, with words or without, whose times may be anything."""
    parts = chance.choices(_PARTS, k=chance.randrange(50))
    start_ms = chance.randrange(4_000_000)
    words = None
    if chance.random() < 0.5:
        words = []
        time_ms = start_ms
        for part in parts:
            if part.strip():
                begin_ms = time_ms + chance.randrange(-300, 900)
                time_ms = begin_ms + chance.randrange(800)
                speaker = chance.choice((None, 0, 0, 1))
                words.append({"text": part, "start_ms": begin_ms, "end_ms": time_ms, "speaker": speaker})
    return {
        "utterance": 1,
        "text": "".join(parts).strip(),
        "start_ms": start_ms,
        "time_ms": start_ms + chance.randrange(30_000),
        "words": words,
        "speaker": chance.choice((None, 0)),
    }
