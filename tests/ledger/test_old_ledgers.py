"""A ledger of the first schema version is read as it stands, and migrated when it is opened to write.

``data/version-1.db.gz`` was written by the code at 95a3b1a: a synthetic session of one round with a promotion, a
probation and a sparse twin, under a budget.
"""

from __future__ import annotations

import gzip
import shutil
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.migrations import migrations
from learning_signal.ledger.read.checks.chains import check_chains
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.events.search import search
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.schema import VERSION
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import session_rules
from tests.support.ledger_helpers import tamper

STORED = Path(__file__).parent / "data" / "version-1.db.gz"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.db"
    with gzip.open(STORED) as packed, path.open("wb") as file:
        shutil.copyfileobj(packed, file)
    return path


def version(path: Path) -> int:
    return sqlite3.connect(path).execute("PRAGMA user_version").fetchone()[0]


def everything(path: Path) -> dict[str, Any]:
    """What every way of reading a log gives."""
    with Reader.open(path) as reader:
        session = reader.session()
        return {
            "session": replace(session, seal=None),  # a writer gives it one
            "costs": reader.costs(session.id),
            "segments": reader.segments(session.id),
            "main run": reader.main_run(session.id),
            "chain": explain(reader, "latest"),
            "evaluations": reader.evaluations(session.id),
            "entries": [reader.entry(event.seq) for event in reader.events()],
            "hits": search(reader, "coverage_distance"),
            "findings": verify(reader, recompute, session_rules),
        }


def test_an_old_ledger_is_read_without_being_changed(old):
    before = old.read_bytes()
    old.chmod(stat.S_IRUSR)
    read = everything(old)
    assert version(old) == 1 and old.read_bytes() == before
    session = read["session"]
    assert (session.env_steps_main, session.env_steps_branches, session.env_steps_twin) == (1600, 4800, 6400)
    assert (session.gate_mode, session.budget, session.promoted) == ("paired", {"env_steps": 1_000_000}, 1)
    purposes = [segment.purpose for segment in read["segments"].values()]
    assert {name: purposes.count(name) for name in set(purposes)} == {"main": 2, "screen": 6, "confirm": 10, "twin": 11}
    assert list(read["segments"]) == sorted(read["segments"], key=lambda name: read["segments"][name].started_at)
    assert read["chain"].decision.action == "promote" and read["chain"].probation is not None
    assert read["hits"] and read["findings"] == []


def test_a_migrated_ledger_reads_as_before(old):
    before = everything(old)
    Ledger.open(old).close()
    assert version(old) == VERSION > 1
    assert everything(old) == before


def test_a_migrated_ledger_is_as_well_guarded_as_a_new_one(old, tmp_path):
    for path in (old, tmp_path / "new.db"):
        Ledger.open(path).close()
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    migrated, new = (sqlite3.connect(path).execute(query).fetchall() for path in (old, tmp_path / "new.db"))
    assert migrated == new
    raw = sqlite3.connect(old)
    for statement in (
        "UPDATE segments SET purpose = 'main' WHERE purpose = 'twin'",
        "UPDATE sessions SET gate_mode = 'always'",
        "UPDATE sessions SET budget = NULL",
        "DELETE FROM segments",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute(statement)


@pytest.mark.parametrize("change", ["DROP TRIGGER segments_fixed", "DROP TRIGGER decisions_no_delete"])
def test_a_guard_that_an_old_ledger_lacks_is_found(old, change):
    sqlite3.connect(old).execute(change)
    missing = change.split()[-1]
    with Reader.open(old) as reader:
        assert [each.row for each in verify(reader, recompute, session_rules)] == [missing]
    if missing.startswith("decisions"):  # another table's guards are not made anew
        Ledger.open(old).close()
        with Reader.open(old) as reader:
            assert [each.row for each in verify(reader)] == [missing]
        return
    with pytest.raises(LedgerError, match="segments_fixed of this ledger is missing or changed"):
        Ledger.open(old)
    assert version(old) == 1, "migrated, it would have the guard, as if it had always been there"


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("decisions", "UPDATE decisions SET reason = 'because'"),
        ("bodies", "UPDATE bodies SET body = replace(body, '\"alpha\":0.05', '\"alpha\":0.5')"),
        ("sessions", "UPDATE sessions SET task = 'pursuit'"),
    ],
)
def test_what_was_changed_before_the_migration_is_found_before_and_after_it(old, table, change):
    """Negative control of the findings, which are none above."""
    raw = sqlite3.connect(old)
    guards = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for name, _ in guards:
        raw.execute(f"DROP TRIGGER {name}")
    assert raw.execute(change).rowcount > 0
    for _, sql in guards:
        raw.execute(sql)
    raw.commit()
    raw.close()
    found = everything(old)["findings"]
    assert table in {each.table for each in found}
    Ledger.open(old).close()
    assert everything(old)["findings"] == found


