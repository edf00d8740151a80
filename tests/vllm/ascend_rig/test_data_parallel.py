"""Two engines on two devices behind one recognizer: an utterance stays on one of them, where its windows are cached."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, DecodeJob, Hypothesis, Kind
from streaming_asr.recognizers.vllm.affinity import Affinity
from streaming_asr.recognizers.vllm.models import qwen3_asr
from tests.vllm.engine import LiveEngine, speech

SPEAKERS = 3
SECONDS = range(3, 31)
WINDOW = 104

_ids = itertools.count(1)


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted is what comes before the first token; random weights say a lot."""
    monkeypatch.setattr(qwen3_asr, "TOKENS_PER_S", 0)
    monkeypatch.setattr(qwen3_asr, "SPARE_TOKENS", 4)


@pytest.fixture(scope="module")
def two(tiny_qwen3_asr: Path) -> Iterator[LiveEngine]:
    options = ("--max-model-len=4096", "--max-num-seqs=16", "--data-parallel-size=2")
    with LiveEngine(tiny_qwen3_asr, *options) as live:
        yield live


def test_two_engines_say_what_one_says_and_encode_no_window_twice(
    engine: LiveEngine, two: LiveEngine, librivox: Path, encoded: Callable[[], list[list[int]]]
) -> None:
    assert two.recognizer.capabilities.device == "2 x npu, float32"
    encoded()
    expected, found_by_one = talk(engine, librivox, "one")
    positions = total(encoded())
    said, found = talk(two, librivox, "two")
    assert [one.tokens for one in said] == [one.tokens for one in expected]
    assert total(encoded()) == positions
    assert found == found_by_one


def test_requests_that_go_anywhere_encode_windows_again(
    two: LiveEngine, librivox: Path, encoded: Callable[[], list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded()
    _, found = talk(two, librivox, "kept")
    positions = total(encoded())
    # As vLLM spreads them by itself.
    monkeypatch.setattr(two.recognizer, "_affinity", None)
    _, found_anywhere = talk(two, librivox, "spread")
    assert total(encoded()) > positions + WINDOW
    assert found_anywhere < found


def test_utterances_are_forgotten_once_they_are_released(two: LiveEngine) -> None:
    assert isinstance(two.recognizer._affinity, Affinity)
    assert not two.recognizer._affinity._utterances


def talk(engine: LiveEngine, folder: Path, name: str) -> tuple[list[Hypothesis], int]:
    """Speakers whose partials come at once, in another order each time.

    Returns:
        All hypotheses, and the positions that were found in the prefix caches.
    """
    recordings = [speaker(folder, number) for number in range(SPEAKERS)]

    def job(number: int, seconds: int, kind: Kind) -> DecodeJob:
        audio = recordings[number][: int((seconds + 0.3 * number) * SAMPLE_RATE)]
        return DecodeJob(id=next(_ids), kind=kind, utterance=f"{name} {number}", audio=audio, language="en")

    async def everyone() -> list[Hypothesis]:
        said = []
        for seconds in SECONDS:
            kind = Kind.FINAL if seconds == SECONDS[-1] else Kind.PARTIAL
            order = [(seconds + n) % SPEAKERS for n in range(SPEAKERS)]
            jobs = [job(number, seconds, kind) for number in order]
            said += await asyncio.gather(*map(engine.recognizer.decode, jobs))
        for number in range(SPEAKERS):
            engine.recognizer.release(f"{name} {number}")
        return said

    said = engine.call(everyone())
    return said, sum(one.cost.cached_tokens for one in said)


def speaker(folder: Path, number: int) -> Audio:
    audio = speech(folder, 34 + 5 * number)[5 * number * SAMPLE_RATE :]
    audio[2 * SAMPLE_RATE :] *= 0.2
    return audio


def total(passes: list[list[int]]) -> int:
    """Positions that came out of the encoders."""
    return sum(map(sum, passes))
