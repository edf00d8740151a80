"""Command-line options that both commands share, and the arguments made from them."""

from __future__ import annotations

import argparse
import os
import ssl
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from clients.stream import DEFAULT_URL
from clients.transcript_files import TranscriptError, check_format

API_KEY_VARIABLE = "STREAMING_ASR_API_KEY"
_TIMED_FORMATS = (".srt", ".vtt")
_OF_THE_AUDIO = frozenset({"encoding", "sample_rate", "channels", "channel_mode"})


class UsageError(Exception):
    """Options that contradict each other, or name a file that does not exist. The message is for the user."""


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("server")
    group.add_argument("--url", default=DEFAULT_URL, help="address of the server (default: %(default)s)")
    group.add_argument(
        "--api-key", default=os.environ.get(API_KEY_VARIABLE), metavar="KEY", help=f"default: ${API_KEY_VARIABLE}"
    )
    group.add_argument("--ca", type=Path, metavar="FILE", help="certificate authority to trust, for wss")
    group.add_argument("--insecure", action="store_true", help="trust any certificate")


def add_session_options(parser: argparse.ArgumentParser, *, profile: str | None = None) -> None:
    """Add the options of the session.

    Args:
        profile: the command's default.
    """
    group = parser.add_argument_group("recognition")
    group.add_argument(
        "--profile",
        default=profile,
        metavar="NAME",
        help="use that sets the other options, such as agent, captions or dictation (default: %(default)s)"
        if profile
        else "use that sets the other options, such as agent, captions or dictation",
    )
    group.add_argument("--language", metavar="CODE", help="language, such as en, zh or en-US; default: detect it")
    group.add_argument(
        "--keyword", action="append", default=[], dest="keywords", metavar="WORD", help="likely word; may be repeated"
    )
    group.add_argument("--context", metavar="TEXT", help="background: names, topic")
    group.add_argument("--endpoint-ms", type=_whole, metavar="MS", help="silence that ends an utterance")
    group.add_argument(
        "--speakers", action="store_true", help="say who speaks, by the voice (beta); with the times of words"
    )
    group.add_argument("--word-times", action="store_true", help="include the times of words (subtitles always do)")
    group.add_argument(
        "--option",
        action="append",
        default=[],
        type=_assignment,
        dest="others",
        metavar="NAME=VALUE",
        help="any other option of the protocol; may be repeated",
    )


def add_output_options(parser: argparse.ArgumentParser, save_help: str) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--save", action="append", default=[], type=Path, metavar="FILE", help=save_help)
    group.add_argument("--overwrite", action="store_true", help="replace files that exist")
    group.add_argument("--times", action="store_true", help="print times even if the output is not a terminal")
    group.add_argument("--quiet", action="store_true", help="print finals and errors only")


def session_options(given: argparse.Namespace) -> dict[str, Any]:
    """The given options of the session, as named in docs/protocol.md.

    Raises:
        UsageError: an option follows from the audio and can't be given.
    """
    others = dict(given.others)
    if taken := _OF_THE_AUDIO & others.keys():
        raise UsageError(f"--option {', '.join(sorted(taken))}: follows from the audio and can't be chosen")
    timed = any(path.suffix.lower() in _TIMED_FORMATS for path in given.save)
    options = {
        "profile": given.profile,
        "language": given.language,
        "keywords": given.keywords,
        "context": given.context,
        "endpoint_ms": given.endpoint_ms,
        "speakers": given.speakers,
        "word_times": given.word_times or given.speakers or timed,
    }
    return {**{name: value for name, value in options.items() if value}, **others}


def tls_context(given: argparse.Namespace) -> ssl.SSLContext | None:
    """TLS settings of `--ca` and `--insecure`; None for the system's.

    Raises:
        UsageError: the authority's file can't be used.
    """
    if given.insecure:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if given.ca is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(given.ca))
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--ca {given.ca}: not a certificate file in PEM format ({error.strerror or error})") from None


def connection_options(given: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `open_lasting_stream` for the connection.

    Raises:
        UsageError: see `tls_context`.
    """
    return {"url": given.url, "api_key": given.api_key, "tls": tls_context(given)}


def check_saves(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Check that transcripts can be written there, before an hour of audio is transcribed.

    Raises:
        UsageError: a format is unknown, a file exists, or a path is given twice.
    """
    for path in paths:
        try:
            check_format(path)
        except TranscriptError as error:
            raise UsageError(str(error)) from None
        if path.is_dir():
            raise UsageError(f"{path}: a folder, not a file")
        if path.exists() and path.stat().st_size and not overwrite:
            raise UsageError(f"{path} exists; choose another name or add --overwrite")
    twice = {str(path) for path in paths if paths.count(path) > 1}
    if twice:
        raise UsageError(f"{', '.join(sorted(twice))}: two transcripts would be written there")


def _whole(text: str) -> int:
    with suppress(ValueError):
        if (number := float(text)).is_integer():
            return int(number)
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
