"""The forced aligner under vLLM: a second engine beside the recognizer's, with small weights."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from transformers import WhisperFeatureExtractor
from transformers.models.qwen3_asr.configuration_qwen3_asr import Qwen3ASRConfig
from transformers.models.qwen3_asr.modeling_qwen3_asr import Qwen3ASRForTokenClassification

from streaming_asr.core.recognizer import (
    SAMPLE_RATE,
    Audio,
    DecodeJob,
    Kind,
    RecognizerUnavailable,
    TimesFrom,
    Word,
)
from streaming_asr.recognizers.vllm import recognizer as recognizer_module
from streaming_asr.recognizers.vllm import word_aligner
from streaming_asr.recognizers.vllm.engine import SupervisedEngine
from streaming_asr.recognizers.vllm.health import RestartPolicy
from streaming_asr.recognizers.vllm.models.base import Classification
from streaming_asr.recognizers.vllm.models.qwen3_aligner import LEAST_SHARE
from streaming_asr.recognizers.vllm.models.qwen3_audio import audio_tokens
from streaming_asr.recognizers.vllm.recognizer import VllmRecognizer
from streaming_asr.recognizers.vllm.word_aligner import VllmWordAligner
from tests.vllm.engine import OPTIONS, LiveEngine, engine_processes, speech, until
from tests.vllm.tiny_aligner import CLASSES, STEP_MS, ends, make_aligner

STARTS = {"a": 5, "b": 25, "c": 40, "d": 55}
ALIGNER, ESTIMATE = TimesFrom.ALIGNER, TimesFrom.ESTIMATE


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small aligner in which each of four words has its time."""
    return make_aligner(tmp_path_factory.mktemp("aligner"), STARTS)


@pytest.fixture(scope="module")
def aligner(engine: LiveEngine, checkpoint: Path) -> Iterator[VllmWordAligner]:
    """The real engine with that checkpoint, on the loop of the recognizer's."""
    options = (*OPTIONS, "--kv-cache-memory-bytes=64M", "--max-num-seqs=1", "--max-model-len=4096")
    # One at a time, so that the order shows.
    aligner = VllmWordAligner(str(checkpoint), options, restarts=RestartPolicy(first_wait_s=0.1))
    engine.call(aligner.start())
    yield aligner
    engine.call(aligner.close())


def noise(seconds: float) -> Audio:
    return np.random.default_rng(1).normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32)


def times(words: tuple[Word, ...] | None) -> list[tuple[str, int, int]]:
    assert words is not None
    return [(word.text, word.start_ms, word.end_ms) for word in words]


def test_each_word_has_the_times_that_the_model_gave_it(engine: LiveEngine, aligner: VllmWordAligner) -> None:
    words = engine.call(aligner.align(noise(6), "“a b?” c... d!", "en"))
    expected = zip(["“a", "b?”", "c...", "d!"], STARTS.values(), ends(list(STARTS.values())), strict=True)
    assert times(words) == [(word, STEP_MS * start, STEP_MS * end) for word, start, end in expected]
    assert {word.times_from for word in words or ()} == {ALIGNER}


def test_times_are_put_in_order_and_within_the_audio(engine: LiveEngine, aligner: VllmWordAligner) -> None:
    # Each word has the values for its place in another text: the times go back, and beyond the end.
    words = engine.call(aligner.align(noise(3), "b a c d", "en"))
    flat = [time for _, start, end in times(words) for time in (start, end)]
    assert flat == sorted(flat)
    assert flat[-1] <= 3000 + STEP_MS
    assert ESTIMATE in {word.times_from for word in words or ()}


def test_audio_and_text_have_bounds(engine: LiveEngine, aligner: VllmWordAligner) -> None:
    failed = aligner.failed
    assert engine.call(aligner.align(noise(0.01), "a", "en")) is not None
    assert engine.call(aligner.align(noise(60), "a b " * 300, "en")) is not None
    assert engine.call(aligner.align(noise(301), "a", "en")) is None
    assert engine.call(aligner.align(noise(60), "a b " * 1000, "en")) is None
    assert engine.call(aligner.align(noise(1), "?!", "en")) == ()
    assert aligner.failed == failed + 2
    assert aligner.ready


