"""The ledger: atomic steps, final rows, migrations, refusals, recovery, reading, verification."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from loguru import logger

from learning_signal.ledger import connection, migrations
from learning_signal.ledger.canonical import BodyHash, canonical_json, content_hash
from learning_signal.ledger.errors import LedgerError, SessionTaken
from learning_signal.ledger.liveness import process_lives
from learning_signal.ledger.read.explain import cited_evidence, explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.search import search
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.schema import VERSION
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import session_rules
from tests.support.ledger_samples import SAMPLE_ID, write_sample_session
from tests.support.places import ROOT


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "new" / "ledger.db") as opened:
        yield opened


@pytest.fixture
def session(ledger: Ledger) -> str:
    return begin(ledger)


@pytest.fixture(scope="module")
def sample_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sample") / "ledger.db"
    with Ledger.open(path) as ledger:
        write_sample_session(ledger)
    return path


@pytest.fixture
def written(sample_file: Path, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger with the sample session in it."""
    shutil.copy(sample_file, tmp_path / "ledger.db")
    with Ledger.open(tmp_path / "ledger.db") as opened:
        yield opened


@pytest.fixture
def sample(sample_file: Path) -> Iterator[Reader]:
    with Reader.open(sample_file) as reader:
        yield reader


def begin(ledger: Ledger, **more: object) -> str:
    row = {"task": "spread", "algorithm": "mappo", "seed": 0, "config": {"rounds": 2}, "code_version": "0"}
    return ledger.begin_session(**row | more)


def seconds_ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="microseconds")


def count(ledger: Ledger, table: str) -> int:
    return ledger.rows(f"SELECT count(*) n FROM {table}")[0]["n"]


# transactions


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


# rows


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


def test_no_row_is_ever_deleted(written: Ledger) -> None:
    raw = sqlite3.connect(written.path)
    for table in [*migrations.APPEND_ONLY, *migrations.COMPLETED_LATER, "sessions", "cursors"]:
        assert raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0] > 0
        with pytest.raises(sqlite3.IntegrityError, match="never deleted"):
            raw.execute(f"DELETE FROM {table}")


def test_final_rows_are_not_updated(written: Ledger) -> None:
    raw = sqlite3.connect(written.path)
    for table in migrations.APPEND_ONLY:
        column = list(written.rows(f"SELECT * FROM {table} LIMIT 1")[0])[-1]
        with pytest.raises(sqlite3.IntegrityError, match="rows are final"):
            raw.execute(f"UPDATE {table} SET {column} = {column}")


@pytest.mark.parametrize("table", migrations.COMPLETED_LATER)
def test_pending_rows_are_completed_once_and_keep_their_identity(written: Ledger, table: str) -> None:
    raw = sqlite3.connect(written.path)
    with pytest.raises(sqlite3.IntegrityError, match="is final"):
        raw.execute(f"UPDATE {table} SET status = 'error' WHERE status <> 'pending'")
    raw.rollback()
    if table in ("events", "tool_calls"):  # the sample has one of each that is still running
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


def test_a_session_that_is_done_stays_done(ledger: Ledger, session: str) -> None:
    with pytest.raises(LedgerError, match="may be set later"):
        ledger.complete("sessions", session, seed=5)
    ledger.end_session(session, "paused", "Ctrl-C")
    ledger.resume_session(session, "0")
    assert ledger.row("sessions", session)["stop_reason"] is None
    ledger.end_session(session, "done")
    with pytest.raises(LedgerError, match="this session is done"):
        ledger.heartbeat(session)
    with pytest.raises(LedgerError, match=f"{session} is done: read it with 'log show {session}'"):
        ledger.resume_session(session, "0")


