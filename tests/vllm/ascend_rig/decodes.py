"""Decodes the same requests under whichever platform vLLM takes, and prints as JSON what came of them.

python -m tests.vllm.ascend_rig.decodes CHECKPOINT
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from streaming_asr.core.recognizer import SAMPLE_RATE, Context
from streaming_asr.recognizers.vllm.models.base import Completion, Request
from tests.vllm.engine import LiveEngine, speech, whole

SPEECH = Path(__file__).parents[2] / "speech" / "librivox"


def requests(engine: LiveEngine) -> Iterator[Request]:
    """With and without windows, context, language and forced prefix; from a second to half a minute."""
    audio = speech(SPEECH, 31)
    context = Context(text="the north wind", keywords=("sun", "universe"))
    for seconds in (1, 8, 9, 27.5, 31):
        part = audio[: int(seconds * SAMPLE_RATE)]
        yield engine.request(engine.windows(part, name=f"{seconds} s"))
        yield engine.request(whole(part), context, "en")
    yield engine.request(engine.windows(audio, name="prefix"), context, "en", prefix=(20, 30, 40, 50))


def decodes(engine: LiveEngine) -> list[Completion]:
    return [engine.run(request) for request in requests(engine)]


def main(checkpoint: str) -> None:
    with LiveEngine(Path(checkpoint), "--max-model-len=4096", "--max-num-seqs=16") as engine:
        device = engine.recognizer.capabilities.device
        completions = [(one.tokens, one.logprobs, one.complete) for one in decodes(engine)]
    print("DECODED", json.dumps({"device": device, "completions": completions}))


if __name__ == "__main__":
    main(sys.argv[1])
