"""What a partial costs as its utterance grows, on the real engine: our way beside the two that are in use elsewhere.

    python -m benchmarks.studies.partial_cost [--seconds 120] [--repeats 3] [--output results/partial_cost]

Ways:
    ours        the utterance in encoder windows, with the text so far as a forced prefix
    everything  the whole utterance again each time, likewise (the algorithm of Qwen's own package)
    pieces      only the current piece of 5 s, without what came before (vLLM's realtime endpoint)

Weights are random, so every way is made to say as many tokens as speech of that length has. The encoder has the size
of Qwen3-ASR-0.6B's; the language model is small, since a CPU stands in for an accelerator.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, Context
from streaming_asr.recognizers.vllm.models.base import Completion, Request
from streaming_asr.recognizers.vllm.models.mel import FRAMES_PER_S
from streaming_asr.recognizers.vllm.models.qwen3_audio import AudioInput, Form, UtteranceAudio
from tests.vllm.engine import LiveEngine, whole
from tests.vllm.tiny_qwen3_asr import RELEASED_ENCODER, make_checkpoint

TOKENS_PER_S = 3.5
"""Of English text."""
NEW_TOKENS = 12
"""A partial's own: two seconds of speech and the rollback."""
PIECE_S = 5
SAWTOOTH_S = 8
"""A partial's tail grows by a window before it is frozen; figures are averaged over that."""
BYTES_PER_FRAME = 128 * 4


@dataclass(frozen=True)
class Cost:
    """Of one partial."""

    way: str
    length_s: float
    """Of the utterance so far."""
    took_s: float
    prefilled: int
    """Prompt positions that were not in the cache."""
    encoded_s: float
    """Audio that went through the encoder, seconds."""
    sent_bytes: int
    """Features that went to the engine's process."""


class Bench:
    """Runs partials on one engine and takes down what they cost.

    Args:
        repeats: each way is measured this many times, with utterances of its own; a length's time is their median.
    """

    def __init__(self, live: LiveEngine, audio: Audio, repeats: int) -> None:
        self._live = live
        self._audio = audio
        self._repeats = repeats
        self._word = live.prompt.ids(0, Context(), None)[-2]

    def ours(self, lengths: Sequence[float]) -> list[Cost]:
        def way(repeat: int) -> Callable[[float], Request]:
            utterance = UtteranceAudio(f"ours {repeat}", self._live.geometry, Form.FEATURES)
            return lambda seconds: self._request(utterance.input(self._until(seconds), exact=False), seconds)

        return self._median("ours", lengths, way)

    def everything(self, lengths: Sequence[float]) -> list[Cost]:
        def way(repeat: int) -> Callable[[float], Request]:
            return lambda seconds: self._request(
                _unseen(self._until(seconds), f"everything {seconds} {repeat}"), seconds
            )

        return self._median("everything", lengths, way)

    def pieces(self, lengths: Sequence[float]) -> list[Cost]:
        def request(repeat: int, seconds: float) -> Request:
            piece = (seconds - 0.001) % PIECE_S + 0.001
            audio = self._until(seconds)[-round(piece * SAMPLE_RATE) :]
            unseen = _unseen(audio, f"piece {seconds} {repeat}")
            return self._live.request(unseen, language="en", max_tokens=max(1, round(TOKENS_PER_S * piece)))

        return self._median("pieces", lengths, lambda repeat: lambda seconds: request(repeat, seconds))

    def _median(
        self, name: str, lengths: Sequence[float], way: Callable[[int], Callable[[float], Request]]
    ) -> list[Cost]:
        taken: list[list[Cost]] = []
        for repeat in range(self._repeats):
            make = way(repeat)
            taken.append([self._measure(name, seconds, make) for seconds in lengths])
        return [
            replace(same[0], took_s=statistics.median(cost.took_s for cost in same))
            for same in zip(*taken, strict=True)
        ]

    def _until(self, seconds: float) -> Audio:
        return self._audio[: int(seconds * SAMPLE_RATE)]

    def _request(self, audio: AudioInput, seconds: float) -> Request:
        said = max(0, int(TOKENS_PER_S * seconds) - NEW_TOKENS)
        return self._live.request(audio, language="en", prefix=[self._word] * said, max_tokens=NEW_TOKENS)

    def _measure(self, way: str, seconds: float, make: Callable[[float], Request]) -> Cost:
        stats = self._live.recognizer.stats
        encoded = stats.encoder_tokens
        began = time.perf_counter()
        request = make(seconds)
        completion: Completion = self._live.run(request)
        took = time.perf_counter() - began
        return Cost(
            way,
            seconds,
            took,
            completion.prompt_tokens - completion.cached_tokens,
            (stats.encoder_tokens - encoded) / 13,
            _frames(request) * BYTES_PER_FRAME,
        )


