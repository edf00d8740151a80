"""How often a label names the wrong speaker, and how often their number is right: the table of docs/speakers.md.

    python -m benchmarks.speakers --speech DIR

Talk is made of read speech of several voices, over several lines; recordings of real talk are used as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.common.speech import Clip, NoSpeech, add_speech_option, clips
from benchmarks.speakers.labelling import label
from benchmarks.speakers.mixes import Line, Talk, mix
from benchmarks.speakers.scoring import score, together
from streaming_asr.core.options import OptionError, SessionOptions
from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.speakers.campplus import CamPlus

READERS = ("librispeech", "librispeech_speakers", "ljspeech")
TALK = ("conversation",)
NOISES = "nonspeech"
SPEAKERS = ((2,), (3, 4))
"""Of made talk, by row of the table."""


def readers(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """The clips of each reader: ids begin with the reader's number, as LibriSpeech's do, or with that of one book."""
    voices: dict[str, list[Clip]] = {}
    for clip in clips:
        voices.setdefault(clip.id.partition("-")[0][:5] if clip.id[0].isdigit() else clip.id[:2], []).append(clip)
    return voices


def rows(given: argparse.Namespace) -> Iterator[tuple[str, list[Talk]]]:
    """Name and recordings of each row of the table.

    Raises:
        NoSpeech: a set does not exist.
    """
    voices = readers([clip for name in given.readers for clip in clips(given.speech, name)])
    beds = [clip.audio() for clip in clips(given.speech, NOISES)]
    for line in Line:
        for counts in SPEAKERS:
            name = f"{' or '.join(map(str, counts))} speakers, {line.value}"
            seeds = range(given.seed, given.seed + given.mixes)
            yield name, [mix(voices, counts[seed % len(counts)], seed, line, beds) for seed in seeds]
    for name in given.talk:
        recordings = [clip for clip in clips(given.speech, name) if clip.turns]
        yield f"real talk: {name}", [Talk(clip.id, clip.audio(), clip.turns) for clip in recordings]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speakers", description=__doc__.splitlines()[0])
    add_speech_option(parser)
    parser.add_argument("--readers", nargs="+", default=READERS, metavar="SET", help="sets of read speech")
    parser.add_argument("--talk", nargs="*", default=TALK, metavar="SET", help="sets that say whose turn is when")
    parser.add_argument("--mixes", type=int, default=12, metavar="N", help="of each row (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the first mix (default: %(default)s)")
    parser.add_argument("--each", action="store_true", help="a line for each recording, too")
    given = parser.parse_args(argv)
    limit_blas_threads()
    table = Table(title="Speaker labels")
    for head in ("", "recordings", "wrong", "one label for all", "count right", "CPU ms a voiced s"):
        table.add_column(head, justify="right" if head else "left")
    try:
        network = CamPlus()
        for name, talks in rows(given):
            labelled = [label(talk.audio, SessionOptions(), network) for talk in talks]
            scores = [
                score(talk.turns, one.labels, len(talk.audio) / SAMPLE_RATE)
                for talk, one in zip(talks, labelled, strict=True)
            ]
            if given.each:
                for talk, one in zip(talks, scores, strict=True):
                    print(f"{talk.id}: {one.wrong:.1%} wrong, count {'right' if one.counts_right else 'wrong'}")
            all_of_them = together(scores)
            cost = 1000 * sum(one.cpu_s for one in labelled) / max(1e-9, sum(one.voiced_s for one in labelled))
            table.add_row(
                name,
                str(len(talks)),
                f"{all_of_them.wrong:.1%}",
                f"{all_of_them.one_label:.1%}",
                f"{all_of_them.count_right:.0%}",
                f"{cost:.0f}",
            )
    except (NoSpeech, OptionError) as error:
        parser.exit(1, f"{error}\n")
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
