"""Ledgers: mutated columns, bodies, rows, schemas, pages and files, read by every command that reads one."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from bench.hardening.fixtures import Fixtures, copied, session_ids
from bench.hardening.inputs import Input
from bench.hardening.mutations import NUMBERS, WORDS, as_json, changed_bytes, changed_json, changed_text, shown
from learning_signal.ledger.packing import add_functions

BASES = ("two", "two", "two", "recorded", "trained")
"""The folders whose ledgers are mutated, as often as they are."""
Commands = tuple[tuple[str, ...], ...]
MAIN: Commands = (("log", "verify"), ("explain",), ("log", "show", "-v"), ("log", "export", "--to", "r.html"))
"""One of these reads every ledger."""
FURTHER: Commands = (
    ("log", "list"), ("log", "show", "--raw"), ("log", "search", "coverage"), ("log", "tail", "-n", "50"),
    ("log", "scan"), ("log", "stats"), ("log", "plot", "--to", "c.svg"), ("log", "forecasts"), ("log", "seal"),
    ("log", "export", "--as", "markdown", "--to", "r.md"), ("log", "export", "--as", "data", "--to", "d.json"),
    ("log", "export", "--as", "csv", "--to", "tables"), ("log", "export", "--as", "atif", "--to", "a.json"),
    ("log", "export", "--as", "otlp", "--to", "o.json"), ("log", "backup", "b.db"), ("backends", "--record"),
    ("explain", "--brief"), ("explain", "--json"), ("log", "list", "--json"), ("log", "verify", "--json"),
    ("log", "recover", "ledger.db", "--to", "new.db"),
    ("log", "prune", "--keep", "0"),
    ("approve",), ("say", "latest", "hello"), ("mcp",),
    ("counterfactual", "latest#20", "--with", "rules", "--turn"), ("ab", "--agent", "critic", "--with", "rules"),
)  # fmt: skip
WITH_STORE: Commands = (("replay",), ("export", "latest", "--to", "p"), ("play", "latest", "--episodes", "2"))
PAIRS: Commands = (("compare", "{0}", "{1}"), ("log", "diff", "{0}", "{1}"))
VALUES = (*NUMBERS, *WORDS, None, b"", b"\x00\xff" * 8, "[]", "{}", "5")
"""What a column of SQLite may be set to."""


def inputs(fixtures: Fixtures, random: Random) -> Iterator[Input]:
    """Some 500 ledgers, most of them of two short sessions."""
    yield from _columns("two", fixtures, random, 0.5)
    yield from _columns("recorded", fixtures, random, 0.2)
    yield from _columns("trained", fixtures, random, 0.1)
    for index in range(120):
        yield _body(BASES[index % len(BASES)], fixtures, random)
    yield from _schemas("two", fixtures, random)
    for index in range(80):
        yield _file(BASES[index % len(BASES)], fixtures, random)


def _read(name: str, fixtures: Fixtures, random: Random) -> Commands:
    """Three commands that read a ledger like this one."""
    pool = list(FURTHER)
    if name != "recorded":
        pool += WITH_STORE * 2
    if name == "two":
        ids = session_ids(fixtures.two)
        pool += [tuple(word.format(*ids) for word in each) for each in PAIRS] * 2
    chosen = [random.choice(MAIN), *random.sample(pool, 2)]
    return tuple(chosen)


def _made(name: str, what: str, change: Callable[[Path], None], fixtures: Fixtures, random: Random) -> Input:
    """An input: a copy of a folder whose ledger ``change`` has changed."""

    def prepare(folder: Path) -> None:
        copied(fixtures.root / name, folder)
        change(folder / "ledger.db")

    commands = _read(name, fixtures, random)
    return Input(f"{name}: {what}", commands, prepare, {"LEARNING_SIGNAL_LEDGER": "ledger.db"}, random.random() < 0.5)


# rows and columns -------------------------------------------------------------------------------------------------


def edit(ledger: Path, *statements: str, values: tuple[Any, ...] = ()) -> None:
    """Change a ledger past its triggers and rules, as whoever has the file can; what SQLite refuses is left out."""
    with closing(sqlite3.connect(ledger, isolation_level=None)) as database:
        add_functions(database)
        database.execute("PRAGMA synchronous = OFF")
        triggers = database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for trigger, _ in triggers:
            database.execute(f'DROP TRIGGER "{trigger}"')
        database.execute("PRAGMA foreign_keys = OFF")
        database.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            with suppress(sqlite3.Error, OverflowError):
                database.execute(statement, values if "?" in statement else ())
        for _, sql in triggers:
            with suppress(sqlite3.Error):
                database.execute(sql)


def _tables(ledger: Path) -> dict[str, list[tuple[str, str]]]:
    """Every table with its columns and their types."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        names = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
            if "search" not in name and not name.startswith("sqlite_")
        ]
        return {
            name: [(row[1], row[2]) for row in database.execute(f'PRAGMA table_info("{name}")')]
            for name in names
            if database.execute(f'SELECT 1 FROM "{name}"').fetchone()
        }


