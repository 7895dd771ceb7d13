"""Ids of sessions in a log from elsewhere: only those this program writes are read, so none is a path or a command."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
from pathlib import Path

import pytest

from learning_signal import run
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.ids import is_session_id, new_session_id
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.wording import resume_command
from learning_signal.ledger.write.writer import Ledger
from learning_signal.viewer.reports.next_steps import after_session, after_training
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger
from tests.support.session_helpers import run_inline, tiny_settings

OTHER_ID = "20261123-101112-abc"
STRANGE = [
    "../../ESCAPED",
    "/tmp/ABSOLUTE",
    "x;touch${IFS}PWNED;#",
    "$(id)",
    "`id`",
    "-rf",
    ".",
    "",
    "20261122-154501-k3f\n",
    "20261122-154501-k3f/../x",
    "20261122-154501-K3F",
    "20261122-154501-k3f ",
    "20261122-154501",
    "２0261122-154501-k3f",
    "\x1b]0;x\x07",
]


@pytest.fixture(scope="module")
def two_sessions(tmp_path_factory) -> Path:
    """A log of two sessions; OTHER_ID is the newer one."""
    settings = tiny_settings(tmp_path_factory.mktemp("two"))
    recorded_ledger(settings.ledger)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("learning_signal.ledger.write.sessions.new_session_id", lambda: OTHER_ID)
        run_inline(settings)
    return settings.ledger


@pytest.fixture
def renamed(two_sessions, tmp_path, monkeypatch):
    """Gives a copy of the log in which the newer session has another id in every table."""
    monkeypatch.chdir(tmp_path)

    def rename(to: str) -> str:
        path = Path(shutil.copy(two_sessions, tmp_path / "received.db"))
        database = sqlite3.connect(path)
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        for table in tables:
            for column in [row[1] for row in database.execute(f"PRAGMA table_info({table})")]:
                if column == "session_id" or (table, column) == ("sessions", "id"):
                    database.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (to, OTHER_ID))
        database.commit()
        database.close()
        return str(path)

    return rename


def test_every_id_that_is_written_is_one():
    assert all(is_session_id(new_session_id()) for _ in range(200))
    assert is_session_id(RECORDED_ID) and not any(is_session_id(each) for each in STRANGE)


def test_no_other_id_is_written(tmp_path):
    row = {"task": "t", "algorithm": "mappo", "seed": 0, "config": {}, "code_version": "0"}
    with Ledger.open(tmp_path / "l.db") as ledger:
        with pytest.raises(LedgerError, match="expected one such as"):
            ledger.begin_session(id="../x", **row)
        assert ledger.begin_session(id=RECORDED_ID, **row) == RECORDED_ID


@pytest.mark.parametrize("strange", STRANGE)
def test_a_strange_session_is_refused_wherever_it_is_read(renamed, capsys, strange):
    path = renamed(strange)
    for command in (["log", "show"], ["explain"], ["export"], ["play"], ["resume"]):
        name = "latest" if command != ["log", "show"] or strange.startswith("-") or not strange else strange
        assert run.run([*command, name, "--ledger", path]) == 2, command
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
        assert "expected one such as 20261122-154501-k3f" in captured.err and "\x1b" not in captured.err
    written = {each.name for each in Path().rglob("*")} - {"received.db", "received.db-wal", "received.db-shm"}
    assert written == set(), "only SQLite's own files beside the log"


def test_the_other_sessions_are_read_and_the_list_says_what_it_leaves_out(renamed, capsys):
    path = renamed("../../ESCAPED")
    assert run.run(["log", "list", "--ledger", path]) == 0
    captured = capsys.readouterr()
    assert RECORDED_ID in captured.out and "ESCAPED" not in captured.out
    assert "Left out: 1 session" in captured.err and "'../../ESCAPED'" in captured.err
    assert run.run(["log", "list", "--json", "--ledger", path]) == 0
    captured = capsys.readouterr()
    assert [each["id"] for each in json.loads(captured.out)] == [RECORDED_ID] and "ESCAPED" in captured.err
    assert run.run(["log", "show", RECORDED_ID, "--ledger", path]) == 0
    assert run.run(["log", "show", "2026", "--ledger", path]) == 0, "the beginning of an id"
    assert run.run(["explain", f"{RECORDED_ID}/R1", "--ledger", path]) == 0
    capsys.readouterr()
    assert run.run(["log", "search", "coverage", "--json", "--ledger", path]) == 0
    assert {each["event"]["session_id"] for each in json.loads(capsys.readouterr().out)} == {RECORDED_ID}
    with Reader.open(path) as reader:
        (seq,) = (row["seq"] for row in reader.rows("SELECT max(seq) seq FROM events"))
        with pytest.raises(LedgerError, match="ESCAPED"):
            reader.entry(seq)
        with pytest.raises(LedgerError, match="ESCAPED"):
            explain(reader, f"{OTHER_ID}/R1")  # the decision's own id was left as it was


def test_with_both_ids_in_order_both_are_read(two_sessions, capsys):
    """Negative control."""
    path = str(two_sessions)
    assert run.run(["log", "list", "--ledger", path]) == 0
    captured = capsys.readouterr()
    assert RECORDED_ID in captured.out and OTHER_ID in captured.out and captured.err == ""
    assert run.run(["log", "search", "coverage", "--json", "--ledger", path]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["event"]["session_id"] for each in found} == {RECORDED_ID, OTHER_ID}
    with Reader.open(path) as reader:
        assert reader.session().id == OTHER_ID and reader.strange_sessions() == []
        assert explain(reader, f"{OTHER_ID}/R1").decision.session_id == OTHER_ID


def test_a_log_of_strange_sessions_alone(renamed, capsys):
    path = renamed("a b")
    with sqlite3.connect(path) as database:
        database.execute("UPDATE sessions SET id = '..' WHERE id = ?", (RECORDED_ID,))
    assert run.run(["log", "list", "--ledger", path]) == 0
    captured = capsys.readouterr()
    assert "Left out: 2 session" in captured.err and captured.out == ""
    assert run.run(["log", "show", "none", "--ledger", path]) == 2
    assert "expected one such as" in capsys.readouterr().err


def test_verify_names_a_session_that_it_does_not_read(renamed, two_sessions):
    with Reader.open(two_sessions) as reader:
        assert not [each for each in verify(reader) if each.table == "sessions"]
    with Reader.open(renamed("$(id)")) as reader:
        assert [each.row for each in verify(reader) if each.table == "sessions"] == ["$(id)"]


# commands to paste -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x;touch${IFS}PWNED;#", "$(id)", "a b", "it's"])
def test_commands_to_paste_are_quoted(name):
    ledger = Path("a folder") / "l;x.db"
    outcome = {
        "session_id": name,
        "status": "paused",
        "promoted": [{"round": 1}],
        "after": {"env_steps": 1},
        "env_steps": 5,
        "stop_reason": None,
    }
    commands = [command for _, command in (*after_session(outcome, ledger), *after_training(outcome, ledger))]
    ours = [command for command in commands if "session --agent" not in command]
    assert len(ours) == 8
    for command in ours:
        words = shlex.split(command)
        assert words[-2:] == ["--ledger", str(ledger)]
        assert name in words or f"{name}/R1" in words


@pytest.mark.parametrize(
    "said",
    [
        " --budget tokens=300k,usd=2.50",
        " --budget tokens=300k; touch PWNED",
        " --budget $(touch PWNED)",
        "; touch PWNED",
        "",
    ],
)
@pytest.mark.parametrize(("needed", "budget"), [(None, ""), ("usd=2.50", " --budget usd=2.50")])
def test_nothing_is_taken_from_a_reason(said, needed, budget):
    """A reason may quote a server, and what a server says may look like a command."""
    command = resume_command(RECORDED_ID, Path("runs/ledger.db"))
    outcome = {"session_id": RECORDED_ID, "status": "paused", "stop_reason": f"It stopped; go on with: {command}{said}"}
    outcome["budget_needed"] = needed
    ((_, shown),) = [each for each in after_session(outcome, Path("runs/ledger.db")) if "resume" in each[1]]
    assert shown == command + budget
