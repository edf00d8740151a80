"""Clients that other people wrote, unmodified, each in a process of its own: OpenAI's protocol and its dialects.

Their scripts are in tests/sdks/clients. Real speech goes to the real server, at real time where partials matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.sdks.clips import KEY, Clips, telephone
from tests.sdks.environments import run_node, run_python
from tests.support.live_server import LiveServer
from tests.support.wire import assert_said

# The first of them installs their environment.
pytestmark = pytest.mark.timeout(900)

TRANSCRIPTION = "conversation.item.input_audio_transcription"
MID_WORD_MS = 1480
"""In the middle of a word of the first clip."""

Events = list[dict[str, Any]]


def _of(events: Events, scenario: str) -> Events:
    return [event for event in events if event["scenario"] == scenario]


def _texts(events: Events) -> list[str]:
    return [event["transcript"] for event in events if event["type"] == f"{TRANSCRIPTION}.completed"]


def _deltas(events: Events) -> str:
    return "".join(event["delta"] for event in events if event["type"] == f"{TRANSCRIPTION}.delta")


def _openai(guarded: LiveServer, run: str, **asked: Any) -> Events:
    url = f"{guarded.http_url}/v1"
    return run_python("clients", "openai_python.py", {"url": url, "key": KEY, "run": run, **asked})


def test_openai_python_receives_words_while_they_are_spoken(guarded: LiveServer, clips: Clips) -> None:
    reports = _openai(guarded, "vad", clips=[clips.raw(0), clips.raw(1)])
    for index, reference in enumerate(clips.texts()):
        events = _of(reports, f"vad {index}")
        kinds = [event["type"] for event in events]
        assert kinds[:2] == ["session.created", "session.updated"]
        started, spoken = kinds.index("input_audio_buffer.speech_started"), kinds.index("spoken")
        assert started < kinds.index(f"{TRANSCRIPTION}.delta") < spoken
        ended = ["input_audio_buffer.speech_stopped", "input_audio_buffer.committed", "conversation.item.added"]
        assert kinds[kinds.index(ended[0]) :][:3] == ended
        (text,) = _texts(events)
        assert_said(text, reference)
        assert_said(_deltas(events), reference, 0.3)
        assert events[-1]["usage"]["seconds"] > 1
        # Asked for, but the embedded recognizer's beam search knows none.
        assert "logprobs" not in events[-1]


def test_openai_python_commits(guarded: LiveServer, clips: Clips) -> None:
    reports = _openai(guarded, "manual", clips=[clips.raw(0)], mid_word_ms=MID_WORD_MS)
    reference = clips.texts()[0]
    at_real_time = _of(reports, "commit")
    kinds = [event["type"] for event in at_real_time]
    assert kinds.index(f"{TRANSCRIPTION}.delta") < kinds.index("spoken")
    assert "input_audio_buffer.speech_started" not in kinds
    assert_said(_texts(at_real_time)[0], reference)
    assert _texts(_of(reports, "empty")) == [""]
    halves = _texts(_of(reports, "first half")) + _texts(_of(reports, "second half"))
    assert len(halves) == 2
    assert all(halves)
    # The word that was cut, and what stands beside it, may be lost.
    assert_said(" ".join(halves), reference, 0.5)
    cleared = _of(reports, "cleared")
    assert "input_audio_buffer.cleared" in [event["type"] for event in cleared]
    assert _texts(cleared) == [""]
    assert _texts(_of(reports, "silence")) == [""]
    committed = [event for event in reports if event["type"] == "input_audio_buffer.committed"]
    assert [event["previous_item_id"] for event in committed] == [None, *(e["item_id"] for e in committed[:-1])]


def _telephone(speech: Path | None, folder: Path) -> Iterator[dict[str, Any]]:
    """Announcements of a telephone exchange, each committed as one, where the machine has them."""
    for path, text in telephone(speech, folder):
        form = {"name": path, "format": {"type": "audio/pcmu"}, "bytes_per_second": 8000, "chunk_ms": 20}
        yield {**form, "commit": True, "path": path, "text": text}


def test_openai_python_sends_any_rate_encoding_and_chunk(
    guarded: LiveServer, clips: Clips, speech: Path | None, tmp_path: Path
) -> None:
    forms = [*_telephone(speech, tmp_path)]
    spoken = [form.pop("text") for form in forms]
    for rate, encoding, chunk_ms in (
        *((8_000, "s16le", 10), (16_000, "s16le", 500), (24_000, "s16le", 10), (48_000, "s16le", 500)),
        *((8_000, "mulaw", 20), (8_000, "alaw", 500)),
    ):
        kind = {"s16le": "audio/pcm", "mulaw": "audio/pcmu", "alaw": "audio/pcma"}[encoding]
        forms.append(
            {
                "name": f"{encoding} {rate} {chunk_ms}",
                "format": {"type": kind, "rate": rate} if encoding == "s16le" else {"type": kind},
                "path": clips.raw(0, rate, encoding, silence_s=1.0),
                "bytes_per_second": rate * (2 if encoding == "s16le" else 1),
                "chunk_ms": chunk_ms,
                "commit": False,
            }
        )
    reports = _openai(guarded, "formats", formats=forms)
    texts = [" ".join(_texts(_of(reports, form["name"]))) for form in forms]
    for text in texts[len(spoken) :]:
        assert_said(text, clips.texts()[0], 0.35)
    if spoken:
        assert_said(" ".join(texts[: len(spoken)]), " ".join(spoken), 0.1)


def test_openai_python_is_told_what_is_wrong_and_goes_on(guarded: LiveServer, clips: Clips) -> None:
    reports = _openai(guarded, "errors", clips=[clips.raw(0)])
    wrong = [event["error"] for event in reports if event["type"] == "error"]
    codes = [error["code"] for error in wrong]
    assert codes == ["invalid_json", "invalid_message", "unknown_type", "invalid_audio", "invalid_value"]
    assert {error["type"] for error in wrong} == {"invalid_request_error"}
    assert wrong[2]["event_id"] == "mine"
    assert "knows en" in wrong[4]["message"]
    assert_said(" ".join(_texts(reports)), clips.texts()[0])
    assert [event["type"] for event in reports].count("input_audio_buffer.speech_started") == 1, "silence is not speech"


def test_openai_python_brings_a_key(guarded: LiveServer) -> None:
    reports = _openai(guarded, "keys")
    (refused,) = _of(reports, "wrong key")
    assert refused["type"] == "refused"
    assert "401" in refused["error"]
    issued, created = _of(reports, "secret")
    assert issued["prefix"] == "ek_"
    for session in (issued["session"], created["session"]):
        assert session["type"] == "transcription"
        assert session["audio"]["input"]["transcription"]["language"] == "en"
        assert session["audio"]["input"]["turn_detection"] is None


def test_openai_python_beta(guarded: LiveServer, clips: Clips) -> None:
    reports = _openai(guarded, "beta", clips=[clips.raw(0)])
    kinds = [event["type"] for event in reports]
    assert "transcription_session.updated" in kinds
    assert "conversation.item.created" in kinds
    assert_said(" ".join(_texts(reports)), clips.texts()[0])


def test_livekit(guarded: LiveServer, clips: Clips) -> None:
    """Twice by one client, in chunks of 10 ms and of 500 ms."""
    asked = {"url": f"{guarded.http_url}/v1", "key": KEY, "clip": clips.raw(0, 16_000)}
    reports = run_python("clients", "livekit_agents.py", asked)
    for index in range(2):
        events = _of(reports, str(index))
        kinds = [event["type"] for event in events]
        assert kinds.index("start_of_speech") < kinds.index("interim_transcript") < kinds.index("spoken")
        assert kinds.index("interim_transcript") < kinds.index("final_transcript")
        assert "end_of_speech" in kinds
        assert_said(
            " ".join(event["text"] for event in events if event["type"] == "final_transcript"), clips.texts()[0]
        )


@pytest.fixture(scope="module")
def pipecat(guarded: LiveServer, clips: Clips) -> Events:
    """What Pipecat's services receive, two at a time."""
    asked = {"url": f"{guarded.http_url}/v1", "key": KEY, "clips": [clips.raw(0, 16_000), clips.raw(0, 16_000)]}
    return run_python("clients", "pipecat_services.py", {**asked, "runs": PIPECAT})


