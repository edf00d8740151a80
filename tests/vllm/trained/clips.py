"""Writes the clips that the tests send: sentences of the vocabulary in voices that the weights were not trained on.

python -m tests.vllm.trained.clips
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from streaming_asr.core.recognizer import SAMPLE_RATE
from tests.vllm.trained.synthesis import Voice, speak

FOLDER = Path(__file__).parent / "clips"
SLOW_WORDS = 6
"""A sentence of this many words is spoken slowly, for partials to come."""
SENTENCES = (
    ("en", "en-us+f3", "seven open door"),
    ("en", "en-gb-x-rp+m5", "call Mark"),
    ("en", "en-us+Annie", "play music nine zero two"),
    ("en", "en+steph3", "close window light stop"),
    ("zh", "cmn+f3", "打开 音乐 七"),
    ("zh", "cmn+m5", "关闭 大门 红色"),
    ("zh", "cmn+linda", "你好 红色 三 八"),
    ("zh", "cmn+pablo", "开始 再见"),
    ("en", "en-us+f3", "open door play music call Sarah"),
)


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    lines = []
    for n, (language, voice, text) in enumerate(SENTENCES):
        words = text.split()
        spoken = speak(words, Voice(voice, rate=130, gap=8) if len(words) >= SLOW_WORDS else Voice(voice, rate=150))
        audio = spoken.audio * (0.08 / np.sqrt(np.mean(spoken.audio**2)))
        name = f"{n}-{language}.flac"
        soundfile.write(FOLDER / name, audio.clip(-1, 1), SAMPLE_RATE, subtype="PCM_16")
        lines.append({"path": name, "language": language, "voice": voice, "words": words})
    (FOLDER / "manifest.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


if __name__ == "__main__":
    write()
