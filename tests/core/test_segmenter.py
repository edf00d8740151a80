"""Voiced frames to utterances, on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.core.options import SessionOptions
from streaming_asr.core.segmenter import Boundary, Mark, Segmenter, samples_of

FRAME = 320
_MS = 16
"""Samples of a millisecond."""


def _flags(*runs: tuple[bool, int]) -> list[bool]:
    """(voiced, ms) runs as frames of 20 ms."""
    return [voiced for voiced, ms in runs for _ in range(ms // 20)]


def _push(segmenter: Segmenter, flags: list[bool], levels: list[float] | None = None) -> list[Boundary]:
    loud = [0.0 if flag else -60.0 for flag in flags] if levels is None else levels
    return segmenter.push(np.array(flags, bool), 10 ** (np.array(loud, np.float32) / 10))


def _segmenter(**options: Any) -> Segmenter:
    return Segmenter(FRAME, SessionOptions(**options))


def _ms(boundaries: list[Boundary]) -> list[tuple[Mark, int, int]]:
    return [(b.mark, b.position // _MS, b.speech // _MS) for b in boundaries]


def test_speech_between_silences_is_one_utterance() -> None:
    boundaries = _push(_segmenter(), _flags((False, 1000), (True, 1000), (False, 1000)))
    assert _ms(boundaries) == [
        (Mark.ONSET, 700, 1000),
        (Mark.SHORT_PAUSE, 2096, 2000),
        (Mark.PAUSE, 2096, 2000),
        (Mark.END, 2096, 2000),
    ]


def test_the_endpoint_comes_after_its_silence_and_not_before() -> None:
    segmenter = _segmenter(endpoint_ms=500)
    assert Mark.END not in [b.mark for b in _push(segmenter, _flags((True, 1000), (False, 480)))]
    assert [b.mark for b in _push(segmenter, _flags((False, 20)))] == [Mark.END]


def test_a_short_sound_opens_nothing() -> None:
    assert _push(_segmenter(onset_ms=100), _flags((False, 500), (True, 80), (False, 500))) == []
    assert _push(_segmenter(onset_ms=100), _flags((False, 500), (True, 100), (False, 500)))


def test_speech_that_goes_on_after_a_pause_is_the_same_utterance() -> None:
    boundaries = _push(_segmenter(), _flags((True, 1000), (False, 300), (True, 500), (False, 100), (True, 500)))
    marks = [b.mark for b in boundaries]
    assert marks == [Mark.ONSET, Mark.SHORT_PAUSE, Mark.PAUSE, Mark.RESUME, Mark.SHORT_PAUSE, Mark.RESUME]
    assert boundaries[3].position == 1300 * _MS


def test_the_pre_roll_takes_nothing_from_the_utterance_before() -> None:
    boundaries = _push(_segmenter(pre_roll_ms=2000), _flags((True, 500), (False, 600), (True, 500), (False, 600)))
    first_end = next(b for b in boundaries if b.mark is Mark.END).position
    assert [b.position for b in boundaries if b.mark is Mark.ONSET] == [0, first_end]


def test_without_an_endpoint_only_finalize_ends_an_utterance() -> None:
    segmenter = _segmenter(endpoint_ms=None)
    assert Mark.END not in [b.mark for b in _push(segmenter, _flags((True, 500), (False, 9000)))]
    assert _ms(segmenter.finalize(segmenter.position)) == [(Mark.END, 596, 500)]


def test_finalize_counts_a_sound_too_short_for_an_onset() -> None:
    segmenter = _segmenter(onset_ms=200)
    assert _push(segmenter, _flags((False, 500), (True, 60))) == []
    assert [b.mark for b in segmenter.finalize(segmenter.position)] == [Mark.ONSET, Mark.END]
    assert segmenter.finalize(segmenter.position) == []


def test_long_speech_is_cut_in_its_quietest_spot() -> None:
    segmenter = _segmenter(max_utterance_s=10)
    levels = [0.0] * 600
    for frame in range(400, 410):
        levels[frame] = -30.0
    boundaries = _push(segmenter, [True] * 600, levels)
    cut, onset = boundaries[1:3]
    assert (cut.mark, onset.mark) == (Mark.CUT, Mark.ONSET)
    assert 400 <= cut.position // FRAME <= 410
    assert onset.position == cut.position


def test_a_cut_prefers_silence_to_quiet_speech() -> None:
    segmenter = _segmenter(max_utterance_s=10)
    flags = [not 430 <= frame < 438 for frame in range(520)]
    levels = [-20.0] * 520
    cut = next(b for b in _push(segmenter, flags, levels) if b.mark is Mark.CUT)
    assert 430 <= cut.position // FRAME <= 438


def _silent(boundaries: list[Boundary]) -> list[tuple[Mark, int, int]]:
    """What follows the first onset, without the marks of pauses."""
    pauses = (Mark.SHORT_PAUSE, Mark.PAUSE, Mark.LONG_PAUSE)
    return [mark for mark in _ms(boundaries)[1:] if mark[0] not in pauses]


def test_silence_does_not_make_an_utterance_too_long() -> None:
    segmenter = _segmenter(max_utterance_s=5, endpoint_ms=None)
    assert _silent(_push(segmenter, _flags((True, 4000), (False, 50_000)))) == []
    assert _ms(segmenter.finalize(segmenter.position)) == [(Mark.END, 4096, 4000)]


def test_speech_that_would_make_an_utterance_too_long_begins_another_at_its_pause() -> None:
    segmenter = _segmenter(max_utterance_s=5, endpoint_ms=3000)
    boundaries = _push(segmenter, _flags((True, 4000), (False, 2000), (True, 500)))
    assert _silent(boundaries) == [(Mark.CUT, 4096, 4000), (Mark.ONSET, 5700, 6000)]


def test_speech_that_goes_on_just_in_time_is_the_same_utterance() -> None:
    boundaries = _push(_segmenter(max_utterance_s=5, endpoint_ms=3000), _flags((True, 4000), (False, 980), (True, 20)))
    assert [b.mark for b in boundaries[-3:]] == [Mark.RESUME, Mark.CUT, Mark.ONSET]
    assert boundaries[-2].position > 4000 * _MS, "it is cut in its pause"


def test_speech_that_ends_at_the_longest_utterance_waits_for_its_endpoint() -> None:
    segmenter = _segmenter(max_utterance_s=5, endpoint_ms=3000, short_pause_ms=96, pre_roll_ms=0)
    (end,) = _silent(_push(segmenter, _flags((True, 4940), (False, 3000))))
    assert end[0] is Mark.END
    assert 4940 <= end[1] <= 5000
    assert end[2] == 4940


def test_speech_after_a_long_pause_begins_another_utterance() -> None:
    def after(silence_ms: int) -> list[Mark]:
        segmenter = _segmenter(max_utterance_s=300, endpoint_ms=None)
        return [b.mark for b in _push(segmenter, _flags((True, 1000), (False, silence_ms), (True, 500)))[3:]]

    assert after(9_980) == [Mark.RESUME]
    assert after(10_000) == [Mark.LONG_PAUSE, Mark.CUT, Mark.ONSET]


def test_a_sound_too_short_for_speech_does_not_end_a_long_pause() -> None:
    segmenter = _segmenter(onset_ms=100, endpoint_ms=500)
    _push(segmenter, _flags((True, 1000), (False, 200)))
    segmenter.wait_for(20_000)
    boundaries = _push(segmenter, _flags((False, 12_000), (True, 80), (False, 10_000)))
    assert _ms(boundaries) == [(Mark.LONG_PAUSE, 1096, 1000), (Mark.END, 1096, 1000)]
    assert segmenter.position == 23_280 * _MS


def test_a_sound_in_a_long_pause_is_an_utterance_of_its_own_if_the_client_finalizes() -> None:
    segmenter = _segmenter(onset_ms=200, endpoint_ms=None)
    _push(segmenter, _flags((True, 1000), (False, 12_000), (True, 60)))
    boundaries = segmenter.finalize(segmenter.position)
    assert _ms(boundaries) == [(Mark.CUT, 1096, 1000), (Mark.ONSET, 12_700, 13_000), (Mark.END, 13_060, 13_060)]


def test_speech_that_begins_as_the_silence_ends_the_utterance_loses_nothing() -> None:
    segmenter = _segmenter(onset_ms=100, pre_roll_ms=0, endpoint_ms=500)
    _push(segmenter, _flags((True, 1000), (False, 200)))
    segmenter.wait_for(12_000)
    boundaries = _push(segmenter, _flags((False, 11_760), (True, 500)))
    assert _silent(boundaries) == [(Mark.END, 1096, 1000), (Mark.ONSET, 12_960, 12_960)]


def test_a_word_that_begins_after_a_long_pause_is_speech_before_it_is_an_utterance() -> None:
    segmenter = _segmenter(onset_ms=100, endpoint_ms=None)
    _push(segmenter, _flags((True, 1000), (False, 12_000)))
    assert not segmenter.in_speech
    _push(segmenter, _flags((True, 60)))
    assert segmenter.in_speech
    _push(segmenter, _flags((False, 20)))
    assert not segmenter.in_speech


def test_without_an_endpoint_a_minute_of_silence_ends_an_utterance() -> None:
    segmenter = _segmenter(endpoint_ms=None)
    assert _silent(_push(segmenter, _flags((True, 1000), (False, 59_980)))) == []
    assert _ms(_push(segmenter, _flags((False, 20)))) == [(Mark.END, 1096, 1000)]


def test_a_pause_that_is_shortened_within_a_silence_is_not_skipped() -> None:
    segmenter = _segmenter(pause_ms=1000, endpoint_ms=2000)
    _push(segmenter, _flags((True, 500), (False, 400)))
    segmenter.reconfigure(SessionOptions(pause_ms=200, endpoint_ms=2000))
    assert [b.mark for b in _push(segmenter, _flags((False, 20)))] == [Mark.PAUSE]


def test_a_session_may_change_its_endpoint() -> None:
    segmenter = _segmenter(endpoint_ms=2000)
    _push(segmenter, _flags((True, 500), (False, 700)))
    segmenter.reconfigure(SessionOptions(endpoint_ms=300))
    assert [b.mark for b in _push(segmenter, _flags((False, 20)))] == [Mark.END]


_RUN = st.tuples(st.booleans(), st.integers(1, 120))
_RUNS = st.lists(st.one_of(_RUN, _RUN, _RUN, _RUN, st.just((False, 550))), max_size=25)
_OPTIONS = st.fixed_dictionaries(
    {
        "onset_ms": st.sampled_from([0, 60, 200]),
        "pre_roll_ms": st.sampled_from([0, 300, 2000]),
        "short_pause_ms": st.sampled_from([60, 96, 700]),
        "pause_ms": st.sampled_from([60, 200, 700]),
        "endpoint_ms": st.sampled_from([None, 100, 500, 1000]),
        "max_utterance_s": st.sampled_from([5.0, 30.0]),
    }
)


@settings(max_examples=200, deadline=None)
@given(
    runs=_RUNS,
    options=_OPTIONS,
    finalizes=st.sets(st.integers(0, 60), max_size=4),
    waits=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_whatever_is_heard(
    runs: list[tuple[bool, int]], options: dict[str, Any], finalizes: set[int], waits: bool, seed: int
) -> None:
    """Utterances never overlap, keep their length, and hold every voiced sample but those of sounds too short."""
    flags = [voiced for voiced, frames in runs for _ in range(frames)]
    levels = np.random.default_rng(seed).uniform(-90, 0, len(flags)).tolist()
    segmenter = Segmenter(FRAME, SessionOptions(**options))
    boundaries: list[Boundary] = []
    opened_by: list[bool] = []
    window = 2 * max(1, -(-samples_of(options["onset_ms"]) // FRAME))
    for index, (flag, level) in enumerate(zip(flags, levels, strict=True)):
        boundaries += _push(segmenter, [flag], [level])
        if waits and boundaries and boundaries[-1].mark is Mark.PAUSE:
            segmenter.wait_for(60_000)
        opened_by.append(segmenter.open)
        if index in finalizes:
            boundaries += segmenter.finalize(segmenter.position)
    boundaries += segmenter.finalize(segmenter.position)

    starts = [b.position for b in boundaries if b.mark is Mark.ONSET]
    ends = [b.position for b in boundaries if b.mark in (Mark.END, Mark.CUT)]
    assert len(starts) == len(ends)
    assert all(0 <= start <= end for start, end in zip(starts, ends, strict=True))
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    longest = samples_of(1000 * options["max_utterance_s"])
    assert all(end - start <= longest for start, end in zip(starts, ends, strict=True))

    kinds = [b.mark for b in boundaries]
    assert all(kinds[n + 1] is Mark.ONSET for n, kind in enumerate(kinds) if kind is Mark.CUT)
    late = [n for n, kind in enumerate(kinds) if kind is Mark.LONG_PAUSE]
    assert all(kinds[n + 1] in (Mark.END, Mark.CUT) for n in late)

    owned = np.zeros(len(flags) * FRAME, int)
    for start, end in zip(starts, ends, strict=True):
        owned[start:end] += 1
    stray = []
    for index, (flag, is_open) in enumerate(zip(flags, opened_by, strict=True)):
        frame = owned[index * FRAME : (index + 1) * FRAME]
        stray.append(flag and bool(np.all(frame == 0)))
        if flag and is_open and not stray[-1]:
            assert np.all(frame == 1)
    # Sounds after the utterance could not go on any more, which are too short to be speech.
    assert all(sum(stray[max(0, n - window + 1) : n + 1]) <= window // 2 - 1 for n, o in enumerate(opened_by) if o)


@settings(max_examples=100, deadline=None)
@given(runs=_RUNS, options=_OPTIONS, cuts=st.lists(st.integers(0, 2000), max_size=10))
def test_any_split_gives_the_same_boundaries(
    runs: list[tuple[bool, int]], options: dict[str, Any], cuts: list[int]
) -> None:
    flags = [voiced for voiced, frames in runs for _ in range(frames)]
    whole = _push(Segmenter(FRAME, SessionOptions(**options)), flags)
    split = Segmenter(FRAME, SessionOptions(**options))
    bounds = sorted(min(cut, len(flags)) for cut in cuts)
    parts = [_push(split, flags[a:b]) for a, b in zip([0, *bounds], [*bounds, len(flags)], strict=True)]
    assert [boundary for part in parts for boundary in part] == whole
