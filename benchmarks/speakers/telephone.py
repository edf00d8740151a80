"""The mean embedding of voices on the telephone, which `streaming_asr/speakers/campplus.py` takes out.

    python -m benchmarks.speakers.telephone --speech DIR --set multilingual --set mandarin --set classics

Each clip of these sets is one voice. None of them is among those of `python -m benchmarks.speakers`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from benchmarks.common.speech import NoSpeech, add_speech_option, clips
from benchmarks.speakers.mixes import TELEPHONE_HZ, by_telephone
from streaming_asr.core.recognizer import SAMPLE_RATE
from streaming_asr.core.speaker_clusters import Embedding
from streaming_asr.engine.process import limit_blas_threads
from streaming_asr.speakers.campplus import TELEPHONE, CamPlus

BANDS = (TELEPHONE_HZ, (50, 4000))
"""That of an old line, and all that 8 kHz can have."""


def mean_of(voices: Sequence[Embedding]) -> Embedding:
    """Shape ``[size]``, stored in 16 bits."""
    mean: Embedding = np.mean(voices, axis=0).astype(np.float16)
    return mean


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speakers.telephone", description=__doc__.splitlines()[0]
    )
    add_speech_option(parser)
    parser.add_argument("--set", action="append", required=True, metavar="SET")
    given = parser.parse_args(argv)
    limit_blas_threads()
    # So that nothing is taken out yet.
    np.save(TELEPHONE, np.zeros(192, np.float16))
    network, voices = CamPlus(), []
    try:
        for clip in [clip for name in given.set for clip in clips(given.speech, name)]:
            for band in BANDS:
                audio = by_telephone(clip.audio(), band)
                windows = [
                    audio[start : start + SAMPLE_RATE]
                    for start in range(0, len(audio) - SAMPLE_RATE + 1, SAMPLE_RATE // 2)
                ]
                voices.append(network.embed(windows).mean(axis=0))
    except NoSpeech as error:
        parser.exit(1, f"{error}\n")
    np.save(TELEPHONE, mean_of(voices))
    print(f"{TELEPHONE.name}: the mean of {len(voices) // len(BANDS)} clips")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
