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
from learning_signal.tools.evidence.arms import CURVES
from learning_signal.tools.plan.settings import DeliberationSettings
from learning_signal.tools.round.verdicts import verdict_record
from learning_signal.tools.toolbox import toolbox
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


def test_a_confirmation_tells_what_both_arms_learnt(session):
    found = session.confirm("c3", WHY)
    for name, arm in (("candidate", "c3"), ("control", "control")):
        branch = [one for one in session.context.round.branches if (one.arm, one.purpose) == (arm, "confirm")][-1]
        rows = [row for each in branch.segments for row in session.context.trainer.stored(each).updates]
        told_of, last = found["training"][name], max(row["env_steps"] for row in rows)
        assert told_of["env_steps"][-1] == last and set(told_of) == {"env_steps", *CURVES}
        ends = [row["entropy"] for row in rows if row["env_steps"] == last]
        assert len(ends) == found["n"] and told_of["entropy"][-1] == pytest.approx(sum(ends) / len(ends), rel=1e-2)
    assert found["against"]["seeds"] == [2, 2] and found["n"] == 4, "two of each arm are looked at"
    looked = {row["parent"]: row["evaluation_env_steps"] for row in session.rows("segments") if not row["env_steps"]}
    arms = [one.segments for one in session.context.round.branches if (one.purpose, one.attempt) == ("confirm", 0)]
    assert set(looked) == {each for segments in arms for each in segments[:2]}
    source = found["values"]["candidate"]["branch"]
    summary = session.call("summarize_trajectories", source=source, parts=["against"])["summary"]
    assert (
        summary["against"]["seeds"] == [4, 4]
        and found["against"]["outcomes"].keys() == summary["against"]["outcomes"].keys()
    )
    again = session.confirm("c3")
    assert (again["training"], again["against"]) == (found["training"], found["against"])
    assert "against" not in told(session)["verdicts"][0], "the Coordinator is told the verdict alone"


def test_without_evidence_of_behaviour_a_confirmation_tells_curves_alone(tmp_path):
    settings = SETTINGS.model_copy(update={"deliberation": DeliberationSettings(behaviour=False)})
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03}), settings=settings) as session:
        session.propose(POTENTIALS[0])
        found = session.confirm("c1")
        assert "training" in found and "against" not in found


def test_branches_are_launched_and_read_one_by_one_only_where_a_session_asks_for_it(tmp_path):
    single = {"launch_branch", "read_branch"}
    for asked in (False, True):
        deliberation = DeliberationSettings(branch_tools=asked)
        settings = SETTINGS.model_copy(update={"deliberation": deliberation})
        folder = tmp_path / str(asked)
        folder.mkdir()
        with ScriptedSession(folder, by_arm({}), settings=settings) as session:
            offered = {tool.name for tool in toolbox(session.context, "validator")}
        assert single & offered == (single if asked else set()) and "confirm" in offered


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
        assert "training" not in found and "against" not in found


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
    assert verdict["choice"] == {"validator_says": f"chosen over c1: “{WHY}”"} and "validator_says" not in verdict
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
