"""What the annotators that change texts cost: processor time for each final, start, and memory.

python -m benchmarks.studies.text_cost
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

from streaming_asr.annotators.figures import LANGUAGES, find_edits
from streaming_asr.annotators.registry import make_annotators
from streaming_asr.core.annotations import Annotations
from streaming_asr.core.events import Final, Partial
from streaming_asr.core.options import SessionOptions
from streaming_asr.core.recognizer import Capabilities

SENTENCES = {
    "en": (
        "Call four one five, five five five, two six seven one: it costs twenty-three dollars and fifty cents on July "
        "fourth, twenty twenty-four, with a ten percent discount."
    ),
    "zh": "电话是一三八零零一三八零零零，价格是二十三块五，二零二四年七月四日，百分之十五的折扣。",
}
CAPABILITIES = Capabilities("none", "none", "none", 1, 30.0, tuple(SENTENCES))
TIMES = 50


def cpu_ms(run: Callable[[], object], times: int = TIMES) -> float:
    """Milliseconds of processor time of one run, the mean of several."""
    began = time.process_time()
    for _ in range(times):
        run()
    return 1000 * (time.process_time() - began) / times


def resident_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    before = resident_mib()
    for language in ("en", "zh"):
        first = cpu_ms(lambda language=language: find_edits("one", LANGUAGES[language]), times=1)  # type: ignore[misc]
        print(f"itn, {language}: first use {first:.0f} ms")
    print(f"itn: {resident_mib() - before:.0f} MiB of memory")
    for language, text in SENTENCES.items():
        took = cpu_ms(lambda text=text, language=language: find_edits(text, LANGUAGES[language]))  # type: ignore[misc]
        print(f"itn, {language}: {took:.1f} ms for a sentence with four figures, in a thread")
    kinds = {
        "replace, 200 rules": SessionOptions(replace=tuple(f"word{n}:other" for n in range(200))),
        "profanity_filter": SessionOptions(profanity_filter=True),
        "redact=pii": SessionOptions(redact=("pii",)),
    }
    text = SENTENCES["en"]
    for name, options in kinds.items():
        annotations = Annotations(0, make_annotators(options, CAPABILITIES), recorded=False)
        final = Final(1, 0, text, "en", 0, 9_000, 0.9, None)
        partial = Partial(1, 0, 1, text, " and so", "en", 0, 9_000)
        made = cpu_ms(lambda options=options: make_annotators(options, CAPABILITIES))  # type: ignore[misc]
        of_final = cpu_ms(lambda one=annotations, final=final: one.passed([final], 0.0))  # type: ignore[misc]
        of_partial = cpu_ms(lambda one=annotations, partial=partial: one.passed([partial], 0.0))  # type: ignore[misc]
        print(f"{name}: {of_final:.2f} ms a final, {of_partial:.2f} ms a partial, {made:.2f} ms a session")


if __name__ == "__main__":
    main()
