"""When each word of a clip is spoken, for clips whose set does not say it.

The words of the reference are aligned to the audio by Whisper's cross-attention (dynamic time warping, as of OpenAI's
word timestamps), with the same weights for all. Good to about 0.1 s: it adds the same error to every server's figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.speech import Clip
from streaming_asr.recognizers.base import SAMPLE_RATE

LONGEST_S = 30.0
"""What the encoder takes at once; longer clips stay without times."""


def with_word_times(clips: Sequence[Clip], weights: Path) -> list[Clip]:
    """The clips, English ones with the times of their words."""
    from faster_whisper import WhisperModel
    from faster_whisper.audio import pad_or_trim
    from faster_whisper.tokenizer import Tokenizer

    model = WhisperModel(str(weights), device="cpu", compute_type="int8")
    tokenizer = Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task="transcribe", language="en")
    timed = []
    for clip in clips:
        audio = clip.audio()
        if clip.words or clip.language != "en" or len(audio) > LONGEST_S * SAMPLE_RATE:
            timed.append(clip)
            continue
        features = model.feature_extractor(audio)
        encoded = model.encode(pad_or_trim(features))
        text = clip.text if any(letter.islower() for letter in clip.text) else clip.text.lower()
        frames = min(features.shape[-1], pad_or_trim(features).shape[-1])
        (words,) = model.find_alignment(tokenizer, [tokenizer.encode(" " + text)], encoded, frames)
        told = [(str(word["word"]).strip(), float(word["start"]), float(word["end"])) for word in words]
        timed.append(replace(clip, words=tuple(word for word in told if word[0])))
    return timed
