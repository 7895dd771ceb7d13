"""What a session is told of earlier ones in its log: what they tried on the task, and how it ended."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.fates import attempts_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.wording import shaping_text
from learning_signal.tools.plan.settings import DeliberationSettings
from learning_signal.tools.study.study import session_settings, study_settings
from tests.support.session_helpers import RUN, Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool

NOT_TOLD = DeliberationSettings(candidates=2, refinements=0, earlier=False)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of five sessions, oldest first: two alike, one on another task, one told nothing, one with QMIX."""
    folder = tmp_path_factory.mktemp("sessions")
    q_learner = RUN.model_copy(update={"learner": RUN.learner.model_copy(update={"algorithm": "qmix"})})
    for changes in (
        {},
        {"seed": 1},
        {"run": RUN.model_copy(update={"task": "spread?agents=2"})},
        {"seed": 2, "deliberation": NOT_TOLD},
        {"run": q_learner},
    ):
        settings = tiny_settings(folder, **changes)
        asyncio.run(run_session(settings, observer=Recorder(), executor=InlinePool(settings.store)))
    return folder / "ledger.db"


def briefs(reader: Reader, session: str) -> dict[str, Any]:
    """By role, the first brief of a session."""
    rows = reader.rows(
        "SELECT m.target, b.body FROM messages m JOIN bodies b ON b.hash = m.body WHERE m.session_id = ? "
        "AND m.type = 'task' ORDER BY m.id DESC",
        (session,),
    )
    return {row["target"]: json.loads(row["body"].partition("\n")[2]) for row in rows}


def test_sessions_are_told_what_earlier_ones_tried_on_the_same_task_with_the_same_learner(ledger: Path) -> None:
    with Reader.open(ledger) as reader:
        first, second, other, untold, q_learner = (one.id for one in reversed(reader.sessions()))
        told = {session: briefs(reader, session) for session in (first, second, other, untold, q_learner)}
        attempts = attempts_of(reader, first)
    for session in (first, other, untold, q_learner):
        assert "earlier_sessions" not in told[session]["critic"], "nothing earlier of its kind, or not to be told"
    table = told[second]["critic"]["earlier_sessions"]
    assert told[second]["generator"]["earlier_sessions"] == table
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    assert [row["measured_by"] for row in rows] == ["confirm", "screen"] and len(attempts) == 2
    confirmed = next(each for each in attempts if each.measured_by == "confirm")
    assert rows[0]["shaping_text"] == shaping_text(confirmed.shaping)
    assert (rows[0]["outcome"], rows[0]["stage"]) == (confirmed.fate, confirmed.stage)
    assert rows[0]["progress"] == pytest.approx(confirmed.progress, rel=1e-3)
    assert 0 < rows[0]["level"] <= 0.05 and rows[1]["level"] is None, "a screen is no test"
    assert not any("earlier_sessions" in told[second][role] for role in ("validator", "coordinator"))


def test_cells_of_a_study_tell_each_other_nothing(tmp_path: Path) -> None:
    study = study_settings("supervised", [tiny_settings(tmp_path)], 1, "40k", tmp_path / "study")
    (cell,) = study.cells
    assert session_settings(study, cell).deliberation.earlier is False
    assert tiny_settings(tmp_path).deliberation.earlier is True
