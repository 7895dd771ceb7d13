"""A session of many events: the recorded one's, written again and again with other numbers in what was said."""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
from pathlib import Path

from tests.support.recorded_ledger import recorded_ledger

PER_ROUND = 10_000
"""What is added to the number of a round for every repetition."""


def many_events(path: Path, least: int) -> Path:
    """A ledger at ``path`` whose session has at least so many events; prompts and tools stay as they are."""
    recorded_ledger(path)
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {trigger}")
    copy, repetition = _Copy(connection), 0
    while connection.execute("SELECT count(*) FROM events").fetchone()[0] < least:
        repetition += 1
        copy.write(repetition)
    connection.commit()
    connection.close()
    return path


class _Copy:
    """Everything that was said in the recorded session."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._random = random.Random(0)
        self._events = self._rows("events")
        self._said = {table: self._rows(table) for table in ("messages", "llm_calls", "tool_calls")}
        self._kept = {row[column] for row in self._rows("agents") for column in ("prompt", "tools")}
        self._bodies = dict(connection.execute("SELECT hash, body FROM bodies").fetchall())

    def _rows(self, table: str) -> list[dict]:
        return [dict(row) for row in self._connection.execute(f"SELECT * FROM {table}")]

    def write(self, repetition: int) -> None:
        """Write it once more, as later rounds."""
        numbers, again = {}, {}
        first = self._connection.execute("SELECT max(seq) FROM events").fetchone()[0] + 1
        for place, event in enumerate(self._events):
            numbers[event["seq"]] = first + place
            later = None if event["round"] is None else event["round"] + PER_ROUND * repetition
            self._insert("events", event | {"seq": first + place, "round": later})
        for table, rows in self._said.items():
            for row in rows:
                changed = {"id": None, "event_seq": numbers[row["event_seq"]]}
                for column in ("body", "arguments", "result", "reply"):
                    if row.get(column):
                        changed[column] = self._body(row[column], again)
                if row.get("context"):
                    context = [self._body(each, again) for each in json.loads(self._bodies[row["context"]])]
                    changed["context"] = self._stored(json.dumps(context))
                if "evidence_id" in row:
                    changed["evidence_id"] = None
                self._insert(table, row | changed)

    def _body(self, stored: str, again: dict[str, str]) -> str:
        """The hash of a body with other numbers in it, the same ones wherever it is told in this repetition."""
        if stored in self._kept:
            return stored
        if stored not in again:
            factor = self._random.uniform(0.5, 2.0)
            changed = re.sub(r"\d+\.\d+", lambda found: f"{float(found[0]) * factor:.4f}", self._bodies[stored])
            again[stored] = self._stored(changed)
        return again[stored]

    def _stored(self, body: str) -> str:
        key = hashlib.sha256(body.encode()).hexdigest()
        self._connection.execute("INSERT OR IGNORE INTO bodies (hash, body) VALUES (?, ?)", (key, body))
        return key

    def _insert(self, table: str, row: dict) -> None:
        marks = ", ".join("?" * len(row))
        self._connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
