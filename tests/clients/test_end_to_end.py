"""The commands as a user runs them: processes of their own, real speech, a real server."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import trustme
from numpy.typing import NDArray

from tests.support.live_server import LiveServer
from tests.support.wire import words

pytestmark = pytest.mark.full

WITHIN_S = 120
KEY = "s3cret"

Clips = list[tuple[Path, list[str]]]


def command(module: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m clients.file`, to its end."""
    return subprocess.run(
        command("clients.file", *arguments),
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        env={**os.environ, **environment},
    )


@contextmanager
def running(module: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A client in the background."""
    process = subprocess.Popen(
        command(module, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status, and the rest of what it wrote."""
    out, err = process.communicate(timeout=WITHIN_S)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def clips(librivox: Path) -> Clips:
    """Clips and the words in them, in the order of the book."""
    entries = [json.loads(line) for line in (librivox / "manifest.jsonl").read_text().splitlines()]
    return [(librivox / entry["path"], words(entry["text"])) for entry in entries]


@pytest.fixture(scope="module")
def chapter(clips: Clips, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All clips as one file."""
    return joined(clips, tmp_path_factory.mktemp("speech") / "chapter.wav")


def samples_of(path: Path) -> NDArray[np.int16]:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 16_000
    return samples


def joined(clips: Clips, path: Path) -> Path:
    """Write the clips as one file, half a second of silence behind each."""
    silence = np.zeros(8000, np.int16)
    soundfile.write(path, np.concatenate([part for clip, _ in clips for part in (samples_of(clip), silence)]), 16_000)
    return path


def recall(recognized: str, said: list[str]) -> float:
    """Share of the words said that were recognized, in order."""
    rows = [[0] * (len(said) + 1)]
    for word in words(recognized):
        row = [0]
        for index, each in enumerate(said):
            row.append(rows[-1][index] + 1 if word == each else max(rows[-1][index + 1], row[-1]))
        rows.append(row)
    return rows[-1][-1] / len(said)


def said_in(clips: Clips) -> list[str]:
    return [word for _, each in clips for word in each]


def test_a_file_is_transcribed_printed_and_saved(
    server: LiveServer, clips: Clips, chapter: Path, tmp_path: Path
) -> None:
    saves = [tmp_path / f"t.{suffix}" for suffix in ("txt", "json", "srt", "vtt")]
    done = run("--url", server.url, chapter, *(part for path in saves for part in ("--save", path)))

    assert done.returncode == 0, done.stderr
    assert recall(done.stdout, said_in(clips)) > 0.85
    assert "Saved" in done.stderr
    text, transcript = saves[0].read_text(), json.loads(saves[1].read_text())
    assert text == done.stdout
    assert [each["text"] for each in transcript["utterances"]] == text.splitlines()
    assert all(each["words"] for each in transcript["utterances"])
    starts = [each["start_ms"] for each in transcript["utterances"]]
    assert starts == sorted(starts)
    assert saves[2].read_text().count(" --> ") >= len(starts)
    assert saves[3].read_text().startswith("WEBVTT\n\n")


def test_several_files_at_once(server: LiveServer, clips: Clips, tmp_path: Path) -> None:
    paths = [path for path, _ in clips]
    done = run("--url", server.url, "--parallel", "3", *paths, "--save", tmp_path / "{stem}.txt", "--quiet")

    assert (done.returncode, done.stderr) == (0, "")
    for path, said in clips:
        text = (tmp_path / f"{path.stem}.txt").read_text()
        assert recall(text, said) > 0.7
        assert all(f"{path.name}: {line}" in done.stdout.splitlines() for line in text.splitlines())


def test_a_terminal_shows_partials_repainted_in_place(server: LiveServer, clips: Clips) -> None:
    path, said = clips[1]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("clients.file", "--url", server.url, "--realtime", path),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(theirs)
    screen = b""
    try:
        while piece := os.read(ours, 65_536):
            screen += piece
    except OSError:  # How Linux says that the other side is closed.
        pass
    finally:
        os.close(ours)
        assert process.wait(WITHIN_S) == 0
    text = screen.decode()
    dim = "\x1b[2m"
    tentative = set(re.findall(rf"\n[^\n]*{re.escape(dim)} ([a-z][^\x1b]*)", text))
    assert len(tentative) > 1
    assert "\x1b[2K" in text
    final = text[text.rindex(f"{dim}0:00.") :]
    assert recall(final, said) > 0.7
    assert "Traceback" not in text


def test_words_survive_a_server_that_is_killed(clips: Clips, tmp_path: Path) -> None:
    clips = [clips[1], clips[2], clips[4]]
    path, saved = joined(clips, tmp_path / "a.wav"), tmp_path / "t.json"
    with LiveServer() as own, running("clients.file", "--url", own.url, "--realtime", path, "--save", saved) as client:
        assert client.stdout is not None
        printed = client.stdout.readline()
        wait_for_speech(own)
        own.kill()
        own.restart()
        status, out, err = ended(client)
    assert status == 0, err
    assert "Reconnecting" in err
    assert "Reconnected" in err
    assert recall(printed + out, said_in(clips)) > 0.8
    assert len(words(printed + out)) < 1.1 * len(said_in(clips))
    transcript = json.loads(saved.read_text())["utterances"]
    assert [each["utterance"] for each in transcript] == list(range(1, len(transcript) + 1))
    for each, following in itertools.pairwise(transcript):
        assert each["end_ms"] <= following["start_ms"]
    duration_ms = soundfile.info(path).duration * 1000
    assert duration_ms - 2000 < transcript[-1]["end_ms"] <= duration_ms


def test_words_survive_an_outage_that_the_server_takes_for_idleness(clips: Clips, tmp_path: Path) -> None:
    clips = [clips[1], clips[2]]
    path = joined(clips, tmp_path / "a.wav")
    with (
        LiveServer("--idle-timeout-s", "1") as own,
        running("clients.file", "--url", own.url, "--realtime", path) as client,
    ):
        wait_for_speech(own)
        client.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + WITHIN_S
        while own.metric('streaming_asr_errors_total{code="idle"}') == 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        client.send_signal(signal.SIGCONT)
        status, out, err = ended(client)
    assert status == 0, err
    assert "(idle)" in err
    assert recall(out, said_in(clips)) > 0.8
    assert len(words(out)) < 1.1 * len(said_in(clips))


def test_two_channels_are_transcribed_apart(server: LiveServer, clips: Clips, tmp_path: Path) -> None:
    (left, said_left), (right, said_right) = clips[0], clips[2]
    stereo = np.zeros((max(len(samples_of(left)), len(samples_of(right))), 2), np.int16)
    for channel, path in enumerate((left, right)):
        samples = samples_of(path)
        stereo[: len(samples), channel] = samples
    soundfile.write(tmp_path / "call.wav", stereo, 16_000)

    done = run("--url", server.url, "--split-channels", tmp_path / "call.wav")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for channel, said in (("[channel 1] ", said_left), ("[channel 2] ", said_right)):
        text = " ".join(line.removeprefix(channel) for line in lines if line.startswith(channel))
        assert recall(text, said) > 0.7


def test_a_microphone_is_transcribed_until_ctrl_c(server: LiveServer, clips: Clips, tmp_path: Path) -> None:
    path, said = clips[1]
    saved = tmp_path / "t.srt"
    with running("tests.support.fake_sounddevice", path, "--url", server.url, "--save", saved) as client:
        assert client.stdout is not None
        assert client.stderr is not None
        assert "Listening to Fake microphone at 16000 Hz, with tiny.en" in client.stderr.readline()
        first = client.stdout.readline()
        assert "pure silence" in client.stderr.readline()
        client.send_signal(signal.SIGINT)
        status, rest, err = ended(client)
    assert (status, err) == (0, f"Saved {saved}\n")
    assert recall(first + rest, said) > 0.7
    assert " --> " in saved.read_text()


def test_ctrl_c_in_mid_speech_finishes_what_was_said(
    server: LiveServer, clips: Clips, chapter: Path, tmp_path: Path
) -> None:
    said = said_in(clips)
    saved = tmp_path / "t.txt"
    with running("clients.file", "--url", server.url, "--realtime", chapter, "--save", saved) as client:
        # Enough to recognize the first words by, wherever it is cut.
        server.wait_for_audio(4)
        client.send_signal(signal.SIGINT)
        status, out, _ = ended(client)
    assert status == 130
    assert saved.read_text() == out
    recognized = words(out)
    assert 0 < len(recognized) < len(said)
    assert recall(out, said[:6]) > 0.6


def wait_for_speech(server: LiveServer) -> None:
    """Until the server has made two partials of speech that it has not received before."""
    name = 'streaming_asr_decodes_total{kind="partial",outcome="ok"}'
    before = server.metric(name)
    deadline = time.monotonic() + WITHIN_S
    while server.metric(name) < before + 2:
        assert time.monotonic() < deadline, "no partial was made"
        time.sleep(0.05)


def test_a_second_ctrl_c_leaves_at_once(clips: Clips) -> None:
    with LiveServer() as own:
        with running("clients.file", "--url", own.url, "--realtime", clips[0][0]) as client:
            wait_for_speech(own)
            own.signal(signal.SIGSTOP)
            client.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                client.wait(1)
            client.send_signal(signal.SIGINT)
            status, _, err = ended(client)
        own.signal(signal.SIGCONT)
    assert status == 130
    assert "Traceback" not in err


def test_files_that_can_not_be_read_do_not_stop_the_others(server: LiveServer, clips: Clips, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    path, said = clips[0]
    done = run("--url", server.url, tmp_path / "text.wav", "missing.wav", path)
    assert done.returncode == 1
    assert "text.wav: not audio that can be read" in done.stderr
    assert "missing.wav: no such file" in done.stderr
    assert recall(done.stdout, said) > 0.85


def test_no_server_is_reported_in_one_line(clips: Clips) -> None:
    done = run("--url", "ws://127.0.0.1:9", clips[0][0])
    assert done.returncode == 1
    assert done.stderr == "No server at ws://127.0.0.1:9; start one with `streaming-asr serve`.\n"


def test_a_refused_option_is_reported_in_the_servers_words(server: LiveServer, clips: Clips) -> None:
    for arguments, message in (
        (["--language", "zh"], "zh"),
        (["--option", "max_utterance_s=1"], "max_utterance_s"),
        (["--option", "endpiont_ms=1"], "did you mean 'endpoint_ms'"),
        (["--context", "x" * 5000], "at most 4000"),
    ):
        done = run("--url", server.url, clips[0][0], *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert "bad_option" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.wav", "b.wav", "--save", "t.srt"], "'{stem}.srt'"),
        (["a.wav", "--save", "t.doc"], "end the name in one of"),
        (["a.wav", "--save", "{dir}/there.txt"], "--overwrite"),
        (["x/a.wav", "y/a.wav", "--save", "{stem}.txt"], "two transcripts would be written there"),
        (["a.wav", "--chunk-ms", "0"], "10 to 10000"),
        (["a.wav", "--parallel", "0"], "1 to 100"),
        (["a.wav", "--ca", "missing.pem"], "--ca missing.pem"),
        (["a.wav", "--option", "nonsense"], "NAME=VALUE"),
        (["a.wav", "--option", "encoding=f32le"], "follows from the audio"),
    ],
)
def test_what_does_not_go_together_is_reported_before_anything_is_done(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "there.txt").write_text("an hour's work")
    for name in ("a.wav", "b.wav", "x/a.wav", "y/a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(1600, np.int16), 16_000)
    done = run(*(str(tmp_path / each) if each.endswith(".wav") else each for each in arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "there.txt").read_text() == "an hour's work"


def test_a_key_and_a_certificate_of_ones_own(clips: Clips, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    ca, pem, key = tmp_path / "ca.pem", tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.cert_pem.write_to_path(ca)
    certificate.cert_chain_pems[0].write_to_path(pem)
    certificate.private_key_pem.write_to_path(key)
    path, said = clips[1]
    with LiveServer("--certificate", str(pem), "--private-key", str(key), "--api-key", KEY) as own:
        for arguments, environment in (
            (["--ca", str(ca), "--api-key", KEY], {}),
            (["--insecure"], {"STREAMING_ASR_API_KEY": KEY}),
        ):
            done = run("--url", own.url, path, *arguments, **environment)
            assert done.returncode == 0, done.stderr
            assert recall(done.stdout, said) > 0.6
        untrusted = run("--url", own.url, path)
        assert untrusted.returncode == 1
        assert "not trusted" in untrusted.stderr
        assert "--ca FILE" in untrusted.stderr
        wrong = run("--url", own.url, path, "--insecure", "--api-key", "wrong")
        assert wrong.returncode == 1
        assert "unauthorized" in wrong.stderr


def test_a_reader_that_has_had_enough_is_no_error(server: LiveServer, chapter: Path) -> None:
    with running("clients.file", "--url", server.url, chapter) as client:
        assert client.stdout is not None
        client.stdout.close()
        assert client.stderr is not None
        assert "Traceback" not in client.stderr.read()
        assert client.wait(WITHIN_S) == 1
