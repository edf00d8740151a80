"""Behaviour that the Python client and the browser's module share, from one description: `tests/vectors/`."""

from __future__ import annotations

import json
import random
from array import array
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pytest

from clients.events import Event, decode_event
from clients.ledger import AudioLedger, Control, Ping
from clients.media.mixing import Mixer
from clients.retry import Patience, backoff_s
from tests.support.vectors import cases, load, run_javascript

Step = dict[str, Any]

LEDGER = load("ledger")
SCRIPTS = [{"rate": 1000, "keep_s": 10, "channels": 1, "options": LEDGER["options"], **s} for s in LEDGER["scripts"]]
RETRIES = load("retry")["scripts"]


def run_python(script: dict[str, Any]) -> list[Any]:
    """What each step gives with `clients.ledger`."""
    channels = script["channels"]
    ledger = AudioLedger(script["rate"], channels, split=channels > 1, keep_s=script["keep_s"])

    def audio(count: int) -> None:
        samples = range(ledger.end + 1, ledger.end + 1 + count)
        ledger.append(array("h", [sample for sample in samples for _ in range(channels)]).tobytes())

    def begin(changes: dict[str, Any]) -> Any:
        if changes.get("lead_in_ms") == "all":
            changes = {**changes, "lead_in_ms": ledger.lead_in_ms}
        before = ledger.settled_ms
        reconnected = ledger.begin_session({**script["options"], **changes})
        lost = [before, ledger.settled_ms] if reconnected.lost_ms else None
        assert reconnected.lost_ms == pytest.approx(ledger.settled_ms - before, abs=1)
        return {"resent_ms": reconnected.resent_ms, "lost": lost}

    def resume(received: list[int]) -> Any:
        reconnected = ledger.resume_session(*received)
        assert (reconnected.lost_ms, reconnected.resumed) == (0, True)
        return {"resent_ms": reconnected.resent_ms}

    def event(sent: dict[str, Any]) -> list[Event]:
        observed = decode_event(json.dumps(sent))
        assert observed is not None
        return ledger.observe(observed)

    def gap() -> list[int] | None:
        found = ledger.take_gap()
        return None if found is None else [found.start_ms, found.end_ms]

    actions = {
        "audio": audio,
        "finalize": lambda _: ledger.finalize(),
        "stop": lambda _: ledger.stop(),
        "begin": begin,
        "resume": resume,
        "configure": lambda _: ledger.count_control(),
        "send": partial(send, ledger, channels),
        "event": event,
        "gap": lambda _: gap(),
        "provisional": lambda _: ledger.take_provisional(),
        "state": lambda _: {
            "end_ms": ledger.end_ms,
            "settled_ms": ledger.settled_ms,
            "unsent_s": ledger.unsent_s,
            "full": ledger.full,
        },
        "lead_in": lambda _: ledger.lead_in_ms,
    }
    return [actions[action](step[action]) for step in script["steps"] for action in [next(iter(step))]]


def send(ledger: AudioLedger, channels: int, count: int | str) -> dict[str, Any]:
    sent: list[Any] = []
    pings: list[int] = []
    while count == "all" or len(sent) + len(pings) < int(count):
        message = ledger.next_message()
        if message is None:
            break
        if isinstance(message, Ping):
            pings.append(message.id)
        else:
            sent.append(message.value if isinstance(message, Control) else message)
    return {"sent": joined(sent, channels), "pings": pings}


def joined(sent: list[Any], channels: int) -> list[Any]:
    """Messages with audio in ranges as long as they can be."""
    found: list[Any] = []
    for message in sent:
        if isinstance(message, str):
            found.append(message)
            continue
        samples = array("h", message)
        for at in range(0, len(samples), channels):
            frame = samples[at : at + channels]
            position = max(frame) - 1
            silent = [channel for channel, value in enumerate(frame) if not value]
            note = [{"silent": silent}] if silent else []
            if found and isinstance(found[-1], list) and found[-1][1] == position and found[-1][2:] == note:
                found[-1][1] += 1
            else:
                found.append([position, position + 1, *note])
    return found


def expected(step: Step) -> Any:
    return [step["event"]] if step.get("gives") == "same" else step.get("gives")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script["name"])
def test_the_python_ledger_does_as_described(script: dict[str, Any]) -> None:
    for step, given in zip(script["steps"], run_python(script), strict=True):
        events = "event" in step or "provisional" in step
        assert given == ([decode_event(json.dumps(event)) for event in expected(step)] if events else expected(step)), (
            step
        )


@pytest.fixture(scope="module")
def in_browser() -> dict[str, list[Any]]:
    scripts = [script for script in SCRIPTS if script["channels"] == 1]
    given = run_javascript(ledger=scripts)["ledger"]
    return {script["name"]: result for script, result in zip(scripts, given, strict=True)}


@pytest.mark.parametrize("script", [s for s in SCRIPTS if s["channels"] == 1], ids=lambda script: script["name"])
def test_the_browsers_ledger_does_as_described(script: dict[str, Any], in_browser: dict[str, list[Any]]) -> None:
    for step, given in zip(script["steps"], in_browser[script["name"]], strict=True):
        assert given == expected(step), step


