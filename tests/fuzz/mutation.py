"""Bytes that are nearly right: seeds, changed at random, cut, joined and filled with what parsers trip over."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

TOKENS = (
    *(b"null", b"true", b"-1", b"0", b"1e400", b"-1e-400", b"9" * 30, b"NaN", b"1.5", b'"nan"', b'""', b"[]", b"{}"),
    *(b'"\\ud800"', b'"\\u0000"', b"\xff", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"[" * 50, b'{"a":' * 50, b'"', b"\\"),
    *(b",", b":", b"}", b"]", b"\n", b"\0", b"\x7f\xff", b"\x80", b"RIFF", b"WAVE", b"data", b"fmt ", b"OggS", b"moov"),
    *(
        b"type",
        b"session",
        b"audio",
        b"event_id",
        b"language",
        b"keywords",
        b"turn_detection",
        b"sample_rate",
        b"model",
    ),
    *(b"!v", b"!d", b"!s", b"!q", b"!w", b"!i", b"!f", b"\n!vvqqd\n", b"A" * 70, b"=" * 5, b"%00", b"&a=", b"\r\n"),
)
MOST_BYTES = 64_000

Change = Callable[[bytearray, random.Random, Sequence[bytes]], None]


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """A seed with a few changes; sometimes none."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 5, 8, 20))):
        chance.choice(_CHANGES)(data, chance, seeds)
    return bytes(data[:MOST_BYTES])


def _place(data: bytearray, chance: random.Random) -> tuple[int, int]:
    """A piece of the data, mostly short."""
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((0, 1, 1, 2, 4, 8, 16, 64, 1000)))


def _set_byte(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] = chance.randrange(256)


def _flip_bit(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _insert_token(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    data[start:start] = chance.choice(TOKENS)


def _replace_by_token(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start, end = _place(data, chance)
    data[start:end] = chance.choice(TOKENS)


def _delete(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start, end = _place(data, chance)
    del data[start:end]


def _repeat(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start, end = _place(data, chance)
    data[start:start] = data[start:end] * chance.choice((1, 2, 10))


def _splice(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    start, end = _place(bytearray(other), chance)
    at = chance.randrange(len(data) + 1)
    data[at:at] = other[start:end]


def _cross(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    other = chance.choice(seeds)
    data[chance.randrange(len(data) + 1) :] = other[chance.randrange(len(other) + 1) :]


def _move_line(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    lines = bytes(data).split(b"\n")
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    data[:] = b"\n".join(lines)


def _number(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start = chance.randrange(len(data) + 1)
    size = chance.choice((1, 2, 4, 8))
    value = chance.choice((0, 1, -1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**63, chance.randrange(2**32)))
    data[start : start + size] = (value & (1 << 8 * size) - 1).to_bytes(size, chance.choice(("little", "big")))


_CHANGES: Sequence[Change] = (
    *(_set_byte, _flip_bit, _insert_token, _replace_by_token, _delete),
    *(_repeat, _splice, _cross, _move_line, _number),
)
