"""Whatever a log from elsewhere holds, no control character of it reaches the terminal."""

from __future__ import annotations

import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from sqlite_utils import Database

import learning_signal.viewer.cli.terminal
import learning_signal.viewer.text
from learning_signal import run
from learning_signal.ledger import migrations
from learning_signal.ledger.read import verify as verification
from learning_signal.viewer.cli.terminal import SafeConsole, show_traceback
from tests.support.recorded_ledger import recorded_ledger

PAYLOAD = "\x1b]0;OWNED\x07\x1b[31m\x1bc\x9b2J\x9d0;x\x9c\x85\u202e\u2066\x7f\x08\x00\ud83d"
"""A title, a colour, a reset, 8-bit forms, a line break, reversed text, delete, back space, null, half a pair."""
STORED = PAYLOAD.replace("\x00", "").replace("\ud83d", "")
"""What of it SQLite can hold in a text."""
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
COMMANDS = (
    ["log", "list"],
    ["log", "show", "-v", "--round", "1"],  # a promotion, and all that leads to one
    ["log", "show", "-v", "--round", "4"],  # a roll back
    ["log", "search", "coverage"],
    ["explain", "R1"],
    ["explain"],
    ["log", "verify"],
)
AS_JSON = tuple([*command, "--json"] for command in COMMANDS)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    return recorded_ledger(tmp_path_factory.mktemp("recorded") / "ledger.db")


def text_columns() -> list[tuple[str, str]]:
    """Every text column of every table, read from the schema itself."""
    made = Database(memory=True)
    migrations.apply(made)
    database = made.conn
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = [
        (table, row[1])
        for table in tables
        for row in database.execute(f"PRAGMA table_info({table})")
        if row[2] == "TEXT"
    ]
    assert len(found) > 80 and ("decisions", "previous_hash") in found
    return found


def texts_of_tables() -> list[tuple[str, list[str]]]:
    """Every table with its text columns that are no keys: what can be spoiled at once and still be found."""
    tables: dict[str, list[str]] = {}
    for table, column in text_columns():
        if column not in ("id", "hash", "config") and not column.endswith("_id"):
            tables.setdefault(table, []).append(column)
    return list(tables.items())


def spoiled(recorded: Path, folder: Path, table: str, *columns: str, keep_json: bool = False) -> str:
    """A copy of the ledger in which every text of these columns begins with the payload."""
    path = Path(shutil.copy(recorded, folder / "spoiled.db"))
    database = sqlite3.connect(path)
    database.execute("PRAGMA ignore_check_constraints = ON")
    for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        database.execute(f"DROP TRIGGER {name}")
    database.create_function("spoil", 1, spoil_json if keep_json else lambda value: STORED + value)
    for column in columns:
        database.execute(f"UPDATE {table} SET {column} = spoil({column}) WHERE {column} IS NOT NULL")
    database.commit()
    database.close()
    return str(path)


def spoil_json(text: str) -> str:
    """Valid JSON with the payload before every text in it, keys aside; other text with the payload before it."""

    def spoilt(value):
        if isinstance(value, str):
            return STORED + value
        if isinstance(value, dict):
            return {key: spoilt(each) for key, each in value.items()}
        return [spoilt(each) for each in value] if isinstance(value, list) else value

    try:
        return json.dumps(spoilt(json.loads(text)), ensure_ascii=False)
    except ValueError:
        return STORED + text


def printed(capsys, path: str, commands=COMMANDS) -> str:
    """All that the commands print on ``path``; a traceback is printed as the console script does."""
    for command in commands:
        try:
            run.run([*command, "--ledger", path])
        except Exception:  # noqa: BLE001 - a damaged ledger may be too much for a command, and that is printed, too
            show_traceback()
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.fixture
def verified_once(monkeypatch) -> None:
    """What is found in a ledger is computed for the first command that prints it, and kept for the others."""

    def kept(compute):
        found = {}

        def of(reader, *given):
            if reader.path not in found:
                found[reader.path] = compute(reader, *given)
            return found[reader.path]

        return of

    for name in ("verify", "notices"):
        monkeypatch.setattr(verification, name, kept(getattr(verification, name)))


@pytest.mark.slow
@pytest.mark.parametrize(("table", "column"), text_columns())
def test_no_column_of_a_log_reaches_the_terminal_raw(capsys, recorded, tmp_path, verified_once, table, column):
    text = printed(capsys, spoiled(recorded, tmp_path, table, column), COMMANDS + AS_JSON)
    assert text and FORBIDDEN.findall(text) == []


@pytest.mark.parametrize(("table", "columns"), texts_of_tables())
def test_no_table_of_a_log_reaches_the_terminal_raw(capsys, recorded, tmp_path, table, columns):
    text = printed(capsys, spoiled(recorded, tmp_path, table, *columns))
    assert text and FORBIDDEN.findall(text) == []


@pytest.mark.parametrize("column", ["id", "hash", "previous_hash", "reason", "session_id"])
def test_no_column_of_a_decision_reaches_the_terminal_raw(capsys, recorded, tmp_path, column):
    text = printed(capsys, spoiled(recorded, tmp_path, "decisions", column), COMMANDS + AS_JSON)
    assert text and FORBIDDEN.findall(text) == []


