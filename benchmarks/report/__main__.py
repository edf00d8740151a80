"""`python -m benchmarks.report`: one page of what several runs of `benchmarks.load --json` found."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report.page import written
from benchmarks.report.plots import overview
from benchmarks.report.runs import BadRun, Document, read


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument(
        "runs", nargs="+", metavar="[NAME=]FILE", help="JSON of benchmarks.load, and what to call the server"
    )
    parser.add_argument("--html", type=Path, metavar="FILE")
    parser.add_argument("--png", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    if options.html is None and options.png is None:
        parser.error("say with --html or --png what to write")
    try:
        documents = [_read(given) for given in options.runs]
        if options.html is not None:
            options.html.write_text(written(documents), encoding="utf-8")
        if options.png is not None:
            overview(documents, options.png)
    except (BadRun, OSError) as error:
        parser.exit(2, f"{error}\n")
    return 0


def _read(given: str) -> Document:
    name, equals, file = given.partition("=")
    return read(Path(file), name) if equals else read(Path(given))


if __name__ == "__main__":
    sys.exit(main())
