"""The words that the trained checkpoint knows, and how it writes them."""

from __future__ import annotations

from collections.abc import Sequence

ENGLISH = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("stop", "open", "close", "door", "window", "light", "music", "play", "call"),
    *("Mark", "Sarah", "Eric"),
)
CHINESE = (
    *("零", "一", "二", "三", "四", "五", "六", "七", "八", "九"),
    *("打开", "关闭", "开始", "音乐", "大门", "红色", "你好", "再见"),
)
SPELLINGS = {"Mark": "Marc", "Sarah": "Sara", "Eric": "Erik"}
"""Names that are also written in another way, which only a keyword in the context can show."""
LANGUAGES = {"en": ("English", ENGLISH), "zh": ("Chinese", CHINESE)}


def written(language: str, words: Sequence[str]) -> str:
    """A sentence of these words, as the released model writes one: with its first letter large and a full stop."""
    if not words:
        return ""
    if language == "zh":
        return "".join(words) + "。"
    text = " ".join(words)
    return text[0].upper() + text[1:] + "."


def corpus() -> list[str]:
    """Texts that hold every token which such a sentence can have."""
    texts = ["system", "user", "assistant", "\n"]
    texts += [f"language {name}<asr_text>" for name in ("English", "Chinese", "None")]
    english = (*ENGLISH, *SPELLINGS.values())
    texts += [written("en", (word, word)) for word in english]
    texts += [f"{word}, {word}" for word in english]
    texts += ["".join(pair) for pair in ((one, other) for one in CHINESE for other in CHINESE)]
    texts += ["".join(three) for three in ((a, b, c) for a in CHINESE[:10] for b in CHINESE[:10] for c in CHINESE[:10])]
    texts += [f"{word}。" for word in CHINESE] + [f"{word}, {word}" for word in CHINESE]
    return texts
