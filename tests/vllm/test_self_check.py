"""A device that does not compute encoder windows as it must is used without them, and the log says so."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from streaming_asr.core.recognizer import Context, DecodeJob, Kind
from streaming_asr.doctor.engine import check_engine
from streaming_asr.recognizers.vllm import recognizer as recognizer_module
from streaming_asr.recognizers.vllm.models.base import Completion, Request, Verdict
from streaming_asr.recognizers.vllm.models.qwen3_asr import Qwen3ASR
from streaming_asr.recognizers.vllm.models.qwen3_audio import Form, Geometry
from streaming_asr.recognizers.vllm.models.qwen3_prompt import Qwen3Prompt
from streaming_asr.recognizers.vllm.recognizer import VllmRecognizer
from streaming_asr.recognizers.vllm.self_check import ENCODER_TOLERANCE, completions_apart, windows_apart
from tests.vllm.engine import LiveEngine, speech

BINS, WINDOW = 128, 800


class Encoder:
    """Mixes each frame with the mean of what it can attend to: its window, or what a broken kernel lets it see."""

    def __init__(self, sees: str = "window") -> None:
        self._sees = sees

    def __call__(self, features: torch.Tensor, frames: Sequence[int]) -> list[torch.Tensor]:
        reach = {"window": WINDOW, "item": max(frames), "call": sum(frames)}[self._sees]
        parts = features.T.split(reach)
        mixed = torch.cat([part + 3 * part.mean(dim=0) for part in parts])
        return list(mixed.split(list(frames)))


class Broken(Encoder):
    def __call__(self, features: torch.Tensor, frames: Sequence[int]) -> list[torch.Tensor]:
        outputs = super().__call__(features, frames)
        outputs[-1][-1] = float("nan") if len(frames) > 1 else 0.0
        return outputs


def test_windows_that_see_only_themselves_are_the_same_in_all_company() -> None:
    assert max(windows_apart(Encoder(), BINS, WINDOW)) < 1e-6


@pytest.mark.parametrize(("sees", "in_batch", "in_item"), [("item", False, True), ("call", True, True)])
def test_a_window_that_sees_its_neighbour_is_noticed(sees: str, in_batch: bool, in_item: bool) -> None:
    batch, item = windows_apart(Encoder(sees), BINS, WINDOW)
    assert (batch > 0.05, item > 0.05) == (in_batch, in_item)


def test_what_is_not_a_number_is_noticed() -> None:
    assert windows_apart(Broken(), BINS, WINDOW)[0] == float("inf")


def test_decodes_may_part_where_two_tokens_are_equally_probable() -> None:
    one = Completion((1, 2, 3), (-0.1, -0.7, -0.1), True)
    assert completions_apart(one, Completion((1, 4, 9), (-0.1, -0.7, -9.0), True)) == 0
    assert completions_apart(one, Completion((1, 4, 9), (-0.1, -0.2, -0.1), True)) == pytest.approx(0.5)
    assert completions_apart(one, Completion((1, 2, 3), (-0.1, float("nan"), -0.1), True)) == float("inf")


class Device:
    """Stands for an engine.

    Args:
        apart: of windows in one call and in one item, as a worker reports it.
        off: of a log-probability where the audio comes in several items.
    """

    def __init__(self, apart: tuple[float, float] = (0.0, 0.0), off: float = 0.0) -> None:
        self._apart = apart
        self._off = off
        self.items: list[int] = []

    async def ask_workers(self, method: str, *arguments: Any) -> list[tuple[float, float]]:
        return [(0.0, 0.0), self._apart]

    async def run(self, request: Request) -> Completion:
        names = request.prompt["multi_modal_uuids"]["audio"]
        self.items.append(len(names))
        return Completion((5,), (-0.5 - (self._off if len(names) > 1 else 0.0),), True)


@pytest.fixture
def model(tiny_qwen3_asr: Path) -> Qwen3ASR:
    template = str(json.loads((tiny_qwen3_asr / "chat_template.json").read_text())["chat_template"])
    prompt = Qwen3Prompt(AutoTokenizer.from_pretrained(tiny_qwen3_asr), template)
    return Qwen3ASR(prompt, Geometry(BINS, WINDOW), max_model_len=8192, form=Form.FEATURES, max_items=4)


@pytest.mark.parametrize(
    ("device", "dtype", "works", "line"),
    [
        (Device(), "float32", True, "differ by 0"),
        (Device((0.01, 0.01), off=0.1), "bfloat16", True, "differ by 0.01"),
        (Device((0.4, 0.001)), "bfloat16", False, "by 0.4 in one call and by 0.001 in one item"),
        (Device((0.001, 0.3)), "bfloat16", False, "by 0.001 in one call and by 0.3 in one item"),
        (Device(off=0.1), "float32", False, "log-probabilities that differ by 0.1 from those of the whole clip"),
        (Device(off=0.9), "float16", False, "log-probabilities that differ by 0.9"),
    ],
)
def test_a_device_that_differs_gets_whole_audio(
    model: Qwen3ASR, device: Device, dtype: str, works: bool, line: str, librivox: Path
) -> None:
    verdict = asyncio.run(model.check(device.run, device.ask_workers, dtype))
    assert verdict is not None
    assert (verdict.works, line in verdict.detail) == (works, True), verdict.detail
    device.items.clear()
    audio = speech(librivox, 20)
    asyncio.run(model.decode(DecodeJob(1, Kind.FINAL, "one", audio, Context(), "en"), device.run))
    assert device.items == [3 if works else 1]
    # Four windows of 8 s are no bound any more.
    assert (model.max_audio_s > 32) is not works


def test_a_device_that_can_not_be_asked_keeps_its_windows(model: Qwen3ASR) -> None:
    async def ask_workers(method: str, *arguments: Any) -> list[Any]:
        raise AttributeError(method)

    verdict = asyncio.run(model.check(Device().run, ask_workers, "bfloat16"))
    assert verdict is not None
    assert verdict.works is None
    assert model.form is Form.FEATURES


def test_the_real_engine_passes(engine: LiveEngine) -> None:
    verdict = engine.recognizer.verdict
    assert verdict is not None
    assert verdict.works, verdict.detail
    assert engine.model.form is Form.FEATURES


def test_the_real_encoder_differs_where_a_window_sees_its_neighbour(engine: LiveEngine) -> None:
    llm = engine.recognizer._engine.llm if engine.recognizer._engine is not None else None
    assert llm is not None
    # Half a window attends to its other half, as whole windows must not.
    (answer,) = engine.call(llm.collective_rpc("streaming_asr_windows_apart", args=(BINS, WINDOW // 2)))
    batch, item = answer
    assert batch < 1e-4
    assert item > ENCODER_TOLERANCE


class Slow:
    """A model whose check takes too long, on an engine that is not asked."""

    async def check(self, *_: Any) -> Verdict:
        await asyncio.Event().wait()
        raise AssertionError


def test_the_check_has_its_time(engine: LiveEngine, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr(recognizer_module, "LIMIT_S", 0.01)
    before = engine.recognizer.verdict
    with caplog.at_level(logging.WARNING):
        engine.call(engine.recognizer._check(Slow()))  # type: ignore[arg-type]
    engine.recognizer.verdict = before
    assert "Self-check without a result: it took longer than" in caplog.text


class Started(VllmRecognizer):
    """One whose engine is that of the other tests."""

    lent: LiveEngine

    async def start(self) -> None:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self.lent._loop))
        self._capabilities = self.lent.recognizer.capabilities

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("verdict", "works", "line"),
    [
        (Verdict("all is equal", True), True, "Self-check passed: all is equal."),
        (Verdict("windows differ", False), False, "Self-check failed: windows differ."),
        (Verdict("no answer", None), True, "Self-check without a result: no answer."),
        (None, True, "this model has none"),
    ],
)
def test_the_doctor_says_what_came_of_it(engine: LiveEngine, verdict: Verdict | None, works: bool, line: str) -> None:
    def make(model: str, options: Sequence[str]) -> VllmRecognizer:
        recognizer = Started(model, options)
        recognizer.lent, recognizer.verdict = engine, verdict
        return recognizer

    passed, lines = check_engine("any", [], make)
    assert passed is works
    assert "decodes on" in lines[0]
    assert line in lines[1]


def test_the_doctor_says_why_an_engine_did_not_start(tmp_path: Path) -> None:
    passed, (line,) = check_engine(str(tmp_path), [])
    assert not passed
    assert line.startswith(f"Engine: it did not start: {tmp_path}")
