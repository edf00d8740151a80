"""Wire bytes to 16 kHz float32: every encoding, any framing, and nothing that breaks it."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_asr.core.audio import _COMPANDED, AudioDecoder
from streaming_asr.core.containers import container_of
from streaming_asr.core.options import ChannelMode, Encoding, OptionError, SessionOptions

RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000)


def _decoder(**options: object) -> AudioDecoder:
    return AudioDecoder(SessionOptions(**options))  # type: ignore[arg-type]


def _decode(decoder: AudioDecoder, data: bytes, cuts: list[int]) -> NDArray[np.float32]:
    bounds = sorted(min(cut, len(data)) for cut in cuts)
    parts = [decoder.decode(data[a:b]) for a, b in zip([0, *bounds], [*bounds, len(data)], strict=True)]
    return np.concatenate([*parts, decoder.flush()], axis=1)


def _sweep(rate: int, seconds: float = 1.0) -> NDArray[np.float32]:
    time = np.arange(int(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * (100 + 1500 * time) * time)).astype(np.float32)


@pytest.mark.parametrize("rate", RATES)
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 200_000), max_size=20))
def test_a_chunked_stream_equals_the_whole_file_resampled_at_once(rate: int, cuts: list[int]) -> None:
    samples = _sweep(rate)
    whole = samples if rate == 16_000 else soxr.resample(samples, rate, 16_000, quality="HQ")
    streamed = _decode(_decoder(encoding=Encoding.F32LE, sample_rate=rate), samples.tobytes(), cuts)
    assert np.array_equal(streamed[0], whole)


def test_single_bytes_are_put_together() -> None:
    samples = (_sweep(48_000, 0.05) * 32767).astype("<i2")
    stereo = np.repeat(samples, 2).tobytes()
    options = {"sample_rate": 48_000, "channels": 2}
    one = _decode(_decoder(**options), stereo, list(range(len(stereo))))
    assert np.array_equal(one, _decode(_decoder(**options), stereo, []))


@pytest.mark.parametrize("encoding", [Encoding.MULAW, Encoding.ALAW])
def test_companding_is_that_of_g711(encoding: Encoding) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import audioop
    codes = bytes(range(256))
    expand = audioop.ulaw2lin if encoding is Encoding.MULAW else audioop.alaw2lin
    reference = np.frombuffer(expand(codes, 2), "<i2") / 32768
    assert np.array_equal(_COMPANDED[encoding], reference.astype(np.float32))


def test_two_channels_are_mixed_or_split() -> None:
    both = np.stack([np.full(800, 0.5), np.full(800, -0.25)], axis=1).astype("<f4")
    options = {"encoding": Encoding.F32LE, "channels": 2}
    mixed = _decoder(**options).decode(both.tobytes())
    assert mixed.shape == (1, 800)
    assert np.all(mixed == 0.125)
    split = _decoder(**options, channel_mode=ChannelMode.SPLIT).decode(both.tobytes())
    assert split.shape == (2, 800)
    assert np.all(split[0] == 0.5)
    assert np.all(split[1] == -0.25)


def test_flawed_floats_are_mended_and_counted() -> None:
    decoder = _decoder(encoding=Encoding.F32LE)
    decoded = decoder.decode(np.array([np.nan, np.inf, -np.inf, 2.0, -3.0, 0.5], "<f4").tobytes())
    assert decoded.tolist() == [[0, 0, 0, 1, -1, 0.5]]
    assert (decoder.flaws.not_finite, decoder.flaws.clipped) == (3, 2)


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=3000).filter(lambda data: container_of(data) is None),
    cuts=st.lists(st.integers(0, 3000), max_size=5),
    encoding=st.sampled_from(Encoding),
    rate=st.sampled_from(RATES),
    channels=st.sampled_from([1, 2]),
    mode=st.sampled_from(ChannelMode),
)
def test_any_bytes_are_decoded_to_finite_samples(
    data: bytes, cuts: list[int], encoding: Encoding, rate: int, channels: int, mode: ChannelMode
) -> None:
    decoder = _decoder(encoding=encoding, sample_rate=rate, channels=channels, channel_mode=mode)
    decoded = _decode(decoder, data, cuts)
    assert np.isfinite(decoded).all()
    assert np.abs(decoded).max(initial=0) < 2.1
    assert decoder.flaws.incomplete_bytes == len(data) % decoder.bytes_per_frame


def test_a_flush_in_the_middle_gives_what_was_held_back_and_goes_on() -> None:
    samples = _sweep(8_000, 2)
    decoder = _decoder(encoding=Encoding.F32LE, sample_rate=8_000)
    first = [decoder.decode(samples[:8000].tobytes()), decoder.flush()]
    assert sum(part.shape[1] for part in first) == 16_000
    rest = [decoder.decode(samples[8000:].tobytes()), decoder.flush()]
    assert sum(part.shape[1] for part in rest) == 16_000


@pytest.mark.parametrize("stray", [1, 2, 3])
@pytest.mark.parametrize("mode", ChannelMode)
def test_an_incomplete_sample_ends_with_its_buffer(stray: int, mode: ChannelMode) -> None:
    decoder = _decoder(channels=2, channel_mode=mode)
    samples = np.stack([np.arange(1000), -np.arange(1000)], axis=1).astype("<i2")
    whole = _decoder(channels=2, channel_mode=mode)
    expected = [whole.decode(samples.tobytes()), whole.decode(samples.tobytes())]
    received = [decoder.decode(samples.tobytes() + bytes(stray)), decoder.flush(), decoder.decode(samples.tobytes())]
    np.testing.assert_array_equal(np.concatenate(received, axis=1), np.concatenate(expected, axis=1))
    assert decoder.flaws.incomplete_bytes == stray


@pytest.mark.parametrize(
    ("option", "value"),
    [("sample_rate", 7_999), ("sample_rate", 48_001), ("channels", 0), ("channels", 3), ("endpoint_ms", 20)],
)
def test_options_out_of_range_say_what_is_allowed(option: str, value: int) -> None:
    with pytest.raises(OptionError, match=rf"{option}: {value} is out of range; \d+ to \d+ is allowed"):
        SessionOptions(**{option: value})  # type: ignore[arg-type]