def test_wall_time_is_summed_over_interruptions(ledger: Ledger, session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at = [1000.0]
    monkeypatch.setattr("learning_signal.ledger.write.clock.time.monotonic", lambda: at[0])
    ledger.resume_session(session, "0")
    at[0] += 10
    ledger.heartbeat(session)
    at[0] += 500  # killed: what came after the heartbeat is not counted
    ledger.resume_session(session, "0")
    at[0] += 5
    ledger.end_session(session, "done")
    assert ledger.row("sessions", session)["wall_seconds"] == pytest.approx(15.0)
    with pytest.raises(LedgerError, match="no session nobody"):
        ledger.resume_session("nobody", "0")


def test_interrupt_pending_leaves_segments_to_be_computed_again(written: Ledger) -> None:
    session = SAMPLE_ID
    written.add("segments", session_id=session, id="late", shaping={}, seed=0, env_steps=1, status="pending")
    assert written.interrupt_pending(session) == 2
    assert written.interrupt_pending(session) == 0
    assert written.has("tool_calls", session_id=session, status="interrupted")
    assert written.row("segments", (session, "late"))["status"] == "pending"


def test_the_cursor_is_rewritten_in_place(ledger: Ledger, session: str) -> None:
    assert ledger.load_cursor(session) is None
    ledger.save_cursor(session, {"phase": "critic", "step": 1})
    ledger.save_cursor(session, {"phase": "critic", "step": 2})
    assert ledger.load_cursor(session) == {"phase": "critic", "step": 2}


# opening


def test_migrating_twice_changes_nothing_and_a_fresh_ledger_is_up_to_date(tmp_path: Path) -> None:
    def schema(path: Path) -> list[tuple]:
        return sqlite3.connect(path).execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()

    path = tmp_path / "l.db"
    Ledger.open(path).close()
    first = schema(path)
    with Ledger.open(path) as ledger:
        migrations.apply(ledger._db)
        assert ledger.rows("PRAGMA user_version")[0]["user_version"] == VERSION
        assert ledger.rows("PRAGMA foreign_keys")[0]["foreign_keys"] == 1
        assert ledger.rows("PRAGMA journal_mode")[0]["journal_mode"] == "wal"
    assert schema(path) == first
    assert count_applied(path) == VERSION


def count_applied(path: Path) -> int:
    return sqlite3.connect(path).execute("SELECT count(*) FROM _sqlite_migrations").fetchone()[0]


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "l.db"
    monkeypatch.setattr(migrations, "INDEXES", (*migrations.INDEXES, "CREATE INDEX broken ON nowhere (x)"))
    with pytest.raises(LedgerError):
        Ledger.open(path)
    monkeypatch.undo()
    assert sqlite3.connect(path).execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    with Ledger.open(path) as ledger:
        begin(ledger)


def test_a_ledger_of_a_newer_version_is_refused_and_left_alone(ledger: Ledger, session: str) -> None:
    path, newer = ledger.path, VERSION + 1
    ledger.close()
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {newer}")
    raw.commit()
    for open_ in (Ledger.open, Reader.open):
        with pytest.raises(LedgerError, match=f"has version {newer}, this program knows versions up to {newer - 1}"):
            open_(path)
    raw.execute(f"PRAGMA user_version = {newer - 1}")
    raw.commit()
    assert Reader.open(path).session().id == session


def test_an_older_ledger_is_not_read_before_it_is_migrated(ledger: Ledger, session: str) -> None:
    sqlite3.connect(ledger.path).execute("PRAGMA user_version = 0")
    with pytest.raises(LedgerError, match="has version 0, this program reads version"):
        Reader.open(ledger.path)


def _text_file(path: Path) -> None:
    path.write_text("a diary, not a database\n" * 100)


def _other_database(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE recipes (name)")
    other.commit()


@pytest.mark.parametrize(
    ("make", "message"), [(_text_file, "not a readable SQLite"), (_other_database, "but not a ledger")]
)
def test_files_that_are_no_ledger_are_refused_and_left_alone(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "file"
    make(path)
    before = path.read_bytes()
    for open_ in (Ledger.open, Reader.open):
        with pytest.raises(LedgerError, match=message) as error:
            open_(path)
        assert "\n" not in str(error.value) and str(error.value).endswith(".")
    assert path.read_bytes() == before


def test_places_that_cannot_hold_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(LedgerError, match="cannot be created"):
        Ledger.open(tmp_path / "file" / "ledger.db")
    for open_ in (Ledger.open, Reader.open):
        with pytest.raises(LedgerError, match="is a directory, expected a file"):
            open_(tmp_path)
    with pytest.raises(LedgerError, match="There is no ledger at"):
        Reader.open(tmp_path / "missing.db")
    assert not (tmp_path / "missing.db").exists()


def test_an_empty_file_becomes_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "l.db").touch()
    with Ledger.open(tmp_path / "l.db") as ledger:
        begin(ledger)


def test_a_full_disk_is_one_sentence_and_loses_nothing(ledger: Ledger, session: str) -> None:
    ledger.event(session, "message", "kept")
    (pages,) = ledger.rows("PRAGMA page_count")[0].values()
    ledger._db.conn.execute(f"PRAGMA max_page_count = {pages + 2}").fetchone()
    with pytest.raises(LedgerError, match="The disk is full.*free some space"), ledger.transaction("step"):
        ledger.event(session, "message", "lost")
        ledger.body("x" * 1_000_000)
    ledger._db.conn.execute("PRAGMA max_page_count = 1000000").fetchone()
    ledger.event(session, "message", "after")
    assert [row["title"] for row in ledger.rows("SELECT title FROM events")] == ["kept", "after"]


def test_a_locked_ledger_is_one_sentence(ledger: Ledger, session: str) -> None:
    ledger._db.conn.execute("PRAGMA busy_timeout = 10").fetchone()
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked by another process"):
        ledger.event(session, "message", "x")
    other.execute("ROLLBACK")
    ledger.event(session, "message", "x")


def test_without_a_write_ahead_log_it_works_and_says_so(tmp_path: Path) -> None:
    class _RefusesWal(sqlite3.Connection):
        def execute(self, sql: str, *parameters: object) -> sqlite3.Cursor:
            return super().execute("SELECT 'delete'" if sql == "PRAGMA journal_mode = WAL" else sql, *parameters)

    said: list[str] = []
    sink = logger.add(said.append, level="WARNING", format="{message}")
    raw = sqlite3.connect(tmp_path / "l.db", factory=_RefusesWal)
    connection.use_wal(raw, tmp_path / "l.db")
    logger.remove(sink)
    assert "refuses SQLite's write-ahead log" in said[0]
    assert raw.execute("PRAGMA synchronous").fetchone() == (2,)


def test_the_reader_cannot_write(sample: Reader) -> None:
    with pytest.raises(LedgerError, match="cannot be written"):
        sample.rows("INSERT INTO bodies (hash, body) VALUES ('a', 'b')")


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


# one process per session


def test_a_resume_marks_what_was_left_pending_in_its_own_transaction(written: Ledger) -> None:
    labels: list[str] = []
    written.on_commit = lambda label, rows: labels.append(label)
    written.resume_session(SAMPLE_ID, "0123456789abcdef")
    assert labels == ["resume session"]
    assert written.has("tool_calls", session_id=SAMPLE_ID, status="interrupted")
    assert written.interrupt_pending(SAMPLE_ID) == 0


@pytest.mark.parametrize(
    ("host", "heartbeat", "refused"), [(None, 0, True), ("another-host", 50, True), ("another-host", 70, False)]
)
def test_a_session_whose_process_lives_is_not_resumed(
    ledger: Ledger, session: str, host: str | None, heartbeat: float, refused: bool
) -> None:
    row = {"pid": os.getppid(), "heartbeat_at": seconds_ago(heartbeat)} | ({"host": host} if host else {})
    ledger.complete("sessions", session, **row)
    with Ledger.open(ledger.path) as other:
        before = other.row("sessions", session)
        if refused:
            message = f"Session {session} is being run by process {os.getppid()}: wait for it or stop it"
            with pytest.raises(LedgerError, match=message):
                other.resume_session(session, "0")
            assert other.row("sessions", session) == before
        else:
            other.resume_session(session, "0")
            assert other.row("sessions", session)["pid"] == os.getpid()
        # negative control: the same session, had it said that it stopped
        ledger.complete("sessions", session, status="paused") if refused else None
        other.resume_session(session, "0")


_BEGINS_AND_WAITS = """
import sys
from learning_signal.ledger.write.writer import Ledger
opened = Ledger.open(sys.argv[1])
session = opened.begin_session(task="spread", algorithm="mappo", seed=0, config={}, code_version="0")
sys.stdout.write(f"{session}\\n")
sys.stdout.flush()
sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGSTOP")
def test_a_stopped_process_is_silent_but_there(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-c", _BEGINS_AND_WAITS, str(ledger.path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        session = running.stdout.readline().strip()
        running.send_signal(signal.SIGSTOP)
        monkeypatch.setattr("learning_signal.ledger.liveness.SILENT_SECONDS", 0.0)  # every heartbeat is too old
        with pytest.raises(LedgerError, match=f"is being run by process {running.pid}: wait for it"):
            ledger.resume_session(session, "0")
        running.kill()
        running.wait()
        ledger.resume_session(session, "0")  # negative control: now it is gone


def test_sessions_that_cannot_be_resumed_are_left_as_they_are(ledger: Ledger, session: str) -> None:
    ledger.end_session(session, "paused", "Ctrl-C")
    before = ledger.row("sessions", session)
    with pytest.raises(LedgerError, match="trained by code version 0, this is 1: .* start a new session"):
        ledger.resume_session(session, "1")
    assert ledger.row("sessions", session) == before
    ledger.resume_session(session, "0")


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_a_process_that_is_dead_or_has_inherited_the_number_is_not_the_one() -> None:
    here = socket.gethostname()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_lives(here, child.pid, seconds_ago(0))
    assert not process_lives(here, child.pid, seconds_ago(60))  # it began after the heartbeat
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie: its number is still taken
    assert not process_lives(here, child.pid, seconds_ago(0))
    child.communicate()
    assert not process_lives(here, child.pid, seconds_ago(0))


def _decide(ledger: Ledger, session: str) -> None:
    seq = ledger.event(session, "decision", "keep")
    ledger.add_decision(
        session,
        id=f"{session}/R9",
        round=9,
        event_seq=seq,
        action="keep",
        segment_from="s",
        segment_to="s",
        shaping_from={},
        shaping_to={},
        decided_by="code",
        reason="no verdict",
    )


WRITES: dict[str, Callable[[Ledger, str], object]] = {
    "cursor": lambda ledger, session: ledger.save_cursor(session, {"step": 2}),
    "heartbeat": lambda ledger, session: ledger.heartbeat(session),
    "decision": _decide,
    "session": lambda ledger, session: ledger.complete("sessions", session, code_version="0"),
    "event": lambda ledger, session: ledger.event(session, "message", "late"),
    "pending": lambda ledger, session: ledger.interrupt_pending(session),
    "body": lambda ledger, session: ledger.body("a late text"),
    "end": lambda ledger, session: ledger.end_session(session, "failed", "late"),
}


@pytest.mark.parametrize("name", WRITES)
def test_a_session_that_was_taken_over_takes_no_write(ledger: Ledger, session: str, name: str) -> None:
    def everything() -> list[list[dict]]:
        return [ledger.rows(f"SELECT * FROM {table}") for table in sorted(ledger._columns)]

    with Ledger.open(ledger.path) as untouched:
        other = begin(untouched)
        WRITES[name](untouched, other)  # negative control: nobody took this one over
    with Ledger.open(ledger.path) as taker:
        taker.save_cursor(session, {"step": 1})
        taker.resume_session(session, "0")
        before = everything()
        sentence = f"Session {session} was taken over by process {os.getpid()} on .*; this process stops"
        with pytest.raises(SessionTaken, match=sentence):
            WRITES[name](ledger, session)
        with pytest.raises(SessionTaken), ledger.transaction("step"):
            raise AssertionError("never reached")
        assert everything() == before
        WRITES[name](taker, session)


def test_a_resume_or_begin_that_is_undone_leaves_the_ledger_as_before(ledger: Ledger, session: str) -> None:
    with pytest.raises(RuntimeError), ledger.transaction("resume"):
        ledger.resume_session(session, "0")
        begin(ledger, id="20261123-101010-nvr")
        raise RuntimeError("the disk is full")
    with ledger.transaction("outer"):
        with pytest.raises(RuntimeError), ledger.transaction("inner"):
            ledger.resume_session(session, "0")
            raise RuntimeError("caught")
        ledger.event(session, "message", "goes on")
    ledger.heartbeat(session)


_RESUMES_WHEN_TOLD = """
import sys
import learning_signal.ledger.write.sessions
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.write.writer import Ledger
if sys.argv[2] == "careless":
    learning_signal.ledger.write.sessions.process_lives = lambda *row: False
opened = Ledger.open(sys.argv[1])
for line in sys.stdin:
    word, session = line.split()
    try:
        opened.resume_session(session, "0") if word == "resume" else opened.save_cursor(session, {})
        sys.stdout.write("won\\n")
    except LedgerError as error:
        sys.stdout.write(f"{error}\\n")
    sys.stdout.flush()
"""


def _both_answer(processes: list[subprocess.Popen], order: str) -> list[str]:
    for process in processes:
        process.stdin.write(order + "\n")
        process.stdin.flush()
    return [process.stdout.readline().strip() for process in processes]


@pytest.mark.skipif(os.name != "posix", reason="asks the kernel for processes")
@pytest.mark.parametrize("care", ["careful", "careless"])
def test_of_two_processes_that_resume_at_once_one_wins(ledger: Ledger, care: str) -> None:
    rounds = [begin(ledger, id=f"20261123-101010-a{number:02d}") for number in range(10 if care == "careful" else 1)]
    for session in rounds:
        ledger.end_session(session, "paused", "Ctrl-C")
    command = [sys.executable, "-c", _RESUMES_WHEN_TOLD, str(ledger.path), care]
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        _both_answer(processes, "resume nobody")  # both are up
        for session in rounds:
            answers = _both_answer(processes, f"resume {session}")
            if care == "careless":  # negative control: without the question who lives both win, and ...
                assert answers == ["won", "won"]
                kept = _both_answer(processes, f"save {session}")  # ... the first is told at its next write
                assert sorted(answer[:4] for answer in kept) == ["Sess", "won"]
                assert any("was taken over by process" in answer for answer in kept)
                return
            winner = processes[answers.index("won")]
            (refusal,) = [answer for answer in answers if answer != "won"]
            assert f"is being run by process {winner.pid}: wait for it" in refusal
            assert ledger._db.execute("SELECT pid FROM sessions WHERE id = ?", (session,)).fetchone() == (winner.pid,)
    finally:
        for process in processes:
            process.communicate()


# reading


def test_sessions_are_found_by_prefix_and_strangers_get_the_nearest(written: Ledger) -> None:
    sample = Reader.open(written.path)
    assert sample.session("2026").id == sample.session("latest").id == SAMPLE_ID
    begin(written, id="20261123-101010-abc")
    with pytest.raises(LedgerError, match="fits 2 sessions"):
        sample.session("2026112")
    assert sample.session("20261123").id == "20261123-101010-abc"
    with pytest.raises(LedgerError, match=f"no session '20261122-154501-k3x'; the nearest are {SAMPLE_ID}"):
        sample.session("20261122-154501-k3x")
    assert len(sample.sessions(limit=1)) == 1


def test_an_empty_ledger_says_so(ledger: Ledger) -> None:
    with Reader.open(ledger.path) as reader, pytest.raises(LedgerError, match="has no session yet"):
        reader.session()


def test_a_session_row_counts_every_env_step_once(sample: Reader) -> None:
    row = sample.session()
    assert (row.rounds, row.promoted, row.kept, row.rolled_back) == (3, 1, 1, 0)
    # main: s0, the promoted branch, s1, s2; one screen segment was reused and one failed
    assert (row.env_steps_main, row.env_steps_reused) == (64_000 + 3 * 16_000, 8_000)
    assert row.env_steps_branches == 6 * 8_000 + 19 * 16_000
    assert (row.tokens_in, row.tokens_out, row.status) == (850, 120, "running")


def test_the_twin_is_neither_main_run_nor_branch(written: Ledger) -> None:
    sample = Reader.open(written.path)
    before = sample.costs()
    segment = {"shaping": {}, "seed": 0, "env_steps": 5, "status": "ok", "reused": 0}
    written.add("segments", session_id=SAMPLE_ID, id="t", purpose="twin", **segment)
    after = sample.costs()
    assert (after.env_steps_twin, after.env_steps_branches) == (5, before.env_steps_branches)


def test_a_running_session_whose_process_is_gone_is_interrupted(ledger: Ledger) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ours, theirs, stale = (begin(ledger, id=f"20261123-101010-{name}") for name in ("our", "the", "sta"))
    ledger.complete("sessions", ours, pid=gone.pid)
    ledger.complete("sessions", theirs, host="another-host", heartbeat_at=seconds_ago(50))
    ledger.complete("sessions", stale, host="another-host", heartbeat_at=seconds_ago(70))
    with Reader.open(ledger.path) as reader:
        status = {row.id: row.status for row in reader.sessions()}
    assert status == {ours: "interrupted", theirs: "running", stale: "interrupted"}


def test_costs_do_not_invent_a_price(sample: Reader) -> None:
    costs = sample.costs()
    assert costs.cost_usd is None
    critic = costs.agents["critic"]
    assert (critic.llm_calls, critic.failed_calls, critic.tokens_in, critic.tokens_out) == (2, 1, 850, 120)
    assert costs.compute_seconds == pytest.approx(0.5 * 29)


def test_costs_without_any_model_call_are_unknown_not_zero(ledger: Ledger, session: str) -> None:
    with Reader.open(ledger.path) as reader:
        costs = reader.costs(session)
    assert (costs.llm_calls, costs.tokens_in, costs.tokens_out, costs.cost_usd) == (0, None, None, None)


def test_events_are_filtered_and_continue_where_one_stopped(sample: Reader) -> None:
    events = sample.events()
    assert [event.seq for event in events] == sorted(event.seq for event in events)
    assert sample.events(after_seq=events[4].seq, limit=2) == events[5:7]
    chosen = sample.events(agent="critic", round=1, kind="tool_call")
    assert [event.title for event in chosen] == ["query_metrics", "summarize_trajectories", "submit_diagnosis"]


def test_the_story_has_what_was_said_called_and_answered(sample: Reader) -> None:
    entries = [sample.entry(event.seq) for event in sample.events(agent="critic", round=1)]
    assert "Nobody scores" in next(entry.messages[0]["body"] for entry in entries if entry.messages)
    calls = [call for entry in entries for call in entry.tool_calls]
    (call,) = (call for call in calls if call["name"] == "summarize_trajectories")
    assert (call["arguments"], call["evidence_id"], json.loads(call["result"])["evidence"]) == ("{}", "E2", "E2")
    running = sample.entry(sample.events(round=3)[-1].seq)
    assert (running.event.status, running.tool_calls[0]["name"]) == ("pending", "query_metrics")
    assert running.tool_calls[0]["result"] is None


def test_an_entry_has_every_body(sample: Reader) -> None:
    failed, fine = sample.events(kind="llm_call")
    call = sample.entry(failed.seq).llm_calls[0]
    assert (call["error"], call["reply"]) == ("429 Too Many Requests", None)
    assert call["context"] == ["You are the critic.", "Diagnose round 1."]
    assert json.loads(sample.entry(fine.seq).llm_calls[0]["reply"]) == {"content": "Nobody scores."}
    decision = sample.events(kind="decision")[0]
    assert sample.entry(decision.seq).reference["action"] == "promote"
    with pytest.raises(LedgerError, match="no entry 999"):
        sample.entry(999)


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("idle", {"said"}),  # also "idleness", by its stem; but a tool result of one JSON line is one text
        ('"far away"', {"said"}),
        ("landmark idle", {"said"}),
        ("coverage_distance", {"arguments"}),
        ("0.61", {"result"}),  # no FTS5 query as it stands: taken literally
        ("crowding is what is left.", {"said"}),
        ("exploring: sparse", {"title"}),
        ("%", set()),
        ("zebra", set()),
        ("(interval", {"title"}),
        ("((", set()),
    ],
)
def test_search(sample: Reader, query: str, places: set[str]) -> None:
    hits = search(sample, query)
    assert places <= {hit.place for hit in hits} if places else hits == []


def test_search_filters_and_refuses_nothing(sample: Reader) -> None:
    assert {hit.event.round for hit in search(sample, "landmark", round=2)} == {2}
    assert {hit.event.agent for hit in search(sample, "landmark", session="latest", agent="generator")} <= {"generator"}
    assert len(search(sample, "landmark", limit=1)) == 1
    assert "«landmark»" in search(sample, "landmark", kind="message")[0].snippet
    with pytest.raises(LedgerError, match="Nothing to search for"):
        search(sample, "  ")


def test_the_lineage_of_head_and_its_moves(sample: Reader) -> None:
    assert [segment.id for segment in sample.lineage()] == ["s0", "confirm1c10", "s1", "s2"]
    assert [move.reason for move in sample.main_run()] == ["stage", "promote", "stage", "stage"]
    assert sum(segment.env_steps for segment in sample.lineage()) == sample.lineage()[-1].end_env_steps


@pytest.mark.parametrize(("trained", "extra"), [(3_000, 3_000), (0, 0), (None, 0)])
def test_a_segment_that_failed_costs_what_it_had_trained(written: Ledger, trained: int | None, extra: int) -> None:
    def spent() -> tuple[int, int, int, int]:
        with Reader.open(written.path) as reader:
            row, costs = reader.session(SAMPLE_ID), reader.costs(SAMPLE_ID)
            total = sum(segment.spent for segment in reader.segments(SAMPLE_ID).values())
            assert row.env_steps_branches == costs.env_steps_branches
            return costs.env_steps_main, costs.env_steps_branches, costs.env_steps_reused, total

    before = spent()
    segment = {"session_id": SAMPLE_ID, "shaping": {}, "seed": 0, "env_steps": 8_000}
    written.add("segments", id="running", status="pending", started_at="2020-01-01T00:00:00", **segment)
    assert spent() == before  # negative control: what is still running has cost nothing that is known
    written.add("segments", id="dead", status="pending", started_at="2020-01-01T00:00:00", **segment)
    written.complete(
        "segments",
        (SAMPLE_ID, "dead"),
        status="error",
        reason="the worker died",
        trained=trained,
        ended_at="2020-01-01T00:00:01",
    )
    main, branches, reused, total = before
    assert spent() == (main, branches + extra, reused, total + extra)
    with Reader.open(written.path) as reader:
        dead = reader.segments(SAMPLE_ID)["dead"]
        assert (dead.trained, dead.spent, dead.env_steps) == (trained, extra, 8_000)
        assert reader.segments(SAMPLE_ID)["s1"].spent == 16_000


def test_metrics_by_name_and_window(sample: Reader) -> None:
    def values(name: str, low: int, high: int) -> list[tuple[int, float | None]]:
        rows = sample.rows(
            "SELECT env_steps, value FROM metrics WHERE segment_id = 's0' AND name = ? AND env_steps BETWEEN ? AND ? "
            "ORDER BY env_steps",
            (name, low, high),
        )
        return [(row["env_steps"], row["value"]) for row in rows]

    assert values("entropy", 32_000, 48_000) == [(32_000, pytest.approx(1.4)), (48_000, pytest.approx(1.3))]
    assert {value for _, value in values("sparse_return", 0, 10**9)} == {None}


def test_agents_and_config(sample: Reader) -> None:
    agents = {agent.role: agent for agent in sample.agents()}
    assert (agents["critic"].spec, agents["critic"].source) == ("openai/gpt-x", "command line")
    assert agents["generator"].tools[0]["name"] == "submit_diagnosis"
    assert sample.config()["gate"]["alpha"] == 0.05


# explaining


def test_explain_follows_a_promotion_from_evidence_to_probation(sample: Reader) -> None:
    chain = explain(sample, f"{SAMPLE_ID}/R1")
    assert chain.decision.action == "promote" and chain.decision.shaping_to["terms"][0]["weight"] == -1.0
    assert chain.diagnosis.stage == "exploring"
    assert [each.tool for each in chain.diagnosis.evidence] == ["query_metrics", "summarize_trajectories"]
    assert "idleness" in chain.diagnosis.evidence[1].result
    fates = {each.name: each.fate for each in chain.candidates}
    assert fates == {"c1": "promoted", "c2": "screened out", "c3": "branch failed"}
    assert chain.candidate.name == "c1"
    assert next(each.detail for each in chain.candidates if each.name == "c3") == "the worker died (signal 9)"
    assert chain.verdict.outcome == "pass" and chain.comparison.result["p"] == 1 / 32
    confirm = {each.arm: each for each in chain.branches if each.purpose == "confirm"}
    differences = [
        ours.progress - base.progress
        for ours, base in zip(confirm["c1"].segments, confirm["control"].segments, strict=True)
    ]
    assert differences == pytest.approx(chain.comparison.result["differences"])
    broken = next(each for each in chain.branches if each.arm == "c3").segments[0]
    assert (broken.segment.status, broken.sparse_return, broken.progress) == ("error", None, None)
    assert [event.agent for event in chain.approvals] == ["human"]
    assert chain.probation.result["outcome"] == "held" and chain.rolled_back_by is None


@pytest.mark.parametrize("name", ["latest", "R2", "2", SAMPLE_ID, f"{SAMPLE_ID}/2", "20261122/R2", f"{SAMPLE_ID}/R2"])
def test_a_decision_has_many_names(sample: Reader, name: str) -> None:
    chain = explain(sample, name)
    assert (chain.decision.number, chain.decision.action) == (2, "keep")
    assert [each.fate for each in chain.candidates] == ["failed"]
    assert chain.probation is None


@pytest.mark.parametrize("name", ["R9", f"{SAMPLE_ID}/R9", f"{SAMPLE_ID}/nonsense"])
def test_an_unknown_decision_names_the_nearest(sample: Reader, name: str) -> None:
    with pytest.raises(LedgerError, match=f"no decision .*nearest are .*{SAMPLE_ID}/R"):
        explain(sample, name)


def test_explain_before_any_decision(ledger: Ledger, session: str) -> None:
    with Reader.open(ledger.path) as reader, pytest.raises(LedgerError, match="has made no decision yet"):
        explain(reader, "latest")


def test_a_roll_back_shows_on_the_promotion_it_took_back(written: Ledger) -> None:
    promoted = written.rows("SELECT * FROM decisions WHERE number = 1")[0]
    seq = written.event(SAMPLE_ID, "decision", "roll back c1", round=3)
    written.add_decision(
        SAMPLE_ID,
        id=f"{SAMPLE_ID}/R3",
        round=3,
        event_seq=seq,
        action="roll_back",
        comparison_id=f"{SAMPLE_ID}/C3",
        segment_from="s2",
        segment_to="s0",
        shaping_from=BodyHash(promoted["shaping_to"]),
        shaping_to=BodyHash(promoted["shaping_from"]),
        decided_by="code",
        reason="worse than before",
    )
    with Reader.open(written.path) as reader:
        assert explain(reader, "1").rolled_back_by.number == 3
        assert explain(reader, "3").comparison.purpose == "probation"
        assert verify(reader) == []


def test_evidence_is_found_anywhere_in_a_diagnosis() -> None:
    body = {"failures": [{"evidence": ["E1", "E12"]}, {"evidence": ["E1"]}], "advice": "E3 shows Eve", "x": "E4"}
    assert cited_evidence(body) == ["E1", "E12", "E4"]


# verifying


def test_a_sound_ledger_has_no_findings(sample: Reader) -> None:
    assert verify(sample) == []
    assert verify(sample, recompute, session_rules) == []


def tamper(path: Path, *statements: str) -> None:
    """Change a ledger the way someone with SQLite at hand would: triggers dropped, then put back."""
    raw = sqlite3.connect(path)
    triggers = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        raw.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        assert raw.execute(statement).rowcount > 0
    for _, sql in triggers:
        raw.execute(sql)
    raw.commit()
    raw.close()


@pytest.mark.parametrize(
    ("statement", "table", "row", "problem"),
    [
        ("UPDATE bodies SET body = body || '!' WHERE body LIKE 'Nobody sco%'", "bodies", "", "was changed"),
        ("UPDATE decisions SET reason = 'because' WHERE number = 1", "decisions", "R1", "does not fit"),
        ("UPDATE decisions SET hash = 'x' WHERE number = 1", "decisions", "R2", "does not continue"),
        ("DELETE FROM decisions WHERE number = 1", "decisions", "R2", "one is missing"),
        ("UPDATE verdicts SET reading = 'perfect' WHERE round = 1", "decisions", "R1", "does not fit"),
        ("UPDATE verdicts SET outcome = 'pass' WHERE round = 2", "verdicts", "V2.0", "comparison says fail"),
        ("UPDATE verdicts SET outcome = 'fail' WHERE round = 1", "decisions", "R1", "on the verdict fail"),
        ("UPDATE candidates SET rationale = 'x' WHERE name = 'c1'", "decisions", "R1", "does not fit"),
        ("UPDATE evaluations SET progress = 0.9 WHERE segment_id = 's0'", "evaluations", "", "not the mean"),
        ("UPDATE messages SET event_seq = 9999 WHERE id = 1", "messages", "row 1", "does not exist"),
    ],
)
def test_tampering_is_named(written: Ledger, statement: str, table: str, row: str, problem: str) -> None:
    written.close()
    tamper(written.path, statement)
    with Reader.open(written.path) as reader:
        findings = verify(reader)
    assert any(each.table == table and row in each.row and problem in each.problem for each in findings), findings


def test_a_statistic_exchanged_with_all_its_hashes_is_found_by_computing_it_again(written: Ledger) -> None:
    """The most careful forger: a new result body with its right hash, and the whole chain hashed anew."""
    row = written.rows(
        "SELECT c.id, b.body FROM comparisons c JOIN bodies b ON b.hash = c.result WHERE c.id LIKE '%/C1'"
    )[0]
    result = json.loads(row["body"])
    result["arms"][0]["mean_difference"] = 0.5
    forged = canonical_json(result)
    written.close()
    tamper(
        written.path,
        f"INSERT INTO bodies (hash, body) VALUES ('{content_hash(forged)}', '{forged}')",
        f"UPDATE comparisons SET result = '{content_hash(forged)}' WHERE id = '{row['id']}'",
    )
    with Reader.open(written.path) as reader:
        assert verify(reader) == []  # a screen is in no decision's hash: only the statistics can tell
        findings = verify(reader, recompute, session_rules)
    assert [(each.table, each.row) for each in findings] == [("comparisons", row["id"])]
    assert findings[0].problem.startswith("arms[0].mean_difference is 0.5, computed again it is 0.03")


def test_measures_that_are_not_those_of_the_evaluations_are_found(written: Ledger) -> None:
    row = written.rows(
        "SELECT c.id, b.body FROM comparisons c JOIN bodies b ON b.hash = c.inputs WHERE c.id LIKE '%/C2'"
    )[0]
    inputs = json.loads(row["body"])
    inputs["arms"]["c1"][2]["progress"] = 0.99
    forged = canonical_json(inputs)
    written.close()
    tamper(
        written.path,
        f"INSERT INTO bodies (hash, body) VALUES ('{content_hash(forged)}', '{forged}')",
        f"UPDATE comparisons SET inputs = '{content_hash(forged)}' WHERE id = '{row['id']}'",
    )
    with Reader.open(written.path) as reader:
        findings = verify(reader)
    assert any(each.row == row["id"] and "progress of c1, seed 3, is 0.99" in each.problem for each in findings)
    assert any(each.table == "decisions" for each in findings)  # a confirmation is in the decision's hash


def test_missing_guards_and_failing_statistics_are_findings(written: Ledger) -> None:
    written.close()
    raw = sqlite3.connect(written.path)
    raw.execute("DROP TRIGGER bodies_no_update")
    raw.commit()

    def broken(purpose: str, inputs: dict, settings: dict) -> dict:
        raise ZeroDivisionError("no pairs")

    with Reader.open(written.path) as reader:
        assert [(each.table, each.row) for each in verify(reader)] == [("trigger", "bodies_no_update")]
        problems = [each.problem for each in verify(reader, broken) if each.table == "comparisons"]
    assert problems == ["its statistics cannot be computed again: no pairs"] * 4


def test_a_damaged_body_does_not_stop_the_other_checks(written: Ledger) -> None:
    written.close()
    tamper(
        written.path,
        "UPDATE bodies SET body = 'no JSON' WHERE hash = (SELECT result FROM comparisons WHERE id LIKE '%/C1')",
        "UPDATE decisions SET reason = 'x' WHERE number = 2",
    )
    with Reader.open(written.path) as reader:
        tables = {each.table for each in verify(reader)}
    assert {"bodies", "decisions", "ledger"} <= tables


def test_reading_a_log_imports_neither_torch_nor_autogen() -> None:
    code = (
        "import sys, learning_signal.ledger.read.reader, learning_signal.ledger.read.verify\n"
        "import learning_signal.ledger.write.writer\n"
        "print([name for name in sys.modules "
        "if name.split('.')[0] in ('torch', 'pettingzoo') or 'autogen' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