def migrated_to(path: Path, wanted: int) -> None:
    """Leave the ledger of the first version as a program of that version would have."""
    db = Database(sqlite3.connect(path))
    migrations.apply(db, stop_before=[each.name for each in migrations.pending(db)][wanted - 1 :])
    db.conn.execute(f"PRAGMA user_version = {wanted}")
    db.conn.commit()
    db.close()


@pytest.mark.parametrize("wanted", [2, 3, 4, 5, 6, 7, 8])
def test_a_ledger_between_reads_as_before_and_gets_what_it_lacks_from_a_writer(old, wanted):
    """The second version stored no fates, the third did not count evaluation."""
    before = everything(old)
    migrated_to(old, wanted)
    assert version(old) == wanted
    assert everything(old) == before and {one.fate for one in before["chain"].candidates} >= {"promoted"}
    Ledger.open(old).close()
    assert version(old) == VERSION and everything(old) == before
    sqlite3.connect(old).execute("DROP TABLE fates")
    with Reader.open(old) as reader:  # a third version must have its guards
        assert [each.row for each in verify(reader)] == ["fates_no_delete", "fates_no_update"]


def test_what_an_old_ledger_did_not_count_is_unknown(old):
    for _ in range(2):
        with Reader.open(old) as reader:
            assert {each.evaluation_env_steps for each in reader.segments().values()} == {None}
            assert {each.points for each in reader.evaluations()} == {None}
        Ledger.open(old).close()


def test_a_migrated_ledger_takes_what_is_measured_for_the_report(old):
    """Until the sixth version no evaluation could be one for the report; the old rows have none."""

    def insert(episode_set: str, detail: str) -> None:
        columns = f"env_steps, episodes, sparse_return, {detail}"
        with closing(sqlite3.connect(old)) as raw:
            raw.execute(
                f"INSERT INTO evaluations (session_id, segment_id, episode_set, {columns}) "
                f"SELECT session_id, segment_id, ?, {columns} FROM evaluations LIMIT 1",
                (episode_set,),
            )

    migrated_to(old, 5)
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        insert("report", "detail")
    Ledger.open(old).close()
    insert("report", "packed, size")
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        insert("train", "packed, size")
    with Reader.open(old) as reader:
        assert reader.evaluations(episode_set="report") == []


def test_the_chain_of_an_old_ledger_begins_at_its_migration(old):
    with Reader.open(old) as reader:
        assert check_chains(reader) == ([], [])
    Ledger.open(old).close()
    with Reader.open(old) as reader:
        ((chain,), findings) = check_chains(reader)
        rows = reader.rows("SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM evaluations) n")[0]["n"]
    assert (chain.links, chain.unsealed, findings) == (1, 8, []) and chain.rows > rows > 100
    tamper(old, "UPDATE messages SET source = 'human' WHERE id = 3", chained_anew=False)
    with Reader.open(old) as reader:
        assert [each.table for each in verify(reader)] == ["links"]
