"""Rows: bodies stored once, what SQLite cannot hold, refusals, completion and the guards of what is final."""

from __future__ import annotations

import math
import sqlite3

import numpy as np
import pytest

from learning_signal.ledger.canonical import BodyHash, canonical_json, content_hash
from learning_signal.ledger.changes import COMPLETED_LATER, FINAL
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import count


def test_bodies_are_stored_once_and_given_as_text_json_or_hash(ledger: Ledger, session: str) -> None:
    before = count(ledger, "bodies")
    address = ledger.body("the same text")
    assert ledger.body("the same text") == address == content_hash("the same text")
    seq = ledger.event(session, "message", "m")
    row = {"event_seq": seq, "session_id": session, "source": "critic", "type": "text"}
    for body in ("the same text", address, {"a": (1, 2.5)}, {"a": [1, 2.5]}):
        ledger.add("messages", body=body, **row)
    assert count(ledger, "bodies") == before + 2
    with pytest.raises(LedgerError, match="FOREIGN KEY"):
        ledger.add("messages", body=BodyHash("0" * 64), **row)


def test_json_has_no_nan_and_a_stable_form() -> None:
    value = {"b": float("nan"), "a": (1, np.float32(0.5), np.array([1, 2])), "c": math.inf, "d": "é"}
    assert canonical_json(value) == '{"a":[1,0.5,[1,2]],"b":null,"c":null,"d":"é"}'
    with pytest.raises(ValueError, match="set cannot be stored as JSON"):
        canonical_json({"a": {1}})
    with pytest.raises(ValueError, match="keys must be text"):
        canonical_json({1: "a"})


def test_numbers_that_sqlite_cannot_hold(ledger: Ledger, session: str) -> None:
    ledger.add(
        "segments",
        session_id=session,
        id="s0",
        shaping={},
        seed=np.int64(3),
        env_steps=np.int32(100),
        status="pending",
        wall_seconds=float("nan"),
    )
    row = ledger.row("segments", (session, "s0"))
    assert (row["seed"], row["env_steps"], row["wall_seconds"]) == (3, 100, None)
    rows = [{"env_steps": 1, "entropy": float("inf"), "loss": np.float32(0.5), "absent": None}]
    assert ledger.add_metrics(session, "s0", rows) == 3
    with Reader.open(ledger.path) as reader:
        values = {row["name"]: row["value"] for row in reader.rows("SELECT name, value FROM metrics")}
    assert values == {"entropy": None, "loss": 0.5, "absent": None}


def test_text_that_sqlite_cannot_hold(ledger: Ledger, session: str) -> None:
    address = ledger.body("half an emoji \ud83d and a \x00")
    seq = ledger.event(session, "message", "\udc00 title")
    with Reader.open(ledger.path) as reader:
        assert reader.body(address) == "half an emoji \ufffd and a \ufffd"
        assert reader.entry(seq).event.title == "\ufffd title"


def test_unknown_tables_columns_and_types_are_refused(ledger: Ledger, session: str) -> None:
    with pytest.raises(ValueError, match="no table 'thoughts'"):
        ledger.add("thoughts", text="x")
    with pytest.raises(ValueError, match="no column 'titel'"):
        ledger.add("events", titel="x")
    with pytest.raises(ValueError, match="no column 'x'"):
        ledger.has("events", x=1)
    with pytest.raises(ValueError, match="holds text or a number, got a list"):
        ledger.event(session, "message", ["x"])  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match="CHECK constraint"):
        ledger.event(session, "message", "x", status="fine")
    with pytest.raises(LedgerError, match="FOREIGN KEY"):
        ledger.event("no-such-session", "message", "x")


def test_has_and_row_see_uncommitted_writes(ledger: Ledger, session: str) -> None:
    with ledger.transaction("step"):
        seq = ledger.event(session, "message", "x", round=2)
        assert ledger.has("events", session_id=session, round=2)
        assert not ledger.has("events", session_id=session, round=3)
        assert ledger.has("events", agent=None)
        assert [row["seq"] for row in ledger.find("events", round=2, agent=None)] == [seq]
        assert ledger.row("events", seq)["title"] == "x"
    assert ledger.row("events", 999) is None


# append-only


def with_a_remark(ledger: Ledger) -> Ledger:
    """The recorded session has none."""
    (candidate,) = ledger.rows("SELECT id, session_id FROM candidates LIMIT 1")
    ledger.add("remarks", candidate_id=candidate["id"], session_id=candidate["session_id"], remarks="[]")
    return ledger


def test_no_row_is_ever_deleted(written: Ledger) -> None:
    with_a_remark(written)
    raw = sqlite3.connect(written.path)
    for table in [*FINAL, *COMPLETED_LATER, "sessions", "cursors"]:
        assert raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0
        with pytest.raises(sqlite3.IntegrityError, match="never deleted"):
            raw.execute(f"DELETE FROM {table}")


def test_final_rows_are_not_updated(written: Ledger) -> None:
    with_a_remark(written)
    raw = sqlite3.connect(written.path)
    for table in FINAL:
        column = list(written.rows(f"SELECT * FROM {table} LIMIT 1")[0])[-1]
        with pytest.raises(sqlite3.IntegrityError, match="rows are final"):
            raw.execute(f"UPDATE {table} SET {column} = {column}")


@pytest.mark.parametrize("table", COMPLETED_LATER)
def test_pending_rows_are_completed_once_and_keep_their_identity(written: Ledger, table: str) -> None:
    raw = sqlite3.connect(written.path)
    with pytest.raises(sqlite3.IntegrityError, match="is final"):
        raw.execute(f"UPDATE {table} SET status = 'error' WHERE status <> 'pending'")
    raw.rollback()
    if table in ("events", "tool_calls"):  # the recorded session has one of each that is still running
        with pytest.raises(sqlite3.IntegrityError, match="stay pending"):
            raw.execute(f"UPDATE {table} SET status = 'pending' WHERE status = 'pending'")
        with pytest.raises(sqlite3.IntegrityError, match="may be set later"):
            raw.execute(f"UPDATE {table} SET session_id = 'x', status = 'ok' WHERE status = 'pending'")
        assert raw.execute(f"UPDATE {table} SET status = 'ok' WHERE status = 'pending'").rowcount == 1


def test_complete_refuses_final_and_unknown_rows(ledger: Ledger, session: str) -> None:
    seq = ledger.event(session, "message", "x", status="pending")
    assert ledger.row("events", seq)["ended_at"] is None
    ledger.complete_event(seq, "ok", "y", ref=("segments", "s1"))
    row = ledger.row("events", seq)
    assert (row["title"], row["ref_table"], row["ref_id"]) == ("y", "segments", "s1") and row["ended_at"]
    with pytest.raises(LedgerError, match="is final"):
        ledger.complete_event(seq, "error")
    with pytest.raises(LedgerError, match="no row 99"):
        ledger.complete_event(99, "ok")


def test_the_cursor_is_rewritten_in_place(ledger: Ledger, session: str) -> None:
    assert ledger.load_cursor(session) is None
    ledger.save_cursor(session, {"phase": "critic", "step": 1})
    ledger.save_cursor(session, {"phase": "critic", "step": 2})
    assert ledger.load_cursor(session) == {"phase": "critic", "step": 2}
