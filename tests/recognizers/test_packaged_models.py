"""Weights that come in two packages are put together once, whatever happens meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from streaming_asr.core.recognizer import RecognizerUnavailable
from streaming_asr.recognizers.whisper import packaged
from streaming_asr.recognizers.whisper.packaged import ABANDONED_S, put_together

PARTS = (b"first half, " * 100_000, b"second half" * 100_000)
WHOLE = b"".join(PARTS)
SHA256 = {"model.bin": hashlib.sha256(WHOLE).hexdigest()}


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, list[Path]]:
    paths = [tmp_path / "one", tmp_path / "two"]
    for path, part in zip(paths, PARTS, strict=True):
        path.write_bytes(part)
    return {"model.bin": paths}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "streaming-asr" / "model"


def test_parts_are_joined_once_and_kept(sources: dict[str, list[Path]], folder: Path) -> None:
    assert put_together(sources, SHA256, folder) == folder
    assert (folder / "model.bin").read_bytes() == WHOLE
    made = (folder / "model.bin").stat().st_ino
    sources["model.bin"][0].unlink()
    put_together(sources, SHA256, folder)
    assert (folder / "model.bin").stat().st_ino == made
    assert os.listdir(folder.parent) == ["model"]


def test_servers_that_start_together_all_get_it_whole(sources: dict[str, list[Path]], folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: put_together(sources, SHA256, folder), range(8)))
    assert set(made) == {folder}
    assert (folder / "model.bin").read_bytes() == WHOLE
    assert os.listdir(folder.parent) == ["model"]


@pytest.mark.parametrize("damage", [WHOLE[:-1], WHOLE[:-1] + b"x", b""])
def test_a_damaged_copy_is_made_again(sources: dict[str, list[Path]], folder: Path, damage: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(damage)
    put_together(sources, SHA256, folder)
    assert (folder / "model.bin").read_bytes() == WHOLE
    assert os.listdir(folder.parent) == ["model"]


def test_damaged_parts_are_reported_and_leave_nothing(sources: dict[str, list[Path]], folder: Path) -> None:
    sources["model.bin"][1].write_bytes(b"something else")
    with pytest.raises(RecognizerUnavailable, match=r"model\.bin of Whisper base is damaged .* Run: pip"):
        put_together(sources, SHA256, folder)
    assert os.listdir(folder.parent) == []


def test_a_full_disk_is_reported_and_leaves_nothing(
    sources: dict[str, list[Path]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecognizerUnavailable) as error:
        put_together(sources, SHA256, folder)
    message = str(error.value)
    assert "needs 2 MB" in message
    assert str(folder.parent) in message
    assert "No space left on device" in message
    assert "streaming-asr serve tiny.en" in message
    assert os.listdir(folder.parent) == []


def test_a_place_that_is_not_a_folder_is_reported(sources: dict[str, list[Path]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecognizerUnavailable, match="XDG_CACHE_HOME"):
        put_together(sources, SHA256, tmp_path / "file" / "model")


def test_what_a_killed_server_left_is_removed(sources: dict[str, list[Path]], folder: Path) -> None:
    old, new = folder.parent / "unfinished-old", folder.parent / "unfinished-new"
    for left in (old, new):
        left.mkdir(parents=True)
        (left / "model.bin").write_bytes(b"half")
    long_ago = time.time() - ABANDONED_S - 1
    os.utime(old, (long_ago, long_ago))
    put_together(sources, SHA256, folder)
    assert sorted(os.listdir(folder.parent)) == ["model", "unfinished-new"]


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert packaged.cache_folder() == tmp_path / "streaming-asr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert packaged.cache_folder() == tmp_path / ".cache" / "streaming-asr"
