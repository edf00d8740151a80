"""The tables of options in docs/, rendered from the options themselves.

python -m tests.support.docs_tables          name the pages whose table is out of date
python -m tests.support.docs_tables --write  bring them up to date
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable
from pathlib import Path

from streaming_asr.cli import NAMED_VALUES
from streaming_asr.core.options import Option, SessionOptions, options_of, plain
from streaming_asr.core.profiles import PROFILES
from streaming_asr.server.options import LIMITS, RECORDINGS, ServerOptions

DOCS = Path(__file__).parents[2] / "docs"


def session_table() -> list[str]:
    """Rows of the options of a session, as clients give them."""
    rows = [("option", "default", "values", "configure", "meaning")]
    types = typing.get_type_hints(SessionOptions)
    for name, declared in options_of(SessionOptions).items():
        default = getattr(SessionOptions(), name)
        if name in NAMED_VALUES:
            declared = dataclasses.replace(declared, choices=NAMED_VALUES[name])
        changeable = "yes" if declared.changeable else "no"
        rows.append((f"`{name}`", _shown(default), _values(declared, types[name]), changeable, declared.help))
    return _table(rows)


def limits_table() -> list[str]:
    """Rows of the options of the server that limit what it takes."""
    rows = [("option", "default", "meaning")]
    for name, declared in options_of(ServerOptions).items():
        if declared.group in (LIMITS, RECORDINGS):
            default = getattr(ServerOptions(), name)
            shown = _bytes(default) if name.endswith("_bytes") else _shown(default)
            rows.append((f"`--{name.replace('_', '-')}`", shown, declared.help))
    return _table(rows)


def profiles_tables() -> list[str]:
    """What each profile is for, then the options that any of them sets, by profile."""
    uses = [("profile", "for"), *((f"`{name}`", profile.use) for name, profile in PROFILES.items())]
    names = [name for name in options_of(SessionOptions) if any(name in one.options for one in PROFILES.values())]
    rows = [
        (f"`{name}`", *(_shown(one.options[name]) if name in one.options else "" for one in PROFILES.values()))
        for name in names
    ]
    return [*_table(uses), "", *_table([("option", *(f"`{name}`" for name in PROFILES)), *rows])]


TABLES: dict[str, dict[str, Callable[[], list[str]]]] = {
    "protocol.md": {"options": session_table, "profiles": profiles_tables},
    "operations.md": {"options": limits_table},
}
"""By page, and by the name between whose lines each stands."""


def updated(page: str, text: str) -> str:
    """A page of docs/ with its tables as they should be."""
    for name, table in TABLES[page].items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        _, found, after = rest.partition(end)
        assert found, f"docs/{page} lacks the lines {begin} and {end}"
        text = "\n".join([before + begin, "", *table(), "", end + after])
    return text


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    header, *rest = (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)
    return [header, "|" + " --- |" * len(rows[0]), *rest]


def _values(declared: Option, kind: object) -> str:
    if declared.choices:
        return ", ".join(f"`{choice}`" for choice in declared.choices)
    if declared.range is not None:
        return " to ".join(map(plain, declared.range))
    return "true, false" if kind is bool or bool in typing.get_args(kind) else ""


def _shown(default: object) -> str:
    if default is None:
        return "null"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return plain(default)
    return f"`{getattr(default, 'value', default)}`" if default else "none"


def _bytes(size: int) -> str:
    return f"{size >> 30} GiB" if size % 2**30 == 0 else f"{size >> 20} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="bring the tables up to date")
    write = parser.parse_args().write
    stale = 0
    for page in TABLES:
        text = (DOCS / page).read_text(encoding="utf-8")
        new = updated(page, text)
        if new != text:
            stale += 1
            print(f"docs/{page}: {'written' if write else 'out of date'}")
            if write:
                (DOCS / page).write_text(new, encoding="utf-8")
    return 0 if write else min(stale, 1)


if __name__ == "__main__":
    raise SystemExit(main())
