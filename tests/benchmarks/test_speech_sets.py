"""The benchmarks' reader of speech: sets with a manifest, LibriSpeech's folders, any audio format."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from benchmarks.common.speech import OWN, Clip, NoSpeech, clips, sets
from streaming_asr.core.recognizer import SAMPLE_RATE


def test_the_clips_that_the_repository_carries() -> None:
    assert sets(OWN) == ["librivox", "readers"]
    found = clips(OWN, "librivox")
    assert len(found) == 5
    first = found[0]
    assert first.text.startswith("and mister john dashwood")
    assert first.language == "en"
    assert first.words[0] == ("and", 0.2, 0.37)
    assert first.duration_s == 7.1
    assert len(first.audio()) == round(7.1 * SAMPLE_RATE)


def test_a_manifest_needs_only_the_four_fields_that_every_set_has(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    plain = {"id": "a", "path": "a.wav", "language": "zh", "text": "甚至"}
    long = plain | {"id": "b", "duration_s": 4, "segments": [["b-0", 0, 1.5], ["b-1", 1.5, 4.0]]}
    (folder / "manifest.jsonl").write_text(f"{json.dumps(plain)}\n\n{json.dumps(long)}\n", encoding="utf-8")
    one, other = clips(tmp_path, "mine")
    assert one == Clip("a", folder / "a.wav", "zh", "甚至")
    assert other.duration_s == 4.0
    assert other.segments == (("b-0", 0.0, 1.5), ("b-1", 1.5, 4.0))


def test_librispeech_as_it_is_published(tmp_path: Path) -> None:
    chapter = tmp_path / "dev-clean" / "19" / "198"
    chapter.mkdir(parents=True)
    (chapter / "19-198.trans.txt").write_text("19-198-0001 TO BE\n19-198-0002 OR NOT\n")
    found = clips(tmp_path, "dev-clean")
    assert [(clip.id, clip.text, clip.path) for clip in found] == [
        ("19-198-0001", "TO BE", chapter / "19-198-0001.flac"),
        ("19-198-0002", "OR NOT", chapter / "19-198-0002.flac"),
    ]
    assert clips(tmp_path, ".") == found


def test_audio_comes_as_16_khz_mono(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, np.zeros(8000)], axis=1), 8000)
    audio = Clip("a", tmp_path / "a.wav", "none", "").audio()
    assert audio.dtype == np.float32
    assert audio.shape == (SAMPLE_RATE,)
    assert np.abs(audio[4000:12000]).max() == pytest.approx(0.25, rel=0.02)


def test_what_libsndfile_does_not_read_is_read_with_pyav(tmp_path: Path) -> None:
    clip = clips(OWN, "librivox")[1]
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(clip.audio()[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    audio = Clip("a", path, "en", "").audio()
    assert len(audio) == pytest.approx(len(clip.audio()), abs=4096)


def test_what_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(NoSpeech, match="sets here: librivox"):
        clips(OWN, "choir")
    with pytest.raises(NoSpeech, match="can't be read"):
        Clip("a", tmp_path / "a.flac", "en", "").audio()
    (tmp_path / "b.flac").write_bytes(b"no audio")
    with pytest.raises(NoSpeech, match="can't be read"):
        Clip("b", tmp_path / "b.flac", "en", "").audio()
