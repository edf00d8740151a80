"""What the command lines of studies that have clips recognized share."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.common.arguments import session_setting
from benchmarks.common.speech import Clip, NoSpeech, add_speech_option, clips, evenly_spaced


def parser_of(name: str, doc: str, default_set: str, *, sessions: bool = True) -> argparse.ArgumentParser:
    """The parser of one study; its values can be given to a recognizer's factory, too.

    Args:
        name: of its module.
        doc: its docstring.
        default_set: of clips.
        sessions: whether options of sessions can be given.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}", description=doc.splitlines()[0])
    add_speech_option(parser)
    parser.add_argument("--set", default=default_set, metavar="SET")
    parser.add_argument("--clips", type=int, metavar="N", help="that many, spread over the set; default all")
    if sessions:
        parser.add_argument("--option", action="append", default=[], type=session_setting, dest="options")
    parser.add_argument("--model", help="as of `streaming-asr serve`")
    parser.set_defaults(device="auto", compute_type=None, workers=1, engine=[])
    return parser


def chosen_clips(
    parser: argparse.ArgumentParser, given: argparse.Namespace, wanted: Callable[[Clip], bool] = lambda clip: True
) -> list[Clip]:
    """The clips that were asked for; the program ends if there is no such set."""
    try:
        return evenly_spaced([clip for clip in clips(given.speech, given.set) if wanted(clip)], given.clips)
    except NoSpeech as error:
        parser.exit(1, f"{error}\n")
