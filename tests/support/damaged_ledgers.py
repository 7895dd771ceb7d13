"""Damage for tests: one stored body or number of a ledger is changed past its guards, drawn with a seed."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

BODIES = [
    "null",
    "[]",
    "{}",
    "5",
    '"x"',
    "NaN",
    "",
    "{",
    "[" * 5_000,
    '{"a": ' * 5_000,
    '{"arms": 5}',
    "\ufffd",
    "1e999",
]
NUMBERS = [-1, 2**62, 0, 10**9]
REALS = [float("inf"), -1.0, 1e308]


def damage(path: Path, random: random.Random) -> str:
    """Change one thing of the ledger at ``path``; what, in words."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        places = _places(connection)
        table, column, kind = random.choice(places)
        if kind == "body":
            rows = connection.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
            (address,) = random.choice(rows)
            (text,) = connection.execute("SELECT body FROM bodies WHERE hash = ?", (address,)).fetchone()
            value = random.choice([*BODIES, _changed(text, random)])
            connection.execute("UPDATE bodies SET body = ? WHERE hash = ?", (value, address))
        else:
            numbers = [row[0] for row in connection.execute(f"SELECT rowid FROM {table}")]
            value = {"json": BODIES, "INTEGER": NUMBERS, "REAL": REALS, "TEXT": ["x", ""]}[kind]
            value = random.choice(value)
            update = f"UPDATE OR IGNORE {table} SET {column} = ? WHERE rowid = ?"
            connection.execute(update, (value, random.choice(numbers)))
        return f"{table}.{column} = {str(value)[:60]!r}"
    finally:
        connection.close()


def _changed(text: str, random: random.Random) -> str:
    """A JSON text with one value in it replaced by one of another kind; another text as it is cut off."""
    try:
        value = json.loads(text)
    except ValueError:
        return text[: len(text) // 2]
    if not isinstance(value, (dict, list)) or not value:
        return "null"
    inner: Any = value
    while True:
        key = random.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        if not isinstance(inner[key], (dict, list)) or not inner[key] or random.random() < 0.3:
            inner[key] = random.choice([None, [], {}, "x", -1, 1e300])
            return json.dumps(value)
        inner = inner[key]


def _places(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Table, column and kind of what can be changed: every body, stored JSON, and every other column."""
    found = []
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%STRICT%'")
    for (table,) in tables.fetchall():
        if connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,) or table in ("links", "bodies"):
            continue
        keys = connection.execute(f"PRAGMA foreign_key_list({table})").fetchall()
        bodies = {key[3] for key in keys if key[2] == "bodies"}
        for _, column, kind, _, _, primary in connection.execute(f"PRAGMA table_info({table})").fetchall():
            if column in bodies and table != "searchable_bodies":
                found += [(table, column, "body")] * 3
            elif (table, column) in (("cursors", "state"), ("sessions", "budget"), ("llm_calls", "context")):
                found.append((table, column, "json"))
            elif not primary and kind in ("INTEGER", "REAL", "TEXT"):
                found.append((table, column, kind))
    return found
