"""Whether the recognizer's own probability of the end of the text says that a turn is over: docs/decisions.md.

    python -m benchmarks.studies.end_of_text --speech DIR --set conversation --model base

At each silence the turn so far is decoded as a speculative final would be. Then one more step of the decoder gives the
probability of the end of the text after it, and after the text without its last punctuation mark that of an end or of
the end of a sentence, whichever mark the text has. The table has the area under the ROC curve, true ends against
pauses, for each kind of evidence: 0.5 is chance, 1 is perfect.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.common.speech import NoSpeech, add_speech_option, clips, evenly_spaced
from benchmarks.turns.made import rows_of
from benchmarks.turns.rows import Row
from benchmarks.turns.sweep import Scored, counted
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.phrase import phrase_of
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio, DecodeJob, Kind
from streaming_asr.core.scripts import SENTENCE_ENDS
from streaming_asr.core.turn import Pause, TurnDetector
from streaming_asr.core.turn_policy import Evidence, judge
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.recognizers.whisper.decoding import Options, decode
from streaming_asr.recognizers.whisper.model import CTranslate2Whisper
from streaming_asr.recognizers.whisper.prompt import WINDOW_S
from streaming_asr.recognizers.whisper.weights import default_model, find_weights
from streaming_asr.turns.detectors import make_turn_detector

KEPT_S = 0.096
"""Silence behind the speech that a speculative final gets."""
ASKED_MS = 200
MARKS_BELOW = 2000
"""Punctuation marks by themselves are among the first tokens of the vocabulary."""
RESAMPLES = 2000
NAMES = {
    "text": "the text alone (docs/turns.md)",
    "smart_turn": "Smart Turn alone",
    "smart_turn_text": "Smart Turn and text, as in sessions",
    "end": "end of text",
    "bare_end": "end of text or of sentence, without the last mark",
    "smart_turn_end": "Smart Turn and end of text, mean of logits",
    "smart_turn_bare_end": "Smart Turn and end of text or sentence, mean of logits",
    "all": "all three, logistic, each turn by the fit to the other recordings",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """One silence and what each kind of evidence makes of it."""

    row: str
    is_end: bool
    silence_s: float
    text: str
    scores: dict[str, float]


class EndOfText:
    """Asks Whisper's decoder for the step after a text."""

    def __init__(self, whisper: CTranslate2Whisper) -> None:
        self._whisper = whisper
        self._model = whisper._model
        ends = frozenset(SENTENCE_ENDS)
        self._marks = [token for token in range(MARKS_BELOW) if whisper.text.pieces((token,))[0].strip() in ends]

    def next_step(self, audio: Audio, tokens: Sequence[int], language: str) -> NDArray[np.float64]:
        """Probabilities of all tokens after `tokens`."""
        length_s = min(WINDOW_S, Options().final.length_s(len(audio) / SAMPLE_RATE))
        encoding = self._whisper.encode(self._whisper.features(audio), length_s)
        start = [*self._whisper.prompt.start(language), *tokens]
        found = self._model.generate(
            encoding, [start], beam_size=1, max_length=len(start) + 1, return_logits_vocab=True, suppress_blank=False
        )[0]
        logits = np.asarray(found.logits[0][0], np.float64)
        odds = np.exp(logits - logits.max())
        probabilities: NDArray[np.float64] = odds / odds.sum()
        return probabilities

    def end(self, probabilities: NDArray[np.float64], *, or_sentence: bool = False) -> float:
        tokens = [self._whisper.prompt._end, *(self._marks if or_sentence else ())]
        return float(probabilities[tokens].sum())


def scores_of(whisper: CTranslate2Whisper, ends: EndOfText, detector: TurnDetector, row: Row) -> list[Judged]:
    audio, options = row.audio(), SessionOptions()
    counting = {id(one.silence) for part in counted([Scored(silence) for silence in row.silences]) for one in part}
    judged = []
    for silence in row.silences:
        if id(silence) not in counting:
            continue
        spoken = audio[: round((silence.start_s + KEPT_S) * SAMPLE_RATE)][-int(WINDOW_S * SAMPLE_RATE) :]
        language = row.language if row.language in whisper.languages else "en"
        found = decode(whisper, Options(), DecodeJob(1, Kind.SPECULATIVE, "study", spoken, language=language))
        text = found.text.strip()
        tokens = list(found.tokens)
        bare = tokens
        while bare and not any(map(str.isalnum, whisper.text.pieces((bare[-1],))[0])):
            bare = bare[:-1]
        turn = detector.probability(
            Pause(audio[: round((silence.start_s + ASKED_MS / 1000) * SAMPLE_RATE)], ASKED_MS, text, language)
        )
        phrase = phrase_of(text, language)
        end = ends.end(ends.next_step(spoken, tokens, language))
        bare_end = ends.end(ends.next_step(spoken, bare, language), or_sentence=True)
        judged.append(
            Judged(
                row.id,
                silence.is_end,
                silence.length_s,
                text,
                {
                    "text": judge(Evidence(0.5, phrase), options).probability,
                    "smart_turn": turn,
                    "smart_turn_text": judge(Evidence(turn, phrase), options).probability,
                    "end": end,
                    "bare_end": bare_end,
                    "smart_turn_end": logit(turn) + logit(end),
                    "smart_turn_bare_end": logit(turn) + logit(bare_end),
                },
            )
        )
    return judged


