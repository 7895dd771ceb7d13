"""bench.reading: one session that grows is a session like any other, and a command that fails is not timed."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.ledger.__main__ import run
from bench.ledger.tape import recording
from bench.reading.__main__ import COMMANDS, PAGE, seconds, table_of
from bench.reading.long_session import Onward
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import session_rules


@pytest.mark.slow
def test_a_session_that_is_written_onward_is_one_that_verifies(tmp_path: Path) -> None:
    with recording() as tape:
        run(tmp_path / "short", 1)
    with Ledger.open(tmp_path / "one.db") as ledger:
        for times in range(3):
            Onward(ledger, tape, "20261122-000000-abc", times, 1).play()
        with Reader.open(ledger.path) as reader:
            (row,) = reader.sessions()
            assert (row.id, row.rounds) == ("20261122-000000-abc", 3)
            assert [each.round for each in reader.decisions()] == [1, 2, 3]
            assert verify(reader, recompute, session_rules) == []
            first, last = (explain(reader, f"{row.id}/R{round_}") for round_ in (1, 3))
        assert [each.tool for each in first.diagnosis.evidence] == [each.tool for each in last.diagnosis.evidence]
        assert all(each.tool is not None for each in last.diagnosis.evidence), "it cites what it looked up itself"
        taken = seconds(ledger.path, ("log", "list"), None)
        assert taken is not None and taken > 0
        assert seconds(ledger.path, ("log", "list"), None, patience=0.05) is None
        with pytest.raises(RuntimeError, match="log show nothing ended with 2"):
            seconds(ledger.path, ("log", "show", "nothing"), None)


def test_the_table_says_how_times_grow_and_what_did_not_end() -> None:
    def sized(events: int, factor: float) -> dict[str, Any]:
        taken = {what: None if what == "log verify" and events > 5000 else 0.5 * factor for what in (*COMMANDS, PAGE)}
        return {"kind": "one session", "events": events, "sessions": 1, "seconds": taken, "page": 0.6 * factor}

    out = io.StringIO()
    Console(file=out, width=100).print(table_of([sized(5_000, 1), sized(50_000, 4)]))
    lines = {line[:24].strip(): line[24:].split() for line in out.getvalue().splitlines()}
    assert lines["report"] == ["0.50", "2.00", "4.0", "10"]
    assert lines["log verify"] == ["0.50", ">", "300", "15.6"]
    assert lines["page of the report, MB"][:2] == ["0.60", "2.40"]