def _unseen(audio: Audio, name: str) -> AudioInput:
    """A whole waveform that no cache can know."""
    return replace(whole(audio), names=(name,))


def _frames(request: Request) -> int:
    audio = request.prompt["multi_modal_data"]["audio"]
    if isinstance(audio, dict):
        return int(audio["audio_feature_lengths"].sum())
    return sum(len(samples) * FRAMES_PER_S // SAMPLE_RATE for samples, _ in audio)


def mean_at(costs: Sequence[Cost], way: str, seconds: float) -> float:
    """Seconds that a partial takes around a length, averaged over a sawtooth."""
    near = [cost.took_s for cost in costs if cost.way == way and seconds <= cost.length_s < seconds + SAWTOOTH_S]
    return statistics.fmean(near)


def plot(costs: Sequence[Cost], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), sharex=True)
    quantities: list[tuple[str, Callable[[Cost], float]]] = [
        ("time, s", lambda cost: cost.took_s),
        ("positions prefilled", lambda cost: cost.prefilled),
        ("audio encoded, s", lambda cost: cost.encoded_s),
        ("features sent, MB", lambda cost: cost.sent_bytes / 1e6),
    ]
    for axis, (title, quantity) in zip(axes.flat, quantities, strict=True):
        for way in dict.fromkeys(cost.way for cost in costs):
            own = [cost for cost in costs if cost.way == way]
            axis.plot([cost.length_s for cost in own], [quantity(cost) for cost in own], marker=".", label=way)
        axis.set_title(title)
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    for axis in axes[1]:
        axis.set_xlabel("utterance so far, s")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120, help="length of the utterance")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--step", type=float, default=1.0, help="seconds from partial to partial, ours and pieces")
    parser.add_argument("--output", type=Path, default=Path("results/partial_cost"), help="of .json and .png")
    options = parser.parse_args()
    audio = np.random.default_rng(0).normal(0, 0.1, options.seconds * SAMPLE_RATE).astype(np.float32)
    lengths = [float(n) for n in np.arange(2, options.seconds + 0.01, options.step)]
    # All of it again is slow: a few lengths show the line.
    some = [n for n in (2, 5, 10, 15, 20, 30, 45, 60, 75, 90, 105, 120) if n <= options.seconds]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = make_checkpoint(Path(folder), RELEASED_ENCODER)
        with LiveEngine(checkpoint, "--max-model-len=4096", "--max-num-seqs=4") as live:
            bench = Bench(live, audio, options.repeats)
            costs = bench.ours(lengths) + bench.everything(some) + bench.pieces(lengths)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(json.dumps([asdict(cost) for cost in costs], indent=1))
    plot(costs, options.output.with_suffix(".png"))
    report(costs)


def report(costs: Sequence[Cost]) -> None:
    """Print a table and the judged ratio."""
    print(f"{'way':<12}{'length':>8}{'time':>9}{'prefilled':>11}{'encoded':>9}{'sent':>9}")
    for cost in costs:
        if cost.length_s in (2, 5, 10, 20, 30, 45, 60, 90, 120):
            sent = f"{cost.sent_bytes / 1e6:.2f} MB"
            print(
                f"{cost.way:<12}{cost.length_s:>6.0f} s{1000 * cost.took_s:>6.0f} ms{cost.prefilled:>11}"
                f"{cost.encoded_s:>7.1f} s{sent:>9}"
            )
    longest = max(cost.length_s for cost in costs)
    if longest >= 60 + SAWTOOTH_S:
        early, late = mean_at(costs, "ours", 10), mean_at(costs, "ours", 60)
        print(
            f"ours, averaged over {SAWTOOTH_S} s: {1000 * early:.0f} ms at 10 s, {1000 * late:.0f} ms at 60 s:", end=" "
        )
        print(f"{late / early:.2f} times")
        everything = {cost.length_s: cost.took_s for cost in costs if cost.way == "everything"}
        print(f"everything: {everything[60.0] / everything[10.0]:.2f} times")


if __name__ == "__main__":
    main()
