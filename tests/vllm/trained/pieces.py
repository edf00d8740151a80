"""Takes the part of Qwen3-ASR's tokenizer that the vocabulary needs: every byte, the pieces of its words, and the
merges that make these."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoTokenizer

from tests.vllm.trained.vocabulary import corpus

HERE = Path(__file__).parent


def take(released: Path, folder: Path) -> None:
    """Write ``vocab.json`` and ``merges.txt``.

    Args:
        released: folder with the files of the released tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(released)
    vocabulary: dict[str, int] = json.loads((released / "vocab.json").read_text())
    lines = (released / "merges.txt").read_text().splitlines()
    merges = [(one, other) for one, other in (line.split(" ") for line in lines if " " in line and line[0:2] != "#v")]
    rank = {pair: n for n, pair in enumerate(merges)}
    made_by: dict[str, tuple[str, str]] = {}
    for one, other in merges:
        made_by.setdefault(one + other, (one, other))
    used: set[str] = set(ByteLevel.alphabet())
    kept: set[tuple[str, str]] = set()
    open_ = {str(piece) for text in corpus() for piece in tokenizer.tokenize(text) if piece in vocabulary}
    while open_:
        piece = open_.pop()
        if piece in used:
            continue
        used.add(piece)
        kept.add(made_by[piece])
        open_.update(made_by[piece])
    ordered = sorted(used, key=vocabulary.__getitem__)
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(ordered)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("\n".join(" ".join(pair) for pair in sorted(kept, key=rank.__getitem__)) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("released", type=Path, help="folder with the tokenizer files of Qwen3-ASR-0.6B")
    take(parser.parse_args().released, HERE)
