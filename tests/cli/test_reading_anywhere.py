"""Every command that reads: from a folder without write access, and into a pipe of few characters."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

import pytest

from learning_signal import run as program
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import begin
from tests.support.no_access import only_to_read
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger
from tests.support.session_helpers import run_inline, tiny_settings

READING = [
    "log list",
    "log show {session}",
    "log show {session}/R1",
    "log search coverage",
    "log forecasts",
    "log plot {session} --to {out}/curve.svg",
    "log export {session} --to {out}/report.html",
    "log export {session} --as data --to {out}/session.json",
    "log export {session} --as csv --to {out}/tables",
    "log export {session} --as markdown --to {out}/report.md",
    "log export {session} --as atif --to {out}/trajectory.json",
    "log verify",
    "log seal {session}",
    "explain {session}/R1",
    "compare {session} latest",
    "backends --record",
    "tasks",
]
STRANGE = "→ «naïve» 漢字 🎯 \ud800 \x1b]8;;http://x\x07link \u202e é…"
"""What the encodings below lack, and what no terminal should get."""


def said(monkeypatch, encoding: str, *arguments: str) -> tuple[int, str]:
    """The exit code of a command and what it wrote, with both streams in ``encoding``."""
    written = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding=encoding, write_through=True))
    code = program.run(list(arguments))
    return code, written.getvalue().decode(encoding)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """The recorded ledger with one more session, in whose texts is what encodings lack."""
    path = recorded_ledger(tmp_path_factory.mktemp("lög") / "lödger.db")
    with Ledger.open(path) as ledger, ledger.transaction("strange"):
        session = begin(ledger)
        event = ledger.event(session, "message", STRANGE, agent="critic", round=1)
        ledger.add(
            "messages", session_id=session, event_seq=event, source="critic", target="all", type="text", body=STRANGE
        )
    return path


def filled(command: str, **words: object) -> list[str]:
    return [part.format(**words) for part in command.split()]


@pytest.mark.parametrize("command", READING)
def test_a_command_reads_a_log_that_cannot_be_written(recorded, tmp_path, monkeypatch, command):
    with only_to_read(recorded) as folder:
        given = [] if command == "tasks" else ["--ledger", str(folder / recorded.name)]
        code, text = said(monkeypatch, "utf-8", *filled(command, out=tmp_path, session=RECORDED_ID), *given)
        assert code == 0 and len(text) > 10, text
        assert [each.name for each in folder.iterdir()] == [recorded.name]


@pytest.mark.parametrize("command", ["log export", "log plot"])
def test_what_would_be_written_beside_it_needs_another_place(recorded, monkeypatch, command):
    with only_to_read(recorded) as folder:
        code, text = said(monkeypatch, "utf-8", *command.split(), "--ledger", str(folder / recorded.name))
    assert code == 2 and text.count("\n") == 1
    assert f"{folder / recorded.name}"[:20] in text and "cannot be written (permission denied)" in text
    assert "name one with --to" in text


def test_a_session_without_write_access_is_played_again(tmp_path, monkeypatch):
    settings = tiny_settings(tmp_path)
    assert run_inline(settings).status == "done"
    with only_to_read(settings.ledger, settings.store) as folder:
        places = ["--ledger", str(folder / "ledger.db"), "--store", str(folder / settings.store.name)]
        code, text = said(monkeypatch, "utf-8", "replay", "latest", *places)
    assert code == 0 and "reproduced" in text, text


def test_programs_read_it_over_mcp(recorded):
    from mcp import Client

    from learning_signal.viewer.outside.server import server

    async def asked(ledger: Path) -> str:
        async with Client(server(ledger, lambda reader: None, frozenset(), "0")) as client:
            return (await client.call_tool("explain", {"decision": f"{RECORDED_ID}/R1"})).content[0].text

    with only_to_read(recorded) as folder:
        assert "No agent comes near a landmark." in asyncio.run(asked(folder / recorded.name))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(
    "command",
    [*READING, "log show {session} -v", "log show {session} --raw", "log show latest#{strange}", "log list --json"],
)
def test_a_command_fits_a_pipe_of_few_characters(recorded, tmp_path, monkeypatch, encoding, command):
    out = tmp_path / "öut→"
    out.mkdir()
    with Reader.open(recorded) as reader:
        strange = reader.events("latest")[-1].seq
        session = reader.session("latest").id
    given = [] if command == "tasks" else ["--ledger", str(recorded)]
    wanted = session if command.startswith(("log show", "log export")) and "/R1" not in command else RECORDED_ID
    arguments = filled(command, out=out, session=wanted, strange=strange)
    code, text = said(monkeypatch, encoding, *arguments, *given)
    assert code == 0 and len(text) > 10, text
    assert "Traceback" not in text and "\x1b]8" not in text and "\u202e" not in text
