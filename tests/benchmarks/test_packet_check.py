"""The figures of a run against the same computed anew, by other means, from nothing but the lines of its packet log."""

from __future__ import annotations

import json
import tempfile
from array import array
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.common.session_log import Outcome, SessionLog, Shown
from benchmarks.common.speech import Clip
from benchmarks.load.figures import figures, steadiness, word_errors
from benchmarks.load.packets import write_packets
from benchmarks.load.speaking import Take
from benchmarks.load.utterances import Chunk, Utterance

_WORDS = st.lists(st.sampled_from(["alpha", "bravo", "delta", "golf"]), max_size=5)
_SHOWN = st.tuples(st.integers(0, 900), _WORDS, _WORDS)
_SESSION = st.tuples(_WORDS.filter(bool), st.lists(_SHOWN, max_size=6), st.sampled_from(Outcome), st.booleans())


def _take(number: int, said: list[str], changes: list[tuple[int, list[str], list[str]]], outcome: Outcome) -> Take:
    words = tuple((word, 0.3 + place, 1.0 + place) for place, word in enumerate(said))
    clip = Clip(f"clip {number}", Path("none"), "en", " ".join(said), words=words)
    speech = (Chunk(bytes(32000 * len(said)), float(len(said))),)
    log = SessionLog(clip.id, number, outcome=outcome, finalize_s=float(len(said)))
    at_s = 0.0
    for after_ms, final, partial in changes:
        at_s += after_ms / 1000
        shown = Shown(at_s, "".join(f"{word} " for word in final), " ".join(partial))
        # As the client notes them: changes only, and nothing before the first text.
        before = log.shown[-1] if log.shown else Shown(0, "", "")
        if (shown.final, shown.partial) != (before.final, before.partial):
            log.shown.append(shown)
    return Take(log, number, Utterance(clip, speech, (), words), 0.0, ended=True)


def _edits(said: list[str], hypothesis: list[str]) -> int:
    """The least insertions, deletions and substitutions, by the textbook's table."""
    row = list(range(len(hypothesis) + 1))
    for place, word in enumerate(said, 1):
        above, row = row, [place]
        for column, other in enumerate(hypothesis, 1):
            row.append(min(above[column] + 1, row[-1] + 1, above[column - 1] + (word != other)))
    return row[-1]


def _anew(lines: list[str]) -> dict[str, Any]:
    sessions: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        packet = json.loads(line)
        sessions[packet["session"]].append(packet)
    first, final, finalized = [], [], []
    wrong = spoken = erased = left = 0
    for packets in sessions.values():
        begin, end = packets[0], packets[-1]
        if not begin["counts"] or end["outcome"] != "done":
            continue
        shown = [packet for packet in packets if packet["packet"] == "shown"]
        texts = [(packet["final"] + packet["partial"]).split() for packet in shown]
        said = begin["reference"].split()
        wrong, spoken = wrong + _edits(said, texts[-1] if texts else []), spoken + len(said)
        for before, after in zip([[], *texts], texts, strict=False):
            kept = max(n for n in range(len(before) + 1) if before[:n] == after[:n])
            erased += len(before) - kept
        left += len(texts[-1]) if texts else 0
        if shown:
            first.append(min(packet["at_s"] for packet in shown) - begin["words"][0][1])
        changed = [n for n in range(len(shown)) if shown[n]["final"] != (shown[n - 1]["final"] if n else "")]
        last = shown[max(changed)]["at_s"] if changed else 0.0
        # Text that is not final, or whose finals are older than the last word, has no time to final.
        if changed and not shown[-1]["partial"].strip() and last >= begin["words"][-1][2] - 0.1:
            final.append(shown[max(changed)]["at_s"] - begin["words"][-1][2])
            finalized.append(shown[max(changed)]["at_s"] - end["finalize_s"])
    return {
        "first text": first,
        "time to final": final,
        "final after finalize": finalized,
        "wer": wrong / spoken if spoken else None,
        "erasure": erased / left if left else None,
    }


_TAKEN_BACK: Any = (["alpha"], [(5, [], ["alpha"]), (5, [], [])], Outcome.DONE, True)


@example([_TAKEN_BACK])
@given(st.lists(_SESSION, min_size=1, max_size=4))
def test_the_packet_log_alone_gives_the_same_figures(sessions: list[Any]) -> None:
    takes = []
    for number, (said, changes, outcome, counts) in enumerate(sessions):
        take = _take(number, said, changes, outcome)
        take.measured = counts
        take.departures.left_s, take.departures.due_s, take.departures.lag_s = (array("d", [1.0]) for _ in range(3))
        takes.append(take)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "packets.jsonl"
        write_packets(file, [(len(takes), takes)])
        anew = _anew(file.read_text(encoding="utf-8").splitlines())
    counted = [take for take in takes if take.measured and take.ended]
    found = {figure.name: list(figure.values) for figure in figures(counted)}
    for name in ("first text", "time to final", "final after finalize"):
        assert found.get(name, []) == pytest.approx(anew[name])
    assert word_errors(counted).rate == pytest.approx(anew["wer"])
    assert steadiness(counted).erasure == pytest.approx(anew["erasure"])
