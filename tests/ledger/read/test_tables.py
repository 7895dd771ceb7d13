"""The log as tables: their columns, types and documentation, the facts in them, and data frames made of them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from learning_signal import open_log
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.tables.columns import TABLES, WHOSE
from learning_signal.ledger.read.tables.log import Log
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin
from tests.support.places import ROOT
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded session, and one that has only begun."""
    path = recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")
    with Ledger.open(path) as ledger:
        begin(ledger, seed=7)
    return path


@pytest.fixture
def log(path: Path):
    with open_log(path) as log:
        yield log


@pytest.mark.parametrize("name", TABLES)
def test_every_row_has_the_columns_and_every_value_its_type(log: Log, name: str) -> None:
    rows = log.table(name)
    assert rows and {row["session"] for row in rows} >= {RECORDED_ID}
    for row in rows:
        assert list(row) == list(TABLES[name]) == list(log.columns(name))
        for column, value in row.items():
            assert value is None or type(value) is TABLES[name][column][0], (column, value)
    empty = {column for column in TABLES[name] if all(row[column] is None for row in rows)}
    assert empty <= {"ended_at", "cost_usd", "evaluation_env_steps"}


def test_every_column_is_documented() -> None:
    page = (ROOT / "docs" / "python-api.md").read_text("utf-8")
    for name, columns in TABLES.items():
        (line,) = re.findall(rf"^\| `{name}` \| .*$", page, re.M)
        assert set(columns) - set(WHOSE) <= set(re.findall(r"`(\w+)`", line)), name
        assert set(re.findall(r"`(\w+)`", line)) <= {*columns, name}


def test_the_tables_say_what_the_records_say(log: Log) -> None:
    decisions = log.table("decisions", RECORDED_ID)
    assert [row["action"] for row in decisions] == [each.action for each in log.decisions(RECORDED_ID)]
    promoted = decisions[0]
    (confirmed,) = [each for each in log.comparisons(RECORDED_ID) if each.id == f"{RECORDED_ID}/C2"]
    assert promoted["difference"] == confirmed.result["mean_difference"]
    assert [promoted["low"], promoted["high"]] == confirmed.result["interval"]
    assert promoted["measure"] == "progress" and promoted["verdict"] == "pass"
    assert promoted["shaping_before"] == "no shaping" and "collisions" in promoted["shaping_after"]
    (rolled_back,) = [row for row in decisions if row["action"] == "roll_back"]
    assert rolled_back["difference"] < 0, "it got worse"
    events = log.table("events", RECORDED_ID)
    assert [row["event"] for row in events] == [each.seq for each in log.events(RECORDED_ID)]
    calls = [row for row in events if row["backend"] is not None]
    assert len(calls) == log.costs(RECORDED_ID).llm_calls and {row["kind"] for row in calls} == {"llm_call"}
    assert sum(row["tokens_in"] or 0 for row in calls) == log.session(RECORDED_ID).tokens_in
    assert {row["tool"] for row in events if row["evidence"]} >= {"query_metrics"}
    (row,) = log.table("sessions", RECORDED_ID)
    assert row["env_steps_branches"] == log.costs(RECORDED_ID).env_steps_branches


def test_one_session_or_all_the_oldest_first(log: Log) -> None:
    other = log.session("latest").id
    assert [row["session"] for row in log.table("sessions")] == [RECORDED_ID, other]
    assert [row["seed"] for row in log.table("sessions", "latest")] == [7]
    assert log.table("curves", "latest") == []
    with pytest.raises(LedgerError, match="There is no table 'curve'; the tables are sessions, events"):
        log.table("curve")
    with pytest.raises(LedgerError, match="There is no session"):
        log.table("curves", "nothing")


def test_data_frames_and_csv_take_them(log: Log) -> None:
    import pandas

    curves = pandas.DataFrame(log.table("curves"))
    best = curves.groupby("measure")["value"].max()
    assert best["sparse_return"] == max(
        row["value"] for row in log.table("curves") if row["measure"] == "sparse_return"
    )
    decisions = pandas.DataFrame(log.table("decisions"))
    assert str(decisions["difference"].dtype) == "float64" and decisions["round"].tolist() == [1, 2, 3, 4]
    sessions = pandas.DataFrame(log.table("sessions"))
    assert decisions.merge(sessions, on="session")["kind"].unique().tolist() == ["run"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, log.columns("decisions"))
    writer.writeheader()
    writer.writerows(log.table("decisions"))
    assert len(list(csv.DictReader(io.StringIO(stream.getvalue())))) == 4
