"""The recorded session, which tests read, is what the program writes today: the same rows, events, titles and keys."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from learning_signal.ledger.packing import add_functions
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import session_rules
from tests.support.ledger_helpers import tamper
from tests.support.record_ledger import record
from tests.support.recorded_ledger import recorded_ledger

ANEW = "record it anew: .venv/bin/python -m tests.support.record_ledger"
VERSIONS = re.compile(r"torch \S+, NumPy \S+")
METRICS = "replace(CAST(sqlar_uncompress(packed, size) AS TEXT), 'sparse_return', 'return')"
NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")


def form(path: Path) -> dict[str, Any]:
    """What a ledger holds, without what differs from machine to machine and numbers that training gives."""
    database = sqlite3.connect(path)
    add_functions(database)
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
    found: dict[str, Any] = {}
    for table in (name for name in tables if not name.startswith(("bodies", "searchable", "sqlite"))):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        bodies = [row[3] for row in database.execute(f"PRAGMA foreign_key_list({table})") if row[2] == "bodies"]
        found[f"{table}: columns"] = columns
        found[f"{table}: rows"] = database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for column in columns:
            filled = f"SELECT count({column}) FROM {table}"
            found[f"{table}.{column}: rows with a value"] = database.execute(filled).fetchone()[0]
        for column in bodies:
            texts = database.execute(
                f"SELECT DISTINCT bodies.body FROM {table} JOIN bodies ON bodies.hash = {table}.{column}"
            )
            found[f"{table}.{column}: keys"] = sorted({key for (text,) in texts for key in keys_of(text)})
    found["cursors.state: keys"] = sorted(keys_of(database.execute("SELECT state FROM cursors").fetchone()[0]))
    found["metrics: names"] = sorted(name for (name,) in database.execute("SELECT DISTINCT name FROM metrics"))
    events = database.execute("SELECT title, kind, status, round, phase, agent, ref_table FROM events")
    found["events"] = Counter((title_form(title, row[0]), *row) for title, *row in events)
    return found


def title_form(title: str, kind: str) -> str:
    """A title without its numbers; nothing of a message's, which is what an agent said."""
    return "" if kind == "message" else NUMBER.sub("#", VERSIONS.sub("libraries", title))


def keys_of(text: str) -> set[str]:
    """The paths of all keys in a JSON text; none in any other text."""

    def paths(value: Any, path: str) -> set[str]:
        if isinstance(value, dict):
            return {path}.union(*(paths(each, f"{path}.{key}") for key, each in value.items()))
        if isinstance(value, list):
            return set().union(*(paths(each, f"{path}[]") for each in value))
        return {path}

    try:
        return paths(json.loads(text), "")
    except ValueError:
        return set()


def differences(recorded: Path, written: Path) -> list[str]:
    """Where the forms of two ledgers differ."""
    one, other = form(recorded), form(written)
    return [f"{name}: {one.get(name)} / {other.get(name)}" for name in one | other if one.get(name) != other.get(name)]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return recorded_ledger(tmp_path / "recorded.db")


def test_the_program_writes_the_recorded_session_today(recorded: Path, tmp_path: Path) -> None:
    assert differences(recorded, record(tmp_path)) == [], ANEW


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("UPDATE events SET title = 'pass for c1' WHERE kind = 'verdict'", "events"),
        ("UPDATE events SET kind = 'judgement' WHERE kind = 'verdict'", "events"),
        ("UPDATE bodies SET body = replace(body, '\"mode\":', '\"rule\":')", "comparisons.settings: keys"),
        ("UPDATE cursors SET state = json_set(state, '$.more', 1)", "cursors.state: keys"),
        ("ALTER TABLE segments ADD COLUMN more TEXT", "segments: columns"),
        ("UPDATE segments SET trained = NULL", "segments.trained: rows with a value"),
        ("DELETE FROM fates", "fates: rows"),
        (f"UPDATE packed_metrics SET packed = CAST({METRICS} AS BLOB), size = length({METRICS})", "metrics: names"),
    ],
)
def test_what_the_program_would_not_write_is_found(recorded: Path, tmp_path: Path, change: str, where: str) -> None:
    """Negative control."""
    changed = recorded_ledger(tmp_path / "changed.db")
    tamper(changed, change)
    assert any(each.startswith(f"{where}: ") for each in differences(recorded, changed))
    assert differences(recorded, recorded) == []


def test_the_recorded_session_is_sound_and_holds_what_tests_read(recorded: Path) -> None:
    with Reader.open(recorded) as reader:
        assert verify(reader, recompute, session_rules) == []
        assert [each.action for each in reader.decisions()] == ["promote", "keep", "promote", "roll_back"]
        assert {each.outcome for each in reader.verdicts()} == {"pass", "fail", "inconclusive"}
        assert {each.status for each in reader.events()} == {"ok", "pending", "error", "refused", "interrupted"}
        assert {each.status for each in reader.segments().values()} == {"ok", "error"}
        rows = reader.rows("SELECT DISTINCT type FROM messages")
        assert {row["type"] for row in rows} == {"task", "text", "thought", "question", "answer", "nudge"}
