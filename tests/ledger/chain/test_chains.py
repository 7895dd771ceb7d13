"""The chain of a session: what has a place in it, how it grows by transactions, and what it says when changed."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from learning_signal.ledger.chain.places import ADDRESSED, DERIVED, REWRITTEN, SHARED, places
from learning_signal.ledger.read.checks.chains import Chain, check_chains
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin, tamper
from tests.support.recorded_ledger import RECORDED_ID


def chains(path: Path) -> list[Chain]:
    """The chains of a ledger with which nothing is wrong."""
    with Reader.open(path) as reader:
        found, findings = check_chains(reader)
    assert findings == []
    return found


def problems(path: Path) -> list[tuple[str, str]]:
    with Reader.open(path) as reader:
        assert {each.table for each in check_chains(reader)[1]} <= {each.table for each in verify(reader)}
        return [(each.table, each.problem) for each in check_chains(reader)[1]]


def test_every_column_of_every_table_has_a_place_or_is_named(ledger: Ledger) -> None:
    tables = {table.name: [column.name for column in table.columns] for table in ledger._db.tables}
    placed = places(tables)
    assert tables.keys() - placed.keys() <= {"cursors", *DERIVED}
    for table, place in placed.items():
        assert {*place.columns, *ADDRESSED.get(table, ())} == set(tables[table])
        assert place.open <= set(place.columns) and (place.session in tables[table] or table in SHARED)
    assert placed["sessions"].open >= set(REWRITTEN["sessions"])
    assert "later" in places(tables | {"events": [*tables["events"], "later"]})["events"].columns
    with pytest.raises(ValueError, match="table inbox has no column session_id, so no chain covers it"):
        places(tables | {"inbox": ["id", "text"]})


def test_each_transaction_that_writes_is_a_link(ledger: Ledger, session: str) -> None:
    ledger.event(session, "message", "one")
    with ledger.transaction("step"):
        ledger.event(session, "message", "two")
        seq = ledger.event(session, "message", "asks", status="pending")
    ledger.complete_event(seq, "ok", "asked")
    ledger.save_cursor(session, {"step": 1})
    ledger.heartbeat(session)
    links = [json.loads(row["entries"]) for row in ledger.rows("SELECT entries FROM links ORDER BY number")]
    assert [len(link) for link in links] == [2, 1, 2, 1]
    assert links[0][0] == ["bodies", 1] and links[0][1][:2] == ["sessions", 1]
    assert links[1:] == [
        [["events", 1]],
        [["events", 2], ["events", 3, {"status": "pending", "title": "asks"}]],
        [["events", 3]],
    ]
    ledger.end_session(session, "paused")
    (chain,) = chains(ledger.path)
    assert (chain.session, chain.links, chain.rows, chain.unsealed) == (session, 5, 5, None)


def test_what_was_undone_is_in_no_chain(ledger: Ledger, session: str) -> None:
    with ledger.transaction("outer"):
        ledger.event(session, "message", "kept")
        with pytest.raises(RuntimeError), ledger.transaction("inner"):
            ledger.event(session, "message", "undone")
            raise RuntimeError
    with pytest.raises(RuntimeError), ledger.transaction("all of it"):
        ledger.event(session, "message", "undone")
        raise RuntimeError
    (chain,) = chains(ledger.path)
    assert (chain.links, chain.rows) == (2, 3)


def test_a_heartbeat_of_a_session_that_has_stopped_is_in_the_chain(ledger: Ledger, session: str) -> None:
    ledger.end_session(session, "paused")
    ledger.heartbeat(session)
    (chain,) = chains(ledger.path)
    assert chain.links == 3


def test_two_sessions_have_a_chain_each_whoever_writes(ledger: Ledger, session: str) -> None:
    other = begin(ledger)
    with Ledger.open(ledger.path) as another:  # an answer from outside, say
        another.event(session, "message", "from outside")
    ledger.event(other, "message", "one")
    ledger.event(session, "message", "two")
    assert {each.session: (each.links, each.rows) for each in chains(ledger.path)} == {session: (3, 4), other: (2, 2)}


@pytest.mark.parametrize(
    ("change", "table", "problem"),
    [
        ("UPDATE messages SET source = 'human' WHERE id = 3", "links", "one of its rows was"),
        ("DELETE FROM messages WHERE id = 3", "messages", "is missing: it is in the chain"),
        ("DELETE FROM links WHERE number = 9", "links", "one is missing"),
        ("DELETE FROM links", "sessions", "has no chain: its links were deleted"),
        ("DELETE FROM links WHERE number = (SELECT max(number) FROM links)", "events", "stands in no chain"),
        ("UPDATE events SET title = 'x' WHERE status = 'pending'", "events", "title is 'x', the chain says 'critic"),
        ("UPDATE events SET status = 'ok' WHERE status = 'pending'", "events", "was completed, and no link"),
        ("UPDATE sessions SET status = 'done', ended_at = heartbeat_at", "sessions", "was completed, and no link"),
        ("UPDATE links SET entries = '[[\"events\",1,999999999999]]' WHERE number = 2", "links", "does not list rows"),
        ("UPDATE links SET entries = '5' WHERE number = 2", "links", "does not list rows"),
        (
            "INSERT INTO messages (event_seq, session_id, source, type, body) "
            "SELECT event_seq, session_id, source, type, body FROM messages WHERE id = 3",
            "messages",
            "stands in no chain: this program did not write it",
        ),
    ],
)
def test_what_was_changed_is_named(written: Ledger, change: str, table: str, problem: str) -> None:
    written.close()
    assert problems(written.path) == []
    tamper(written.path, change, chained_anew=False)
    found = problems(written.path)
    assert any(each[0] == table and problem in each[1] for each in found), found


def test_a_killed_session_has_a_chain_that_ends_and_goes_on(written: Ledger) -> None:
    (before,) = chains(written.path)
    written.resume_session(RECORDED_ID, written.required_row("sessions", RECORDED_ID)["code_version"])
    (after,) = chains(written.path)
    assert (after.links, after.rows) == (before.links + 1, before.rows)
    (link,) = written.rows("SELECT entries FROM links WHERE number = ?", (after.links,))
    assert [entry[0] for entry in json.loads(link["entries"])] == ["sessions", "tool_calls", "events"]


def test_the_views_are_read_by_plain_sql_with_the_function_of_the_command_line(written: Ledger) -> None:
    updates = written.rows("SELECT count(DISTINCT env_steps) n, count(*) m FROM metrics GROUP BY segment_id")
    assert all(row["m"] % row["n"] == 0 and row["n"] > 0 for row in updates)
    (row,) = written.rows(
        "SELECT avg(e.sparse_return) a, v.sparse_return b, max(episode) n, v.episodes FROM episodes e "
        "JOIN evaluations v USING (session_id, segment_id, episode_set, env_steps) WHERE v.id = 3"
    )
    assert row["a"] == pytest.approx(row["b"]) and row["n"] == row["episodes"]
    with closing(sqlite3.connect(written.path)) as raw, pytest.raises(sqlite3.OperationalError, match="sqlar_uncomp"):
        raw.execute("SELECT * FROM metrics").fetchall()
