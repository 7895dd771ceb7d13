"""Transactions: atomic, joined when nested, told of after the commit; a killed process loses nothing committed."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin, count
from tests.support.places import ROOT


def test_a_transaction_is_all_or_nothing(ledger: Ledger, session: str) -> None:
    before = {table: count(ledger, table) for table in ("events", "bodies", "messages", "searchable_bodies")}
    with pytest.raises(RuntimeError), ledger.transaction("step"):
        seq = ledger.event(session, "message", "hello")
        ledger.add("messages", event_seq=seq, session_id=session, source="critic", type="text", body="never kept")
        raise RuntimeError("crash")
    assert {table: count(ledger, table) for table in before} == before
    ledger.event(session, "message", "afterwards it works")
    assert count(ledger, "events") == 1


def test_a_nested_transaction_joins_and_its_caught_failure_takes_back_only_itself(tmp_path: Path) -> None:
    commits: list[tuple[str, list[str]]] = []
    with Ledger.open(
        tmp_path / "l.db", on_commit=lambda label, rows: commits.append((label, [row["title"] for row in rows]))
    ) as ledger:
        session = begin(ledger)
        commits.clear()
        with ledger.transaction("outer"):
            ledger.event(session, "message", "one")
            with ledger.transaction("inner"):
                ledger.event(session, "message", "two")
            with pytest.raises(ValueError), ledger.transaction("inner"):
                ledger.event(session, "message", "lost")
                raise ValueError
            assert commits == []
        assert commits == [("outer", ["one", "two"])]
        with pytest.raises(KeyError), ledger.transaction("undone"):
            ledger.event(session, "message", "three")
            raise KeyError
        assert len(commits) == 1


def test_on_commit_sees_completed_events_after_the_commit(tmp_path: Path) -> None:
    seen: list[tuple[str, str, int]] = []
    path = tmp_path / "l.db"

    def look(label: str, rows: list[dict]) -> None:
        other = sqlite3.connect(path)  # another connection sees it only once it is committed
        for row in rows:
            status = other.execute("SELECT status FROM events WHERE seq = ?", (row["seq"],)).fetchone()
            seen.append((label, status[0], row["seq"]))

    with Ledger.open(path, on_commit=look) as ledger:
        session = begin(ledger)
        seq = ledger.event(session, "tool_call", "ask", status="pending")
        ledger.complete_event(seq, "ok")
    assert seen == [("add events", "pending", seq), ("complete events", "ok", seq)]


def test_another_task_cannot_slip_into_an_open_transaction(ledger: Ledger, session: str) -> None:
    async def careless() -> None:
        with ledger.transaction("awaits inside"):
            ledger.event(session, "message", "mine")
            await asyncio.sleep(0.01)

    async def other() -> None:
        ledger.event(session, "message", "theirs")

    async def both() -> list[object]:
        return await asyncio.gather(careless(), other(), return_exceptions=True)

    first, second = asyncio.run(both())
    assert first is None
    assert isinstance(second, LedgerError) and "do not await" in str(second)
    assert [row["title"] for row in ledger.rows("SELECT title FROM events")] == ["mine"]


def test_two_sessions_write_to_one_ledger(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "l.db") as one, Ledger.open(tmp_path / "l.db") as two:
        first, second = begin(one), begin(two)
        for index in range(10):
            one.event(first, "message", f"{index}")
            two.event(second, "message", f"{index}")
        assert count(one, "events") == 20


# recovery

_WRITES_FOR_EVER = """
import sys
from learning_signal.ledger.write.writer import Ledger
ledger = Ledger.open(sys.argv[1])
session = ledger.begin_session(task="spread", algorithm="mappo", seed=0, config={}, code_version="0")
number = 0
while True:
    with ledger.transaction("step"):
        seq = ledger.event(session, "message", str(number))
        ledger.add("messages", event_seq=seq, session_id=session, source="critic", type="text",
                   body=f"text {number}")
        ledger.save_cursor(session, {"number": number})
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
    number += 1
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_sigkill_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "l.db"
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITES_FOR_EVER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    for line in writer.stdout:
        if int(line) >= 100:
            break
    writer.send_signal(signal.SIGKILL)
    said = [int(line) for line in writer.stdout.read().split() if line.strip()]
    writer.wait()
    writer.stdout.close()
    acknowledged = max([100, *said[:-1]])
    with Reader.open(path) as reader:
        assert reader.session().status == "interrupted"
        assert verify(reader) == []
        events = reader.events()
        assert len(events) >= acknowledged + 1
        # nothing half done: every event has its message, and the cursor stands at the last one
        said = [reader.entry(event.seq).messages[0]["body"] for event in events]
        assert said == [f"text {n}" for n in range(len(events))]
        assert reader.cursor() == {"number": len(events) - 1}
    with Ledger.open(path) as ledger:
        ledger.resume_session(reader_id := ledger.rows("SELECT id FROM sessions")[0]["id"], "0")
        ledger.event(reader_id, "session", "goes on")