@pytest.mark.full
def test_both_ledgers_agree_whatever_happens() -> None:
    draw = random.Random(7)
    common = {"channels": 1, "keep_s": 2, "options": {**LEDGER["options"], "max_utterance_s": 1}}
    scripts = [{**common, "rate": draw.choice([1000, 4410]), "steps": [*random_steps(draw)]} for _ in range(100)]
    for script, given in zip(scripts, run_javascript(ledger=scripts)["ledger"], strict=True):
        for step, python, javascript in zip(script["steps"], run_python(script), given, strict=True):
            if "event" in step or "provisional" in step:
                python = [plain(event) for event in python]
                javascript = [plain(decode_event(json.dumps(event))) for event in javascript]
            assert python == javascript, (step, script["steps"])


def plain(event: Event | None) -> Any:
    return msgspec.to_builtins(event)


def random_steps(draw: random.Random) -> Iterator[Step]:
    """A stream with a server that is right about little, and breaks often."""
    yield {"begin": {}}
    appended = 0
    utterance = 0
    for _ in range(60):
        action = draw.choice(
            ["audio", "audio", "send", "send", "send", "event", "event", "begin", "resume", "finalize", "other"]
        )
        if action == "audio" and appended < 30_000:
            count = 100 * draw.choice([1, 3, 10, 40])
            appended += count
            yield {"audio": min(count, 32_000 - appended + count)}
        elif action == "send":
            yield {"send": draw.choice([1, 5, 20, "all"])}
        elif action == "begin":
            utterance = 0
            yield {"begin": draw.choice([{}, {"lead_in_ms": "all"}])}
        elif action == "resume":
            yield {"resume": [2 * draw.randrange(0, appended + 1), draw.randrange(0, 60)]}
        elif action == "finalize":
            yield {"finalize": True}
        elif action == "event":
            time = draw.randrange(0, max(1, appended))
            start = draw.randrange(0, time + 1)
            utterance += draw.choice([0, 1])
            common = {"utterance": max(1, utterance), "time_ms": time}
            yield {
                "event": draw.choice(
                    [
                        {"type": "speech_started", **common},
                        {
                            "type": "speech_ended",
                            **common,
                            "start_ms": start,
                            "reason": draw.choice(["stop", "length"]),
                        },
                        {"type": "final", **common, "start_ms": start, "text": "so"},
                        {"type": "finalized", "time_ms": time},
                        {"type": "pong", "id": time},
                        {"type": "configured", "options": {"pre_roll_ms": draw.choice([0, 700])}},
                    ]
                )
            }
        else:
            yield draw.choice([{"gap": True}, {"state": True}, {"lead_in": True}, {"provisional": True}])
    yield {"stop": True}
    yield {"send": "all"}
    yield {"event": {"type": "done", "audio_ms": appended}}
    yield {"state": True}


@pytest.mark.full
def test_both_clients_wait_equally_long_between_attempts() -> None:
    in_javascript = run_javascript(retry=RETRIES)["retry"]
    for script, given in zip(RETRIES, in_javascript, strict=True):
        patience = Patience(limit_s=300)
        for step, javascript in zip(script["steps"], given, strict=True):
            attempt = patience.failed(0, step["failed"]["progress"])
            assert attempt is not None
            python = {"attempt": attempt, "delay_ms": round(1000 * backoff_s(attempt, step["random"]))}
            assert python == javascript == step["gives"], (script["name"], step)


@pytest.mark.full
@pytest.mark.parametrize("section", ["split", "width"])
def test_the_browser_cuts_and_measures_texts_as_described(section: str) -> None:
    described = cases("scripts", section)
    for case, given in zip(described, run_javascript(scripts=described)["scripts"], strict=True):
        assert case == {**case, **{name: value for name, value in given.items() if name in case}}


@pytest.mark.full
def test_the_browser_writes_subtitles_as_described() -> None:
    described = cases("subtitles", "cases")
    for case, given in zip(described, run_javascript(subtitles=described)["subtitles"], strict=True):
        assert given == {"srt": case["srt"], "vtt": case["vtt"]}, case["name"]


RATE = 2000
_TIMES = np.arange(3 * RATE) / RATE
_TONE = 0.3 * np.sin(2 * np.pi * 170 * _TIMES) * (1 + np.sin(2 * np.pi * 3 * _TIMES))
_OTHER = 0.2 * np.sin(2 * np.pi * 230 * _TIMES)
_HISS = np.random.default_rng(0).normal(0, 1e-4, len(_TIMES))
CHANNELS = {
    "equal": [_TONE, _TONE],
    "inverted": [_TONE, -0.98 * _TONE],
    "inverted with an offset": [_TONE + 0.2, 0.1 - _TONE],
    "one silent": [_HISS, _TONE],
    "one of six": [_HISS, _HISS, _HISS, _TONE, _HISS, _HISS],
    "in turns": [np.where(_TIMES % 2 < 1, _TONE, _HISS), np.where(_TIMES % 2 < 1, _HISS, _OTHER)],
    "inverted later": [_TONE, np.where(_TIMES < 1, _TONE, -_TONE)],
    "mono": [_TONE],
    "silence": [np.zeros(len(_TIMES)), np.zeros(len(_TIMES))],
}


@pytest.mark.full
def test_the_browser_mixes_channels_as_the_server_does() -> None:
    given = [
        {"rate": RATE, "channels": np.float32(channels).tolist(), "chunk": chunk}
        for channels, chunk in zip(CHANNELS.values(), (128, 128, 77, 128, 1000, 6000, 128, 128, 128), strict=True)
    ]
    for name, channels, mixed in zip(CHANNELS, CHANNELS.values(), run_javascript(mixing=given)["mixing"], strict=True):
        frames = np.stack(channels, axis=1).astype(np.float32)
        np.testing.assert_allclose(mixed, Mixer(len(channels), RATE).mix(frames), atol=1e-5, err_msg=name)