PIPECAT = ["server_vad", "semantic_vad", "own_vad", "together"]


@pytest.mark.parametrize("run", PIPECAT)
def test_pipecat(pipecat: Events, clips: Clips, run: str) -> None:
    reports = _of(pipecat, run)
    kinds = [event["type"] for event in reports]
    assert "error" not in kinds, reports
    assert kinds.index("InterimTranscriptionFrame") < kinds.index("spoken")
    finals = [event["text"] for event in reports if event["type"] == "TranscriptionFrame"]
    assert_said(" ".join(finals), " ".join(clips.texts()[:1] * 2))
    by_server = run in ("server_vad", "semantic_vad")
    assert ("ProposedUserStartedSpeakingFrame" in kinds) == by_server
    if not by_server:
        assert len(finals) == 2


def test_dashscope(guarded: LiveServer, clips: Clips) -> None:
    url = guarded.http_url.replace("http", "ws", 1) + "/api-ws/v1/realtime"
    asked = {"url": url, "key": KEY, "clips": [clips.raw(0, 16_000)]}
    reports = run_python("clients", "dashscope_qwen.py", asked)
    by_pauses = _of(reports, "vad")
    kinds = [event["type"] for event in by_pauses]
    assert kinds.index("input_audio_buffer.speech_started") < kinds.index(f"{TRANSCRIPTION}.text")
    assert kinds.index(f"{TRANSCRIPTION}.text") < kinds.index("spoken")
    assert kinds[-2:] == ["session.finished", "closed"]
    assert_said(" ".join(_texts(by_pauses)), " ".join(clips.texts()[:1] * 2))
    texts = [event for event in by_pauses if event["type"] == f"{TRANSCRIPTION}.text"]
    assert any(event["stash"] for event in texts)
    by_commits = _of(reports, "manual")
    (text,) = _texts(by_commits)
    assert_said(text, clips.texts()[0])
    assert "input_audio_buffer.speech_started" not in [event["type"] for event in by_commits]
    silent = _of(reports, "silence")
    assert _texts(silent) == []
    assert [event["error"]["code"] for event in silent if event["type"] == "error"] == ["invalid_json"]
    assert "session.finished" in [event["type"] for event in silent]