def logit(probability: float) -> float:
    kept = min(1 - 1e-4, max(1e-4, probability))
    return math.log(kept / (1 - kept))


def fit_to_others(judged: Sequence[Judged]) -> list[float]:
    """A logistic regression's score of each silence, fitted to the silences of all other recordings."""
    inputs = np.array([[logit(one.scores[name]) for name in ("smart_turn", "end", "bare_end")] for one in judged])
    inputs = np.column_stack([(inputs - inputs.mean(0)) / (inputs.std(0) + 1e-9), np.ones(len(judged))])
    wanted = np.array([one.is_end for one in judged], float)
    recordings = np.array([one.row.rsplit("-", 1)[0] for one in judged])
    scores = np.zeros(len(judged))
    for recording in set(recordings):
        others = recordings != recording
        weights = np.zeros(inputs.shape[1])
        for _ in range(2000):
            found = 1 / (1 + np.exp(-inputs[others] @ weights))
            weights += 0.1 * (inputs[others].T @ (wanted[others] - found) / others.sum() - 0.02 * weights)
        scores[~others] = inputs[~others] @ weights
    return [float(score) for score in scores]


def area(ends: NDArray[np.float64], pauses: NDArray[np.float64]) -> float:
    """The chance that an end has a higher score than a pause; equal scores are half."""
    higher = (ends[:, None] > pauses).mean() + 0.5 * (ends[:, None] == pauses).mean()
    return float(higher)


def show(judged: Sequence[Judged], title: str, console: Console) -> None:
    table = Table(title=title)
    for head in ("evidence", "AUC", "95 %", "more than Smart Turn alone, 95 %"):
        table.add_column(head)
    rows = sorted({one.row for one in judged})
    drawn = np.random.default_rng(0).integers(len(rows), size=(RESAMPLES, len(rows)))
    by_row = {row: [n for n, one in enumerate(judged) if one.row == row] for row in rows}
    is_end = np.array([one.is_end for one in judged])
    samples = [np.array([n for place in draw for n in by_row[rows[place]]]) for draw in drawn]
    samples = [sample for sample in samples if is_end[sample].any() and not is_end[sample].all()]
    base = np.array([one.scores["smart_turn"] for one in judged])

    def areas(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([area(scores[s][is_end[s]], scores[s][~is_end[s]]) for s in samples])

    usual = areas(base)
    for name, words in NAMES.items():
        scores = np.array([one.scores[name] for one in judged])
        found = areas(scores)
        low, high = np.percentile(found, (2.5, 97.5))
        more, less = np.percentile(found - usual, (2.5, 97.5))
        table.add_row(
            words,
            f"{area(scores[is_end], scores[~is_end]):.2f}",
            f"{low:.2f} to {high:.2f}",
            "" if name == "smart_turn" else f"{more:+.2f} to {less:+.2f}",
        )
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    limit_blas_threads()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.studies.end_of_text",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_speech_option(parser)
    parser.add_argument("--set", action="append", dest="sets", metavar="SET", help="default: conversation")
    parser.add_argument("--clips", type=int, metavar="N", help="of each set that many, spread over it; default all")
    parser.add_argument("--model", default=default_model(), help="default: the embedded Whisper")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every silence there")
    given = parser.parse_args(argv)
    whisper = CTranslate2Whisper(
        find_weights(given.model), device="cpu", compute_type="int8", workers=1, threads_per_worker=1
    )
    detector = make_turn_detector(SessionOptions(endpointing="turn"))
    assert detector is not None
    ends = EndOfText(whisper)
    console = Console()
    for name in given.sets or ["conversation"]:
        try:
            rows = rows_of(evenly_spaced(clips(given.speech, name), given.clips))
        except NoSpeech as error:
            parser.exit(1, f"{error}\n")
        judged = [one for row in rows for one in scores_of(whisper, ends, detector, row)]
        for one, score in zip(judged, fit_to_others(judged), strict=True):
            one.scores["all"] = score
        count = sum(one.is_end for one in judged)
        show(judged, f"{name}, {given.model}: {count} ends, {len(judged) - count} pauses", console)
        if given.json:
            given.json.write_text(json.dumps([asdict(one) for one in judged], indent=1, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