def test_finals_overtake_texts_that_may_go_on(engine: LiveEngine, aligner: VllmWordAligner) -> None:
    assert aligner._model is not None
    # A long text, which takes the engine longer than all before it.
    question = aligner._model.prepare(noise(1), "a b c d " * 300, "en").question
    order: list[int] = []

    async def ask(priority: int) -> None:
        assert aligner._engine is not None
        await aligner._engine.classify(question, priority)
        order.append(priority)

    async def crowd() -> None:
        early = [asyncio.create_task(ask(word_aligner.EARLY)) for _ in range(12)]
        await until(lambda: bool(order))
        await asyncio.gather(*early, *(ask(word_aligner.FINAL) for _ in range(2)))

    engine.call(crowd())
    assert len(order) == 14
    # The engine does one at a time; by itself it would have done them last.
    assert word_aligner.FINAL not in order[-3:]


def test_alignments_that_are_given_up_leave_the_engine(engine: LiveEngine, aligner: VllmWordAligner) -> None:
    assert aligner._stats is not None
    late, aligned, steps = aligner.late, aligner.aligned, aligner._stats.steps

    async def give_up() -> None:
        tasks = [asyncio.create_task(aligner.align(noise(60), "a b c d", "en")) for _ in range(12)]
        await until(lambda: aligner.aligned > aligned)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await aligner.align(noise(1), "a", "en") is not None

    engine.call(give_up())
    assert aligner.late - late + aligner.aligned - aligned == 12 + 1
    assert aligner._stats.steps - steps < 12
    assert aligner.gauges()["aligner_waiting_finals"] == 0


def test_no_more_wait_than_there_is_room_for(
    engine: LiveEngine, aligner: VllmWordAligner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_aligner, "MAX_WAITING", 2)
    refused = aligner.refused

    async def crowd() -> list[tuple[Word, ...] | None]:
        return await asyncio.gather(*(aligner.align(noise(1), "a", "en") for _ in range(5)))

    assert [words is None for words in engine.call(crowd())] == [False] * 2 + [True] * 3
    assert aligner.refused == refused + 3


def test_its_death_does_not_touch_the_recognizer_and_it_comes_back(
    engine: LiveEngine, aligner: VllmWordAligner, checkpoint: Path, librivox: Path
) -> None:
    audio = speech(librivox, 7)
    job = DecodeJob(id=1, kind=Kind.FINAL, utterance="beside", audio=audio, language="en")
    before = engine.call(engine.recognizer.decode(job))
    mine = {process.pid for process in aligner._engine._processes._own} if aligner._engine is not None else set()
    others = [process for process in engine_processes(os.getpid()) if process.pid not in mine]
    others = [process for process in others if process.ppid() not in mine]
    assert mine
    engine.health.clear()
    # The engine that is started next has other weights, all random: what comes out depends on each of them, and on the
    # audio.
    make_aligner(checkpoint)

    async def die() -> tuple[Word, ...] | None:
        for pid in mine:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not aligner.ready)
        return await aligner.align(audio, "a b", "en")

    assert engine.call(die()) is None
    assert engine.call(engine.recognizer.decode(job)).tokens == before.tokens
    engine.call(until(lambda: aligner.ready, 600.0))
    assert all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in others)
    assert engine.health == []

    assert aligner._model is not None
    assert aligner._engine is not None
    alignment = aligner._model.prepare(audio, "the sun and the north wind a man said", "en")
    answer = engine.call(aligner._engine.classify(alignment.question, 0))
    assert len(answer) == 2 * 9
    assert len(set(answer)) > 3
    assert list(answer) == transformers_answer(checkpoint, audio, alignment.question)


