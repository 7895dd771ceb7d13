"""The screen that code runs before the Validator's phase: all at once, within the budget, once, also after a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_signal.agents.session.observer import SessionControl
from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.plan.budget import Budget
from learning_signal.tools.spending import OutOfBudget
from tests.support.scripted_session import ScriptedSession
from tests.support.session_helpers import Recorder, resume_inline, run_inline, story, tiny_settings
from tests.support.trainer_double import by_arm

POTENTIALS = ("coverage_distance", "collisions")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ScriptedSession]:
    """Two candidates that nobody has screened."""
    with ScriptedSession(tmp_path, by_arm({"c1": 0.02, "c2": 0.03})) as opened:
        opened.propose(*POTENTIALS)
        yield opened


def branch_steps(session: ScriptedSession) -> int:
    return sum(row["env_steps"] for row in session.rows("segments"))


def test_all_branches_of_a_screen_run_at_once(session: ScriptedSession) -> None:
    seen: list[int] = []

    async def release() -> None:
        await asyncio.sleep(0)
        seen.append(sum(row["status"] == "pending" for row in session.rows("segments")))
        session.pool.release()

    session.pool.holding = True
    assert session.screen(meanwhile=release())["chosen"] == "c2"
    assert seen == [3]


def test_a_screen_that_does_not_fit_the_budget_begins_nothing_and_goes_on_with_more(session: ScriptedSession) -> None:
    spent = branch_steps(session)
    session.context.state.budget = Budget(env_steps=spent + 599)
    with pytest.raises(OutOfBudget, match="the screen of control, c1, c2 needs 600 env steps; go on with"):
        session.screen()
    assert branch_steps(session) == spent and session.rows("branches") == []
    session.context.state.budget = Budget(env_steps=spent + 600)
    assert session.screen()["chosen"] == "c2"


def test_a_stop_in_the_middle_repeats_and_loses_nothing(session: ScriptedSession) -> None:
    session.call("launch_branch", arm="control", purpose="screen")
    computed = list(session.pool.computed)
    session.resume()
    first = session.screen()
    session.resume()
    assert session.screen() == first
    assert session.pool.computed[: len(computed)] == computed and len(session.pool.computed) == len(computed) + 2
    assert [row["title"] for row in session.rows("events") if row["kind"] == "screen"][-1:] == [
        "screens control, c1, c2 on 1 seed, to 200 env steps"
    ]
    assert len(session.rows("comparisons")) == 1 and session.findings() == []


def titles(ledger: Path, kind: str) -> list[str]:
    with Reader.open(ledger) as reader:
        return [event.title for event in reader.events(kind=kind)]


@pytest.mark.parametrize("kind", ["screen", "comparison"])
def test_a_session_that_is_paused_in_its_screen_goes_on_to_the_same_end(tmp_path: Path, kind: str) -> None:
    whole, cut = tiny_settings(tmp_path / "whole"), tiny_settings(tmp_path / "cut")
    run_inline(whole)
    control, stopped = SessionControl(), list[Any]()

    def stop(row: dict[str, Any]) -> None:
        if row["kind"] == kind and not stopped:
            stopped.append(row)
            control.abort()

    assert run_inline(cut, Recorder(on_event=stop), control).status == "interrupted"
    assert resume_inline(cut).status == "done"
    assert story(cut.ledger) == story(whole.ledger)
    assert len(titles(cut.ledger, "screen")) == 1


def test_the_validator_is_told_of_its_task_after_the_screen(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    run_inline(settings)
    with Reader.open(settings.ledger) as reader:
        rows = reader.rows(
            "SELECT e.seq, e.kind, m.target FROM events e LEFT JOIN messages m ON m.event_seq = e.seq "
            "WHERE e.kind IN ('screen', 'comparison') OR (m.type = 'task' AND m.target = 'validator') ORDER BY e.seq"
        )
    assert [row["target"] or row["kind"] for row in rows][:3] == ["screen", "comparison", "validator"]
