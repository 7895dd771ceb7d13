"""The Coordinator's tools: what may be decided on which verdict, where HEAD goes, and its verification."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from learning_signal.ledger.canonical import canonical_json, content_hash
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.context import HumanAnswer, HumanQuestion
from learning_signal.tools.contracts import Decision
from learning_signal.tools.round.decisions import allowed_actions, decide
from learning_signal.tools.round.probation import judge_probation
from learning_signal.tools.state import Head, Regression
from tests.support.scripted_session import SESSION, SETTINGS, ScriptedSession
from tests.support.trainer_double import Launched, by_arm

GOOD, OTHER, THIRD = "coverage_distance", "collisions", "worst_coverage_distance"
DIED = "The worker died (signal 9, SIGKILL)."
WHY = "All seeds agree."

Opening = Callable[..., AbstractContextManager[ScriptedSession]]


@pytest.fixture
def opened(tmp_path: Path) -> Opening:
    """Open a session whose arms have these effects on progress."""

    def opening(effects: dict, human: HumanAnswer | None = None) -> ScriptedSession:
        settings = SETTINGS if human is None else SETTINGS.model_copy(update={"approve": "human"})
        return ScriptedSession(tmp_path, by_arm(effects), settings=settings, human=human)

    return opening


def first_confirm_segment(session: ScriptedSession, arm: str, refinement: int = 0) -> str:
    """The segment of the arm's pre-chosen first confirm seed."""
    for branch in session.context.round.branches:
        if (branch.purpose, branch.arm, branch.refinement) == ("confirm", arm, refinement):
            return branch.segments[0]
    raise KeyError(arm)


# promote --------------------------------------------------------------------------------------


def test_a_promotion_moves_head_to_the_first_confirm_seed_of_the_candidate(opened: Opening) -> None:
    # The third seed is the luckiest by far, and is not the one to go on from.
    with opened({"c1": [0.02, 0.03, 0.3, 0.03, 0.03]}) as session:
        parent = session.context.state.head
        assert session.judged(GOOD) == "pass"
        shaping = session.context.round.candidate("c1").shaping
        assert session.call("promote", candidate="c1", reason=WHY) == {
            "decided": "promote",
            "decided_by": "coordinator",
        }
        head = Head(segment=first_confirm_segment(session, "c1"), env_steps=600, shaping=shaping)
        assert session.context.state.head == head
        assert (session.context.state.probation.candidate, session.context.state.probation.parent) == ("c1", parent)
        (row,) = session.rows("decisions")
        assert (row["action"], row["segment_from"], row["segment_to"]) == ("promote", parent.segment, head.segment)
        assert (row["candidate_id"], row["verdict_id"]) == (f"{SESSION}/P1.0/c1", f"{SESSION}/V1.0")
        assert [(each["segment_id"], each["reason"]) for each in session.rows("main_run")] == [
            (parent.segment, "stage"),
            (head.segment, "promote"),
        ]
        assert session.findings() == []


@pytest.mark.parametrize(("effect", "outcome"), [(0.0, "fail"), ([0.05, -0.03, 0.05, -0.03, 0.01], "inconclusive")])
def test_a_promotion_without_a_pass_is_refused(opened: Opening, effect: object, outcome: str) -> None:
    with opened({"c1": effect}) as session:
        with pytest.raises(ToolRefused, match="while the verdict is missing, expected a passing one: call keep"):
            session.call("promote", candidate="c1", reason=WHY)
        assert session.judged(GOOD) == outcome
        with pytest.raises(ToolRefused, match=f"while the verdict is {outcome}, expected a passing one: call keep"):
            session.call("promote", candidate="c1", reason=WHY)
        assert allowed_actions(session.context) == ["keep"]
        assert session.rows("decisions") == []


def test_only_the_candidate_that_passed_can_be_promoted(opened: Opening) -> None:
    with opened({"c1": 0.03, "c2": 0.02}) as session:
        assert session.judged(GOOD, OTHER) == "pass"
        for name in ("c2", "c9"):
            with pytest.raises(ToolRefused, match=f"Found '{name}', expected 'c1'"):
                session.call("promote", candidate=name, reason=WHY)
        assert session.rows("decisions") == []
        assert allowed_actions(session.context) == ["promote", "keep", "send_back"]
        session.call("promote", candidate="c1", reason=WHY)


