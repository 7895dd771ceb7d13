"""What agents are told of screens and confirmations: every number, what it rests on, and the whole record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_signal.marl.gate.sequential import design
from learning_signal.tools.briefs.brief import brief
from learning_signal.tools.round.verdicts import verdict_record
from tests.support.scripted_session import PAIRED, SETTINGS, ScriptedSession
from tests.support.trainer_double import EPISODES, by_arm

POTENTIALS = ("coverage_distance", "collisions", "worst_coverage_distance")
WHY = "c3 keeps its gain."
EFFECTS: dict[Any, Any] = {("screen", "c1"): 0.05, ("confirm", "c1"): -0.03, ("screen", "c2"): [0.04, 0.01], "c3": 0.03}
"""c1 leads the screen and fails; c2 is close to it at first; c3 passes."""


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ScriptedSession]:
    """Three candidates, screened."""
    with ScriptedSession(tmp_path, by_arm(EFFECTS), settings=SETTINGS) as opened:
        opened.propose(*POTENTIALS)
        opened.screen()
        yield opened


def told(session: ScriptedSession, role: str = "coordinator") -> dict[str, Any]:
    return json.loads(brief(session.context, role).partition("\n")[2])


def stored(session: ScriptedSession, arm: str, purpose: str, measure: str, episodes: str) -> list[float]:
    """What the segments of an arm's last branch measure on these episodes, at the later half of their points."""
    branch = [one for one in session.context.round.branches if (one.arm, one.purpose) == (arm, purpose)][-1]
    results = [session.context.trainer.stored(each) for each in branch.segments]
    found = [next(one for one in reversed(each.evaluations) if one.set == episodes) for each in results]
    return [one.sparse_return if measure == "sparse_return" else one.mean_progress for one in found]


def test_the_validator_finds_the_screen_in_its_brief(session):
    found = told(session, "validator")
    (screen,) = found["screens"]
    assert [row["candidate"] for row in screen["ranking"]] == ["c1", "c2", "c3"] and screen["chosen"] == "c1"
    for arm, row in [("control", screen["control"]), *((row["candidate"], row) for row in screen["ranking"])]:
        for measure in ("sparse_return", "progress"):
            assert row[measure] == pytest.approx(stored(session, arm, "screen", measure, "screen"), rel=1e-3)
    assert f"mean over {EPISODES} episodes held out for its seed" in found["values_are"]
    assert "at the last 1 of its 2 evaluations" in found["values_are"] and "so theirs differ" in found["values_are"]


def test_a_confirmation_says_every_number_and_what_it_is_worth(session):
    found = session.confirm("c3", WHY)
    gate, n = session.context.settings.gate, found["n"]
    assert (found["outcome"], n) == ("pass", 4)
    for name, arm in (("candidate", "c3"), ("control", "control")):
        row = found["values"][name]
        for measure in ("sparse_return", "progress"):
            values = stored(session, arm, "confirm", measure, "confirm")
            assert row[measure]["branches"] == pytest.approx(values, rel=1e-3) and len(values) == n
            assert row[measure]["mean"] == pytest.approx(sum(values) / n, rel=1e-3)
        query = session.call("read_branch", branch=row["branch"])
        assert query["mean"]["progress"] != pytest.approx(row["progress"]["mean"], rel=0.1)  # as values_are says
        assert "query episodes" in query["values_are"]
    plan = design(found["level"], gate.looks)
    assert found["interval_level"] == pytest.approx(1 - 2 * plan.miss, abs=1e-3)
    assert found["smallest_p"]["at_this_look"] == pytest.approx(1 / math.comb(2 * n, n), rel=1e-3)
    assert found["smallest_p"]["in_all"] == pytest.approx(min(plan.smallest_p), rel=1e-3)
    assert f"p = {found['p']:.3g} (smallest possible {plan.smallest_p[n - 1]:.3g}) at level" in found["reason"]
    assert f"{1 - 2 * plan.miss:.1%} interval" in found["reason"]


def test_pairs_have_one_smallest_p_and_the_interval_of_their_level(tmp_path):
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03}), settings=PAIRED) as session:
        session.propose(POTENTIALS[0])
        found = session.confirm("c1")
        assert found["smallest_p"] == {"at_this_look": 0.03125, "in_all": 0.03125} and found["p"] == 0.03125
        assert (found["level"], found["interval_level"]) == (0.05, 0.9)
        assert "p = 0.03125 (smallest possible 0.03125) against alpha 0.05" in found["reason"]


def test_a_confirmation_that_could_not_be_judged_has_no_smallest_p(tmp_path):
    """Negative control."""
    with ScriptedSession(tmp_path, by_arm({"c1": "The worker died."}), settings=SETTINGS) as session:
        session.propose(POTENTIALS[0])
        found = session.confirm("c1")
        assert found["outcome"] == "fail" and found["p"] is None and "smallest_p" not in found
        assert found["values"]["candidate"]["progress"] == {"branches": [None], "mean": None}


def test_the_coordinator_has_the_whole_record(session):
    session.call("extend_screen", candidates=["c1", "c2"], reason="They are close.")
    failed = session.confirm("c1")
    session.validate("c1", failed["outcome"])
    found = told(session)
    first, second = found["screens"]
    assert [row["candidate"] for row in first["ranking"]] == ["c1", "c2", "c3"] and "extended" not in first
    assert [row["candidate"] for row in second["ranking"]] == ["c1", "c2"]
    assert second["extended"] == {"validator_says": "They are close."} and second["confirmable"] == ["c1", "c2"]
    assert [len(row["progress"]) for row in (second["control"], *second["ranking"])] == [2, 2, 2]
    (verdict,) = found["verdicts"]
    assert verdict["values"] == failed["values"] and verdict["smallest_p"] == failed["smallest_p"]
    assert (verdict["validator_says"], verdict["reason"]) == ("The seeds agree.", failed["reason"])
    assert "choice" not in verdict and found.get("given_up", []) == [] and found.get("asked", []) == []
    assert json.loads(json.dumps(found)) == _again(session), "a resume tells the same"


def _again(session: ScriptedSession) -> dict[str, Any]:
    session.ledger.save_cursor(session.context.session, session.context.state.model_dump(mode="json"))
    session.resume()
    return told(session)


def test_a_choice_over_the_ranking_is_told_with_its_reason_and_also_what_was_not_reported(session):
    session.confirm("c3", WHY)
    (verdict,) = told(session)["verdicts"]
    assert verdict["choice"] == {"validator_says": f"chosen over c1: {WHY}"} and "validator_says" not in verdict
    assert _again(session)["verdicts"] == [verdict]


def test_questions_and_phases_that_were_given_up_are_told(session):
    context = session.context
    session.validate("c1", session.confirm("c1")["outcome"])
    context.round.records["validator"] = "YOU: c1 failed."
    session.call("ask", agent="validator", question="Do all branches agree?")
    context.event("error", "The critic did not finish within 16 steps.", status="error", agent="critic")
    found = told(session)
    answer = {"agent": "validator", "question": "Do all branches agree?", "validator_says": "The validator says so."}
    assert found["asked"] == [answer]
    assert found.get("given_up", []) == ["The critic did not finish within 16 steps."]


def test_a_verdict_without_a_confirmation_is_told_as_it_is(session):
    nothing = verdict_record(session.context, None, None, None, "No comparison was made.")
    session.context.round.verdicts.append(nothing)
    (told_of,) = told(session)["verdicts"]
    assert (told_of["candidate"], told_of["outcome"], told_of["reason"]) == (
        None,
        "inconclusive",
        "No comparison was made.",
    )
