"""Shows streams in the terminal: finals, beneath them the current text, which is repainted, and a line of status.

Finals go to standard output, everything else to standard error. If one is not a terminal, plain lines are written.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from clients.events import (
    AudioDropped,
    Event,
    Final,
    Partial,
    Ready,
    Reconnected,
    Reconnecting,
    ServerError,
    ServerWarning,
    Translation,
)
from clients.level import FLOOR_DB

REPAINT_S = 0.08
PARTIAL_CHARS = 800
"""Of a longer current text, only the end is shown."""
_BAR_CELLS = 24
_LOUD_DB, _TOO_LOUD_DB = -12.0, -3.0


class LiveView:
    """The screen of one run. Use as an async context manager.

    Args:
        quiet: show finals and errors only.
        times: print the times of finals even if standard output is not a terminal.
    """

    def __init__(self, *, quiet: bool = False, times: bool = False) -> None:
        self._finals_on_screen = sys.stdout.isatty()
        self._screen = Console(stderr=not self._finals_on_screen, highlight=False, markup=False)
        self._lively = self._screen.is_terminal and not quiet
        self._quiet = quiet
        self._times = times or self._finals_on_screen
        self._tracks: list[Track] = []
        self._live = Live(
            console=self._screen,
            get_renderable=self._render,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._painter: asyncio.Task[None] | None = None

    def track(self, name: str, *, duration_s: float | None = None, labelled: bool = False) -> Track:
        """Show another stream until it is closed.

        Args:
            duration_s: of a file; None shows the elapsed time only.
            labelled: whether lines begin with the name.
        """
        track = Track(self, name, duration_s, labelled)
        self._tracks.append(track)
        return track

    def remove(self, track: Track) -> None:
        self._tracks.remove(track)

    def final(self, final: Final, label: str) -> None:
        """Print an utterance permanently."""
        if not self._finals_on_screen:
            times = f"[{clock(final.start_ms)} - {clock(final.time_ms)}] " if self._times else ""
            print(f"{times}{label}{final.text.strip()}", flush=True)
            return
        line = Table.grid(padding=(0, 2))
        line.add_column(no_wrap=True)
        line.add_row(
            Text(f"{clock(final.start_ms)} - {clock(final.time_ms)}", style="dim"), Text(f"{label}{final.text.strip()}")
        )
        self._screen.print(line)

    def translation(self, text: str, label: str) -> None:
        """Print the translation of an utterance permanently."""
        if self._finals_on_screen:
            self._screen.print(Text(f"  {label}→ {text.strip()}", style="italic"))
        else:
            print(f"  {label}→ {text.strip()}", flush=True)

    def notice(self, message: str, *, style: str = "yellow", urgent: bool = False) -> None:
        """Print a line that is not transcript.

        Args:
            urgent: print it even when quiet.
        """
        if self._quiet and not urgent:
            return
        if self._lively and sys.stderr.isatty():
            self._screen.print(Text(message, style=style))
        else:
            print(message, file=sys.stderr, flush=True)

    async def __aenter__(self) -> LiveView:
        if self._lively:
            self._live.start()
            self._painter = asyncio.create_task(self._repaint(), name="repaint")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._painter is not None:
            self._painter.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._painter
            self._tracks.clear()
            self._live.stop()

    async def _repaint(self) -> None:
        while True:
            self._live.refresh()
            await asyncio.sleep(REPAINT_S)

    def _render(self) -> RenderableType:
        return Group(*(track.render() for track in self._tracks))


class Track:
    """One stream on the screen."""

    def __init__(self, view: LiveView, name: str, duration_s: float | None, labelled: bool) -> None:
        self.name = name
        self.position_ms = 0
        """Audio sent so far, or of a file the audio transcribed."""
        self.level_db: float | None = None
        """For the meter of a microphone."""
        self.speed: float | None = None
        """As a multiple of real time."""
        self._view = view
        self._duration_s = duration_s
        self._labelled = labelled
        self._partials: dict[int, Partial] = {}
        self._status = ""
        self._several_channels = False

    def show(self, event: Event) -> None:
        """Show the stream's next event."""
        if isinstance(event, Ready):
            self._several_channels = event.options.get("channel_mode") == "split"
            self._status = ""
        elif isinstance(event, Partial):
            self._partials[event.channel] = event
        elif isinstance(event, Final):
            self._partials.pop(event.channel, None)
            if event.text.strip():
                self._view.final(event, self._label(event.channel, event.speaker))
        elif isinstance(event, Translation):
            self._view.translation(event.text, self._label(event.channel, None))
        elif isinstance(event, Reconnecting):
            self._reconnecting(event)
        elif isinstance(event, Reconnected):
            self._reconnected(event)
        elif isinstance(event, AudioDropped):
            lost = (event.end_ms - event.start_ms) / 1000
            self._notice(
                f"The server did not take the audio in time: {lost:.1f} s at {clock(event.start_ms)} are lost."
            )
        elif isinstance(event, ServerWarning | ServerError):
            self._notice(f"Server: {event.message}")

    def notice(self, message: str) -> None:
        """Print a line about this stream."""
        self._notice(message)

    def status(self, message: str) -> None:
        """Show this in the line of status, until something else is shown there."""
        self._status = message

    def close(self) -> None:
        """Remove it from the screen."""
        self._partials.clear()
        self._view.remove(self)

    def render(self) -> RenderableType:
        lines: list[RenderableType] = [
            self._current(partial)
            for _, partial in sorted(self._partials.items())
            if partial.stable or partial.tentative
        ]
        return Group(*lines, self._status_line())

    def _reconnecting(self, event: Reconnecting) -> None:
        self._partials.clear()
        if event.attempt == 1:
            self._notice(f"{event.reason} Reconnecting; audio is kept meanwhile.")
        self._status = f"reconnecting, attempt {event.attempt}"

    def _reconnected(self, event: Reconnected) -> None:
        self._status = ""
        resent = f" The last {event.resent_ms / 1000:.1f} s are sent again." if event.resent_ms else ""
        lost = f" {event.lost_ms / 1000:.0f} s were lost: the outage was too long." if event.lost_ms else ""
        self._notice(f"Reconnected.{resent}{lost}", style="green" if not lost else "red")

    def _notice(self, message: str, style: str = "yellow") -> None:
        self._view.notice(f"{self.name}: {message}" if self._labelled else message, style=style)

    def _label(self, channel: int, speaker: int | None) -> str:
        label = f"{self.name}: " if self._labelled else ""
        if speaker is not None:
            return f"{label}Speaker {speaker + 1}: "
        return f"{label}[channel {channel + 1}] " if self._several_channels else label

    def _current(self, partial: Partial) -> Text:
        text = Text(partial.stable).append(partial.tentative, style="dim")
        if len(text) > PARTIAL_CHARS:
            text = Text("…").append_text(text[-PARTIAL_CHARS:])
        return Text(self._label(partial.channel, partial.speaker)).append_text(text)

    def _status_line(self) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        cells: list[RenderableType]
        if self.level_db is not None:
            cells = [Text("●", style="red"), Text(clock(self.position_ms)), _meter(self.level_db)]
        else:
            cells = [Text(self.name, style="bold", overflow="ellipsis", no_wrap=True), *self._progress()]
        if self._status:
            cells.append(Text(self._status, style="yellow"))
        grid.add_row(*cells)
        return grid

    def _progress(self) -> list[RenderableType]:
        cells: list[RenderableType] = []
        if self._duration_s:
            cells.append(ProgressBar(total=self._duration_s, completed=self.position_ms / 1000, width=_BAR_CELLS))
            cells.append(Text(f"{clock(self.position_ms)} of {clock(round(self._duration_s * 1000))}"))
        else:
            cells.append(Text(clock(self.position_ms)))
        if self.speed is not None:
            cells.append(Text(f"{self.speed:.1f}x", style="cyan"))
        return cells


def _meter(level_db: float) -> Text:
    filled = round(_BAR_CELLS * (level_db - FLOOR_DB) / -FLOOR_DB)
    style = "red" if level_db > _TOO_LOUD_DB else "yellow" if level_db > _LOUD_DB else "green"
    return Text("█" * filled, style=style).append("░" * (_BAR_CELLS - filled), style="dim")


def clock(ms: int) -> str:
    """Minutes, seconds and tenths; hours if there are any."""
    tenths = ms // 100
    minutes, seconds = divmod(tenths // 10, 60)
    hours, minutes = divmod(minutes, 60)
    shown = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{shown}:{seconds:02}.{tenths % 10}"