def test_a_refinement_can_be_promoted(opened: Opening) -> None:
    with opened({"c1": 0.0, "c2": 0.03}) as session:
        assert session.judged(GOOD) == "fail"
        session.refine()
        assert session.judged(THIRD) == "pass"
        session.call("promote", candidate="c2", reason=WHY)
        assert session.context.state.head.segment == first_confirm_segment(session, "c2", 1)
        assert session.rows("decisions")[0]["candidate_id"] == f"{SESSION}/P1.1/c2"
        assert session.findings() == []


# keep -----------------------------------------------------------------------------------------


def test_keeping_goes_on_from_the_first_confirm_seed_of_the_control(opened: Opening) -> None:
    with opened({"c1": -0.03}) as session:
        parent = session.context.state.head
        assert session.judged(GOOD) == "fail"
        session.call("keep", reason="It made things worse.")
        segment = first_confirm_segment(session, "control")
        assert session.context.state.head == Head(segment=segment, env_steps=600, shaping=parent.shaping)
        assert session.rows("main_run")[-1]["reason"] == "keep"
        (row,) = session.rows("decisions")
        # What was decided against is on record, too.
        assert (row["action"], row["candidate_id"]) == ("keep", f"{SESSION}/P1.0/c1")
        assert row["shaping_from"] == row["shaping_to"]
        assert session.context.state.probation is None
        assert session.findings() == []


