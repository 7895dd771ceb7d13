"""What can be read of a damaged ledger goes to a new one, every row outside of the damage; what is lost is said."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from learning_signal import run
from learning_signal.ledger.chain.seal import sealed_by
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.checks.checked import checked
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.recover import recover
from learning_signal.ledger.write.writer import Ledger
from tests.support.recorded_ledger import recorded_ledger

PAGE = 4096
VERSION_1 = Path(__file__).parent / "data" / "version-1.db.gz"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("whole") / "ledger.db")


def _rows(path: Path) -> dict[str, dict[int, tuple[Any, ...]]]:
    """Every row of every table with a place in the chains, and the cursors."""
    with closing(sqlite3.connect(path)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%STRICT%'")]
        return {
            name: {row[0]: row[1:] for row in connection.execute(f"SELECT rowid, * FROM {name} NOT INDEXED")}
            for name in names
            if name != "links"
        }


def _pages_of_events(path: Path) -> dict[int, int]:
    """The page of the file with each event's row, for events whose title stands there once."""
    data = path.read_bytes()
    with closing(sqlite3.connect(path)) as connection:
        titles = connection.execute("SELECT seq, title FROM events WHERE length(title) > 40").fetchall()
    found = {number: title.encode() for number, title in titles if data.count(title.encode()) == 1}
    return {number: data.find(title) // PAGE for number, title in found.items()}


def _damage(path: Path, pages: list[int], random: random.Random) -> None:
    data = bytearray(path.read_bytes())
    for page in pages:
        data[page * PAGE : (page + 1) * PAGE] = random.randbytes(PAGE)
    path.write_bytes(data)


def test_an_undamaged_ledger_comes_out_whole_but_unsealed(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new.db"
    with Reader.open(whole) as reader:
        seal = reader.session().seal
    kept = recover(whole, new)
    assert _rows(new) == _rows(whole) and {each.lost for each in kept} == {0}
    with Reader.open(new) as reader:
        assert verify(reader) == [] and sealed_by(reader.rows, seal) is None
        assert reader.session().recovered and "unsealed" in " ".join(checked(reader).unchecked)
    assert run.run(["log", "list", "--ledger", str(new)]) == 0
    assert "recovered, unsealed" in capsys.readouterr().out
    assert run.run(["log", "search", "coverage", "--ledger", str(new)]) == 0
    assert "Nothing in the log" not in capsys.readouterr().out, "the search index is there"


@pytest.mark.parametrize("seed", range(6))
def test_every_row_outside_of_the_damage_is_kept(whole: Path, tmp_path: Path, seed: int) -> None:
    broken, new = tmp_path / "broken.db", tmp_path / "new.db"
    shutil.copyfile(whole, broken)
    drawn = random.Random(seed)
    pages = drawn.sample(sorted(set(_pages_of_events(whole).values())), 5)
    _damage(broken, pages, drawn)
    kept = {each.table: each for each in recover(broken, new)}
    before, after = _rows(whole), _rows(new)
    lost = {table: before[table].keys() - after[table].keys() for table in before}
    for table, rows in after.items():
        assert rows == {number: before[table][number] for number in rows}, "what is there is as it was"
        assert kept[table].rows == len(rows)
    with Reader.open(new) as reader:
        assert reader.sessions()[0].recovered
    assert sum(map(len, lost.values())) <= 5 * 120, "no more than stood on those pages"
    assert sum(each.lost for each in kept.values()) <= sum(map(len, lost.values()))


def test_rows_between_two_damaged_places_are_kept(whole: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    shutil.copyfile(whole, broken)
    at = _pages_of_events(whole)
    pages = sorted(set(at.values()))
    assert len(pages) > 4
    _damage(broken, [pages[1], pages[-2]], random.Random(0))
    recover(broken, tmp_path / "new.db")
    found = _rows(tmp_path / "new.db")["events"].keys()
    assert {number for number, page in at.items() if page in pages[2:-2]} <= found
    assert not {number for number, page in at.items() if page in (pages[1], pages[-2])} & found


def test_a_session_of_a_recovered_ledger_can_be_written_on(whole: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    recover(whole, new)
    with Ledger.open(new) as ledger:
        ledger.event(ledger.rows("SELECT id FROM sessions")[0]["id"], "session", "goes on")
    with Reader.open(new) as reader:
        assert verify(reader) == [] and reader.events()[-1].title == "goes on"


def test_a_ledger_of_the_first_version_is_recovered_in_its_version(tmp_path: Path) -> None:
    old = tmp_path / "old.db"
    old.write_bytes(gzip.decompress(VERSION_1.read_bytes()))
    kept = recover(old, tmp_path / "new.db")
    assert {each.lost for each in kept} == {0} and sum(each.rows for each in kept) > 100
    with Reader.open(old) as before, Reader.open(tmp_path / "new.db") as after:
        assert after.events() == before.events() and len(after.rows("SELECT 1 FROM metrics")) > 0
        assert after.rows("SELECT * FROM metrics") == before.rows("SELECT * FROM metrics")
    with Ledger.open(tmp_path / "new.db"), Reader.open(tmp_path / "new.db") as reader:
        assert verify(reader) == [], "it is brought up to date like any other"


def test_what_cannot_be_recovered_is_one_sentence(whole: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.db"
    shutil.copyfile(whole, broken)
    with pytest.raises(LedgerError, match="nothing is overwritten"):
        recover(whole, broken)
    _damage(broken, [0], random.Random(0))
    with pytest.raises(LedgerError, match="first page is damaged: restore a backup"):
        recover(broken, tmp_path / "new.db")
    with pytest.raises(LedgerError, match="There is no ledger at"):
        recover(tmp_path / "none.db", tmp_path / "new.db")
    (tmp_path / "text.db").write_text("no database " * 500)
    with pytest.raises(LedgerError):
        recover(tmp_path / "text.db", tmp_path / "new.db")
    assert not list(tmp_path.glob("*new.db*")) and not list(tmp_path.glob(".*"))


def test_the_command_says_what_is_lost_and_that_the_new_log_is_unsealed(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.db"
    shutil.copyfile(whole, broken)
    _damage(broken, sorted(set(_pages_of_events(whole).values()))[2:4], random.Random(3))
    assert run.run(["log", "recover", str(broken), "--to", str(tmp_path / "new.db")]) == 0
    said = capsys.readouterr().out
    assert "are lost" in said and "The new log is unsealed" in said and "events" in said
    assert run.run(["log", "recover", str(broken), "--to", str(tmp_path / "new.db")]) == 2
    capsys.readouterr()
    assert run.run(["log", "recover", str(broken), "--to", str(tmp_path / "2.db"), "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)["tables"]
    assert any(each["lost"] for each in tables)
