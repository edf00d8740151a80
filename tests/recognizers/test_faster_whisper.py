"""The embedded recognizer with its real weights on real speech."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import jiwer
import numpy as np
import pytest
import soundfile
from whisper_normalizer.english import EnglishTextNormalizer

from streaming_asr.core.recognizer import (
    SAMPLE_RATE,
    Audio,
    Context,
    DecodeFailed,
    DecodeJob,
    Hypothesis,
    Kind,
)
from streaming_asr.recognizers.common.repetition import LEAST_TOKENS, find_loop
from streaming_asr.recognizers.whisper.decoding import Options, Padding
from streaming_asr.recognizers.whisper.model import FRAMES_PER_S, Draft, Encoding
from streaming_asr.recognizers.whisper.prompt import WINDOW_S
from streaming_asr.recognizers.whisper.recognizer import WAITING_PER_WORKER, FasterWhisperRecognizer

T = TypeVar("T")

LONG = "sense_and_sensibility_01_0870"
BEGINNING = "john dashwood had then leisure"
"""Of `LONG`. On some processors the "And Mr." before it is missing from a partial."""
LOOPS_ON_SOME = "sense_and_sensibility_01_0930"

normal = EnglishTextNormalizer()


class Clips:
    def __init__(self, folder: Path) -> None:
        lines = (folder / "manifest.jsonl").read_text().splitlines()
        self.all = {clip["id"]: clip for clip in map(json.loads, lines)}
        self._folder = folder

    def audio(self, clip: str, seconds: float | None = None) -> Audio:
        samples, rate = soundfile.read(self._folder / self.all[clip]["path"], dtype="float32")
        assert rate == SAMPLE_RATE
        audio: Audio = samples[: None if seconds is None else int(seconds * rate)]
        return audio


class Running:
    """A started recognizer and its event loop."""

    def __init__(self, model: str = "tiny.en", **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.recognizer = FasterWhisperRecognizer(model, device="cpu", **options)
        self.wait(self.recognizer.start())

    def wait(self, awaitable: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, 240))

    def decode(self, audio: Audio, kind: Kind = Kind.FINAL, **job: Any) -> Hypothesis:
        return self.wait(self.recognizer.decode(DecodeJob(1, kind, "u", audio, **job)))

    def close(self) -> None:
        self.wait(self.recognizer.close())
        self.loop.close()


@pytest.fixture(scope="module")
def clips(librivox: Path) -> Clips:
    return Clips(librivox)


@pytest.fixture(scope="module")
def whisper() -> Iterator[Running]:
    running = Running(workers=2)
    yield running
    running.close()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts recognizers of a test's own."""
    started: list[Running] = []

    def start(**options: Any) -> Running:
        started.append(Running(**options))
        return started[-1]

    yield start
    for running in started:
        running.close()


# Text


def test_finals_have_the_right_words(whisper: Running, clips: Clips) -> None:
    said = [normal(clip["text"]) for clip in clips.all.values()]
    decoded = [normal(whisper.decode(clips.audio(clip)).text) for clip in clips.all]
    assert jiwer.wer(said, decoded) < 0.12
    assert decoded[0] == said[0]


def test_a_partial_is_the_beginning_of_what_is_said(whisper: Running, clips: Clips) -> None:
    partial = whisper.decode(clips.audio(LONG, 3), Kind.PARTIAL)
    assert BEGINNING in normal(partial.text)


def test_text_begins_without_a_space_and_is_the_sum_of_its_pieces(whisper: Running, clips: Clips) -> None:
    found = whisper.decode(clips.audio(LONG))
    assert found.text == found.text.strip()
    assert len(found.pieces) == len(found.tokens)
    assert found.complete
    assert found.language == "en"
    assert found.language_probability == 1.0


def test_a_forced_prefix_keeps_its_token_ids(whisper: Running, clips: Clips) -> None:
    free = whisper.decode(clips.audio(LONG, 4), Kind.PARTIAL)
    # One that the model would not choose: its own words with one left out.
    forced = tuple(whisper.decode(clips.audio(LONG, 1), Kind.PARTIAL).tokens[:1]) + free.tokens[2:5]
    found = whisper.decode(clips.audio(LONG), Kind.PARTIAL, prefix=forced)
    assert found.tokens[: len(forced)] == forced
    assert len(found.tokens) > len(forced)
    assert found.text == "".join(found.pieces)
    assert not found.text.startswith(" ")
    assert normal(found.text).endswith("in his power to do for them")


