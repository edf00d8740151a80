"""Each guard on its own, and several in a row."""

from __future__ import annotations

import numpy as np
import pytest

from streaming_asr.recognizers.common.guards import Draft, Repetition, Silence, is_silent, kept, loops

LOOP = (1, 2) * 10


def draft(tokens: tuple[int, ...] = (1, 2, 3), *, complete: bool = True, audio_s: float = 1.0, **more: float) -> Draft:
    return Draft(tokens, complete, audio_s, **more)


@pytest.mark.parametrize(
    ("no_speech", "mean_logprob", "stays"),
    [(0.9, -1.5, 0), (0.9, -0.5, 3), (0.1, -1.5, 3), (None, -1.5, 3), (0.9, None, 3)],
)
def test_a_text_is_dropped_only_where_silence_and_doubt_come_together(
    no_speech: float, mean_logprob: float, stays: int
) -> None:
    assert len(Silence()(draft(no_speech=no_speech, mean_logprob=mean_logprob))) == stays


def test_a_loop_is_kept_once_and_speech_as_it_is() -> None:
    assert list(Repetition()(draft(LOOP))) == [0, 1]
    assert list(Repetition()(draft())) == [0, 1, 2]


def test_a_repetition_that_there_was_time_to_say_stays() -> None:
    assert len(Repetition(6)(draft(LOOP, audio_s=4))) == 20
    assert len(Repetition(6)(draft(LOOP, audio_s=3))) == 2
    assert len(Repetition(6)(draft(LOOP, audio_s=4, complete=False))) == 2


def test_guards_see_what_those_before_them_kept() -> None:
    def without_first(seen: Draft) -> list[int]:
        return list(range(1, len(seen.tokens)))

    assert kept(draft((9, *LOOP, 5)), [without_first, Repetition(), without_first]) == [2, 21]
    assert kept(draft(), []) == [0, 1, 2]


def test_a_decode_that_the_limit_ended_counts_as_a_loop() -> None:
    assert loops((1, 2, 3), complete=False)
    assert loops(LOOP, complete=True)
    assert not loops((1, 2, 3), complete=True)


def test_audio_without_a_sound_or_too_short_is_silent() -> None:
    assert is_silent(np.zeros(16_000, np.float32))
    assert is_silent(np.ones(100, np.float32), shortest_s=0.1)
    assert not is_silent(np.ones(100, np.float32))
