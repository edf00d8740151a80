"""Some thousands of inputs for each target, the same in each run; `python -m tests.fuzz` runs millions."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS

INPUTS = {"child": 3, "media": 15, "http": 25, "audio": 40, "handshake": 300, "base64": 1000, "messages": 60}
"""In about half a second each; conversations: `CONVERSATIONS`."""
CONVERSATIONS = 15


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_what_is_nearly_like_them_are_no_fault(name: str) -> None:
    target = TARGETS[name]
    seeds = target.seeds()
    for seed in seeds if name != "child" else seeds[:1]:
        target.run(seed)
    chance = random.Random(f"{name} of the suite")
    for _ in range(INPUTS.get(name, CONVERSATIONS)):
        target.run(mutated(seeds, chance))


def test_no_input_is_too_short() -> None:
    for name, target in TARGETS.items():
        if name != "child":
            target.run(b"")
