"""Voiced spans of an utterance -> the windows whose voices are compared. Times in the tests are ms."""

from __future__ import annotations

import pytest

from streaming_asr.core.speaker_windows import SpeakerWindow, plan_windows

MS = 16


def windows(*voiced: tuple[int, int], length: int | None = None, over: bool = False) -> list[tuple[int, int]]:
    spans = [(start * MS, end * MS) for start, end in voiced]
    planned = plan_windows(spans, (length or voiced[-1][1]) * MS, over=over)
    return [(window.start // MS, window.end // MS) for window in planned]


def test_a_stretch_has_a_window_of_a_second_every_400_ms_and_one_at_its_end() -> None:
    assert windows((100, 2200), over=True) == [(100, 1100), (500, 1500), (900, 1900), (1200, 2200)]


def test_the_end_of_a_stretch_that_goes_on_has_no_window_yet() -> None:
    assert windows((100, 2200)) == [(100, 1100), (500, 1500), (900, 1900)]
    assert windows((100, 2200), length=2400)[-1] == (1200, 2200)


def test_no_window_reaches_across_a_gap_of_200_ms() -> None:
    assert windows((0, 1000), (1199, 2000), over=True) == [(0, 1000), (400, 1400), (800, 1800), (1000, 2000)]
    assert windows((0, 1000), (1200, 2000), over=True) == [(0, 1000), (1200, 2000)]


def test_windows_stay_the_same_while_an_utterance_grows() -> None:
    early = windows((100, 1700))
    assert windows((100, 4000))[: len(early)] == early


@pytest.mark.parametrize(("voiced_ms", "found"), [(299, []), (300, [(0, 500)]), (800, [(100, 900)])])
def test_a_short_stretch_has_one_window_with_half_a_second_of_audio_or_none(
    voiced_ms: int, found: list[tuple[int, int]]
) -> None:
    assert windows((100, 100 + voiced_ms), length=1000) == found


def test_a_window_of_less_than_a_second_is_not_whole() -> None:
    planned = plan_windows([(0, 800 * MS), (1200 * MS, 2300 * MS)], 2400 * MS, over=True)
    assert [window.whole for window in planned] == [False, True, True]
    assert planned[1] == SpeakerWindow(1200 * MS, 2200 * MS, True)
