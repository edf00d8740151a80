"""The modules that clients have copies of, because they stand alone. ``python -m tests.support.copies`` copies them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {
    name: ROOT / folder / f"{name}.py"
    for name, folder in {
        "mixing": "streaming_asr/core",
        "timeline": "streaming_asr/engine/media",
        "repairs": "streaming_asr/engine/media",
        "ogg_links": "streaming_asr/engine/media",
        "parts": "streaming_asr/engine/media",
        "reader": "streaming_asr/engine/media",
        "converter": "streaming_asr/engine/media",
    }.items()
}
COPIES = ROOT / "clients/media"

_CHANGES = (
    ("from streaming_asr.core.recognizer import Audio\n\n", ""),
    ("from streaming_asr.core.mixing import", "from clients.media.mixing import"),
    ("from streaming_asr.engine.media.", "from clients.media."),
    ("-> Audio:", "-> NDArray[np.float32]:"),
)


def copied(name: str) -> str:
    """What the copy of a module must be."""
    source = SOURCES[name]
    text = source.read_text(encoding="utf-8")
    for before, after in _CHANGES:
        text = text.replace(before, after)
    relative = source.relative_to(ROOT).as_posix()
    return f"# A copy of {relative}, by `python -m tests.support.copies`: clients stand alone.\n{text}"


if __name__ == "__main__":
    for module in SOURCES:
        (COPIES / f"{module}.py").write_text(copied(module), encoding="utf-8")
