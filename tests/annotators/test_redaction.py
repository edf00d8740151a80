"""Nothing that is redacted is ever sent: in no protocol, at no revision, in no answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.annotators.redaction import find_runs
from streaming_asr.annotators.registry import make_annotators
from streaming_asr.core.annotations import Annotations
from streaming_asr.core.events import EagerTurnEnd, Event, Final, Partial
from streaming_asr.core.options import Encoding, OptionError, SessionOptions
from streaming_asr.core.recognizer import DecodeJob, Hypothesis, Kind, Word
from streaming_asr.core.session import Session
from streaming_asr.core.turn import Pause
from streaming_asr.protocols.base import Handshake, Send, Translator
from streaming_asr.protocols.registry import PROTOCOLS
from streaming_asr.server.openai_http.answers import FORMATS, EventStream, Transcription, answer
from tests.support.dialogue import Dialogue
from tests.support.fakes import CAPABILITIES, FakeDetector, silence, speech
from tests.support.watched import DIALECTS


def _redacted(text: str, *kinds: str, language: str | None = "en") -> str:
    annotators = make_annotators(SessionOptions(redact=kinds), CAPABILITIES)
    annotations = Annotations(0, annotators, recorded=False)
    (sent,) = annotations.passed([Final(1, 0, text, language, 0, 100, None, None)], 0.0)
    assert isinstance(sent, Final)
    return sent.text


@pytest.mark.parametrize(
    ("kind", "text", "redacted"),
    [
        ("pci", "My card is 4111 1111 1111 1111, thanks", "My card is [CREDIT_CARD], thanks"),
        ("pci", "It is four one one one, one one one one, and one one one one, okay", "It is [CREDIT_CARD], okay"),
        ("pci", "forty-one eleven eleven eleven eleven eleven eleven eleven is it", "[CREDIT_CARD] is it"),
        (
            "pci",
            "the security code is 123 and I paid 20 dollars",
            "the security code is [NUMBER] and I paid 20 dollars",
        ),
        ("pci", "it expires in 12/27, I believe", "it expires in [NUMBER], I believe"),
        ("ssn", "my number is 123-45-6789, yes", "my number is [SSN], yes"),
        ("ssn", "one two three, forty-five, six seven eight nine is mine", "[SSN] is mine"),
        ("pii", "call 415-555-2671 today", "call [PHONE_NUMBER] today"),
        ("pii", "call plus four four two oh seven nine four six oh nine five eight now", "call plus [CREDIT_CARD] now"),
        ("pii", "write to jane.doe@example.com today", "write to [EMAIL_ADDRESS] today"),
        ("pii", "write to jane dot doe at example dot co dot uk", "write to [EMAIL_ADDRESS]"),
        ("pii", "write to jane dot doe at example com today", "write to [EMAIL_ADDRESS] com today"),
        ("pii", "it is jane dot", "it is [EMAIL_ADDRESS]"),
        ("pii", "dot doe, thanks", "[EMAIL_ADDRESS], thanks"),
        ("pii", "it is jane dot doe at", "it is [EMAIL_ADDRESS]"),
        ("pii", "example dot com, thanks", "[EMAIL_ADDRESS], thanks"),
        ("pii", "What are you looking at? Mr. Smith.", "What are you looking at? Mr. Smith."),
        ("numbers", "I have 3 dogs, twenty-one cats and one idea", "I have [NUMBER] dogs, [NUMBER] cats and one idea"),
        ("numbers", "a one-way street and a two-way one", "a one-way street and a [NUMBER]-way one"),
        # A number may go on in the next utterance.
        ("pci", "my card is 4111 1111", "my card is [NUMBER]"),
        ("pci", "11.", "[NUMBER]."),
        ("pci", "I paid 20 dollars on July 4, 2024, for it", "I paid 20 dollars on July 4, 2024, for it"),
    ],
)
def test_redacted(kind: str, text: str, redacted: str) -> None:
    assert _redacted(text, kind) == redacted


@pytest.mark.parametrize(
    ("language", "text", "redacted"),
    [
        ("zh", "卡号是四一一一，一一一一，一一一一，一一一一，谢谢", "卡号是[CREDIT_CARD]，谢谢"),
        ("zh", "我十分高兴，万一下雨怎么办", "我十分高兴，万一下雨怎么办"),
        ("ja", "番号は零九零の一二三四の五六七八です", "番号は[PHONE_NUMBER]です"),
        ("de", "Es ist null eins sieben eins, dreiundzwanzig, fünfundvierzig, ja", "Es ist [PHONE_NUMBER], ja"),
        ("fr", "c'est le zéro six douze trente-quatre cinquante-six, merci", "c'est le [PHONE_NUMBER], merci"),
        ("es", "es el seis uno dos, tres cuatro cinco, seis siete ocho, gracias", "es el [SSN], gracias"),
    ],
)
def test_numbers_in_words_of_other_languages(language: str, text: str, redacted: str) -> None:
    assert _redacted(text, "pii", language=language) == redacted


def test_a_kind_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(OptionError, match="redact: 'names' is not one of numbers, pci, ssn, pii"):
        SessionOptions(redact=("names",))


def test_words_times_and_tokens_have_nothing_of_it() -> None:
    text = "card 4111 1111 1111 1111 thanks"
    words = tuple(Word(word, n * 100, (n + 1) * 100) for n, word in enumerate(text.split()))
    logprobs = tuple((f" {word}", -1.0) for word in text.split())
    annotations = Annotations(0, make_annotators(SessionOptions(redact=("pci",)), CAPABILITIES), recorded=False)
    (final,) = annotations.passed([Final(1, 0, text, "en", 0, 600, 0.9, words, logprobs)], 0.0)
    assert isinstance(final, Final)
    assert final.words == (Word("card", 0, 100), Word("[CREDIT_CARD]", 100, 500), Word("thanks", 500, 600))
    assert final.logprobs == ((" card", -1.0), (" [CREDIT_CARD]", -4.0), (" thanks", -1.0))


PLAIN = ("card", "is", "so", "thanks", "well", "the", "one", "and", "please")
FIGURES = ("4111", "1111", "eleven", "seven", "99", "forty-two", "zero", "1", "5.5")
ADDRESS = ("zorro", "dot", "quux", "at", "wibble", "dot", "com")
UTTERANCES = st.lists(
    st.one_of(
        st.sampled_from(PLAIN).map(lambda word: (word,)),
        st.lists(st.sampled_from(FIGURES), min_size=3, max_size=8).map(tuple),
        st.just(("write", *ADDRESS, "now")),
    ),
    min_size=1,
    # Not so long that it is cut.
    max_size=4,
).map(lambda parts: tuple(word for part in parts for word in part))
ADDRESS_WORDS = frozenset({"zorro", "quux", "wibble"})
SECRETS = frozenset({*FIGURES, *ADDRESS_WORDS})
IDS = {word: n for n, word in enumerate(sorted({*PLAIN, *FIGURES, *ADDRESS, "write", "now"}), 1)}
WORDS = {n: word for word, n in IDS.items()}


class AlwaysOver:
    """Every pause is an end of the turn."""

    asks_at_ms = (200,)

    def probability(self, pause: Pause) -> float:
        return 0.9


def _hypothesis(job: DecodeJob, words: Sequence[str]) -> Hypothesis:
    tokens = job.prefix + tuple(IDS[word] for word in words)[len(job.prefix) :]
    pieces = tuple(f" {WORDS[token]}" for token in tokens)
    timed = tuple(Word(piece.strip(), n * 10, n * 10 + 10) for n, piece in enumerate(pieces))
    return Hypothesis(tokens, pieces, "en", 1.0, logprobs=(-1.0,) * len(tokens), words=timed)


def _events(
    utterances: Sequence[Sequence[str]], kind: str, revisions: Sequence[Sequence[str]] = ()
) -> Iterator[list[Event]]:
    """The events of a session in which the utterances are said; each partial ends with a revision."""
    options = SessionOptions(
        encoding=Encoding.F32LE, redact=(kind,), word_times=True, eager_threshold=0.1, withheld_words=0
    )
    session = Session(
        "s",
        options,
        CAPABILITIES,
        lambda _: FakeDetector(),
        make_turn_detector=lambda _: AlwaysOver(),
        make_annotators=make_annotators,
    )
    jobs, revised = iter(range(1, 1000)), iter(revisions)

    def decode(words: Sequence[str]) -> list[Event]:
        events: list[Event] = []
        while (demand := session.demand()) is not None:
            number = next(jobs)
            job = demand.take(number, 0.0)
            assert job is not None
            said = [*words, *next(revised, ())] if job.kind is Kind.PARTIAL else words
            events += session.complete(number, _hypothesis(job, said), 0.0)
        return events

    for words in utterances:
        for n in range(1, len(words) + 1):
            yield session.receive(speech(0.6).tobytes(), 0.0)
            yield decode(words[:n])
        yield session.receive(silence(0.22).tobytes(), 0.0)
        yield decode(words)
        for question in session.take_questions():
            yield session.judged(question, question.answer(), 0.0)
        yield session.receive(silence(1).tobytes(), 0.0)
        yield decode(words)
    yield session.stop(0.0)


def _strings(message: Any) -> Iterator[str]:
    if isinstance(message, str):
        yield message
    elif isinstance(message, dict):
        for name, value in message.items():
            if name not in ("type", "sha256", "created") and not name.endswith("id"):
                yield from _strings(value)
    elif isinstance(message, list):
        for value in message:
            yield from _strings(value)


def _translator(dialect: str) -> Translator:
    path, first = DIALECTS[dialect]
    query = (("interim_results", "true"), ("eager_eot_threshold", "0.3"))
    if dialect in ("native", "openai", "vllm", "dashscope"):
        query = ()
    translator = PROTOCOLS[path].translator(Handshake(path, query, time=1000.0), SessionOptions(word_times=True))
    dialogue = Dialogue(translator)
    if dialect == "openai":
        include = ["item.input_audio_transcription.logprobs"]
        dialogue.send("session.update", session={"type": "transcription", "include": include})
    elif first:
        dialogue.receive(first)
        dialogue.send("input_audio_buffer.commit")
    return translator


def _messages(translators: Sequence[Translator], events: Sequence[Event]) -> Iterator[str]:
    """All texts that clients are sent, in all protocols."""
    for translator in translators:
        for command in translator.on_events(events):
            if isinstance(command, Send):
                yield from _strings(json.loads(command.message))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(UTTERANCES, min_size=1, max_size=2),
    st.lists(st.lists(st.sampled_from([*PLAIN, *FIGURES]), max_size=3), max_size=20),
)
def test_no_figure_is_sent_whatever_the_partials_had(
    utterances: list[tuple[str, ...]], revisions: list[list[str]]
) -> None:
    translators = [_translator(dialect) for dialect in DIALECTS]
    for events in _events(utterances, "numbers", revisions):
        for text in _messages(translators, events):
            assert all(run.lone for run in find_runs(text, "en")), text
            assert not SECRETS & set(text.lower().replace("-", " ").split()) - ADDRESS_WORDS


@settings(max_examples=20, deadline=None)
@given(st.lists(UTTERANCES, min_size=1, max_size=2))
def test_nothing_personal_is_sent_while_an_utterance_grows(utterances: list[tuple[str, ...]]) -> None:
    translators = [_translator(dialect) for dialect in DIALECTS]
    for events in _events(utterances, "pii"):
        for event in events:
            if isinstance(event, Partial | EagerTurnEnd):
                text = event.text if isinstance(event, EagerTurnEnd) else event.stable + event.tentative
                assert all(run.lone for run in find_runs(text, "en")), text
        for text in _messages(translators, events):
            assert not ADDRESS_WORDS & set(text.split())
            # Fewer than seven digits in the middle of a final are nothing personal.
            assert all(run.digits < 7 for run in find_runs(text, "en")), text


@settings(max_examples=20, deadline=None)
@given(st.lists(UTTERANCES, min_size=1, max_size=3))
def test_no_answer_over_http_has_a_figure(utterances: list[tuple[str, ...]]) -> None:
    transcription, stream = Transcription(), EventStream("model")
    sent = [
        stream.delta(delta)
        for events in _events(utterances, "numbers")
        for event in events
        if (delta := transcription.take(event))
    ]
    sent.append(stream.done(transcription))
    sent += [bytes(answer(transcription, style, by_word=True).body).decode() for style in FORMATS]
    for text in sent:
        assert not {"4111", "1111", "eleven", "seven", "forty", "zero"} & set(re.findall(r"\w+", text))


def test_a_partial_shows_what_surrounds_the_figures() -> None:
    annotations = Annotations(0, make_annotators(SessionOptions(redact=("numbers",)), CAPABILITIES), recorded=False)
    (partial,) = annotations.passed([Partial(1, 0, 1, "my card is 41", " 11 well then so", "en", 0, 100)], 0.0)
    assert isinstance(partial, Partial)
    assert (partial.stable, partial.tentative) == ("my card is", " … well then")


def test_a_partial_hides_an_address_whose_end_was_misrecognized() -> None:
    annotations = Annotations(0, make_annotators(SessionOptions(redact=("pii",)), CAPABILITIES), recorded=False)
    (partial,) = annotations.passed([Partial(1, 0, 1, "", "write jane dot doe add example so", "en", 0, 100)], 0.0)
    assert isinstance(partial, Partial)
    assert (partial.stable, partial.tentative) == ("", "write … add example")


@pytest.mark.parametrize("said", ["a dot ", "dot ", "no-", "a.", ". ", "a at ", "a@", " ", "1 "])
def test_what_a_recognizer_repeats_is_searched_in_time_that_grows_with_its_length(said: str) -> None:
    (redaction,) = make_annotators(SessionOptions(redact=("pii",)), CAPABILITIES)
    began = time.process_time()
    redaction.partial(Partial(1, 0, 1, "", said * 4000, "en", 0, 100))
    # Where it grew with the square of the length, some took ten seconds.
    assert time.process_time() - began < 3
