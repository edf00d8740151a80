"""One client's conversation, without a socket: what it acts on when, and what waits."""

from __future__ import annotations

import pytest

from streaming_asr.core.events import SessionWarning
from streaming_asr.core.options import SessionOptions
from streaming_asr.protocols.base import Close, Handshake
from streaming_asr.protocols.deepgram.listen import DeepgramTranslator
from streaming_asr.protocols.failures import CloseCode
from streaming_asr.server.live.conversation import MESSAGES_AT_ONCE
from streaming_asr.server.live.conversation_state import State
from tests.support.conversing import LIMITS, Client, command, full_client, quiet, voiced

# What is acted on when


def test_a_control_in_a_binary_frame_is_carried_out_in_its_place_among_audio() -> None:
    client = Client().started()
    controls = [command(kind).encode() for kind in ("ping", "finalize", "ping")]
    client.send(voiced(0.4), voiced(0.1), *controls, voiced(0.4))
    client.finish()
    kinds = [kind for kind in client.kinds if kind not in ("partial", "final", "speech_ended")]
    assert kinds == ["speech_started", "warning", "pong", "pong", "speech_started", "finalized"]
    (warning,) = client.of("warning")
    assert warning["code"] == "binary_control"


def test_a_message_is_acted_on_at_once() -> None:
    client = Client().started()
    client.send(command("ping", id=1))
    assert [message["type"] for message in client.messages] == ["ready", "pong"]
    assert client.state is State.OPEN
    assert client.conversation.reading


def test_a_session_from_its_first_word_to_its_close() -> None:
    client = Client().started()
    client.send(quiet(0.1), voiced(0.3), quiet(0.1))
    client.send(command("stop"))
    client.finish()
    assert client.kinds == ["speech_started", "speech_ended", "final", "done"]
    assert client.close == Close(CloseCode.NORMAL, "done")
    assert client.state is State.CLOSED
    assert not client.sessions.open_sessions
    assert (client.observer.open, client.observer.audio_ms) == (0, 500)


def test_audio_of_several_messages_is_one_question_to_the_detector() -> None:
    client = Client(vad="silero").started()
    client.send(voiced(0.1), voiced(0.1), voiced(0.1))
    assert [len(query.frames) for query in client.queries] == [15]


def test_commands_wait_for_the_voice_detector_and_are_then_carried_out_in_order() -> None:
    client = Client(vad="silero").started()
    client.send(voiced(0.2))
    client.send(command("configure", endpoint_ms=300), command("ping", id=1))
    assert client.state is State.WAITING_FOR_VOICE
    assert not client.conversation.reading
    assert client.kinds == []
    client.answer()
    assert client.kinds == ["speech_started", "configured", "pong"]
    assert client.conversation.reading
    client.send(voiced(0.2), command("finalize"), voiced(0.2), command("stop"), command("ping", id=2))
    client.finish()
    assert [ended["time_ms"] for ended in client.of("speech_ended")] == [400, 600]
    assert [ended["reason"] for ended in client.of("speech_ended")] == ["finalize", "stop"]
    assert client.kinds[-1] == "done"
    assert client.errors == ["stopped"]


def test_a_long_message_is_fed_in_slices_between_which_others_have_their_turn() -> None:
    whole, pieces = Client().started(), Client().started()
    whole.send(voiced(1.75) + quiet(1), command("ping", id=1))
    yields = 0
    while whole.state is State.YIELDING:
        assert not whole.of("pong"), "a command overtook the audio before it"
        assert not whole.conversation.reading
        whole.resume()
        yields += 1
    assert yields == 5
    assert whole.of("pong")
    for _ in range(11):
        pieces.send((voiced(1.75) + quiet(1))[_ * 8000 : (_ + 1) * 8000])
    assert [message for message in whole.of("speech_ended")] == pieces.of("speech_ended")


def test_a_slice_that_waited_for_the_detector_needs_no_turn_of_others() -> None:
    client = Client(vad="silero").started()
    client.send(voiced(1.2))
    answers = 0
    while client.queries:
        client.answer()
        answers += 1
    assert (answers, client.yields) == (3, 0)


def test_others_have_their_turn_between_many_messages() -> None:
    client = Client().started()
    client.send(*(command("ping", id=number) for number in range(MESSAGES_AT_ONCE * 2 + 1)))
    for turns in (1, 2):
        assert client.state is State.YIELDING
        assert len(client.of("pong")) == turns * MESSAGES_AT_ONCE
        assert not client.conversation.reading
        client.resume()
    assert [pong["id"] for pong in client.of("pong")] == list(range(MESSAGES_AT_ONCE * 2 + 1))
    assert client.state is State.OPEN


def test_a_second_start_opens_the_session_anew_before_any_audio() -> None:
    client = Client().started()
    client.send(command("start", language="de"))
    client.send(voiced(0.1), command("start", language="en"))
    assert [ready["options"]["language"] for ready in client.of("ready")] == [None, "de"]
    assert client.errors == ["late_start"]
    assert list(client.sessions.open_sessions) == ["s2"]
    assert client.observer.open == 1


def test_a_change_that_can_not_be_made_is_refused_and_the_session_goes_on() -> None:
    client = Client().started()
    client.send(command("configure", channels=2), command("configure", language="xx"))
    client.send(command("configure", endpoint_ms=700))
    assert client.errors == ["bad_option", "bad_option"]
    assert client.of("configured")[0]["options"]["endpoint_ms"] == 700
    assert client.state is State.OPEN


