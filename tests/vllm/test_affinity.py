"""Which engine an utterance goes to."""

from __future__ import annotations

from collections import Counter

import pytest

from streaming_asr.recognizers.vllm import affinity
from streaming_asr.recognizers.vllm.affinity import Affinity


def test_an_utterance_stays_on_its_engine_while_others_come_and_go() -> None:
    engines = Affinity(3)
    first = engines.engine("long")
    for n in range(20):
        engines.engine(f"short {n}")
        engines.release(f"short {n}")
        assert engines.engine("long") == first


def test_utterances_are_spread_over_the_engines() -> None:
    engines = Affinity(4)
    assert Counter(engines.engine(f"u{n}") for n in range(12)) == dict.fromkeys(range(4), 3)


def test_a_new_utterance_goes_where_others_have_ended() -> None:
    engines = Affinity(2)
    on = {name: engines.engine(name) for name in ("a", "b", "c", "d")}
    ended = [name for name, engine in on.items() if engine == 1]
    for name in ended:
        engines.release(name)
    assert [engines.engine("e"), engines.engine("f")] == [1, 1]


def test_utterances_one_after_the_other_take_turns() -> None:
    engines = Affinity(2)
    chosen = []
    for n in range(6):
        chosen.append(engines.engine(f"u{n}"))
        engines.release(f"u{n}")
    assert chosen == [0, 1, 0, 1, 0, 1]


def test_what_is_released_twice_or_unknown_counts_once() -> None:
    engines = Affinity(2)
    engines.engine("a")
    for _ in range(3):
        engines.release("a")
        engines.release("unknown")
    assert Counter(engines.engine(f"u{n}") for n in range(6)) == {0: 3, 1: 3}


def test_utterances_that_nobody_released_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "MAX_UTTERANCES", 8)
    engines = Affinity(2)
    for n in range(100):
        engines.engine(f"forgotten {n}")
    assert len(engines._utterances) == 8
    assert engines._counts == [4, 4]


def test_at_least_one_engine_is_needed() -> None:
    with pytest.raises(ValueError, match="0 engines"):
        Affinity(0)
