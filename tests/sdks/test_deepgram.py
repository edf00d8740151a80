"""Clients that other people wrote, unmodified, each in a process of its own: Deepgram's live protocol and its Flux.

Their scripts are in tests/sdks/clients. Real speech goes to the real server, at real time where interims matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.sdks.clips import KEY, Clips, telephone
from tests.sdks.environments import run_node, run_python
from tests.support.live_server import LiveServer
from tests.support.media_files import clip, encoded
from tests.support.wire import assert_said

# The first of them installs their environment.
pytestmark = pytest.mark.timeout(900)

MID_WORD_MS = 1480
"""In the middle of a word of the first clip."""

PAUSE_S = 0.6
"""Between the sentences of a turn."""

Messages = list[dict[str, Any]]


def _of(messages: Messages, scenario: str) -> Messages:
    return [message for message in messages if message["scenario"] == scenario]


def _kinds(messages: Messages) -> list[str]:
    return [message["type"] for message in messages]


def _results(messages: Messages, *, final: bool = True) -> Messages:
    return [message for message in messages if message["type"] == "Results" and message["is_final"] is final]


def _text(results: dict[str, Any]) -> str:
    text: str = results["channel"]["alternatives"][0]["transcript"]
    return text


def _texts(messages: Messages) -> str:
    return " ".join(filter(None, map(_text, _results(messages))))


def _sdk(guarded: LiveServer, clips: Clips, *run: str, **asked: Any) -> Messages:
    paths = [clips.raw(index, 16_000) for index in (0, 1)]
    arguments = {"url": guarded.http_url, "key": KEY, "run": run, "clips": paths, **asked}
    return run_python("clients", "deepgram_python.py", arguments)


@pytest.fixture(scope="module")
def unjudged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server whose turn detector can't run, as where onnxruntime is not installed: silence alone ends turns."""
    folder = tmp_path_factory.mktemp("without")
    (folder / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    search = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    with LiveServer("--api-key", KEY, environment={"PYTHONPATH": search}) as live:
        yield live


@pytest.fixture(scope="module")
def flux(guarded: LiveServer, unjudged: LiveServer, clips: Clips) -> tuple[Messages, Messages]:
    """The same conversation with both servers at the same time: the one with the detector, and the one without."""
    pause_ends_ms = round(1000 * PAUSE_S) + Path(clips.raw(0, 16_000)).stat().st_size // 32
    audio = {"pausing": clips.both(PAUSE_S, 0.6), "pause_ends_ms": pause_ends_ms, "silence": clips.silence(2.5)}
    with ThreadPoolExecutor(2) as pool:
        judged, by_silence = pool.map(lambda live: _sdk(live, clips, "flux", **audio), (guarded, unjudged))
    return judged, by_silence


def test_the_sdk_receives_words_while_they_are_spoken(guarded: LiveServer, clips: Clips) -> None:
    reports = _sdk(guarded, clips, "live", "blocking")
    for index, reference in enumerate(clips.texts()):
        messages = _of(reports, f"live {index}")
        kinds = _kinds(messages)
        assert kinds[0] == "SpeechStarted"
        interims, (final,) = _results(messages, final=False), _results(messages)
        assert messages.index(interims[0]) < kinds.index("spoken") < messages.index(final)
        assert kinds[-3:] == ["UtteranceEnd", "Metadata", "closed"]
        assert not any(interim["speech_final"] for interim in interims)
        assert (final["speech_final"], final["channel_index"]) == (True, [0, 1])
        assert_said(_text(final), reference)
        alternative = final["channel"]["alternatives"][0]
        assert alternative["languages"] == ["en"]
        assert [word["punctuated_word"] for word in alternative["words"]] == alternative["transcript"].split()
        for results in (*interims, final):
            times = [t for word in results["channel"]["alternatives"][0]["words"] for t in (word["start"], word["end"])]
            assert all(earlier <= later for earlier, later in pairwise(times))
            assert results["start"] <= times[0]
            assert times[-1] <= results["start"] + results["duration"] + 0.001
        assert messages[-3]["last_word_end"] == alternative["words"][-1]["end"]
        assert messages[-2]["request_id"] == final["metadata"]["request_id"]
        seconds = Path(clips.raw(index, 16_000)).stat().st_size / 32_000
        assert messages[-2]["duration"] == pytest.approx(seconds + 2, abs=0.1)
    blocking = _of(reports, "blocking")
    assert _kinds(blocking) == ["Results", "Metadata"]
    assert_said(_texts(blocking), clips.texts()[0])


def test_words_lie_where_they_were_spoken(guarded: LiveServer, clips: Clips) -> None:
    reports = _sdk(guarded, clips, "blocking")
    words = _results(reports)[0]["channel"]["alternatives"][0]["words"]
    true = clips.words(0)
    assert [word["word"] for word in words] == [word for word, _, _ in true]
    apart = [abs(word["start"] - start) for word, (_, start, _) in zip(words, true, strict=True)]
    assert np.median(apart) < 0.1


def test_the_sdk_finalizes_configures_and_is_told_what_is_wrong(guarded: LiveServer, clips: Clips) -> None:
    messages = _sdk(guarded, clips, "finalize", mid_word_ms=MID_WORD_MS)
    assert _kinds(messages)[:5] == ["Results", "Error", "Error", "ConfigureSuccess", "ConfigureFailure"]
    wrong = [message for message in messages if message["type"] == "Error"]
    assert {message["variant"] for message in wrong} == {"SchemaError"}
    assert wrong[0]["message"] == "{no JSON"
    assert "Dance" in wrong[1]["description"]
    assert messages[3]["keyterms"] == ["Dashwood", "Norland"]
    assert "longer than 100" in messages[4]["description"]
    finals = _results(messages)
    assert (finals[0]["from_finalize"], _text(finals[0])) == (True, ""), "an empty one is answered too"
    assert sum(final["from_finalize"] for final in finals) == 3
    texts = [_text(final) for final in finals if _text(final)]
    assert_said(texts[0], clips.texts()[0])
    assert texts[0] == texts[0].lower().replace(".", ""), "punctuation was not wanted"
    # The word that was cut, and what stands beside it, may be lost.
    assert_said(" ".join(texts[1:]), clips.texts()[0], 0.5)
    assert _kinds(messages)[-2:] == ["Metadata", "closed"]


def _form(name: str, path: str, rate: int, encoding: str = "linear16", chunk_ms: int = 100, **query: str) -> Any:
    width = {"linear16": 2, "linear32": 4}.get(encoding, 1)
    return {
        "name": name,
        "path": path,
        "bytes_per_second": rate * width * int(query.get("channels", "1")),
        "chunk_ms": chunk_ms,
        "query": {"encoding": encoding, "sample_rate": str(rate), **query},
    }


def test_the_sdk_sends_any_form_of_audio(
    guarded: LiveServer, clips: Clips, speech: Path | None, tmp_path: Path
) -> None:
    forms = [
        *(_form(f"{rate}", clips.raw(0, rate), rate, chunk_ms=ms) for rate, ms in ((8_000, 10), (24_000, 500))),
        _form("48000", clips.raw(0, 48_000), 48_000, chunk_ms=500),
        _form("mulaw", clips.raw(0, 8_000, "mulaw"), 8_000, "mulaw", 20),
        _form("alaw", clips.raw(0, 8_000, "alaw"), 8_000, "alaw", 500),
        _form("floats", clips.raw(0, 16_000, "f32le"), 16_000, "linear32"),
        _form("two", clips.side_by_side(), 16_000, channels="2", multichannel="true"),
        _form("silence", clips.silence(2), 16_000, interim_results="true", vad_events="true"),
    ]
    webm = tmp_path / "a.webm"
    webm.write_bytes(encoded("webm", "libopus", clip("a"), rate=48_000, live="1"))
    forms.append({"name": "WebM", "path": str(webm), "bytes_per_second": 10_000, "chunk_ms": 250, "query": {}})
    calls = [*telephone(speech, tmp_path)]
    forms += [_form(path, path, 8_000, "mulaw", 20) for path, _ in calls]
    reports = _sdk(guarded, clips, "forms", forms=forms)
    if calls:
        messages, spoken = zip(*((_texts(_of(reports, path)), text) for path, text in calls), strict=True)
        assert_said(" ".join(messages), " ".join(spoken), 0.15)
    for name in ("8000", "24000", "48000", "mulaw", "alaw", "floats", "WebM"):
        assert_said(_texts(_of(reports, name)), clips.texts()[0], 0.35)
    two = _of(reports, "two")
    for channel, reference in enumerate(clips.texts()):
        assert {tuple(results["channel_index"]) for results in _results(two)} == {(0, 2), (1, 2)}
        assert_said(
            _texts([results for results in _results(two) if results["channel_index"] == [channel, 2]]), reference
        )
    assert two[-2]["channels"] == 2
    assert _kinds(_of(reports, "silence")) == ["Metadata", "closed"]


def test_the_sdk_is_refused(guarded: LiveServer, clips: Clips) -> None:
    reports = _sdk(guarded, clips, "refusals")
    for scenario, status in (("wrong key", 401), ("bad rate", 400), ("bad encoding", 400)):
        refused = _of(reports, scenario)
        assert [(message["version"], message["status"]) for message in refused] == [("v1", status), ("v2", status)]
    assert "it knows en" in _of(reports, "language")[0]["description"]
    assert "Ogg" in _of(reports, "container")[0]["description"]


def test_the_sdk_receives_turns_that_a_detector_judges(flux: tuple[Messages, Messages], clips: Clips) -> None:
    """Which pauses end a turn is its choice, and silence's where it has no time: what was said must be there."""
    messages, _ = flux
    infos = [message for message in messages if message["type"] == "TurnInfo"]
    turns = [list(turn) for _, turn in groupby(infos, key=lambda info: info["turn_index"])]
    for turn in turns:
        shown = [info["event"] for info in turn if info["event"] != "Update"]
        assert shown[0] == "StartOfTurn"
        assert shown[-1] == "EndOfTurn"
        eager = shown[1:-1]
        assert eager[::2] == len(eager[::2]) * ["EagerEndOfTurn"]
        assert eager[1::2] == len(eager[1::2]) * ["TurnResumed"]
        if len(eager) % 2:
            last = [info["transcript"] for info in turn if info["event"] == "EagerEndOfTurn"][-1]
            assert turn[-1]["transcript"] == last, "the eager end predicted it"
    assert_said(" ".join(turn[-1]["transcript"] for turn in turns), " ".join([*clips.texts(), clips.texts()[0]]))
    assert turns[-1][-1]["trigger"] == "manual"
    assert messages[-1]["type"] == "closed"


def test_the_sdk_receives_turns_that_end_by_silence(flux: tuple[Messages, Messages], clips: Clips) -> None:
    _, messages = flux
    assert messages[0]["type"] == "Connected"
    numbered = [message["sequence_id"] for message in messages if "sequence_id" in message]
    assert numbered == list(range(len(numbered)))
    turns = [[info for info in messages if info.get("turn_index") == index] for index in (0, 1)]
    events = [[info["event"] for info in turn] for turn in turns]
    for turn in events:
        assert turn[0] == "StartOfTurn"
        assert turn[1] == "Update"
        assert turn[-1] == "EndOfTurn"
    assert messages.index(turns[0][1]) < _kinds(messages).index("spoken")
    eager = [event for event in events[0] if event in ("EagerEndOfTurn", "TurnResumed", "EndOfTurn")]
    assert eager == ["EagerEndOfTurn", "TurnResumed", "EagerEndOfTurn", "EndOfTurn"]
    assert turns[0][-1]["transcript"] == turns[0][-2]["transcript"], "the eager end predicted it"
    assert_said(turns[0][-1]["transcript"], " ".join(clips.texts()))
    assert_said(turns[1][-1]["transcript"], clips.texts()[0])
    assert [turn[-1]["trigger"] for turn in turns] == ["model", "manual"]
    assert all(info["words"] for turn in turns for info in turn)
    configured = [message for message in messages if message["type"].startswith("Configure")]
    assert _kinds(configured) == ["ConfigureSuccess", "ConfigureFailure"]
    assert configured[0]["thresholds"]["eot_threshold"] == 0.6
    assert "0.5 to 1" in configured[1]["description"]
    assert [message["code"] for message in messages if message["type"] == "Warning"] == ["UNPARSABLE_CLIENT_MESSAGE"]
    assert messages[-1]["type"] == "closed"


def test_the_sdk_gets_who_speaks(guarded: LiveServer, clips: Clips) -> None:
    messages = _sdk(guarded, clips, "diarize", dialogue=clips.dialogue())
    finals = [results["channel"]["alternatives"][0]["words"] for results in _results(messages) if _text(results)]
    assert [{word["speaker"] for word in words} for words in finals] == [{0}, {1}]


def test_livekit(unjudged: LiveServer, clips: Clips) -> None:
    asked = {"url": unjudged.http_url, "key": KEY, "clip": clips.raw(0, 16_000), "eager": True}
    reports = run_python("clients", "deepgram_livekit.py", asked)
    for scenario in ("live 0", "live 1", "flux"):
        messages = _of(reports, scenario)
        kinds = _kinds(messages)
        assert kinds[:2] == ["start_of_speech", "interim_transcript"]
        assert kinds.index("final_transcript") < kinds.index("end_of_speech") < kinds.index("spoken")
        assert kinds.count("final_transcript") == 1
        final = messages[kinds.index("final_transcript")]
        assert_said(final["text"], clips.texts()[0])
        assert " ".join(word for word, _ in final["words"]) == final["text"]
    assert "preflight_transcript" in _kinds(_of(reports, "flux"))


def test_livekit_gets_who_speaks(guarded: LiveServer, clips: Clips) -> None:
    asked = {"url": guarded.http_url, "key": KEY, "clip": clips.raw(0, 16_000), "dialogue": clips.dialogue()}
    reports = run_python("clients", "deepgram_livekit.py", asked)
    finals = [message for message in _of(reports, "diarize") if message["type"] == "final_transcript"]
    assert [final["speaker"] for final in finals if final["text"]] == ["S0", "S1"]


def test_pipecat(guarded: LiveServer, clips: Clips) -> None:
    paths = [clips.raw(0, 16_000), clips.raw(0, 16_000)]
    reports = run_python("clients", "deepgram_pipecat.py", {"url": guarded.http_url, "key": KEY, "clips": paths})
    for scenario in ("live", "flux"):
        messages = _of(reports, scenario)
        kinds = _kinds(messages)
        assert "error" not in kinds
        assert kinds.index("InterimTranscriptionFrame") < kinds.index("spoken") < kinds.index("TranscriptionFrame")
        finals = [frame["text"] for frame in messages if frame["type"] == "TranscriptionFrame"]
        assert len(finals) == 2
        for final in finals:
            assert_said(final, clips.texts()[0])
    assert _kinds(_of(reports, "flux")).count("ProposedUserStoppedSpeakingFrame") == 2


@pytest.mark.parametrize(("rate", "chunk_ms"), [(16_000, 100), (8_000, 500), (48_000, 10)])
def test_the_sdk_for_javascript(guarded: LiveServer, clips: Clips, rate: int, chunk_ms: int) -> None:
    asked = {"url": guarded.http_url, "key": KEY, "clip": clips.raw(0, rate), "rate": rate, "chunkMs": chunk_ms}
    reports = run_node("clients", "deepgram_node.mjs", asked)
    live, flux = _of(reports, "live"), _of(reports, "flux")
    assert_said(_texts(live), clips.texts()[0], 0.35)
    assert live.index(_results(live, final=False)[0]) < _kinds(live).index("spoken")
    assert _kinds(live)[-2:] == ["Metadata", "closed"]
    assert_said(
        " ".join(info["transcript"] for info in flux if info.get("event") == "EndOfTurn"), clips.texts()[0], 0.35
    )
    assert (live[-1]["code"], flux[-1]["code"]) == (1000, 1000)