def test_continuing_a_stable_prefix_gives_the_same_pieces_for_it(whisper: Running, clips: Clips) -> None:
    partial = whisper.decode(clips.audio(LONG, 4), Kind.PARTIAL)
    stable = partial.tokens[:4]
    later = whisper.decode(clips.audio(LONG, 6), Kind.PARTIAL, prefix=stable)
    assert later.pieces[:4] == partial.pieces[:4]


def test_partials_say_how_sure_each_token_is(whisper: Running, clips: Clips) -> None:
    found = whisper.decode(clips.audio(LONG), Kind.PARTIAL)
    assert found.logprobs is not None
    assert len(found.logprobs) == len(found.tokens)
    assert all(logprob <= 0 for logprob in found.logprobs)
    assert found.confidence is not None
    assert 0.5 < found.confidence <= 1
    assert found.no_speech is not None
    assert found.no_speech < 0.5


def test_keywords_decide_how_a_name_is_spelt(whisper: Running, clips: Clips) -> None:
    plain = whisper.decode(clips.audio(LONG))
    informed = whisper.decode(clips.audio(LONG), context=Context(keywords=("Jon Dashwode", "Mansfield")))
    assert "John Dash" in plain.text
    assert "Jon Dash" in informed.text


def test_more_context_than_the_model_takes_is_cut(whisper: Running, clips: Clips) -> None:
    endless = Context(text="Northanger Abbey. " * 500, keywords=("Dashwood",) * 500, previous="He said so. " * 500)
    found = whisper.decode(clips.audio(LONG), context=endless)
    assert found.cost.prompt_tokens < 448 // 2 + 8
    assert found.tokens


# Short encoder input


def test_a_short_partial_is_not_padded_to_thirty_seconds(whisper: Running, clips: Clips) -> None:
    assert whisper.decode(clips.audio(LONG, 3), Kind.PARTIAL).cost.audio_s <= 15


@pytest.mark.parametrize("kind", [Kind.PARTIAL, Kind.FINAL])
def test_long_speech_keeps_silence_behind_it(whisper: Running, clips: Clips, kind: Kind) -> None:
    audio = np.concatenate([clips.audio(clip) for clip in clips.all])[: 18 * SAMPLE_RATE]
    found = whisper.decode(audio, kind)
    assert 18 < found.cost.audio_s < 30
    assert found.complete
    assert found.cost.decodes == 1


def loop_if(running: Running, condition: Callable[[Encoding, Sequence[int]], bool]) -> None:
    """Make the decoder end in a loop on any processor, where `condition` holds for the encoding and the prefix."""
    whisper = running.recognizer._whisper
    assert whisper is not None
    generate = whisper.generate

    def looping(encoding: Encoding, *, prefix: Sequence[int] = (), **options: Any) -> Draft:
        draft = generate(encoding, prefix=prefix, **options)
        if not condition(encoding, prefix):
            return draft
        assert draft.logprobs is not None
        repeats = LEAST_TOKENS
        return replace(
            draft,
            tokens=draft.tokens[:-2] + repeats * draft.tokens[-2:],
            logprobs=draft.logprobs[:-2] + repeats * draft.logprobs[-2:],
        )

    whisper.generate = looping  # type: ignore[method-assign]


def is_padded_in_full(encoding: Encoding) -> bool:
    return int(encoding.shape[1]) == WINDOW_S * FRAMES_PER_S / 2


