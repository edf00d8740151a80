"""Recordings are opened by the formats that are read, and none of these opens anything else."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import av
import numpy as np
import psutil
import pytest

from clients.audio_file import open_audio
from clients.media import reader as client_reader
from streaming_asr.core.events import SessionWarning
from streaming_asr.core.recognizer import Audio
from streaming_asr.engine.media import child, reader
from streaming_asr.engine.media.decoders import Decoders, MediaRefused, MediaTooLong

SELF_NAMING = {
    "ffconcat": b"ffconcat version 1.0\nfile recording\n",
    "long ffconcat": b"ffconcat version 1.0\n" + 40_000 * b"file recording\n",
    "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nrecording\n#EXT-X-ENDLIST\n",
    "HLS of this machine": b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
    "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "DASH": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period/></MPD>',
}
"""Playlists, by what they are."""

OPEN_IT = """
import os, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
sys.path[:0] = [sys.argv[1]]
{imports}
try:
    {read}
except {error} as error:
    print(error)
"""
READERS = {
    "server": OPEN_IT.format(
        imports="from streaming_asr.engine.media.audio import open_media\n"
        "from streaming_asr.engine.media.reader import UnreadableMedia",
        read="open_media(os.open(sys.argv[2], os.O_RDONLY))",
        error="UnreadableMedia",
    ),
    "client": OPEN_IT.format(
        imports="from clients.audio_file import UnreadableAudio, open_audio",
        read="open_audio(Path(sys.argv[2])).__enter__()",
        error="UnreadableAudio",
    ),
}


@pytest.mark.parametrize("kind_of_reader", READERS)
@pytest.mark.parametrize("kind", SELF_NAMING)
def test_a_playlist_is_refused_within_few_descriptors_and_little_memory(
    tmp_path: Path, kind: str, kind_of_reader: str
) -> None:
    recording = tmp_path / "recording"
    recording.write_bytes(SELF_NAMING[kind])
    root = Path(child.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", READERS[kind_of_reader], root, recording], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "not a recording in a format that can be read" in done.stdout or "not audio that can be read" in done.stdout


async def decoded(path: Path, max_recording_s: float = 3600.0) -> tuple[Audio, list[SessionWarning], float | None]:
    """The audio and warnings that a child gives, and the length that it states."""
    decoders = Decoders(max_recording_s)
    pieces, warnings = [], []
    with path.open("rb") as file:
        async with decoders.open(file.fileno()) as recording:
            async for item in recording.read():
                if isinstance(item, SessionWarning):
                    warnings.append(item)
                else:
                    pieces.append(item)
    await decoders.close()
    return np.concatenate(pieces), warnings, recording.duration_s


def test_a_recording_is_decoded_by_a_child(librivox: Path) -> None:
    clip = min(librivox.glob("*.wav"))
    samples, warnings, duration_s = asyncio.run(decoded(clip))
    with av.open(str(clip)) as container:
        expected = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.array_equal(samples, expected.astype(np.float32) / 32768)
    assert warnings == []
    assert duration_s == len(expected) / 16_000


def test_a_child_finds_its_modules_where_this_process_does(librivox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the virtual environment.
    monkeypatch.setattr(sys, "executable", getattr(sys, "_base_executable", sys.executable))
    samples, _, _ = asyncio.run(decoded(min(librivox.glob("*.wav"))))
    assert len(samples)


@pytest.mark.parametrize("name", ["concat:clip.wav", "http:clip.wav", "a clip?.wav"])
def test_a_file_name_that_looks_like_a_url_is_a_file_name(
    librivox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = min(librivox.glob("*.wav"))
    shutil.copy(clip, tmp_path / name)
    samples, _, _ = asyncio.run(decoded(Path(name)))
    assert len(samples) == (clip.stat().st_size - 44) // 2
    with open_audio(Path(name)) as audio:
        assert audio.rate == 16_000


def test_a_recording_that_is_not_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"not audio " * 100)
    with pytest.raises(MediaRefused, match="not a recording in a format that can be read"):
        asyncio.run(decoded(tmp_path / "text"))


def test_a_recording_longer_than_allowed_is_refused(librivox: Path) -> None:
    with pytest.raises(MediaTooLong, match="longer than the 2 s that are allowed"):
        asyncio.run(decoded(min(librivox.glob("*.wav")), 2.0))


def test_no_child_and_no_descriptor_stays_behind(librivox: Path) -> None:
    async def scenario() -> None:
        decoders = Decoders(3600.0)
        before = len(os.listdir("/proc/self/fd"))
        with min(librivox.glob("*.wav")).open("rb") as file:
            for _ in range(3):
                decoders.prepare()
                file.seek(0)
                async with decoders.open(file.fileno()) as recording:
                    async for _ in recording.read():
                        break
                assert not psutil.pid_exists(recording.pid)
            assert len(os.listdir("/proc/self/fd")) == before + 1
        decoders.prepare()
        await decoders.close()

    asyncio.run(scenario())


def test_a_signal_to_all_processes_of_a_server_leaves_a_recording_to_be_finished(tmp_path: Path) -> None:
    clip = tmp_path / "minute.wav"
    with wave.open(str(clip), "wb") as written:
        written.setparams((1, 2, 16_000, 0, "NONE", ""))
        written.writeframes(bytes(2 * 16_000 * 60))

    async def scenario() -> int:
        decoders = Decoders(3600.0)
        count = 0
        with clip.open("rb") as file:
            async with decoders.open(file.fileno()) as recording:
                async for item in recording.read():
                    if not count:
                        # The pipe holds a small part of it, so the child still runs.
                        os.kill(recording.pid, signal.SIGINT)
                        os.kill(recording.pid, signal.SIGTERM)
                    count += len(item) if isinstance(item, np.ndarray) else 0
        return count

    assert asyncio.run(scenario()) == 16_000 * 60


def test_clients_and_server_read_the_same_formats() -> None:
    assert reader.FORMATS == client_reader.FORMATS


def test_every_format_that_is_read_is_one_of_ffmpegs_and_no_playlist() -> None:
    known = {name for names in av.formats_available for name in names.split(",")}
    assert set(reader.FORMATS) <= known
    assert not set(reader.FORMATS) & {"concat", "dash", "hls", "image2", "lavfi", "rtsp", "sdp"}


def test_what_lies_behind_the_channels_of_a_frame_is_not_read() -> None:
    class Frame:
        """As PyAV gives one of more than 8 channels: it finds more planes, which are not the frame's."""

        format = SimpleNamespace(is_planar=True, name="fltp")
        layout = SimpleNamespace(nb_channels=9)
        samples = 4

        @property
        def planes(self) -> list[Any]:
            own = [np.full(4, number / 10, np.float32) for number in range(9)]
            return [*own, b"", b"?"]

        def to_ndarray(self) -> NoReturn:
            raise AssertionError("all planes are read")

    floats = reader._floats(Frame())
    assert floats.shape == (4, 9)
    assert floats[0] == pytest.approx(np.arange(9) / 10)
