"""What can be fuzzed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.fuzz import conversations, decoding, media, requests


@dataclass(frozen=True)
class Target:
    """Something that takes any bytes."""

    run: Callable[[bytes], int]
    """Returns how many inputs the bytes were, such as messages; raises if something is wrong."""
    seeds: Callable[[], Sequence[bytes]]
    """To begin with."""


def _fixed(seeds: Sequence[bytes]) -> Callable[[], Sequence[bytes]]:
    return lambda: seeds


TARGETS: Mapping[str, Target] = {
    **{
        dialect: Target(functools.partial(conversations.converse, dialect), _fixed(seeds))
        for dialect, seeds in conversations.SEEDS.items()
    },
    "messages": Target(conversations.translate, conversations.message_seeds),
    "handshake": Target(requests.shake_hands, _fixed(requests.HANDSHAKE_SEEDS)),
    "audio": Target(decoding.decode_audio, _fixed(decoding.AUDIO_SEEDS)),
    "base64": Target(decoding.decode_text, _fixed(decoding.TEXT_SEEDS)),
    "http": Target(requests.request, _fixed(requests.REQUEST_SEEDS)),
    "media": Target(media.read_recording, media.seeds),
    "child": Target(media.decode_in_child, media.seeds),
}