def test_nothing_may_follow_a_stop() -> None:
    client = Client().started()
    client.send(voiced(0.5), command("stop"), voiced(0.5))
    assert client.errors == ["stopped"]
    client.finish()
    assert client.kinds[-2:] == ["final", "done"]
    assert client.close == Close(CloseCode.NORMAL, "done")


def test_a_warning_reaches_a_client_whose_session_is_open() -> None:
    client = Client()
    warning = SessionWarning("recognizer_recovering", "Text will be late.")
    client.conversation.warn(warning, 0.0)
    client.start()
    assert client.kinds == []
    client.conversation.warn(warning, 0.0)
    client.send(command("stop"))
    client.conversation.warn(warning, 0.0)
    assert client.kinds == ["warning", "done"]


def test_silence_brings_deepgrams_utterance_end_without_another_word() -> None:
    query = ("utterance_end_ms", "1000"), ("encoding", "linear16")
    translator = DeepgramTranslator(Handshake("/v1/listen", query), SessionOptions(vad="webrtc"))
    client = Client(translator=translator).started()
    client.send(voiced(0.9), quiet(0.6))
    client.finish()
    assert client.kinds == ["Results"]
    client.send(*[quiet(0.1)] * 5)
    assert client.kinds == ["Results", "UtteranceEnd"], "1.1 s after the last word"
    # The final comes when the silence has lasted for long enough.
    client.send(voiced(0.9), quiet(2.0))
    client.finish()
    assert client.kinds[2:] == ["Results", "UtteranceEnd"]


# Backpressure


def test_audio_waits_while_too_much_is_held_and_goes_on_after_a_final() -> None:
    client = full_client()
    held = client.conversation.held_s
    assert 20 < held < 21
    assert client.conversation.reading, "what is read next is kept; only then reading stops"
    client.send(voiced(1), command("stop"))
    assert not client.conversation.reading
    assert client.state is State.FULL
    while not client.of("final"):
        assert client.state is State.FULL, "a partial frees nothing"
        client.decode()
    assert client.state is State.YIELDING
    client.resume()
    client.finish()
    assert client.kinds[-1] == "done"
    times = [(final["start_ms"], final["time_ms"]) for final in client.of("final")]
    assert times[0][0] == 0
    assert times[-1][1] == client.of("done")[0]["audio_ms"]


def test_what_is_held_has_the_same_bound_on_each_channel() -> None:
    client = Client(max_utterance_s="5", channels="2", channel_mode="split").started()
    for _ in range(19):
        client.send(voiced(1, channels=2))
        while client.yields:
            client.resume()
    assert client.conversation.held_s == pytest.approx(38, abs=0.1)
    assert client.state is State.OPEN


def test_a_long_silence_does_not_stop_the_reading_though_nothing_is_decoded() -> None:
    client = Client(max_utterance_s="30", endpoint_ms="null", vad="webrtc").started()
    client.send(voiced(0.4))
    for _ in range(58):
        client.send(quiet(1))
        while client.yields:
            client.resume()
        assert client.state is State.OPEN
        assert client.conversation.held_s < 12
    assert client.conversation.held_s < 2
    client.send(command("stop"))
    client.finish()
    (final,) = client.of("final")
    assert (final["start_ms"], final["time_ms"]) == (0, 400)


def test_no_time_counts_as_idle_while_the_server_does_not_read() -> None:
    client = full_client()
    client.wait(LIMITS.idle_timeout_s * 3)
    assert client.state is State.FULL
    asking = Client(vad="silero").started()
    asking.send(quiet(0.1))
    asking.wait(LIMITS.idle_timeout_s * 3)
    asking.answer()
    asking.wait(LIMITS.idle_timeout_s - 1)
    assert not asking.errors
    asking.wait(1)
    assert asking.errors == ["idle"]


# Pauses that are judged


def test_a_pause_that_is_judged_ends_the_turn_and_its_client_is_sent_why() -> None:
    client = Client(endpointing="turn").started()
    client.send(voiced(0.5))
    client.send(quiet(0.3))
    assert not client.of("speech_ended")
    client.judge(1.0)
    client.decode()
    (ended,) = client.of("speech_ended")
    assert (ended["reason"], ended["probability"]) == ("turn", 1.0)
    assert client.of("final")


def test_an_agent_is_sent_eager_ends_and_that_the_turn_goes_on() -> None:
    client = Client(endpointing="turn", eager_threshold="0.3").started()
    client.send(voiced(0.5))
    client.send(quiet(0.3))
    client.decode()
    client.judge(0.4)
    (eager,) = client.of("eager_turn_end")
    client.send(voiced(0.5))
    assert eager["text"]
    assert [kind for kind in client.kinds if kind != "partial"] == [
        *("speech_started", "eager_turn_end", "speech_resumed", "turn_resumed")
    ]


def test_an_answer_for_a_session_that_is_over_is_ignored() -> None:
    client = Client(endpointing="turn").started()
    client.send(voiced(0.5))
    client.send(quiet(0.3))
    client.send(command("stop"))
    client.finish()
    kinds = client.kinds
    client.judge(1.0)
    assert client.kinds == kinds
    gone = Client(endpointing="turn").started()
    gone.send(voiced(0.5))
    gone.send(quiet(0.3))
    gone.conversation.lost()
    gone.judge(1.0)
    assert not gone.of("speech_ended")
