"""Turns made from sets of speech, for machines without a data set of real turns.

What a set can show depends on what is recorded in it:

- *Talk* (clips with their speakers' turns): the ends are real. A turn counts where its speaker holds the floor alone
  at its end.
- *Read speech* (all other clips): one clip is one turn. Its pauses are those of a reader, and its end is where the
  recording was cut, which is often no end of a thought. Such rows show what a fixed silence costs, and nothing of a
  judge that listens to how a phrase ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.common.speech import Clip
from benchmarks.turns.rows import SHORTEST_S, Row, Silence
from streaming_asr.core.recognizer import SAMPLE_RATE, Audio
from streaming_asr.core.voice import run_inline
from streaming_asr.voice.adaptive import ThoroughDetector

TAIL_S = 4.0
"""How long the recording's own room goes on after each turn: longer than any wait that is tried."""
SAME_TURN_S = 3.0
"""A speaker who goes on after at most this much time, and before anyone else speaks, goes on with the same turn."""
ALONE_S = 1.0
"""A turn counts only if nobody else speaks in its last second, except for `OVERLAP_S`..."""
OVERLAP_S = 0.3
"""...since in talk the next speaker often begins a little early."""
SHORTEST_TURN_S = 0.6
_LEAD_S = 0.2
"""Audio before a turn that is cut from a longer recording."""
_ROOM = SAMPLE_RATE // 5
"""Samples of the moment that is continued."""


def rows_of(clips: Sequence[Clip]) -> list[Row]:
    """A row for each turn of talk, and for each clip of other speech; clips without a voice in them give none."""
    return [row for clip in clips for row in (_of_talk(clip) if clip.turns else _of_reading(clip))]


def _of_reading(clip: Clip) -> Iterator[Row]:
    yield from _row(clip.id, clip.language, clip.audio())


def _of_talk(clip: Clip) -> Iterator[Row]:
    audio = clip.audio()
    for number, (start_s, end_s) in enumerate(floor_turns(clip.turns, len(audio) / SAMPLE_RATE), 1):
        first = max(0, round((start_s - _LEAD_S) * SAMPLE_RATE))
        yield from _row(f"{clip.id}-{number}", clip.language, audio[first : round(end_s * SAMPLE_RATE)])


def floor_turns(segments: Sequence[tuple[str, float, float]], length_s: float) -> list[tuple[float, float]]:
    """Start and end, in seconds, of the turns at whose end their speaker holds the floor alone.

    Args:
        segments: (speaker, start, end) in seconds.
        length_s: of the recording; a turn that reaches its end may go on, so it does not count.
    """
    turns: list[tuple[str, float, float]] = []
    for speaker in sorted({name for name, _, _ in segments}):
        others = [segment for segment in segments if segment[0] != speaker]
        open_turn: tuple[str, float, float] | None = None
        for _, start, end in sorted((one for one in segments if one[0] == speaker), key=lambda one: one[1]):
            if (
                open_turn is not None
                and start - open_turn[2] <= SAME_TURN_S
                and not _shared(others, open_turn[2], start)
            ):
                open_turn = (speaker, open_turn[1], end)
                continue
            if open_turn is not None:
                turns.append(open_turn)
            open_turn = (speaker, start, end)
        if open_turn is not None:
            turns.append(open_turn)
    return sorted(
        (start, end)
        for speaker, start, end in turns
        if end - start >= SHORTEST_TURN_S
        and end < length_s - SHORTEST_S
        and _shared([one for one in segments if one[0] != speaker], end - ALONE_S, end) <= OVERLAP_S
    )


def _shared(others: Sequence[tuple[str, float, float]], start: float, end: float) -> float:
    """The longest time that one of the others speaks in an interval, seconds."""
    return max((max(0.0, min(end, last) - max(start, first)) for _, first, last in others), default=0.0)


def _row(name: str, language: str, audio: Audio) -> Iterator[Row]:
    silences = silences_in(audio)
    if silences:
        whole = _in_room(audio, silences[-1].start_s)
        yield Row(name, language, silences, lambda: whole)


def silences_in(audio: Audio) -> tuple[Silence, ...]:
    """The silences after the first voice, as the voice detector finds them; the last is `TAIL_S` longer.

    Empty where there is no voice. The times are multiples of the detector's 32 ms, except for the end of the audio.
    """
    edges = _edges(audio)
    if not edges:
        return ()
    length_s = len(audio) / SAMPLE_RATE
    pauses = [
        Silence(start, end, is_end=False)
        for start, end in zip(edges[1::2], edges[2::2], strict=False)
        if end - start >= SHORTEST_S
    ]
    return (*pauses, Silence(min(edges[-1], length_s), length_s + TAIL_S, is_end=True))


def _edges(audio: Audio) -> list[float]:
    """Where voice begins and ends by turns, in seconds."""
    detector = ThoroughDetector()
    frame = detector.frame_samples
    padded = np.concatenate([audio, np.zeros(-len(audio) % frame, np.float32)])
    voiced: NDArray[np.bool_] = run_inline(detector.detect(padded.reshape(-1, frame)))
    changes = np.flatnonzero(np.diff(voiced.astype(np.int8), prepend=0, append=0))
    return [float(change) * frame / SAMPLE_RATE for change in changes]


def _in_room(audio: Audio, last_voice_s: float) -> Audio:
    """The recording with `TAIL_S` of its own room behind it, in which the detector finds no voice.

    White noise as loud as the room would not do: voice detectors take its begin for speech.
    """
    starts = range(0, max(1, len(audio) - _ROOM), _ROOM // 4)
    quietest = min(starts, key=lambda start: float((audio[start : start + _ROOM] ** 2).mean()))
    rooms = (audio[round(last_voice_s * SAMPLE_RATE) :], audio[quietest : quietest + _ROOM])
    length = round(TAIL_S * SAMPLE_RATE)
    for room in (one for one in rooms if len(one)):
        # Back and forth, so that there is no jump, which would sound like a voice.
        whole: Audio = np.concatenate([audio, np.resize(np.concatenate([room[::-1], room]), length)])
        if _edges(whole)[-1] <= last_voice_s + SHORTEST_S:
            return whole
    return np.concatenate([audio, np.zeros(length, np.float32)])
