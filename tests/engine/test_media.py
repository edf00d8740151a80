"""Recordings are opened by the formats that are read, and none of these opens anything else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from clients import audio_file
from streaming_asr.engine import media
from streaming_asr.engine.media import UnreadableMedia, duration_s, read_audio

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
import resource, sys
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
        imports="from streaming_asr.engine.media import UnreadableMedia, read_audio",
        read="list(read_audio(Path(sys.argv[2])))",
        error="UnreadableMedia",
    ),
    "client": OPEN_IT.format(
        imports="from clients.audio_file import UnreadableAudio, open_audio",
        read="open_audio(Path(sys.argv[2])).__enter__()",
        error="UnreadableAudio",
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", SELF_NAMING)
def test_a_playlist_is_refused_within_few_descriptors_and_little_memory(tmp_path: Path, kind: str, reader: str) -> None:
    recording = tmp_path / "recording"
    recording.write_bytes(SELF_NAMING[kind])
    root = Path(media.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", READERS[reader], root, recording], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "not a recording in a format that is read" in done.stdout or "not audio that can be read" in done.stdout


@pytest.mark.parametrize("name", ["concat:clip.wav", "http:clip.wav", "a clip?.wav"])
def test_a_file_name_that_looks_like_a_url_is_a_file_name(
    librivox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    clip = min(librivox.glob("*.wav"))
    shutil.copy(clip, tmp_path / name)
    seconds = duration_s(clip)
    assert seconds is not None
    assert duration_s(Path(name)) == seconds
    assert sum(map(len, read_audio(Path(name)))) == pytest.approx(seconds * 16_000, abs=16)
    assert audio_file._AvFile(Path(name), False).rate == 16_000


@pytest.mark.parametrize(
    ("path", "says"),
    [(lambda folder: folder / "gone.wav", "No such file"), (lambda folder: folder, "Is a directory")],
)
def test_what_can_not_be_opened_says_why(tmp_path: Path, path: Callable[[Path], Path], says: str) -> None:
    with pytest.raises(UnreadableMedia, match=says):
        list(read_audio(path(tmp_path)))


def test_clients_and_server_read_the_same_formats() -> None:
    assert media.FORMATS == audio_file.FORMATS


def test_every_format_that_is_read_is_one_of_ffmpegs_and_no_playlist() -> None:
    known = {name for names in av.formats_available for name in names.split(",")}
    assert set(media.FORMATS) <= known
    assert not set(media.FORMATS) & {"concat", "dash", "hls", "image2", "lavfi", "rtsp", "sdp"}