def _columns(name: str, fixtures: Fixtures, random: Random, share: float) -> Iterator[Input]:
    """This share of all columns with another value, in one row or in all."""
    for table, columns in _tables(fixtures.root / name / "ledger.db").items():
        for column, kind in columns:
            if random.random() < share:
                value = _value(kind, random)
                everywhere = random.random() < 0.4
                rows = "" if everywhere else f' WHERE rowid = (SELECT max(rowid) FROM "{table}")'
                statement = f'UPDATE OR IGNORE "{table}" SET "{column}" = ?{rows}'
                what = f"{table}.{column} is {shown(value)}" + (" everywhere" if everywhere else "")
                yield _made(name, what, _with(statement, value), fixtures, random)


def _with(statement: str, value: Any) -> Callable[[Path], None]:
    return lambda ledger: edit(ledger, statement, values=(value,))


def _value(kind: str, random: Random) -> Any:
    """A value that a column of this type holds."""
    if kind == "INTEGER":
        return random.choice([each for each in NUMBERS if isinstance(each, int) and abs(each) < 2**63] + [None])
    if kind == "REAL":
        return random.choice([float(each) for each in NUMBERS if abs(each) < 10**300] + [None, 1e308])
    if kind == "BLOB":
        return random.choice((b"", b"\x00", b"\xff" * 64, b"x\x9c\x03\x00", None))
    return random.choice(
        [each for each in VALUES if each is None or isinstance(each, str) and not _surrogate(each)]
        + [as_json(random.choice(NUMBERS[:-4]))]
    )


def _surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


_BODIES = {
    "sessions.config": "SELECT config FROM sessions",
    "segments.shaping": "SELECT shaping FROM segments",
    "tool_calls.arguments": "SELECT arguments FROM tool_calls",
    "tool_calls.result": "SELECT result FROM tool_calls",
    "llm_calls.reply": "SELECT reply FROM llm_calls",
    "llm_calls.context": "SELECT context FROM llm_calls",
    "llm_calls.tools": "SELECT tools FROM llm_calls",
    "messages.body": "SELECT body FROM messages",
    "agents.tools": "SELECT tools FROM agents",
    "any body": "SELECT hash FROM bodies",
}
"""What is JSON in a body -> the hashes of such bodies."""


def _body(name: str, fixtures: Fixtures, random: Random) -> Input:
    """A ledger in which a stored text, or all texts of a kind, is another."""
    stored = _stored(fixtures.root / name / "ledger.db")
    kind = random.choice(list(stored))
    query, (place, text) = _BODIES[kind], random.choice(stored[kind])
    changed, what = _another(text, random)
    where = "hash = ?1" if random.random() < 0.6 else f"hash IN ({query})"

    def change(ledger: Path) -> None:
        edit(ledger, f"UPDATE bodies SET body = ?2 WHERE {where}", values=(place, changed))

    return _made(name, f"{kind}, {what}", change, fixtures, random)


