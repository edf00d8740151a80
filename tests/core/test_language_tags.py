"""Language tags in every spelling that clients have."""

from __future__ import annotations

import pytest

from streaming_asr.core.language_tags import find_known, language_of
from streaming_asr.recognizers.vllm.models.qwen3_languages import CODE_OF

WHISPER = ("de", "en", "fr", "haw", "he", "id", "jw", "nn", "no", "tl", "zh")


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        *[("en", "en"), ("EN", "en"), ("en-US", "en"), ("en_GB", "en"), ("en_GB.UTF-8", "en"), (" en ", "en")],
        *[("zh-Hans", "zh"), ("zh-Hant-TW", "zh"), ("zh-cmn-Hans-CN", "zh"), ("zh-yue", "yue"), ("yue-HK", "yue")],
        *[("eng", "en"), ("deu", "de"), ("ger", "de"), ("fre", "fr"), ("cmn", "zh"), ("chi", "zh"), ("por-BR", "pt")],
        *[("sr-Latn-RS", "sr"), ("es-419", "es"), ("haw", "haw"), ("fil-PH", "fil"), ("xx", "xx")],
        *[("auto", None), ("Auto", None), ("multi", None), ("", None), ("  ", None), ("und", None)],
    ],
)
def test_a_tag_is_reduced_to_its_language(tag: str, code: str | None) -> None:
    assert language_of(tag) == code


@pytest.mark.parametrize("tag", ["e", "english", "en US", "12", "en--US", "en-", "\u4e2d\u6587", "auto-en?"])
def test_what_is_not_a_tag_is_refused_with_what_is(tag: str) -> None:
    with pytest.raises(ValueError, match="en-US"):
        language_of(tag)


@pytest.mark.parametrize(
    ("code", "known"),
    [("jv", "jw"), ("jw", "jw"), ("iw", "he"), ("in", "id"), ("nb", "no"), ("nn", "nn"), ("fil", "tl"), ("yue", "zh")],
)
def test_a_recognizer_is_asked_by_its_own_code(code: str, known: str) -> None:
    assert find_known(code, WHISPER) == known


def test_a_language_that_a_recognizer_does_not_know_is_not_replaced() -> None:
    assert find_known("ja", WHISPER) is None
    assert find_known("yue", ("en", "yue", "zh")) == "yue"


@pytest.mark.parametrize("code", sorted({*CODE_OF.values(), *WHISPER}))
def test_the_codes_of_recognizers_stay_as_they_are(code: str) -> None:
    assert language_of(code) == code
    assert find_known(code, (code,)) == code
