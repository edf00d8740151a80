"""Utterances -> items: their events, the order of these, and that no delta is taken back."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.core import events
from streaming_asr.core.events import EndReason, Event
from streaming_asr.protocols.openai.continuation import unsent_part
from streaming_asr.protocols.openai.items import Committed, Grown, ItemEvent, Items, Settled, Started, Stopped


def _start(number: int, at: int = 0) -> Event:
    return events.SpeechStarted(number, 0, at)


def _partial(number: int, stable: str, tentative: str = "") -> Event:
    return events.Partial(number, 0, 1, stable, tentative, "en", 0, 0)


def _end(number: int, reason: EndReason = EndReason.ENDPOINT) -> Event:
    return events.SpeechEnded(number, 0, 0, 1000, reason)


def _final(number: int, text: str) -> Event:
    return events.Final(number, 0, text, "en", 0, 1000, None, None, ((f" {text}", -0.1),))


def _deltas(reported: list[ItemEvent], item: int) -> str:
    return "".join(event.delta for event in reported if isinstance(event, Grown) and event.item == item)


def test_a_pause_ends_an_item() -> None:
    items = Items(by_pauses=True)
    reported = items.on_events([_start(1, 100), _partial(1, " two", " be")])
    reported += items.on_events([_partial(1, " two be", " or")])
    reported += items.on_events([_end(1)])
    reported += items.on_events([_final(1, "two be or not")])
    assert reported == [
        Started(1, 100),
        Grown(1, "two", "two", " be", "en"),
        Grown(1, " be", "two be", " or", "en"),
        Stopped(1, 1000),
        Committed(1, None),
        Grown(1, " or not", "two be or not", "", "en"),
        Settled(1, "two be or not", "en", 1.0, ((" two be or not", -0.1),), False, ("en",)),
    ]
    assert items.on_events([_start(2), _end(2)])[-1] == Committed(2, 1)


def test_the_next_item_is_reported_once_the_one_before_is_settled() -> None:
    items = Items(by_pauses=True)
    items.on_events([_start(1), _end(1), _start(2)])
    assert items.on_events([_partial(2, " b", " c")]) == []
    reported = items.on_events([_final(1, "a")])
    assert [type(event) for event in reported] == [Grown, Settled, Grown]
    assert reported[-1] == Grown(2, "b", "b", " c", "en")


def test_without_pauses_a_commit_ends_an_item_of_several_utterances() -> None:
    items = Items(by_pauses=False)
    reported = items.on_events([_start(1), _partial(1, " one"), _end(1), _start(2), _partial(2, " three")])
    assert _deltas(reported, 1) == "one"
    reported += items.on_events([_final(1, "one two."), _partial(2, " three", " four")])
    items.commit()
    reported += items.on_events([_end(2, EndReason.FINALIZE)])
    assert reported[-1] == Committed(1, None)
    reported += items.on_events([_final(2, "three four")])
    assert _deltas(reported, 1) == "one two. three four"
    settled = reported[-1]
    assert isinstance(settled, Settled)
    assert settled == Settled(1, "one two. three four", "en", 2.0, settled.logprobs, False, ("en",))
    assert not any(isinstance(event, Started | Stopped) for event in reported)


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ("안녕하세요.", "저는 학생입니다.", "안녕하세요. 저는 학생입니다."),
        ("今天天气很好。", "我们去散步。", "今天天气很好。我们去散步。"),
    ],
)
def test_the_utterances_of_an_item_are_joined_as_their_script_is_written(first: str, second: str, both: str) -> None:
    items = Items(by_pauses=False)
    reported = items.on_events([_start(1), _end(1), _final(1, first), _start(2), _partial(2, second), _end(2)])
    items.commit()
    reported += items.on_events([_final(2, second)])
    assert _deltas(reported, 1) == both
    assert [event.text for event in reported if isinstance(event, Settled)] == [both]


def test_an_item_names_all_its_languages_that_of_most_of_the_speech_first() -> None:
    items = Items(by_pauses=False)
    items.on_events([_start(1), _end(1), _start(2), _end(2)])
    items.on_events([events.Final(1, 0, "Hello.", "en", 0, 500, None, None)])
    items.on_events([events.Final(2, 0, "你好", "zh", 500, 2000, None, None)])
    items.commit()
    settled = items.on_events([])[-1]
    assert isinstance(settled, Settled)
    assert settled.languages == ("zh", "en")


@pytest.mark.parametrize("by_pauses", [True, False])
def test_a_commit_of_nothing_gives_an_empty_item(by_pauses: bool) -> None:
    items = Items(by_pauses=by_pauses)
    for number in (1, 2):
        items.commit()
        previous = number - 1 or None
        assert items.on_events([]) == [Committed(number, previous), Settled(number, "", None, 0.0, (), False)]


def test_an_empty_item_waits_for_the_one_before() -> None:
    items = Items(by_pauses=False)
    items.on_events([_start(1)])
    for _ in range(2):
        items.commit()
        items.on_events([])
    reported = items.on_events([_final(1, "a")])
    assert [event.item for event in reported if isinstance(event, Settled)] == [1, 2]


def test_a_commit_ends_what_a_pause_would_have() -> None:
    items = Items(by_pauses=True)
    items.on_events([_start(1)])
    items.commit()
    assert items.on_events([_end(1, EndReason.FINALIZE)]) == [Stopped(1, 1000), Committed(1, None)]
    assert items.on_events([]) == []


def test_speech_that_is_cut_for_its_length_does_not_stop() -> None:
    items = Items(by_pauses=True)
    items.on_events([_start(1)])
    assert items.on_events([_end(1, EndReason.LENGTH), _start(2)]) == [Committed(1, None)]
    assert items.on_events([_end(2)]) == [Stopped(2, 1000), Committed(2, 1)]
    assert items.on_events([_start(3, 5)]) == [Started(3, 5)]


@pytest.mark.parametrize("by_pauses", [True, False])
def test_what_is_cleared_is_never_reported(by_pauses: bool) -> None:
    items = Items(by_pauses=by_pauses)
    items.on_events([_start(1), _partial(1, " a")])
    items.clear()
    # What the resampler held back may still open an utterance.
    items.on_events([_start(2)])
    assert items.on_events([_partial(1, " a b"), _final(1, "a b"), _final(2, "c")]) == []
    items.commit()
    assert items.on_events([])[-1] == Settled(2, "", None, 0.0, (), False)


def test_a_session_s_end_settles_the_open_item() -> None:
    items = Items(by_pauses=False)
    items.on_events([_start(1), _end(1), _final(1, "a")])
    assert items.close() == [Committed(1, None), Settled(1, "a", "en", 1.0, ((" a", -0.1),), False, ("en",))]
    assert items.close() == []


def test_an_item_without_text_whose_decode_failed_has_failed() -> None:
    failed = events.SessionWarning("decode_failed", "no", 0, 1)
    items = Items(by_pauses=True)
    items.on_events([_start(1), _end(1)])
    assert items.on_events([failed, _final(1, "")])[-1] == Settled(1, "", "en", 1.0, ((" ", -0.1),), True, ("en",))
    items = Items(by_pauses=True)
    items.on_events([_start(1), _end(1)])
    assert items.on_events([failed, _final(1, "kept")])[-1] == Settled(
        1, "kept", "en", 1.0, ((" kept", -0.1),), False, ("en",)
    )


def test_scripts_without_spaces_are_joined_without() -> None:
    items = Items(by_pauses=False)
    reported = items.on_events([_start(1), _end(1), _final(1, "你好。"), _start(2), _end(2), _final(2, "再见")])
    assert _deltas(reported, 1) == "你好。再见"


@pytest.mark.parametrize(
    ("final", "reported", "rest"),
    [
        ("And so, my", "And so", ", my"),
        ("And Mr. John Dashwood, to do.", "and Mr. John", " Dashwood, to do."),
        ("Unless to be cold, is to be ill-disposed.", "I'd less to be cold is to be", " ill-disposed."),
        ("He was not, an ill", "he was not", " an ill"),
        ("今天天气很好。", "今天天汽", "很好。"),
        ("Hello.", "hello there", ""),
        ("สวัสดีครับ ผม", "สวัสดีคัรบ", " ผม"),
        ("안녕하세요. 저는", "안녕하세여", " 저는"),
        ("", "reported", ""),
        ("all of it", "", "all of it"),
        ("all of it", "?", "all of it"),
    ],
)
def test_what_follows_the_words_sent_is_kept_even_where_they_were_wrong(final: str, reported: str, rest: str) -> None:
    assert unsent_part(final, reported) == rest


@given(st.text(max_size=40), st.text(max_size=40))
def test_the_rest_is_an_end_of_the_final(final: str, reported: str) -> None:
    assert final.endswith(unsent_part(final, reported))
    assert unsent_part(reported + final, reported) == final


@given(st.integers(0, 10_000), st.booleans())
def test_in_any_order_of_events_items_are_reported_in_order_and_once(seed: int, by_pauses: bool) -> None:
    """Any order of commits, clears, pauses and finals that a session can bring."""
    chance = random.Random(seed)
    items = Items(by_pauses=by_pauses)
    reported: list[ItemEvent] = []
    waiting: list[int] = []
    number, is_open = 0, False
    for _ in range(chance.randrange(30)):
        act = chance.choice(["start", "end", "cut", "final", "partial", "commit", "clear"])
        if act == "start" and not is_open:
            number, is_open = number + 1, True
            reported += items.on_events([_start(number)])
        elif act == "partial" and is_open:
            reported += items.on_events([_partial(number, " w" * chance.randrange(3), " t")])
        elif act == "end" and is_open:
            is_open = False
            waiting.append(number)
            reported += items.on_events([_end(number)])
        elif act == "cut" and is_open:
            waiting.append(number)
            number += 1
            reported += items.on_events([_end(number - 1, EndReason.LENGTH), _start(number)])
        elif act == "final" and waiting:
            reported += items.on_events([_final(waiting.pop(0), "w w w")])
        elif act == "commit":
            items.commit()
            reported += items.on_events([_end(number, EndReason.FINALIZE)] if is_open else [])
            waiting += [number] if is_open else []
            is_open = False
        elif act == "clear":
            items.clear()
            reported += items.on_events([])
            is_open = False
    if is_open:
        waiting.append(number)
        reported += items.on_events([_end(number, EndReason.STOP)])
    reported += items.on_events([_final(utterance, "w w w") for utterance in waiting])
    reported += items.close()

    committed = [event.item for event in reported if isinstance(event, Committed)]
    settled = [event.item for event in reported if isinstance(event, Settled)]
    assert committed == settled
    assert settled == sorted(set(settled))
    now_growing = [event.item for event in reported if isinstance(event, Grown)]
    assert now_growing == sorted(now_growing), "two items grew at a time"
    for index, event in enumerate(reported):
        if isinstance(event, Grown):
            assert Settled not in [type(e) for e in reported[:index] if e.item == event.item]
