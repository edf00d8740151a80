"""Audio files of many formats, and their pacing."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from clients.audio_file import AudioFile, UnreadableAudio, open_audio
from clients.pacing import at_real_time


@pytest.fixture
def clip(librivox: Path) -> Path:
    return sorted(librivox.glob("*.wav"))[0]


def tone(seconds: float, rate: int, hz: float = 440.0) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def read(path: Path, **options: bool) -> tuple[AudioFile, NDArray[np.int16]]:
    with open_audio(path, **options) as audio:  # type: ignore[arg-type]
        return audio, np.frombuffer(b"".join(audio.pieces), "<i2").reshape(-1, audio.channels)


def encode(path: Path, codec: str, samples: NDArray[np.float32], rate: int, layout: str = "mono") -> Path:
    """Write interleaved float samples, shape ``[n]`` or ``[1, n * channels]``, with PyAV."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=layout)
        frame.rate = rate
        fifo = av.AudioFifo()
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            fifo.write(piece)
        while (block := fifo.read(stream.codec_context.frame_size or 1024, partial=True)) is not None:
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return path


def test_16_bit_audio_comes_through_unchanged(clip: Path) -> None:
    audio, samples = read(clip)
    expected, rate = soundfile.read(clip, dtype="int16", always_2d=True)
    assert (audio.rate, audio.channels) == (rate, 1)
    assert audio.duration_s == pytest.approx(len(expected) / rate)
    assert np.array_equal(samples, expected)


def test_pieces_have_the_length_asked_for(clip: Path) -> None:
    with open_audio(clip, piece_ms=70) as audio:
        sizes = [len(piece) for piece in audio.pieces]
    assert set(sizes[:-1]) == {2 * 1120}
    assert 0 < sizes[-1] <= 2 * 1120


@pytest.mark.parametrize(
    ("name", "codec", "rate"), [("a.m4a", "aac", 44_100), ("a.webm", "libopus", 48_000), ("a.mkv", "ac3", 48_000)]
)
def test_what_soundfile_does_not_read_pyav_does(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    audio, samples = read(encode(tmp_path / name, codec, tone(2, rate), rate))
    assert (audio.rate, audio.channels) == (rate, 1)
    assert len(samples) / rate == pytest.approx(2, abs=0.1)
    middle = samples[rate // 2 : rate, 0] / 32768
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "mp3", "aiff"])
def test_formats_of_soundfile(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, tone(1, 16_000), 16_000)
    audio, samples = read(path)
    assert audio.rate == 16_000
    assert len(samples) / 16_000 == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("own", "sent"), [(8_000, 8_000), (48_000, 48_000), (96_000, 16_000), (4_000, 16_000)])
def test_rates_that_the_server_does_not_take_are_changed(tmp_path: Path, own: int, sent: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1, own), own)
    audio, samples = read(tmp_path / "a.wav")
    assert audio.rate == sent
    assert len(samples) == pytest.approx(sent, abs=2)
    spectrum = np.abs(np.fft.rfft(samples[:, 0]))
    assert np.argmax(spectrum) * sent / len(samples) == pytest.approx(440, abs=2)


def test_channels_are_mixed_or_kept(tmp_path: Path) -> None:
    left, right = tone(1, 16_000), np.zeros(16_000, np.float32)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], 1), 16_000)
    mixed, samples = read(tmp_path / "a.wav")
    assert mixed.channels == 1
    assert np.abs(samples[8_000:]).max() == pytest.approx(0.5 * 32768, rel=0.01), "the silent channel is left out"
    split, both = read(tmp_path / "a.wav", split_channels=True)
    assert split.channels == 2
    assert np.abs(both[:, 0]).max() == pytest.approx(0.5 * 32768, rel=0.01)
    assert not both[:, 1].any()


def test_pyav_keeps_channels_apart_too(tmp_path: Path) -> None:
    stereo = np.stack([tone(1, 48_000), np.zeros(48_000, np.float32)], 1)
    path = encode(tmp_path / "a.mkv", "pcm_s16le", stereo, 48_000, "stereo")
    audio, samples = read(path, split_channels=True)
    assert audio.channels == 2
    assert np.abs(samples[:, 0]).max() > 10_000
    assert not samples[:, 1].any()


def test_more_than_two_channels_can_only_be_mixed(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((16_000, 6), np.float32), 16_000)
    assert read(tmp_path / "a.wav")[0].channels == 1
    with pytest.raises(UnreadableAudio, match="6 channels"):
        read(tmp_path / "a.wav", split_channels=True)


def test_samples_that_are_too_loud_or_no_numbers_are_clipped(tmp_path: Path) -> None:
    odd = np.array([2.0, -2.0, np.nan, np.inf, -np.inf, 0.5] * 100, np.float32)
    soundfile.write(tmp_path / "a.wav", odd, 16_000, subtype="FLOAT")
    _, samples = read(tmp_path / "a.wav")
    assert samples[:6, 0].tolist() == [32767, -32768, 0, 32767, -32768, 16384]


def test_a_file_without_audio_is_reported_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio at all\n" * 50)
    (tmp_path / "empty.flac").write_bytes(b"")
    for name, message in (
        ("text.wav", "not audio that can be read"),
        ("empty.flac", "it is empty"),
        ("missing.wav", "no such file"),
        (".", "a folder, not a file"),
    ):
        with pytest.raises(UnreadableAudio, match=message) as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_video_without_sound_is_reported(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(UnreadableAudio, match="it has no audio"):
        read(tmp_path / "a.mp4")


def test_a_file_that_breaks_off_gives_what_came_before(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    soundfile.write(tmp_path / "whole.flac", rng.uniform(-0.5, 0.5, 80_000), 16_000)
    whole = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "half.flac").write_bytes(whole[: len(whole) // 2])
    got: list[bytes] = []
    with (
        open_audio(tmp_path / "half.flac") as audio,
        pytest.raises(UnreadableAudio, match=r"is cut off after [12]\.\d s"),
    ):
        got.extend(audio.pieces)
    assert 1 <= sum(map(len, got)) / 32_000 <= 2.6


def test_without_either_library_the_way_to_install_is_reported(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert read(clip)[0].rate == 16_000
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnreadableAudio, match=r"pip install 'streaming-asr\[mic\]'"):
        read(clip)


@pytest.mark.full
def test_a_long_file_is_read_in_constant_memory(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "long.wav", "w", 8_000, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(np.zeros(8_000 * 60, np.int16))
    tracemalloc.start()
    with open_audio(tmp_path / "long.wav") as audio:
        total = sum(len(piece) for piece in audio.pieces)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 3600 * 16_000
    assert peak < 2_000_000


class FakeClock:
    """Stands for `asyncio` in the pacing: time passes only while it sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def get_running_loop(self) -> FakeClock:
        return self

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


def test_real_time_is_kept_by_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that dawdles over one piece does not delay those after it."""
    clock = FakeClock()
    monkeypatch.setattr("clients.pacing.asyncio", clock)

    async def six_pieces() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield bytes(3200)

    async def times() -> list[float]:
        at = []
        async for _ in at_real_time(six_pieces(), 32_000):
            at.append(round(clock.now - 100, 6))
            if len(at) == 2:
                clock.now += 0.15
        return at

    assert asyncio.run(times()) == [0.1, 0.2, 0.35, 0.4, 0.5, 0.6]