def test_no_text_inside_json_reaches_the_terminal_raw(capsys, recorded, tmp_path):
    text = printed(capsys, spoiled(recorded, tmp_path, "bodies", "body", keep_json=True), COMMANDS + AS_JSON)
    assert "OWNED" in text and FORBIDDEN.findall(text) == []


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("decisions", "hash"),
        ("decisions", "previous_hash"),
        ("events", "title"),
        ("sessions", "task"),
        ("sessions", "stop_reason"),
    ],
)
def test_without_cleaning_the_same_columns_do_reach_it(capsys, recorded, tmp_path, monkeypatch, table, column):
    """Negative control."""
    path = spoiled(recorded, tmp_path, table, column)
    if column == "stop_reason":  # the recorded session has none
        with sqlite3.connect(path) as database:
            database.execute("UPDATE sessions SET stop_reason = ?", (STORED,))
    monkeypatch.setattr(learning_signal.viewer.cli.terminal, "visible", lambda text: text)
    monkeypatch.setattr(learning_signal.viewer.text, "visible", lambda text: text)
    monkeypatch.setattr(learning_signal.viewer.text, "_ESCAPES", re.compile("(?!)"))
    assert FORBIDDEN.findall(printed(capsys, path))


# the console itself ----------------------------------------------------------------------------------------------


def on_console(kind: type[Console], show, **options) -> str:
    console = kind(file=io.StringIO(), width=60, log_path=False, **options)
    show(console)
    return console.file.getvalue()


def everything(console: Console) -> None:
    """The payload in whatever a view may print."""
    table = Table(title=PAYLOAD, caption=PAYLOAD)
    table.add_column(PAYLOAD)
    table.add_row(Text(PAYLOAD, "bold"))
    table.add_row(PAYLOAD)
    console.print(PAYLOAD, Text(PAYLOAD), table, markup=False)
    console.print(PAYLOAD, markup=False, soft_wrap=True)
    console.out(PAYLOAD)
    console.log(PAYLOAD, markup=False)
    console.rule(PAYLOAD)
    console.print([PAYLOAD, {PAYLOAD: PAYLOAD}])
    with Live(Text(PAYLOAD), console=console):
        console.print(Text(f"above {PAYLOAD}"))
    with console.status(Text(PAYLOAD)):
        pass


def test_nothing_that_is_printed_passes_raw():
    assert FORBIDDEN.findall(on_console(SafeConsole, everything)) == []
    with pytest.raises(UnicodeEncodeError):  # negative control: half a pair alone ends rich's own printing in a pipe
        on_console(Console, everything).encode()


def test_on_a_terminal_only_rich_s_own_sequences_remain():
    text = on_console(SafeConsole, everything, force_terminal=True, color_system="truecolor")
    own = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)
    assert "\x1b[1m" in text, "colours are still there"
    assert FORBIDDEN.findall(own) == []
    assert "\x1b[31m" not in text and "\x9b" not in text and "\x1bc" not in text
    raw = on_console(Console, everything, force_terminal=True, color_system="truecolor")
    assert "\x9b" in raw and "\x1bc" in raw, "negative control"


def test_words_of_every_script_line_ends_and_tabs_stay():
    words = "Übergröße → ✓ 覚 e\u0301 🙂\n\tin\u00a0order"
    assert learning_signal.viewer.text.visible(words) == words
    assert on_console(SafeConsole, lambda console: console.print("Über → ✓ 覚")) == "Über → ✓ 覚\n"


def test_errors_and_log_lines_are_clean(capsys):
    learning_signal.viewer.cli.terminal.fail(f"There is no {PAYLOAD}; give another.")
    from loguru import logger

    learning_signal.viewer.cli.terminal.log_to(learning_signal.viewer.cli.terminal.err)
    logger.warning("found {}", PAYLOAD)
    text = capsys.readouterr().err
    assert "There is no" in text and "found" in text and FORBIDDEN.findall(text) == []


def test_json_keeps_every_character_escaped(capsys):
    learning_signal.viewer.cli.terminal.show_json({"said": PAYLOAD})
    text = capsys.readouterr().out
    assert FORBIDDEN.findall(text) == [] and text.isascii()
    assert json.loads(text) == {"said": PAYLOAD}


def test_a_traceback_of_the_console_script_is_clean(tmp_path):
    code = (
        "import sys, run, learning_signal.viewer.cli.log_commands\n"
        "def broken(*given): raise ValueError('\\x1b]0;x\\x07 \\x9b2J at fault')\n"
        "import learning_signal.ledger.read.reader; learning_signal.ledger.read.reader.Reader.open = broken\n"
        "sys.argv = ['run.py', 'log', 'list']  # as the console script is called\n"
        "run.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=Path(run.__file__).parent, timeout=60)
    text = done.stderr.decode()
    assert done.returncode == 1 and "at fault" in text and "Traceback" in text and FORBIDDEN.findall(text) == []
