"""`streaming-asr serve` with a recognizer that needs no weights: `python -m tests.support.fake_serve serve OPTIONS`."""

from __future__ import annotations

import argparse

from streaming_asr import cli
from streaming_asr.core.recognizer import Recognizer
from streaming_asr.recognizers.factory import RecognizerFactory
from tests.support.fake_recognizer import FakeRecognizer

MISSING = "missing"
"""A model that can't be loaded."""


def _create(options: argparse.Namespace) -> Recognizer:
    if options.model == MISSING:
        raise ValueError("there are no weights")
    return FakeRecognizer()


FACTORY = RecognizerFactory("fake", lambda model: True, _create)

if __name__ == "__main__":
    cli.FACTORIES = (FACTORY,)
    cli.factory_for = lambda model, name=None: FACTORY
    raise SystemExit(cli.main())
