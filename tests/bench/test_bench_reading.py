"""bench.reading: one session that grows is a session like any other, and a command that fails is not timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.ledger.__main__ import run
from bench.ledger.tape import recording
from bench.reading.__main__ import seconds
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
        assert seconds(ledger.path, ("log", "list"), None) > 0
        with pytest.raises(RuntimeError, match="log show nothing ended with 2"):
            seconds(ledger.path, ("log", "show", "nothing"), None)
