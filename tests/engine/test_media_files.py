"""What server and clients make of the same recordings: damaged, joined, late, with holes and wrong headers."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soxr

from clients.audio_file import UnreadableAudio, open_audio
from streaming_asr.engine.media.audio import open_media, read_audio
from streaming_asr.engine.media.reader import UnreadableMedia
from streaming_asr.engine.media.repairs import Repair
from streaming_asr.engine.media.timeline import MAX_HOLE_S, Timeline
from tests.support.copies import COPIES, SOURCES, copied
from tests.support.media_files import CASES, RATE, REFUSED, Samples, clip, encoded, place_of, wav


def _by_server(path: Path) -> tuple[Samples, list[str]]:
    items = list(read_audio(open_media(os.open(path, os.O_RDONLY))))
    pieces = [item for item in items if not isinstance(item, Repair)]
    return np.concatenate(pieces), [item.message for item in items if isinstance(item, Repair)]


def _by_client(path: Path) -> tuple[Samples, list[str]]:
    repairs: list[str] = []
    with open_audio(path, on_repair=repairs.append) as audio:
        samples = np.frombuffer(b"".join(audio.pieces), "<i2").astype(np.float32) / 32768
    return (soxr.resample(samples, audio.rate, RATE) if audio.rate != RATE else samples), repairs


Reader = Callable[[Path], tuple[Samples, list[str]]]
READERS = pytest.mark.parametrize("read", [_by_server, _by_client], ids=["server", "client"])


@READERS
@pytest.mark.parametrize("name", CASES)
def test_all_that_can_be_read_is_read_at_its_time(tmp_path: Path, name: str, read: Reader) -> None:
    case = CASES[name]
    path = tmp_path / "recording"
    path.write_bytes(case.make())
    samples, repairs = read(path)
    assert len(samples) / RATE == pytest.approx(case.length_s, abs=0.25)
    for spoken, at_s in case.clips.items():
        found_s, alike = place_of(spoken, samples)
        assert found_s == pytest.approx(at_s, abs=0.15), spoken
        assert alike > 0.7, spoken
    assert len(repairs) == len(case.repairs), repairs
    for repair, words in zip(repairs, case.repairs, strict=True):
        assert words in repair


@READERS
@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_read_is_refused_with_the_reason(tmp_path: Path, name: str, read: Reader) -> None:
    make, reason = REFUSED[name]
    path = tmp_path / "recording"
    path.write_bytes(make())
    with pytest.raises((UnreadableMedia, UnreadableAudio), match=reason) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_recording_that_was_cut_off_is_reported(tmp_path: Path) -> None:
    whole = encoded("flac", "flac", clip("b"))
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    samples, repairs = _by_server(tmp_path / "half")
    assert 2 < len(samples) / RATE < 5
    assert "The recording is cut off at" in repairs[-1]
    with pytest.raises(UnreadableAudio, match=r"is cut off after [2-4]\.\d s"):
        _by_client(tmp_path / "half")


@READERS
def test_a_fragmented_mp4_that_lacks_its_middle_is_reported(tmp_path: Path, read: Reader) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "1000000"}
    whole = encoded("mp4", "aac", np.tile(clip("b"), 4), **fragments)
    (tmp_path / "recording").write_bytes(whole[: len(whole) * 42 // 100] + whole[len(whole) * 45 // 100 :])
    samples, repairs = read(tmp_path / "recording")
    assert 7 < len(samples) / RATE < 15
    assert "what follows could not be read" in repairs[-1]


def test_damage_all_over_is_reported_up_to_a_bound(tmp_path: Path) -> None:
    recording = bytearray(encoded("adts", "aac", np.tile(clip("b"), 15)))
    for at in range(2_000, len(recording), len(recording) // 60):
        recording[at : at + 300] = os.urandom(300)
    (tmp_path / "recording").write_bytes(recording)
    _, repairs = _by_server(tmp_path / "recording")
    assert len(repairs) == 21
    assert "further places were repaired" in repairs[-1]


@READERS
@pytest.mark.parametrize("container", ["wav", "ogg", "mp3", "webm"])
def test_a_pipe_is_read(tmp_path: Path, container: str, read: Reader) -> None:
    codec = {"wav": "pcm_s16le", "ogg": "libopus", "mp3": "libmp3lame", "webm": "libopus"}[container]
    rate = 48_000 if codec == "libopus" else RATE
    recording = encoded(container, codec, clip("a"), rate=rate)
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(recording)
        os._exit(0)
    os.close(writing)
    samples, _ = read(Path(f"/dev/fd/{reading}"))
    assert place_of("a", samples)[1] > 0.7


def test_an_mp4_with_its_index_at_the_end_is_read_from_a_pipe_by_clients(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    recording = encoded("mp4", "aac", clip("a"))
    if os.fork() == 0:
        (tmp_path / "pipe").write_bytes(recording)
        os._exit(0)
    samples, _ = _by_client(tmp_path / "pipe")
    assert place_of("a", samples)[1] > 0.7


def test_stereo_is_kept_apart_where_one_part_is_mono(tmp_path: Path) -> None:
    stereo = np.stack([clip("a"), np.zeros_like(clip("a"))], 1)
    (tmp_path / "recording").write_bytes(wav(stereo) + wav(clip("b")))
    with open_audio(tmp_path / "recording", split_channels=True) as audio:
        samples = np.frombuffer(b"".join(audio.pieces), "<i2").reshape(-1, 2)
    assert not samples[: len(clip("a")), 1].any()
    assert np.array_equal(*samples[len(clip("a")) :].T)


def test_overlaps_are_dropped_and_long_holes_closed() -> None:
    timeline = Timeline(0.0)
    placed = [timeline.place(at_s, 0.25) for at_s in (0.0, 0.25, 0.5, 0.25, 0.5, 0.75)]
    assert [placement.drop_s for placement in placed] == [0, 0, 0, 0.25, 0.25, 0]
    assert timeline.position_s == 1.0
    assert timeline.place(1.0 + MAX_HOLE_S + 1, 0.25).silence_s == 0
    assert timeline.place(1.25 + MAX_HOLE_S + 1 + 60, 0.25).silence_s == pytest.approx(60)


def test_a_recording_that_starts_anew_is_no_overlap() -> None:
    timeline = Timeline(None)
    for at_s in itertools.chain(np.arange(1.4, 1.9, 0.1), np.arange(1.4, 1.9, 0.1)):
        assert timeline.place(float(at_s), 0.1).drop_s == 0
    assert timeline.position_s == pytest.approx(1.0)


@pytest.mark.parametrize("name", SOURCES)
def test_copies_that_clients_have_are_current(name: str) -> None:
    assert (COPIES / f"{name}.py").read_text(encoding="utf-8") == copied(name), "run python -m tests.support.copies"