def transformers_answer(checkpoint: Path, audio: Audio, question: Classification) -> list[int]:
    """What Transformers' own version of the model makes of a prompt."""
    config = json.loads((checkpoint / "config.json").read_text())
    thinker = config["thinker_config"]
    encoder = {name: value for name, value in thinker["audio_config"].items() if name != "model_type"}
    text = dict(thinker["text_config"])
    del text["rope_scaling"]
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": text.pop("rope_theta")}
    model = Qwen3ASRForTokenClassification(
        Qwen3ASRConfig(
            audio_config=encoder, text_config=text, audio_token_id=thinker["audio_token_id"], num_labels=CLASSES
        )
    )
    weights = load_file(checkpoint / "model.safetensors")
    for old, new in (
        ("thinker.audio_tower.proj", "model.multi_modal_projector.linear_"),
        ("thinker.audio_tower.", "model.audio_tower."),
        ("thinker.model.", "model.language_model."),
        ("thinker.lm_head.", "score."),
    ):
        weights = {name.replace(old, new): weight for name, weight in weights.items()}
    unknown = model.load_state_dict(weights, strict=False)
    assert not unknown.unexpected_keys
    assert all("positional_embedding" in name for name in unknown.missing_keys)
    extractor = WhisperFeatureExtractor.from_pretrained(checkpoint)
    features = extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt", padding=True, truncation=False)
    features = features["input_features"][:, :, : len(audio) // 160]
    frames = features.shape[-1]
    mask = torch.nn.functional.pad(torch.ones((1, frames), dtype=torch.long), (0, -frames % 100))
    pad = question.prompt["prompt_token_ids"].index(thinker["audio_token_id"])
    ids = [*question.prompt["prompt_token_ids"]]
    ids[pad : pad + 1] = [thinker["audio_token_id"]] * audio_tokens(frames)
    with torch.inference_mode():
        scores = model.eval()(
            input_ids=torch.tensor([ids]),
            input_features=torch.nn.functional.pad(features, (0, -frames % 100)),
            input_features_mask=mask,
        ).logits[0]
    places = [n for n, token in enumerate(ids) if token == question.token]
    return [int(one) for one in scores[places][:, list(question.classes)].argmax(dim=-1)]


class Process(multiprocessing.Process):
    """As vLLM's, but does nothing."""

    def __init__(self) -> None:
        super().__init__(target=time.sleep, args=(60,), name="EngineCore", daemon=True)


def test_closing_one_engine_leaves_the_processes_of_another() -> None:
    class LLM:
        errored = False
        output_handler = None

        def __init__(self) -> None:
            self.process = Process()
            self.process.start()

        def shutdown(self) -> None:
            """A dead engine leaves its processes behind."""

    async def scenario() -> None:
        first, second = SupervisedEngine(LLM, RestartPolicy()), SupervisedEngine(LLM, RestartPolicy())
        await first.start()
        await second.start()
        one, other = first.llm.process, second.llm.process
        await first.close()
        assert (one.is_alive(), other.is_alive()) == (False, True)
        await second.close()
        assert not other.is_alive()

    asyncio.run(scenario())


def test_a_checkpoint_of_the_other_kind_is_refused_with_the_right_option(
    tiny_qwen3_asr: Path, checkpoint: Path
) -> None:
    with pytest.raises(RecognizerUnavailable, match="not a word aligner such as Qwen/Qwen3-ForcedAligner"):
        asyncio.run(VllmWordAligner(str(tiny_qwen3_asr)).start())
    with pytest.raises(RecognizerUnavailable, match="give it as --word-aligner"):
        asyncio.run(VllmRecognizer(str(checkpoint)).start())


def test_the_recognizer_leaves_device_memory_for_an_aligner(
    tiny_qwen3_asr: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    def note(arguments: Any, stats: Any) -> Any:
        shares.append(arguments.gpu_memory_utilization)

    monkeypatch.setattr(recognizer_module, "engine_builder", note)
    monkeypatch.setattr(word_aligner, "engine_builder", note)
    aligner = VllmWordAligner(str(checkpoint))
    VllmRecognizer(str(tiny_qwen3_asr), aligner=aligner)._prepare()
    VllmRecognizer(str(tiny_qwen3_asr), ["--gpu-memory-utilization=0.7"], aligner=aligner)._prepare()
    aligner._prepare()
    assert shares == [recognizer_module.SHARE_BESIDE_ALIGNER, 0.7, LEAST_SHARE]