@cache
def _stored(ledger: Path) -> Mapping[str, Sequence[tuple[str, str]]]:
    """Hash and text of every body, by what it is; kinds of which there is none are left out."""
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as database:
        found = {
            kind: database.execute(f"SELECT hash, body FROM bodies WHERE hash IN ({query}) ORDER BY id").fetchall()
            for kind, query in _BODIES.items()
        }
    return {kind: rows for kind, rows in found.items() if rows}


def _another(text: str, random: Random) -> tuple[str, str]:
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if data is None or random.random() < 0.3:
        return changed_text(text, random)
    changed, what = changed_json(data, random)
    return as_json(changed), what


# schemas ----------------------------------------------------------------------------------------------------------


def _schemas(name: str, fixtures: Fixtures, random: Random) -> Iterator[Input]:
    """Rows and tables that are gone, repeated, or of somebody else's making; triggers and views with a purpose."""
    tables = _tables(fixtures.root / name / "ledger.db")
    cases = {}
    for table, columns in tables.items():
        cases[f"{table} without its last row"] = [
            f'DELETE FROM "{table}" WHERE rowid = (SELECT max(rowid) FROM "{table}")'
        ]
        cases[f"{table} without rows"] = [f'DELETE FROM "{table}"']
        cases[f"{table} is gone"] = ["PRAGMA foreign_keys = OFF", f'DROP TABLE "{table}"']
        cases[f"{table} is a view"] = [
            f'ALTER TABLE "{table}" RENAME TO "was_{table}"',
            f'CREATE VIEW "{table}" AS SELECT * FROM "was_{table}"',
        ]
        cases[f"{table} has another column"] = [f'ALTER TABLE "{table}" ADD COLUMN "{table}_more" TEXT']
        cases[f"{table} lacks a column"] = [
            f'ALTER TABLE "{table}" RENAME COLUMN "{random.choice(columns)[0]}" TO "was"'
        ]
    cases["a view that never ends"] = [
        "ALTER TABLE agents RENAME TO was_agents",
        "CREATE VIEW agents AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
        "SELECT was_agents.* FROM was_agents, n",
    ]
    cases["triggers that delete"] = [
        f'CREATE TRIGGER "own_{table}" AFTER INSERT ON "{table}" BEGIN DELETE FROM bodies; END' for table in tables
    ]
    cases["a version of the future"] = ["PRAGMA user_version = 2147483647"]
    cases["a version of before"] = ["PRAGMA user_version = 1"]
    cases["another program's"] = ["PRAGMA application_id = 7"]
    cases["with a large page"] = ["PRAGMA journal_mode = DELETE", "PRAGMA page_size = 65536", "VACUUM"]
    cases["in UTF-16"] = ["PRAGMA writable_schema = ON", "PRAGMA encoding = 'UTF-16'", "VACUUM"]
    for what, statements in cases.items():
        yield _made(name, what, _of(statements), fixtures, random)


def _of(statements: list[str]) -> Callable[[Path], None]:
    return lambda ledger: edit(ledger, *statements)


# files ------------------------------------------------------------------------------------------------------------


def _file(name: str, fixtures: Fixtures, random: Random) -> Input:
    """A file that was cut or overwritten, or that has somebody else's beside it."""
    beside = random.choice((None, None, None, "-wal", "-shm", "-journal"))
    data = (fixtures.root / name / "ledger.db").read_bytes()
    if beside is not None:
        junk = random.randbytes(random.choice((0, 32, 4096, 100_000)))
        return _made(
            name, f"{len(junk)} bytes as {beside}", lambda ledger: _put(ledger, beside, junk), fixtures, random
        )
    changed, what = changed_bytes(data, random)
    return _made(name, what, lambda ledger: _put(ledger, "", changed), fixtures, random)


def _put(ledger: Path, ending: str, data: bytes) -> None:
    ledger.with_name(ledger.name + ending).write_bytes(data)
