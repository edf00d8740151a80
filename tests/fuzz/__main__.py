"""`python -m tests.fuzz TARGET --runs N`: fuzz what reads clients' input, or all over a socket.

Without `--coverage`, inputs are seeds changed at random, the same for the same `--seed`; with it, `atheris` looks for
inputs that reach new code (`pip install atheris`; it is not among the dependencies). An input that shows a fault is
written to a file, which `python -m tests.fuzz TARGET FILE` runs again.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common.arguments import positive
from tests.fuzz.mutation import MOST_BYTES, mutated

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

SHOWN_EVERY_S = 30.0
SOCKET = "socket"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("target", metavar="TARGET", help="see tests/fuzz/targets.py; `socket` is all protocols at once")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="inputs to run, instead of new ones")
    parser.add_argument("--runs", type=positive, default=100_000, metavar="N", help="messages or inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--coverage", action="store_true", help="by atheris")
    parser.add_argument("--corpus", type=Path, metavar="DIR", help="where atheris keeps inputs that reach new code")
    parser.add_argument("--failures", type=Path, default=Path(), metavar="DIR", help="where faults are written")
    options = parser.parse_args(argv)
    # What clients do wrong is logged; thousands of such lines help nobody.
    logging.basicConfig(level=logging.CRITICAL)
    if options.target == SOCKET:
        from tests.fuzz.socket import fuzz_socket

        return fuzz_socket(options.runs, options.seed)
    try:
        targets = _targets(instrumented=options.coverage)
    except ImportError as error:
        parser.exit(2, f"{error}; --coverage needs atheris: pip install atheris\n")
    target = targets.get(options.target)
    if target is None:
        parser.error(f"TARGET must be one of {', '.join((*targets, SOCKET))}")
    if options.files:
        for file in options.files:
            target.run(file.read_bytes())
        return 0
    return (_by_coverage if options.coverage else _at_random)(options, target)


def _targets(*, instrumented: bool) -> Mapping[str, Target]:
    """What can be fuzzed.

    Args:
        instrumented: whether the code of this package reports to atheris what of it runs; that is decided at import.

    Raises:
        ImportError: atheris is missing.
    """
    if instrumented:
        import atheris

        with atheris.instrument_imports(include=["streaming_asr"]):
            from tests.fuzz.targets import TARGETS
    else:
        from tests.fuzz.targets import TARGETS
    return TARGETS


def _at_random(options: argparse.Namespace, target: Target) -> int:
    chance = random.Random(f"{options.target} {options.seed}")
    seeds = target.seeds()
    began = shown = time.monotonic()
    inputs = runs = faults = 0
    while runs < options.runs:
        data = mutated(seeds, chance)
        try:
            runs += target.run(data)
        except Exception as error:
            runs += 1
            faults += 1
            file = options.failures / f"fuzz-{options.target}-{options.seed}-{inputs}"
            file.write_bytes(data)
            print(f"{file}: {type(error).__name__}: {error}", flush=True)
            if faults == 20:
                break
        inputs += 1
        if time.monotonic() - shown >= SHOWN_EVERY_S:
            shown = time.monotonic()
            print(f"{runs} of {options.runs}, {inputs} inputs, {shown - began:.0f} s", flush=True)
    print(f"{options.target}: {runs} in {inputs} inputs, {time.monotonic() - began:.0f} s, {faults} faults")
    return int(faults > 0)


def _by_coverage(options: argparse.Namespace, target: Target) -> int:
    import atheris

    arguments = [sys.argv[0], f"-runs={options.runs}", f"-seed={options.seed or 1}", f"-max_len={MOST_BYTES}"]
    arguments += ["-timeout=60", "-rss_limit_mb=4096", f"-artifact_prefix={options.failures}/fuzz-{options.target}-"]
    if options.corpus is not None:
        options.corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.seeds()):
            (options.corpus / f"seed-{number}").write_bytes(seed)
        arguments.append(str(options.corpus))

    def run(data: bytes) -> None:
        target.run(data)

    atheris.Setup(arguments, run)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