def test_a_passing_candidate_may_still_be_left(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        assert session.judged(GOOD) == "pass"
        session.call("keep", reason="The gain is not worth it.")
        assert session.context.state.head.segment == first_confirm_segment(session, "control")
        assert session.context.state.head.shaping == ShapingConfig.none()


def test_keeping_without_a_judged_control_stays_where_it_was(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        parent = session.context.state.head
        session.propose(GOOD)
        session.call("launch_branch", arm="control", purpose="confirm")
        session.call("read_branch", branch="B1")
        # Launched and done, but no verdict counted it: whether it is done by now is a matter of timing.
        session.call("keep", reason="Nothing was compared.")
        assert session.context.state.head == parent
        assert len(session.rows("main_run")) == 1


def test_keeping_after_the_control_failed_stays_where_it_was(opened: Opening) -> None:
    with opened({"control": [DIED, 0.0, 0.0, 0.0, 0.0]}) as session:
        parent = session.context.state.head
        assert session.judged(GOOD) == "inconclusive"
        session.call("keep", reason="The control failed.")
        assert session.context.state.head == parent


# roll_back ------------------------------------------------------------------------------------


def regressed(session: ScriptedSession) -> Head:
    """Promote, train a stage and find it worse than before; the head the promotion started from."""
    parent = session.context.state.head
    assert session.judged(GOOD) == "pass"
    session.call("promote", candidate="c1", reason=WHY)
    session.train_stage()
    session.open_round(
        Regression(round=1, candidate="c1", parent=parent, comparison="C1", reason="regressed: progress fell")
    )
    return parent


def test_a_rollback_needs_a_failed_probation(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        assert session.judged(GOOD) == "pass"
        with pytest.raises(ToolRefused, match="Found roll_back, which is not possible now: call promote or keep"):
            session.call("roll_back", reason="It feels wrong.")
        assert session.rows("decisions") == []


def test_a_failed_probation_can_only_be_rolled_back(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        parent = regressed(session)
        with pytest.raises(ToolRefused, match="expected a passing one: call roll_back"):
            session.call("promote", candidate="c1", reason=WHY)
        with pytest.raises(ToolRefused, match="Found keep, which is not possible now: call roll_back"):
            session.call("keep", reason="Give it time.")
        session.call("roll_back", reason="It regressed.")
        assert session.context.state.head == parent
        assert session.context.state.probation is None
        row = session.rows("decisions")[-1]
        assert (row["action"], row["segment_to"]) == ("roll_back", parent.segment)
        assert (row["comparison_id"], row["verdict_id"]) == (f"{SESSION}/C1", None)
        assert [each["reason"] for each in session.rows("main_run")] == ["stage", "promote", "stage", "roll_back"]


def test_a_decision_by_code_is_no_agents_event(opened: Opening) -> None:
    with opened({}) as session:
        decision = Decision(action="keep", candidate=None, reason="Nobody decided.", decided_by="code")
        decide(session.context, decision)
        assert session.rows("decisions")[0]["decided_by"] == "code"
        assert session.rows("events")[-1]["agent"] is None
        assert session.context.round.decision == decision


# approval by a person -------------------------------------------------------------------------


def test_a_person_may_approve(opened: Opening) -> None:
    with opened({"c1": 0.03}, HumanAnswer(True, "Plausible.")) as session:
        assert session.judged(GOOD) == "pass"
        assert session.call("promote", candidate="c1", reason=WHY)["decided_by"] == "human"
        (question,) = session.asked
        assert isinstance(question, HumanQuestion)
        assert (question.candidate.name, question.verdict.outcome, question.reason) == ("c1", "pass", WHY)
        (row,) = session.rows("decisions")
        assert (row["action"], row["decided_by"]) == ("promote", "human")
        assert WHY in row["reason"] and "Plausible." in row["reason"]
        (event,) = (each for each in session.rows("events") if each["kind"] == "approval")
        assert (event["status"], event["agent"]) == ("ok", "human")
        assert event["title"] == "approved by a person: Plausible.", "not the Coordinator's reason, which may be long"


def test_a_person_may_reject(opened: Opening) -> None:
    with opened({"c1": 0.03}, HumanAnswer(False, "Not on a Friday.")) as session:
        assert session.judged(GOOD) == "pass"
        assert session.call("promote", candidate="c1", reason=WHY) == {"decided": "keep", "decided_by": "human"}
        (row,) = session.rows("decisions")
        assert (row["action"], row["decided_by"]) == ("keep", "human")
        assert "rejected by a person: Not on a Friday." in row["reason"]
        assert session.context.state.head.segment == first_confirm_segment(session, "control")
        assert session.context.state.probation is None
        (event,) = (each for each in session.rows("events") if each["kind"] == "approval")
        assert (event["status"], event["title"]) == ("refused", "rejected by a person: Not on a Friday.")
        assert session.findings() == []


def test_nobody_is_asked_about_keeping_or_about_what_is_refused(opened: Opening) -> None:
    with opened({"c1": 0.0}, HumanAnswer(True, "Sure.")) as session:
        assert session.judged(GOOD) == "fail"
        with pytest.raises(ToolRefused):
            session.call("promote", candidate="c1", reason=WHY)
        session.call("keep", reason="It failed.")
        assert session.asked == []


# ask ------------------------------------------------------------------------------------------


def test_questions_are_limited_and_recorded(opened: Opening) -> None:
    with opened({}) as session:
        with pytest.raises(ToolRefused, match=r"the validator, who has not spoken in this round \(nobody has\)"):
            session.call("ask", agent="validator", question="How sure are you?")
        session.context.round.records["critic"] = "YOU: Nobody scores."
        answer = session.call("ask", agent="critic", question="How sure are you?")
        assert answer == {"agent": "critic", "answer": "The critic says so."}
        assert session.asked == [("critic", "How sure are you?")]
        assert [(row["source"], row["target"], row["type"]) for row in session.rows("messages")] == [
            ("coordinator", "critic", "question"),
            ("critic", "coordinator", "answer"),
        ]
        with pytest.raises(ToolRefused, match="Found 1 questions already asked, expected a decision now: call keep"):
            session.call("ask", agent="critic", question="Really?")
        with pytest.raises(ToolRefused, match="agent: must be one of critic, generator, validator"):
            session.call("ask", agent="coordinator", question="Who am I?")
        assert len(session.asked) == 1


# verification ---------------------------------------------------------------------------------


def put_on_probation(session: ScriptedSession) -> Regression | None:
    """The judgement of the promotion on probation, at the present head."""
    with session.ledger.transaction("probation"):
        return judge_probation(session.context)


def fallen(launched: Launched) -> tuple[float, float]:
    """c1 does well in branches; the stage after it does not."""
    return 0.0, {"c1": 0.07}.get(launched.arm, 0.0 if launched.purpose == "main" and launched.position else 0.04)


@pytest.fixture
def finished(tmp_path: Path) -> ScriptedSession:
    """Two rounds: a screened promotion that fails its probation and is rolled back; all kinds of comparison."""
    with ScriptedSession(tmp_path, fallen) as session:
        assert session.judged(GOOD, OTHER) == "pass"
        session.call("promote", candidate="c1", reason=WHY)
        session.train_stage()
        regression = put_on_probation(session)
        assert regression is not None and regression.comparison == "C3"
        session.open_round(regression)
        session.call("roll_back", reason=regression.reason)
        yield session


def test_decisions_are_a_chain(finished: ScriptedSession) -> None:
    first, second = finished.rows("decisions")
    assert (first["number"], second["number"]) == (1, 2)
    assert (first["previous_hash"], second["previous_hash"]) == ("", first["hash"])
    assert finished.findings() == []


def test_what_was_rolled_back_is_not_tried_again(finished: ScriptedSession) -> None:
    fates = {each.candidate: each.outcome for each in finished.context.state.tried}
    assert fates == {"c1": "rolled back", "c2": "screened out"}
    finished.open_round()
    with pytest.raises(ToolRefused, match="nearly equal to c1 of round 1, which was rolled back"):
        finished.propose(GOOD)
    assert finished.propose(OTHER) == ["c1"]  # what was only screened out may have its time later


def test_a_promotion_that_holds_is_not_rolled_back(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        assert session.judged(GOOD) == "pass"
        session.call("promote", candidate="c1", reason=WHY)
        session.train_stage()
        assert put_on_probation(session) is None
        assert session.context.state.probation is None
        assert session.findings() == []


def test_every_statistic_is_recomputed_from_the_ledger(finished: ScriptedSession) -> None:
    assert [row["purpose"] for row in finished.rows("comparisons")] == ["screen", "confirm", "probation"]
    assert [row["action"] for row in finished.rows("decisions")] == ["promote", "roll_back"]
    assert finished.findings() == []


STATISTIC = {"screen": ("arms", 0, "mean_difference"), "confirm": ("p",), "probation": ("mean_drop",)}
"""A number in each kind of result."""


@pytest.mark.parametrize("purpose", STATISTIC)
def test_a_tampered_statistic_is_found(finished: ScriptedSession, purpose: str) -> None:
    tamper(finished, purpose, STATISTIC[purpose], 0.0123)
    row = next(each for each in finished.rows("comparisons") if each["purpose"] == purpose)
    problems = [each for each in finished.findings() if each.table == "comparisons" and each.row == row["id"]]
    assert any("0.0123, computed again it is" in each.problem for each in problems)


@pytest.mark.parametrize("column", ["sparse_return", "progress"])
def test_a_tampered_evaluation_is_found(finished: ScriptedSession, column: str) -> None:
    with rewriting(finished) as connection:
        connection.execute(f"UPDATE evaluations SET {column} = 0.5 WHERE episode_set = 'confirm'")
    tables = {each.table for each in finished.findings()}
    assert {"evaluations", "comparisons"} <= tables


def test_a_comparison_of_unequal_numbers_of_episodes_is_found(finished: ScriptedSession) -> None:
    """Means of more episodes vary less: ranks of such branches are not exchangeable, whatever they are worth."""
    row = next(each for each in finished.rows("comparisons") if each["purpose"] == "confirm")
    inputs = json.loads(finished.ledger.find("bodies", hash=row["inputs"])[0]["body"])
    segment = inputs["arms"]["control"][0]["segment"]
    with rewriting(finished) as connection:
        connection.execute("UPDATE evaluations SET episodes = 4 WHERE segment_id = ?", (segment,))
    problems = [each.problem for each in finished.findings() if each.row == row["id"]]
    assert problems == ["has branches measured on 4 and on 8 episodes, so they are not exchangeable"]


def tamper(session: ScriptedSession, purpose: str, path: tuple, value: float) -> None:
    """Exchange the result of a comparison for one whose body has a proper hash, as a careful forger would."""
    row = next(each for each in session.rows("comparisons") if each["purpose"] == purpose)
    result = json.loads(session.ledger.find("bodies", hash=row["result"])[0]["body"])
    place = result
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    body = canonical_json(result)
    with rewriting(session) as connection:
        connection.execute("INSERT INTO bodies (hash, body) VALUES (?, ?)", (content_hash(body), body))
        connection.execute("UPDATE comparisons SET result = ? WHERE id = ?", (content_hash(body), row["id"]))


class rewriting:
    """A connection that may change final rows: the guards are dropped for as long, and put back."""

    def __init__(self, session: ScriptedSession) -> None:
        self.connection = sqlite3.connect(session.ledger.path)
        self.guards: list[tuple[str, str]] = []

    def __enter__(self) -> sqlite3.Connection:
        found = self.connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        self.guards = [(name, sql) for name, sql in found if name.endswith(("_no_update", "_fixed", "_final"))]
        for name, _ in self.guards:
            self.connection.execute(f"DROP TRIGGER {name}")
        return self.connection

    def __exit__(self, *error: object) -> None:
        for _, sql in self.guards:
            self.connection.execute(sql)
        self.connection.commit()
        self.connection.close()
