"""The languages of Qwen3-ASR: its own English names and ISO 639 codes."""

from __future__ import annotations

CODE_OF = {
    "Chinese": "zh",
    "English": "en",
    "Cantonese": "yue",
    "Arabic": "ar",
    "German": "de",
    "French": "fr",
    "Spanish": "es",
    "Portuguese": "pt",
    "Indonesian": "id",
    "Italian": "it",
    "Korean": "ko",
    "Russian": "ru",
    "Thai": "th",
    "Vietnamese": "vi",
    "Japanese": "ja",
    "Turkish": "tr",
    "Hindi": "hi",
    "Malay": "ms",
    "Dutch": "nl",
    "Swedish": "sv",
    "Danish": "da",
    "Finnish": "fi",
    "Polish": "pl",
    "Czech": "cs",
    "Filipino": "fil",
    "Persian": "fa",
    "Greek": "el",
    "Romanian": "ro",
    "Hungarian": "hu",
    "Macedonian": "mk",
}
"""ISO 639-1 code of each name, 639-3 where there is no such code."""

NAME_OF = {code: name for name, code in CODE_OF.items()}

# fmt: off
_CHINESE_DIALECTS = frozenset((
    "Anhui", "Dongbei", "Fujian", "Gansu", "Guizhou", "Hebei", "Henan", "Hubei", "Hunan", "Jiangxi", "Mandarin",
    "Minnan", "Ningxia", "Shaanxi", "Shandong", "Shanxi", "Sichuan", "Tianjin", "Wu", "Yunnan", "Zhejiang",
))
# fmt: on
"""Dialects whose parent the model writes as Chinese."""


def code_of(name: str) -> str | None:
    """Code of a language or, for a dialect, of its parent; None for a name that is not known.

    Takes the model's spellings: ``English``, ``Sichuan``, ``Wu language``, ``Cantonese (Hong Kong accent)``.
    """
    name = name.split("(")[0].strip().removesuffix("language").removesuffix("dialect").strip().capitalize()
    return CODE_OF.get(name) or ("zh" if name in _CHINESE_DIALECTS else None)
