"""What the terminal shows."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from clients.events import (
    AudioDropped,
    Event,
    Final,
    Partial,
    Ready,
    Reconnected,
    Reconnecting,
    ServerWarning,
)
from clients.live_view import PARTIAL_CHARS, LiveView, Track, clock


def partial(stable: str, tentative: str, channel: int = 0) -> Partial:
    return Partial(
        utterance=1, channel=channel, revision=1, stable=stable, tentative=tentative, start_ms=0, time_ms=900
    )


def final(text: str, channel: int = 0) -> Final:
    return Final(utterance=1, channel=channel, text=text, start_ms=61_500, time_ms=3_723_900)


def painted(track: Track, width: int = 80) -> str:
    """The live part of the screen, with colours."""
    screen = io.StringIO()
    Console(file=screen, force_terminal=True, color_system="standard", width=width).print(track.render())
    return screen.getvalue()


def shown(*events: Event, quiet: bool = False, times: bool = False, labelled: bool = False) -> None:
    """Show events on a screen that is not a terminal."""

    async def show() -> None:
        async with LiveView(quiet=quiet, times=times) as view:
            track = view.track("clip.wav", labelled=labelled)
            for event in events:
                track.show(event)
            track.close()

    asyncio.run(show())


def test_tentative_text_is_dim_and_stable_text_is_not() -> None:
    track = LiveView().track("mic")
    track.show(partial("And so", " my fellow"))
    assert painted(track).startswith("And so\x1b[2m my fellow\x1b[0m\n")


def test_a_revision_replaces_the_text_and_a_final_takes_it_away() -> None:
    track = LiveView().track("mic")
    track.show(partial("And so", " my fellow"))
    track.show(partial("And so my", " fell over"))
    assert "fellow" not in painted(track)
    assert "fell over" in painted(track)
    track.show(final("And so my fellow Americans"))
    assert "And so" not in painted(track)


def test_partials_of_a_lost_connection_are_taken_away() -> None:
    track = LiveView().track("mic")
    track.show(partial("And so", ""))
    track.show(Reconnecting(reason="Gone.", attempt=2, delay_s=0.1))
    assert "And so" not in painted(track)
    assert "reconnecting, attempt 2" in painted(track)
    track.show(Reconnected(resent_ms=0, lost_ms=0))
    assert "reconnecting" not in painted(track)


def test_two_channels_have_a_line_each() -> None:
    track = LiveView().track("call.wav")
    track.show(Ready(session="s", recognizer="r", model="m", options={"channel_mode": "split"}))
    track.show(partial("Hello", "", channel=0))
    track.show(partial("Hi", "", channel=1))
    lines = painted(track).splitlines()
    assert lines[0] == "[channel 1] Hello"
    assert lines[1] == "[channel 2] Hi"


def test_text_longer_than_the_screen_shows_its_end() -> None:
    track = LiveView().track("mic")
    track.show(partial("begin " * 500, "the end"))
    text = painted(track)
    assert "the end" in text
    assert len(text) < PARTIAL_CHARS + 200


def test_a_microphone_has_a_meter_and_a_file_its_progress() -> None:
    view = LiveView()
    mic = view.track("mic")
    mic.level_db, mic.position_ms = -30.0, 65_400
    assert "1:05.4" in painted(mic)
    assert painted(mic).count("█") == painted(mic).count("░") == 12
    file = view.track("clip.wav", duration_s=130.0)
    file.position_ms, file.speed = 65_000, 7.34
    assert "clip.wav" in painted(file)
    assert "1:05.0 of 2:10.0" in painted(file)
    assert "7.3x" in painted(file)


def test_without_a_terminal_finals_are_plain_lines_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    shown(partial("And", " so"), final("And so."), final(" "), ServerWarning(code="x", message="Too loud."))
    said = capsys.readouterr()
    assert said.out == "And so.\n"
    assert said.err == "Server: Too loud.\n"


def test_times_and_names_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    shown(final("And so."), times=True, labelled=True)
    assert capsys.readouterr().out == "[1:01.5 - 1:02:03.9] clip.wav: And so.\n"


def test_quiet_is_quiet_but_for_finals(capsys: pytest.CaptureFixture[str]) -> None:
    shown(ServerWarning(code="x", message="Too loud."), final("And so."), quiet=True)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("And so.\n", "")


def test_an_outage_is_reported_once_and_what_it_cost(capsys: pytest.CaptureFixture[str]) -> None:
    shown(
        *(Reconnecting(reason="Gone.", attempt=attempt, delay_s=0.1) for attempt in (1, 2, 3)),
        Reconnected(resent_ms=1500, lost_ms=0),
        Reconnecting(reason="Gone.", attempt=1, delay_s=0.1),
        Reconnected(resent_ms=120_000, lost_ms=9_000),
        AudioDropped(start_ms=1000, end_ms=3500),
    )
    assert capsys.readouterr().err.splitlines() == [
        "Gone. Reconnecting; audio is kept meanwhile.",
        "Reconnected. The last 1.5 s are sent again.",
        "Gone. Reconnecting; audio is kept meanwhile.",
        "Reconnected. The last 120.0 s are sent again. 9 s were lost: the outage was too long.",
        "The server did not take the audio in time: 2.5 s at 0:01.0 are lost.",
    ]


@pytest.mark.parametrize(("ms", "text"), [(0, "0:00.0"), (59_999, "0:59.9"), (3_600_000, "1:00:00.0")])
def test_clock(ms: int, text: str) -> None:
    assert clock(ms) == text