def test_a_decode_needs_no_new_thread(
    start: Callable[..., Running], clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(workers=2)

    def no_more(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_more)
    assert BEGINNING in normal(running.decode(clips.audio(LONG, 3)).text)
    monkeypatch.undo()


def test_a_loop_is_decoded_again_with_all_the_padding(start: Callable[..., Running], clips: Clips) -> None:
    running = start(workers=1)
    loop_if(running, lambda encoding, prefix: not is_padded_in_full(encoding))
    found = running.decode(clips.audio(LONG, 3), Kind.PARTIAL)
    assert found.cost.decodes == 2
    assert found.cost.audio_s == pytest.approx(12 + 30)
    assert BEGINNING in normal(found.text)
    assert find_loop(found.tokens) is None


def test_a_loop_behind_a_prefix_is_decoded_again_without_it(start: Callable[..., Running], clips: Clips) -> None:
    running = start(workers=1)
    audio = clips.audio(LONG, 3)
    free = running.decode(audio, Kind.PARTIAL)
    loop_if(running, lambda encoding, prefix: bool(prefix))
    found = running.decode(audio, Kind.PARTIAL, prefix=free.tokens[1:3])
    assert found.cost.decodes == 2
    assert found.cost.audio_s == pytest.approx(12)
    assert found.tokens == free.tokens


def test_a_loop_that_stays_without_its_prefix_is_decoded_with_all_the_padding(
    start: Callable[..., Running], clips: Clips
) -> None:
    running = start(workers=1)
    prefix = running.decode(clips.audio(LONG, 3), Kind.PARTIAL).tokens[:2]
    loop_if(running, lambda encoding, prefix: not is_padded_in_full(encoding))
    found = running.decode(clips.audio(LONG, 3), Kind.PARTIAL, prefix=prefix)
    assert found.cost.decodes == 3
    assert BEGINNING in normal(found.text)


def test_a_loop_that_nothing_ends_is_said_once(start: Callable[..., Running], clips: Clips) -> None:
    running = start(workers=1)
    loop_if(running, lambda encoding, prefix: True)
    found = running.decode(clips.audio(LONG, 3), Kind.PARTIAL)
    assert found.cost.decodes == 2
    assert BEGINNING in normal(found.text)
    assert find_loop(found.tokens) is None
    assert found.logprobs is not None
    assert len(found.logprobs) == len(found.tokens)


def test_a_clip_that_loops_on_some_processors_does_not_loop_in_the_end(
    start: Callable[..., Running], clips: Clips
) -> None:
    # Without padding, int8 arithmetic sends this clip into a loop on some processors; on others it says a word twice.
    bare = start(workers=1, options=Options(partial=Padding(floor_s=1, tail_s=0)))
    audio = clips.audio(LOOPS_ON_SOME, 3)
    free = bare.decode(audio, Kind.PARTIAL)
    for found in (free, bare.decode(audio, Kind.PARTIAL, prefix=free.tokens[:3])):
        assert normal(found.text).startswith("he might even have been made amiable himself")
        assert find_loop(found.tokens) is None


# No speech


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros(0, np.float32),
        np.zeros(10, np.float32),
        np.full(1500, 0.1, np.float32),
        np.zeros(3 * SAMPLE_RATE, np.float32),
        np.full(3 * SAMPLE_RATE, 1e-30, np.float32),
        np.random.default_rng(1).normal(0, 0.001, 3 * SAMPLE_RATE).astype(np.float32),
        np.random.default_rng(1).normal(0, 0.3, 3 * SAMPLE_RATE).clip(-1, 1).astype(np.float32),
    ],
    ids=["nothing", "ten samples", "94 ms", "zeros", "denormal", "hiss", "loud noise"],
)
@pytest.mark.parametrize("kind", [Kind.PARTIAL, Kind.FINAL])
def test_no_speech_gives_no_text(whisper: Running, audio: Audio, kind: Kind) -> None:
    found = whisper.decode(audio, kind, word_times=True)
    assert found.text == ""
    assert found.tokens == ()
    assert not found.words
    assert found.no_speech is not None
    assert found.no_speech > 0.5


# Word times


def test_words_have_times_near_the_real_ones(whisper: Running, clips: Clips) -> None:
    for name, clip in clips.all.items():
        found = whisper.decode(clips.audio(name), word_times=True)
        words = found.words
        assert words
        assert " ".join(word.text for word in words) == found.text
        for word, following in zip(words, (*words[1:], None), strict=True):
            assert 0 <= word.start_ms <= word.end_ms <= 1000 * clip["duration_s"] + 20
            assert following is None or word.end_ms <= following.start_ms
            assert word.probability is not None
            assert 0 <= word.probability <= 1
    reference = {word: start for word, start, _ in clips.all[LONG]["words"]}
    found = whisper.decode(clips.audio(LONG), word_times=True)
    for word in found.words or ():
        if word.text in ("Dashwood", "leisure", "consider", "prudently", "power"):
            assert word.start_ms == pytest.approx(1000 * reference[word.text.lower()], abs=400)


# The event loop


def test_the_event_loop_runs_on_while_decodes_run(whisper: Running, clips: Clips) -> None:
    jobs = [DecodeJob(n, Kind.FINAL, str(n), clips.audio(LONG)) for n in range(8)]

    async def ticks_meanwhile() -> int:
        decodes = asyncio.gather(*map(whisper.recognizer.decode, jobs))
        ticks = 0
        while not decodes.done():
            await asyncio.sleep(0.002)
            ticks += 1
        await decodes
        return ticks

    # Were it blocked by decodes, it would turn about once for each.
    assert whisper.wait(ticks_meanwhile()) > 5 * len(jobs)


