"""Whole recordings over HTTP: OpenAI's unmodified SDK, and the functional check of Qwen3-ASR's deployment guide."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import psutil
import pytest
import soundfile
from openai.types.audio import TranscriptionDiarized

from streaming_asr.server.openai_http.fetch import FetchRefused, fetch
from tests.support.live_server import LiveServer
from tests.support.wire import words

SAID = "he might even have been made amiable himself"


@pytest.fixture(scope="module")
def sentence(librivox: Path) -> Path:
    return next(librivox.glob("*0930.wav"))


@pytest.fixture(scope="module")
def client(server: LiveServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.http_url}/v1", api_key="none", max_retries=0)


def _chat(server: LiveServer, *parts: dict[str, Any], **fields: Any) -> tuple[int, dict[str, Any]]:
    """As the guide's curl: no model is named."""
    body = {"messages": [{"role": "user", "content": list(parts)}], **fields}
    request = urllib.request.Request(
        f"{server.http_url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_sdk_gets_text(client: openai.OpenAI, sentence: Path) -> None:
    with sentence.open("rb") as file:
        answer = client.audio.transcriptions.create(file=file, model="whisper-1")
    assert words(answer.text) == words(SAID)


def test_words_are_replaced_and_redacted(client: openai.OpenAI, sentence: Path) -> None:
    wanted = {"replace": ["amiable:friendly", "he might:she may"], "redact": "pii", "itn": "true"}
    answer = client.audio.transcriptions.create(file=sentence, model="whisper-1", extra_body=wanted)
    assert words(answer.text) == words("she may even have been made friendly himself")
    with pytest.raises(openai.BadRequestError, match=r"redact: 'x' is not one of numbers, pci, ssn, pii\."):
        client.audio.transcriptions.create(file=sentence, model="whisper-1", extra_body={"redact": "x"})


def test_the_sdk_gets_segments_and_words_with_times(client: openai.OpenAI, sentence: Path) -> None:
    answer = client.audio.transcriptions.create(
        file=sentence, model="whisper-1", response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert answer.segments is not None
    assert answer.words is not None
    assert words(answer.segments[0].text) == words([word.word for word in answer.words])
    assert 0 <= answer.words[0].start < answer.words[-1].end <= soundfile.info(sentence).duration + 0.1


def test_the_sdk_streams(client: openai.OpenAI, librivox: Path) -> None:
    """Several utterances: each is a delta of its own, and the deltas make up the whole."""
    samples = [soundfile.read(path, dtype="int16")[0] for path in sorted(librivox.glob("*.wav"))[:2]]
    both = io.BytesIO()
    silence = np.zeros(16_000, np.int16)
    soundfile.write(both, np.concatenate([samples[0], silence, samples[1]]), 16_000, format="FLAC")
    events = list(client.audio.transcriptions.create(file=("two.flac", both.getvalue()), model="any", stream=True))
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    (done,) = [event.text for event in events if event.type == "transcript.text.done"]
    assert len(deltas) >= 2
    assert "".join(deltas) == done


@pytest.mark.parametrize(
    ("style", "begins"), [("srt", "1\n00:00:00,"), ("vtt", "WEBVTT\n\n00:00:00."), ("text", "He ")]
)
def test_the_sdk_gets_other_formats(client: openai.OpenAI, sentence: Path, style: Any, begins: str) -> None:
    answer = client.audio.transcriptions.create(file=sentence, model="any", response_format=style)
    assert str(answer).startswith(begins)


@pytest.fixture(scope="module")
def dialogue(librivox: Path) -> bytes:
    """Two readers, one after the other."""
    paths = librivox / "sense_and_sensibility_01_0870.wav", librivox.parent / "readers" / "1272-128104-0000.wav"
    pause = np.zeros(20_000, np.int16)
    samples = [part for path in paths for part in (soundfile.read(path, dtype="int16")[0], pause)]
    both = io.BytesIO()
    soundfile.write(both, np.concatenate(samples), 16_000, format="FLAC")
    return both.getvalue()


def test_the_sdk_gets_who_speaks(client: openai.OpenAI, dialogue: bytes) -> None:
    file = ("two.flac", dialogue)
    answer = client.audio.transcriptions.create(file=file, model="any", response_format="diarized_json")
    assert isinstance(answer, TranscriptionDiarized)
    assert [segment.speaker for segment in answer.segments] == ["A", "B"]
    assert words(answer.segments[1].text)[:2] == ["mr", "quilter"]
    assert words(answer.text) == words([segment.text for segment in answer.segments])
    wanted = {"speakers": "true"}
    subtitles = client.audio.transcriptions.create(file=file, model="any", response_format="vtt", extra_body=wanted)
    assert [line.partition(">")[0] for line in str(subtitles).splitlines() if line.startswith("<v ")][
        -1
    ] == "<v Speaker 2"


def test_the_sdk_streams_who_speaks(client: openai.OpenAI, dialogue: bytes) -> None:
    events = list(
        client.audio.transcriptions.create(
            file=("two.flac", dialogue), model="any", response_format="diarized_json", stream=True
        )
    )
    segments = [event for event in events if event.type == "transcript.text.segment"]
    assert [(segment.id, segment.speaker) for segment in segments] == [("seg_0", "A"), ("seg_1", "B")]


def test_a_quiet_recording_keeps_its_words(client: openai.OpenAI, server: LiveServer, sentence: Path) -> None:
    """At -60 dBFS. The request chooses the detector, here one whose gate lets nothing so quiet through."""
    samples = soundfile.read(sentence, dtype="float32")[0]
    quiet = io.BytesIO()
    soundfile.write(quiet, samples * 1e-3 / np.sqrt(np.mean(samples**2)), 16_000, format="WAV", subtype="PCM_16")

    def transcribed(**fields: Any) -> str:
        return client.audio.transcriptions.create(file=("q.wav", quiet.getvalue()), model="any", extra_body=fields).text

    assert words(transcribed()) == words(SAID)
    assert words(transcribed(vad="cascade")) == []
    part = {"type": "input_audio", "input_audio": {"data": base64.b64encode(quiet.getvalue()).decode()}}
    for fields, expected in (({}, SAID), ({"vad": "cascade", "vad_threshold": 0.5}, "")):
        status, answer = _chat(server, part, **fields)
        assert status == 200
        assert words(answer["choices"][0]["message"]["content"]) == words(expected)


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["tiny.en"]


@pytest.mark.parametrize(
    ("name", "data", "fields", "says"),
    [
        ("noise.wav", b"no audio", {}, "can't be read"),
        ("a.wav", None, {"language": "zz"}, "knows en"),
        ("a.wav", None, {"response_format": "mp3"}, "verbose_json"),
        ("a.wav", None, {"extra_body": {"vad": "psychic"}}, "adaptive, thorough"),
        ("a.wav", None, {"extra_body": {"vad_threshold": "high"}}, "not a number"),
        ("a.wav", None, {"extra_body": {"vad_threshold": 1.5}}, "0.05 to 0.95"),
    ],
)
def test_a_bad_request_is_an_error_in_openai_s_form(
    client: openai.OpenAI, sentence: Path, name: str, data: bytes | None, fields: dict[str, Any], says: str
) -> None:
    content = sentence.read_bytes() if data is None else data
    with pytest.raises(openai.BadRequestError, match=says):
        client.audio.transcriptions.create(file=(name, content), model="any", **fields)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_translation_is_refused(client: openai.OpenAI, sentence: Path) -> None:
    with pytest.raises(openai.BadRequestError, match="does not translate"):
        client.audio.translations.create(file=sentence, model="any")


def test_the_guide_s_check_by_data_url_and_by_input_audio(server: LiveServer, sentence: Path) -> None:
    encoded = base64.b64encode(sentence.read_bytes()).decode()
    for part in (
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{encoded}"}},
        {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}},
    ):
        status, answer = _chat(server, part)
        assert status == 200
        assert words(answer["choices"][0]["message"]["content"]) == words(SAID)


@contextmanager
def _files(folder: Path) -> Iterator[str]:
    """A real web server of a folder; a path under /away redirects to /."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/away"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/away"))
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


SELF_NAMING = b"ffconcat version 1.0\nfile recording\n"
"""A playlist of itself, by the name that recordings have on the server's disk."""


@pytest.mark.parametrize("repeats", [1, 40_000])
def test_a_playlist_of_itself_is_refused_however_it_comes(tmp_path: Path, repeats: int) -> None:
    playlist = SELF_NAMING + (repeats - 1) * b"file recording\n"
    (tmp_path / "playlist").write_bytes(playlist)
    encoded = base64.b64encode(playlist).decode()
    with _files(tmp_path) as web, LiveServer("--allow-private-urls") as live:
        assert live.process is not None
        process = psutil.Process(live.process.pid)
        uploading = openai.OpenAI(base_url=f"{live.http_url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.BadRequestError, match="can't be read"):
            uploading.audio.transcriptions.create(file=("a.wav", playlist), model="any")
        descriptors, memory = process.num_fds(), process.memory_info().rss
        for name in ("a.wav", "a.ffconcat", "recording"):
            with pytest.raises(openai.BadRequestError, match="can't be read"):
                uploading.audio.transcriptions.create(file=(name, playlist), model="any")
        for part in (
            {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{encoded}"}},
            {"type": "audio_url", "audio_url": {"url": f"{web}/playlist"}},
            {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}},
        ):
            status, answer = _chat(live, part)
            assert status == 400
            assert "can't be read" in answer["error"]["message"]
        assert process.num_fds() <= descriptors + 2
        assert process.memory_info().rss < memory + 50 * 2**20


def test_private_urls_are_fetched_only_where_the_server_allows_it(server: LiveServer, sentence: Path) -> None:
    with _files(sentence.parent) as web:
        part = {"type": "audio_url", "audio_url": {"url": f"{web}/away/{sentence.name}"}}
        status, answer = _chat(server, part)
        assert status == 400
        assert "no public address" in answer["error"]["message"]
        with LiveServer("--allow-private-urls", "--max-upload-bytes", "110000") as open_server:
            status, answer = _chat(open_server, part)
            assert words(answer["choices"][0]["message"]["content"]) == words(SAID)
            larger = max(sentence.parent.glob("*.wav"), key=lambda path: path.stat().st_size)
            status, answer = _chat(open_server, {"type": "audio_url", "audio_url": {"url": f"{web}/{larger.name}"}})
            assert (status, "110000 bytes" in answer["error"]["message"]) == (400, True)
            uploading = openai.OpenAI(base_url=f"{open_server.http_url}/v1", api_key="none", max_retries=0)
            with pytest.raises(openai.APIStatusError, match="110000 bytes") as refused:
                uploading.audio.transcriptions.create(file=larger, model="any")
            assert refused.value.status_code == 413


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/passwd", "only http, https and data"),
        ("ftp://example.org/a.wav", "only http, https and data"),
        ("http://localhost/a.wav", "no public address"),
        ("http://[::1]/a.wav", "no public address"),
        ("http://169.254.169.254/latest", "no public address"),
        ("http://10.0.0.1:x/", "Port"),
    ],
)
def test_urls_that_are_not_fetched(url: str, says: str) -> None:
    with pytest.raises(FetchRefused, match=says):
        fetch(url, io.BytesIO(), allow_private=False, max_bytes=1000, timeout_s=1)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "0 recordings"),
        ([{"type": "input_audio", "input_audio": {"data": "%%%"}}], "base64"),
        ([{"type": "input_audio", "input_audio": {}}], "data"),
    ],
)
def test_a_bad_chat_is_an_error(server: LiveServer, parts: list[dict[str, Any]], says: str) -> None:
    status, answer = _chat(server, *parts)
    assert status == 400
    assert says in answer["error"]["message"]


def test_a_key_is_asked_for_here_too(sentence: Path) -> None:
    with LiveServer("--api-key", "secret") as live:
        url = f"{live.http_url}/v1"
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
        answer = openai.OpenAI(base_url=url, api_key="secret").audio.transcriptions.create(file=sentence, model="any")
        assert words(answer.text) == words(SAID)
