"""The tape gives back exactly what was put on it, and keeps no more than it must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.core.tape import AudioTape


@given(st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 60_000)), max_size=30))
def test_slices_are_what_was_appended(steps: list[tuple[int, int]]) -> None:
    tape = AudioTape()
    for length, keep in steps:
        tape.append(np.arange(tape.end, tape.end + length, dtype=np.float32))
        tape.forget_before(tape.end - keep)
        held = tape.slice(tape.start, tape.end)
        assert np.array_equal(held, np.arange(tape.start, tape.end, dtype=np.float32))


def test_a_slice_stays_as_it_was() -> None:
    tape = AudioTape()
    tape.append(np.ones(1000, np.float32))
    early = tape.slice(0, 1000)
    for _ in range(100):
        tape.append(np.zeros(5000, np.float32))
        tape.forget_before(tape.end - 100)
    assert np.all(early == 1)
    with pytest.raises(ValueError, match="read-only"):
        early[0] = 2


def test_samples_that_are_not_held_are_refused() -> None:
    tape = AudioTape()
    tape.append(np.zeros(1000, np.float32))
    tape.forget_before(500)
    for start, end in ((499, 600), (600, 1001), (700, 600)):
        with pytest.raises(IndexError, match=r"500\.\.1000 are"):
            tape.slice(start, end)


def test_memory_does_not_grow_with_the_stream() -> None:
    tape = AudioTape()
    for _ in range(5_000):
        tape.append(np.zeros(1600, np.float32))
        tape.forget_before(tape.end - 16_000)
    assert len(tape._buffer) < 100_000


def test_the_room_of_a_long_utterance_is_given_back_once_it_is_forgotten() -> None:
    tape = AudioTape()
    tape.append(np.arange(30 * 16_000, dtype=np.float32))
    view = tape.slice(0, 100)
    tape.forget_before(29 * 16_000)
    assert len(tape._buffer) <= 4 * 16_000
    assert np.array_equal(tape.slice(29 * 16_000, 30 * 16_000), np.arange(29 * 16_000, 30 * 16_000, dtype=np.float32))
    tape.append(np.ones(20, np.float32))
    assert tape.slice(30 * 16_000, 30 * 16_000 + 20).sum() == 20
    assert np.array_equal(view, np.arange(100, dtype=np.float32)), "what was given out stays as it was"
