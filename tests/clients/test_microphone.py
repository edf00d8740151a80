"""The microphone, with a fake of sounddevice: what is chosen, and the errors if there is none."""

from __future__ import annotations

import asyncio
import builtins
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import soundfile

from clients import file, mic
from clients.level import FLOOR_DB, LevelMeter
from clients.microphone import QUEUE_BLOCKS, Microphone, MicrophoneError, input_devices
from clients.options import session_options
from tests.support.fake_sounddevice import FakeSounddevice, loudspeaker, microphone

T = TypeVar("T")
Install = Callable[[FakeSounddevice], FakeSounddevice]


def run(awaitable: Awaitable[T]) -> T:
    async def bounded() -> T:
        return await asyncio.wait_for(awaitable, 20)

    return asyncio.run(bounded())


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    def put(sound: FakeSounddevice) -> FakeSounddevice:
        monkeypatch.setitem(sys.modules, "sounddevice", sound)
        return sound

    return put


def made(device: int | str | None = None) -> Microphone:
    async def make() -> Microphone:
        return Microphone(device)

    return run(make())


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says when it can't listen."""
    assert mic.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


def test_no_portaudio_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real_import = builtins.__import__

    def import_without_portaudio(name: str, *rest: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real_import(name, *rest)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", import_without_portaudio)
    monkeypatch.setattr(sys, "platform", "linux")
    assert "apt-get install libportaudio2" in refusal(capsys)
    assert "PortAudio library not found" in refusal(capsys, "--list-devices")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "brew install portaudio" in refusal(capsys)


def test_no_sounddevice_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "pip install 'streaming-asr[mic]'" in refusal(capsys)


def test_no_microphone_is_reported(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(FakeSounddevice(devices=[loudspeaker()], default_input=-1))
    assert "No microphone was found" in refusal(capsys)
    assert mic.main(["--list-devices"]) == 1
    assert capsys.readouterr().err == "No microphone was found.\n"


def test_microphones_but_no_default_says_how_to_choose(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(FakeSounddevice(default_input=-1))
    assert "--device" in refusal(capsys)


@pytest.mark.parametrize("device", ["nonsense", "7", "0", "fake"])
def test_a_device_that_is_no_microphone_is_reported(
    install: Install, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    install(FakeSounddevice(devices=[loudspeaker(), microphone(), microphone("Fake headset")]))
    said = refusal(capsys, "--device", device)
    assert "No microphone fits" in said
    assert "--list-devices" in said


def test_a_microphone_that_is_in_use_is_reported(install: Install) -> None:
    install(FakeSounddevice(refuses_to_open=True))

    async def start() -> None:
        Microphone().start()

    with pytest.raises(MicrophoneError, match="Fake microphone can't be opened: Device unavailable"):
        run(start())


def test_devices_are_listed_with_the_default_marked(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(FakeSounddevice(devices=[loudspeaker(), microphone(), microphone("Fake headset", 16_000.0, 1)]))
    assert [(device.index, device.name, device.default) for device in input_devices()] == [
        (1, "Fake microphone", True),
        (2, "Fake headset", False),
    ]
    assert mic.main(["--list-devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["*", "1", "Fake", "microphone", "Fake", "sound", "2", "48000"]
    assert lines[2].split() == ["2", "Fake", "headset", "Fake", "sound", "1", "16000"]


@pytest.mark.parametrize(
    ("gives", "chosen"),
    [
        ({(16_000, 1), (48_000, 1)}, (16_000, 1)),
        ({(48_000, 1), (48_000, 2)}, (48_000, 1)),
        ({(48_000, 2)}, (48_000, 2)),
        ({(16_000, 2), (48_000, 2)}, (16_000, 2)),
    ],
)
def test_the_rate_is_16_khz_where_the_device_gives_it(
    install: Install, gives: set[tuple[int, int]], chosen: tuple[int, int]
) -> None:
    install(FakeSounddevice(settings=gives))
    found = made("micro")
    assert (found.rate, found.channels) == chosen


def test_a_device_without_any_usable_rate_is_reported(install: Install) -> None:
    install(FakeSounddevice(settings={(192_000, 8)}))
    with pytest.raises(MicrophoneError, match="16000 Hz with 1 channels, 48000 Hz with 1 channels"):
        made()


def test_the_audio_is_what_was_said(install: Install, tmp_path: Path) -> None:
    said = np.arange(-4000, 4000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", said, 16_000)
    sound = install(FakeSounddevice(records=tmp_path / "a.wav"))

    async def listen() -> bytes:
        device = Microphone()
        device.start()
        recorded = b""
        async for block in device:
            recorded += block
            if len(recorded) >= 9 * 1600:
                device.close()
        return recorded

    recorded = np.frombuffer(run(listen()), np.int16)
    assert np.abs(recorded[:7200].astype(int) - said[:7200]).max() <= 1
    assert sound.streams[0].closed


def test_a_microphone_that_is_pulled_out_is_reported(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clients.microphone.SILENT_S", 0.05)
    install(FakeSounddevice(silence_after=False))

    async def listen() -> None:
        device = Microphone()
        device.start()
        await anext(device)

    with pytest.raises(MicrophoneError, match="was it unplugged"):
        run(listen())


def test_what_is_not_read_in_time_is_lost_and_counted(install: Install) -> None:
    install(FakeSounddevice())

    async def listen() -> tuple[int, int]:
        device = Microphone()
        for _ in range(QUEUE_BLOCKS + 7):
            device._on_block(bytes(1600), 800, None, None)
        device.close()
        return len([block async for block in device]), device.overflows

    assert run(listen()) == (QUEUE_BLOCKS, 7)


def test_overflows_of_the_device_are_counted(install: Install) -> None:
    install(FakeSounddevice(overflows=True))

    async def listen() -> int:
        device = Microphone()
        device.start()
        await anext(device)
        device.close()
        return device.overflows

    assert run(listen()) >= 1


def test_the_meter_rises_at_once_and_falls_slowly() -> None:
    meter = LevelMeter(32_000)
    assert meter.level_db == FLOOR_DB
    meter.push(np.full(1600, 16_384, "<i2").tobytes())
    assert meter.level_db == pytest.approx(-6.0, abs=0.1)
    meter.push(bytes(3200))
    assert meter.level_db == pytest.approx(-10.0, abs=0.1)
    assert meter.silent_s == pytest.approx(0.1)
    for _ in range(50):
        meter.push(bytes(3200))
    assert meter.level_db == FLOOR_DB
    meter.push(np.full(1600, 32_767, "<i2").tobytes())
    assert meter.level_db == pytest.approx(0, abs=0.01)
    assert meter.silent_s == 0


def test_a_number_that_is_not_whole_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("soon", "0.5", "inf", "nan"):
        with pytest.raises(SystemExit):
            mic._parser().parse_args(["--endpoint-ms", wrong])
        assert f"{wrong!r} is not a whole number" in capsys.readouterr().err


def test_the_mic_asks_for_whole_sentences_unless_another_profile_is_given() -> None:
    assert session_options(mic._parser().parse_args([])) == {"profile": "captions"}
    given = mic._parser().parse_args(["--profile", "agent", "--endpoint-ms", "600"])
    assert session_options(given) == {"profile": "agent", "endpoint_ms": 600}
    assert session_options(file._parser().parse_args(["a.wav"])) == {}