def test_dashscope_sends_any_rate_and_chunk_and_commits_nothing_and_in_mid_word(
    guarded: LiveServer, clips: Clips
) -> None:
    forms = [
        {"name": f"{rate}", "rate": rate, "chunk_ms": chunk_ms, "path": clips.raw(0, rate)}
        for rate, chunk_ms in ((8_000, 10), (16_000, 500), (24_000, 10), (48_000, 500))
    ]
    forms.append({"name": "cut", "rate": 16_000, "chunk_ms": 100, "path": clips.raw(0, 16_000), "cut_ms": MID_WORD_MS})
    url = guarded.http_url.replace("http", "ws", 1) + "/api-ws/v1/realtime"
    reports = run_python("clients", "dashscope_qwen.py", {"url": url, "key": KEY, "forms": forms})
    for form in forms:
        nothing, *texts = _texts(_of(reports, form["name"]))
        assert nothing == ""
        assert len(texts) == (2 if "cut_ms" in form else 1)
        assert_said(" ".join(texts), clips.texts()[0], 0.5 if "cut_ms" in form else 0.35)


@pytest.mark.parametrize(("rate", "chunk_ms"), [(8_000, 500), (48_000, 10)])
def test_agents_of_other_rates(guarded: LiveServer, clips: Clips, rate: int, chunk_ms: int) -> None:
    """LiveKit's and Pipecat's services side by side, as they would be in a call centre and in a studio."""
    clip, key, http = clips.raw(0, rate), KEY, guarded.http_url
    silence = clips.silence(2 * rate / 16_000)
    runs = (
        ("livekit_agents.py", {"url": f"{http}/v1", "clip": clip, "silence": True}),
        ("deepgram_livekit.py", {"url": http, "clip": clip, "silence": silence}),
        ("pipecat_services.py", {"url": f"{http}/v1", "runs": ["server_vad"], "clips": [clip]}),
        ("deepgram_pipecat.py", {"url": http, "clips": [clip]}),
    )
    form = {"key": key, "rate": rate, "chunk_ms": chunk_ms}
    with ThreadPoolExecutor(len(runs)) as pool:
        reports = list(pool.map(lambda run: run_python("clients", run[0], {**run[1], **form}), runs))
    for events in reports:
        finals: dict[str, list[str]] = {}
        for event in events:
            if event["type"] in ("final_transcript", "TranscriptionFrame"):
                finals.setdefault(event["scenario"], []).append(event["text"])
        assert finals
        assert "silence" not in finals
        for texts in finals.values():
            assert_said(" ".join(texts), clips.texts()[0], 0.35)
    assert [event["type"] for event in _of(reports[0], "silence")] == ["left"]