def test_a_cancelled_job_that_waits_is_never_decoded(
    start: Callable[..., Running], clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = start(workers=1)
    model: Any = running.recognizer._whisper
    encode, encoded = model.encode, 0

    def counting(*args: Any) -> Any:
        nonlocal encoded
        encoded += 1
        return encode(*args)

    monkeypatch.setattr(model, "encode", counting)

    async def cancel_all_but_one() -> None:
        jobs = [
            asyncio.create_task(running.recognizer.decode(DecodeJob(n, Kind.FINAL, "u", clips.audio(LONG))))
            for n in range(6)
        ]
        await asyncio.sleep(0)
        for job in jobs[1:]:
            job.cancel()
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(results[0], Hypothesis)
        assert all(isinstance(result, asyncio.CancelledError) for result in results[1:])

    running.wait(cancel_all_but_one())
    assert running.decode(clips.audio(LONG)).text
    assert encoded == 2


def test_a_cancelled_job_ends_when_its_thread_is_free(
    start: Callable[..., Running], clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next job would be chosen too early, and wait behind it where a more urgent one can't overtake."""
    running = start(workers=1)
    model: Any = running.recognizer._whisper
    encode, began, go_on = model.encode, threading.Event(), threading.Event()

    def held(*args: Any) -> Any:
        began.set()
        assert go_on.wait(60)
        return encode(*args)

    monkeypatch.setattr(model, "encode", held)

    async def cancel_while_it_runs() -> None:
        decode = asyncio.create_task(running.recognizer.decode(DecodeJob(1, Kind.FINAL, "u", clips.audio(LONG))))
        assert await asyncio.to_thread(began.wait, 60)
        decode.cancel()
        await asyncio.wait([decode], timeout=0.05)
        assert not decode.done()
        assert running.recognizer._jobs
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await decode
        assert not running.recognizer._jobs

    running.wait(cancel_while_it_runs())


def test_no_more_jobs_wait_than_the_bound(start: Callable[..., Running], clips: Clips) -> None:
    running = start(workers=1)
    most = 1 + WAITING_PER_WORKER

    async def flood() -> list[Hypothesis | BaseException]:
        job = DecodeJob(1, Kind.PARTIAL, "u", clips.audio(LONG, 1))
        return await asyncio.gather(*(running.recognizer.decode(job) for _ in range(most + 3)), return_exceptions=True)

    results = running.wait(flood())
    refused = [result for result in results if isinstance(result, DecodeFailed)]
    assert len(refused) == 3
    assert f"{most} jobs" in str(refused[0])
    assert running.decode(clips.audio(LONG, 1), Kind.PARTIAL).text


def test_close_ends_what_runs_and_fails_what_waits(clips: Clips) -> None:
    running = Running(workers=1)

    async def close_amid_jobs() -> list[Hypothesis | BaseException]:
        jobs = [
            asyncio.create_task(running.recognizer.decode(DecodeJob(n, Kind.FINAL, "u", clips.audio(LONG))))
            for n in range(4)
        ]
        await asyncio.sleep(0)
        await running.recognizer.close()
        return await asyncio.gather(*jobs, return_exceptions=True)

    results = running.wait(close_amid_jobs())
    assert all(isinstance(result, DecodeFailed) for result in results[1:])
    with pytest.raises(DecodeFailed, match="not running"):
        running.decode(clips.audio(LONG))
    assert running.recognizer._whisper is None
    running.close()


def test_release_of_an_unknown_utterance_is_no_error(whisper: Running) -> None:
    whisper.recognizer.release("unknown")


# Errors


def test_more_than_thirty_seconds_are_refused(whisper: Running) -> None:
    with pytest.raises(DecodeFailed, match=r"at most 30 s of audio; the utterance has 30\.5 s"):
        whisper.decode(np.ones(int(30.5 * SAMPLE_RATE), np.float32))


def test_a_language_that_the_model_lacks_is_refused(whisper: Running, clips: Clips) -> None:
    with pytest.raises(DecodeFailed, match="'de', only en"):
        whisper.decode(clips.audio(LONG), language="de")


def test_its_capabilities_name_what_runs(whisper: Running) -> None:
    capabilities = whisper.recognizer.capabilities
    assert capabilities.model == "tiny.en"
    assert capabilities.concurrency == 2
    assert capabilities.languages == ("en",)
    assert capabilities.word_times
    assert capabilities.device == "cpu int8, 2 workers"
