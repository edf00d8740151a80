"""The multilingual default with its real weights: put together, detecting the language, in simplified characters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import opencc
import pytest
import soundfile

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context, DecodeJob, Hypothesis, Kind
from streaming_asr.core.scripts import lower_words
from streaming_asr.recognizers.common.repetition import find_loop
from streaming_asr.recognizers.whisper.chinese import simplified
from streaming_asr.recognizers.whisper.model import Draft
from streaming_asr.recognizers.whisper.recognizer import FasterWhisperRecognizer

SAID = "and mr john dashwood had then leisure to consider how much there might be prudently in his power to do for them"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FasterWhisperRecognizer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        recognizer = FasterWhisperRecognizer(device="cpu", workers=1)
        asyncio.run(recognizer.start())
    yield recognizer
    asyncio.run(recognizer.close())


def _decode(recognizer: FasterWhisperRecognizer, audio: Audio, kind: Kind = Kind.FINAL, **job: object) -> Hypothesis:
    return asyncio.run(recognizer.decode(DecodeJob(1, kind, "u", audio, **job)))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def english(librivox: Path) -> Audio:
    audio: Audio = soundfile.read(librivox / "sense_and_sensibility_01_0870.wav", dtype="float32")[0]
    return audio


def test_the_default_knows_99_languages(base: FasterWhisperRecognizer) -> None:
    assert base.capabilities.model == "base"
    assert len(base.capabilities.languages) == 99


def test_english_is_detected_and_its_words_have_times(base: FasterWhisperRecognizer, english: Audio) -> None:
    found = _decode(base, english, word_times=True)
    assert found.language == "en"
    assert found.language_probability is not None
    assert found.language_probability > 0.9
    assert " ".join(lower_words(found.text)) == SAID
    assert found.words is not None
    assert [lower_words(word.text)[0] for word in found.words] == SAID.split()
    starts = [word.start_ms for word in found.words]
    assert starts == sorted(starts)
    assert found.words[-1].end_ms <= 1000 * len(english) / SAMPLE_RATE


def _take_for(
    monkeypatch: pytest.MonkeyPatch, recognizer: FasterWhisperRecognizer, *languages: tuple[str, float]
) -> None:
    """Have it detect these languages, whatever is spoken."""
    assert recognizer._whisper is not None
    monkeypatch.setattr(recognizer._whisper, "detect_languages", lambda _: list(languages))


def test_a_final_in_a_wrong_language_is_decoded_in_the_next_likely_one(
    base: FasterWhisperRecognizer, english: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    _take_for(monkeypatch, base, ("de", 0.84), ("en", 0.13))
    found = _decode(base, english, word_times=True)
    assert (found.language, found.language_probability) == ("en", 0.13)
    assert " ".join(lower_words(found.text)) == SAID
    assert found.words is not None
    assert len(found.words) == len(SAID.split())
    assert found.cost.decodes == 2


def test_a_language_is_kept_whose_text_is_not_much_less_likely(
    base: FasterWhisperRecognizer, english: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    _take_for(monkeypatch, base, ("es", 0.6), ("it", 0.35))
    found = _decode(base, english)
    assert (found.language, found.language_probability) == ("es", 0.6)
    assert found.text == _decode(base, english, language="es").text


def test_a_short_partial_is_decoded_in_one_language_only(
    base: FasterWhisperRecognizer, english: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    _take_for(monkeypatch, base, ("de", 0.84), ("en", 0.13))
    short = _decode(base, english[: 2 * SAMPLE_RATE], Kind.PARTIAL)
    assert (short.language, short.cost.decodes) == ("de", 1)
    longer = _decode(base, english, Kind.PARTIAL)
    assert (longer.language, longer.unsure, longer.cost.decodes) == ("en", False, 2)


def test_a_prefix_and_keywords_are_kept_to(base: FasterWhisperRecognizer, english: Audio) -> None:
    whole = _decode(base, english)
    partial = _decode(base, english[: 4 * SAMPLE_RATE], Kind.PARTIAL, prefix=whole.tokens[:4], language="en")
    assert partial.tokens[:4] == whole.tokens[:4]
    context = Context(keywords=("Jon Dashwoode",))
    assert "Dashwoode" in _decode(base, english, context=context).text


def test_a_text_that_runs_in_a_loop_is_kept_once(base: FasterWhisperRecognizer) -> None:
    """On this noise the decoder repeats itself up to the length limit, with 30 s of encoder input too."""
    noise = np.random.default_rng(1).normal(0, 0.01, 2 * SAMPLE_RATE).astype(np.float32)
    found = _decode(base, noise, Kind.PARTIAL)
    assert find_loop(found.tokens) is None


def test_mandarin_is_written_in_simplified_characters(
    base: FasterWhisperRecognizer, english: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decoder's answer is given: there is no Mandarin speech here that it writes in traditional characters."""
    whisper = base._whisper
    assert whisper is not None
    tokens = tuple(whisper.prompt._text("廣州市房地產"))
    draft = Draft(tokens, (0.0,) * len(tokens), 0.0, 0.0, complete=True, prompt_tokens=4)
    monkeypatch.setattr(whisper, "generate", lambda *_, **__: draft)
    found = _decode(base, english, Kind.PARTIAL, language="zh")
    assert (found.text, found.tokens) == ("广州市房地产", tokens)
    assert len(found.pieces) == len(tokens)
    assert _decode(base, english, Kind.PARTIAL, language="ja").text == "廣州市房地產"


def test_pieces_are_converted_one_by_one() -> None:
    assert simplified(["乾", "淨", " OK", ""]) == ("干", "净", " OK", "")
    assert opencc.OpenCC("t2s").convert("乾坤") == "乾坤", "as a whole it would change with what follows"
