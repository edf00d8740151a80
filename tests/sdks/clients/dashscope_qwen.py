"""The `dashscope` package's `OmniRealtimeConversation`, as Qwen's own cloud is used for live transcription."""

from __future__ import annotations

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

from dashscope.audio.qwen_omni import MultiModality, OmniRealtimeCallback, OmniRealtimeConversation
from dashscope.audio.qwen_omni.omni_realtime import TranscriptionParams
from speaking import asked, coded, paced, pcm, pieces, report, spoken

ASKED = asked()
COMPLETED = "conversation.item.input_audio_transcription.completed"
RATE = 16_000


class Listener(OmniRealtimeCallback):
    """Reports all events."""

    def __init__(self, scenario: str) -> None:
        self.scenario = scenario
        self.completed = threading.Event()
        self.wrong = threading.Event()
        self.closed = threading.Event()

    def on_close(self, close_status_code: int, close_msg: str) -> None:
        report(self.scenario, type="closed", code=close_status_code)
        self.closed.set()

    def on_event(self, message: dict) -> None:
        report(self.scenario, **message)
        if message["type"] == COMPLETED:
            self.completed.set()
        elif message["type"] == "error":
            self.wrong.set()


def converse(scenario: str) -> tuple[OmniRealtimeConversation, Listener]:
    listener = Listener(scenario)
    conversation = OmniRealtimeConversation(
        model="qwen3-asr-flash-realtime", url=ASKED["url"], api_key=ASKED["key"], callback=listener
    )
    conversation.connect()
    return conversation, listener


def update(conversation: OmniRealtimeConversation, *, vad: bool, rate: int = RATE) -> None:
    conversation.update_session(
        output_modalities=[MultiModality.TEXT],
        enable_turn_detection=vad,
        turn_detection_threshold=0.0,
        turn_detection_silence_duration_ms=400,
        transcription_params=TranscriptionParams(
            language="en", sample_rate=rate, input_audio_format="pcm", corpus_text="Sense and Sensibility"
        ),
    )


async def speak(conversation: OmniRealtimeConversation, listener: Listener, path: str) -> None:
    async for piece in paced(pcm(path), 2 * RATE):
        conversation.append_audio(coded(piece))
    await spoken(listener.scenario)


def vad() -> None:
    conversation, listener = converse("vad")
    update(conversation, vad=True)
    asyncio.run(speak(conversation, listener, ASKED["clips"][0]))
    conversation.append_audio(coded(bytes(2 * RATE)))
    assert listener.completed.wait(60)
    # What is still being said at the end is completed too.
    for piece in pieces(pcm(ASKED["clips"][0]), 6400):
        conversation.append_audio(coded(piece))
    conversation.end_session()
    assert listener.closed.wait(60)
    conversation.close()


def manual() -> None:
    conversation, listener = converse("manual")
    update(conversation, vad=False)
    asyncio.run(speak(conversation, listener, ASKED["clips"][0]))
    conversation.commit()
    assert listener.completed.wait(60)
    conversation.end_session()
    conversation.close()


def forms() -> None:
    """Rates and chunks, a commit of nothing, and one in mid-word; as fast as it is taken."""
    for form in ASKED["forms"]:
        conversation, listener = converse(form["name"])
        update(conversation, vad=False, rate=form["rate"])
        audio = pcm(form["path"])
        cuts = [0, form["cut_ms"] * form["rate"] // 500, len(audio)] if form.get("cut_ms") else [0, len(audio)]
        conversation.commit()
        assert listener.completed.wait(60)
        for start, end in itertools.pairwise(cuts):
            listener.completed.clear()
            for piece in pieces(audio[start:end], form["rate"] * form["chunk_ms"] // 500):
                conversation.append_audio(coded(piece))
            conversation.commit()
            assert listener.completed.wait(60)
        conversation.end_session()
        conversation.close()


def silence() -> None:
    conversation, listener = converse("silence")
    update(conversation, vad=True, rate=8000)
    conversation.append_audio(coded(bytes(16_000)))
    conversation.send_raw("{")
    assert listener.wrong.wait(60)
    conversation.end_session()
    conversation.close()


if "forms" in ASKED:
    forms()
else:
    with ThreadPoolExecutor() as pool:
        for running in [pool.submit(scenario) for scenario in (vad, manual, silence)]:
            running.result()
