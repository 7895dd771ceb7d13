"""Commands that read a log of which one body, JSON or number was changed: one sentence at most, and no traceback."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from learning_signal import run
from learning_signal.ledger.read.reader import Reader
from tests.support.damaged_ledgers import damage
from tests.support.recorded_ledger import recorded_ledger

COMMANDS = (
    ["explain", "latest"],
    ["log", "verify"],
    ["log", "export", "--as", "data", "--to", "data.json"],
    ["explain", "R1", "--json"],
    ["log", "show", "-v", "--kind", "tool_call"],
    ["log", "list"],
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("whole") / "ledger.db")


def _tried(arguments: list[str], ledger: Path, capsys: pytest.CaptureFixture[str], what: str) -> tuple[int, str]:
    try:
        code = run.run([*arguments, "--ledger", str(ledger)])
    except Exception as error:
        raise AssertionError(f"{arguments} on {what}: a traceback") from error
    said = capsys.readouterr().err
    assert code in (0, 1, 2), (arguments, what)
    if code == 2:
        assert said.startswith("error: ") and said.count("error: ") == 1 and "fault of the program" not in said, what
        assert "log recover" in said or "verify" in said, (what, said)
    return code, said


@pytest.mark.parametrize("seed", range(24))
def test_one_command_on_one_damage(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(whole, tmp_path / "ledger.db")
    what = damage(tmp_path / "ledger.db", random.Random(seed))
    _tried(COMMANDS[seed % len(COMMANDS)], tmp_path / "ledger.db", capsys, what)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1020))
def test_every_command_on_one_damage(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(whole, tmp_path / "ledger.db")
    what = damage(tmp_path / "ledger.db", random.Random(seed))
    for arguments in COMMANDS:
        _tried(arguments, tmp_path / "ledger.db", capsys, what)


@pytest.mark.parametrize("body", ["[]", "{", "[" * 5_000, '{"arms": 5}'])
def test_a_damaged_comparison_is_named_with_what_helps(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str
) -> None:
    ledger = tmp_path / "ledger.db"
    shutil.copyfile(whole, ledger)
    with sqlite3.connect(ledger) as connection:
        connection.execute("DROP TRIGGER bodies_no_update")
        connection.execute("UPDATE bodies SET body = ? WHERE hash IN (SELECT inputs FROM comparisons)", (body,))
    connection.close()
    code, said = _tried(["explain", "R1"], ledger, capsys, body)
    assert code == 2 and "is damaged: " in said and f"log recover {ledger} --to NEW" in said.replace("'", "")
    code, _ = _tried(["log", "verify"], ledger, capsys, body)
    assert code == 1


def test_an_error_of_the_program_on_an_undamaged_log_stays_one(whole: Path) -> None:
    with pytest.raises(KeyError), Reader.open(whole):
        raise KeyError("a fault of the program")