def test_vllm_s_example(guarded: LiveServer, clips: Clips) -> None:
    asked = {"url": f"{guarded.http_url}/v1", "key": KEY, "clip": clips.raw(0, 16_000), "model": "tiny.en"}
    reports = run_python(
        "clients", "vllm_example.py", {**asked, "silence": clips.silence(2), "nothing": clips.silence(0)}
    )
    for scenario in ("named", "older", "10 ms", "500 ms"):
        events = _of(reports, scenario)
        kinds = [event["type"] for event in events]
        assert kinds.index("transcription.delta") < kinds.index("spoken")
        done = events[-1]
        assert_said(done["text"], clips.texts()[0])
        assert_said("".join(event["delta"] for event in events if event["type"] == "transcription.delta"), done["text"])
    updated = _of(reports, "500 ms")[1]
    assert (updated["type"], updated["model"]) == ("session.updated", "tiny.en")
    for event in _of(reports, "500 ms"):
        # The finals of the embedded recognizer, which end each utterance, have none.
        if event["type"] == "transcription.delta" and event["logprobs"] is not None:
            assert "".join(entry["token"] for entry in event["logprobs"]).strip() == event["delta"].strip()
    assert any(event.get("logprobs") for event in _of(reports, "500 ms"))
    assert not any(event.get("logprobs") for event in _of(reports, "named"))
    assert _of(reports, "unknown")[-1]["code"] == "model_not_found"
    for scenario in ("silence", "nothing"):
        assert _of(reports, scenario)[-1]["text"] == ""


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, Path]]:
    """A server that speaks TLS, and the certificate to trust."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    trusted, certificate, private = (folder / name for name in ("ca.pem", "certificate.pem", "key.pem"))
    authority.cert_pem.write_to_path(str(trusted))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(private))
    with LiveServer("--api-key", KEY, "--certificate", str(certificate), "--private-key", str(private)) as live:
        yield live, trusted


@pytest.mark.parametrize(("rate", "chunk_ms"), [(24_000, 100), (8_000, 500), (48_000, 10)])
def test_openai_javascript(encrypted: tuple[LiveServer, Path], clips: Clips, rate: int, chunk_ms: int) -> None:
    """It speaks to TLS only; the browser's connection brings its key as a subprotocol."""
    live, trusted = encrypted
    asked = {"url": f"{live.http_url}/v1", "key": KEY, "clip": clips.raw(0, rate), "rate": rate, "chunkMs": chunk_ms}
    reports = run_node("clients", "openai_node.mjs", asked, NODE_EXTRA_CA_CERTS=str(trusted))
    for scenario in ("node", "browser"):
        events = _of(reports, scenario)
        kinds = [event["type"] for event in events]
        assert kinds.index(f"{TRANSCRIPTION}.delta") < kinds.index("input_audio_buffer.committed")
        assert_said(" ".join(_texts(events)), clips.texts()[0], 0.35)
