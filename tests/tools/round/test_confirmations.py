"""Confirmations as agents choose them: which candidate, how many, at which level, on which seeds, at which price."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.gate.sequential import design
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.contracts import Decision
from learning_signal.tools.plan.budget import Budget
from learning_signal.tools.plan.settings import DeliberationSettings, SessionSettings
from learning_signal.tools.round.decisions import allowed_actions, decide
from learning_signal.tools.round.probation import judge_probation
from learning_signal.tools.round.record import record_end_of_round, record_verdict
from learning_signal.tools.round.verdicts import verdict_id, verdict_record
from learning_signal.tools.spending import OutOfBudget
from learning_signal.tools.state import Head
from tests.support.scripted_session import SESSION, SETTINGS, ScriptedSession
from tests.support.trainer_double import Score, by_arm

POTENTIALS = ("coverage_distance", "collisions", "worst_coverage_distance")
WHY = "It moves less."
STAGES = {"main": [0.0, 0.02, 0.04, 0.06]}
"""The main run learns, so that promotions hold."""
GOOD: dict[Any, Any] = STAGES | {"c1": 0.05, "c2": 0.03, "c3": 0.02}
"""By candidate the effect on progress, in the screen and in its confirmation."""
FAILS: dict[Any, Any] = STAGES | {("screen", "c1"): 0.05, ("confirm", "c1"): -0.03} | {"c2": 0.03, "c3": 0.02}
"""What leads the screen fails."""

Opening = Callable[..., Any]


def settings(refinements: int = 1, rounds: int = 2, **deliberation: Any) -> SessionSettings:
    talk = DeliberationSettings(questions=1, refinements=refinements, branch_tools=True, **deliberation)
    return SETTINGS.model_copy(update={"deliberation": talk, "rounds": rounds})


@pytest.fixture
def screened(tmp_path: Path) -> Opening:
    """Open a session whose candidates have these effects, and screen three of them (or as many as are said)."""
    opened = []

    @contextmanager
    def opening(
        effects: dict[Any, Any] | Score, configured: SessionSettings | None = None, candidates: int = 3
    ) -> Iterator[ScriptedSession]:
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        opened.append(folder)
        score = effects if callable(effects) else by_arm(effects)
        with ScriptedSession(folder, score, settings=configured or settings()) as session:
            session.propose(*POTENTIALS[:candidates])
            if candidates > 1:
                session.screen()
            yield session

    return opening


def confirm(session: ScriptedSession, name: str, reason: str = "") -> dict[str, Any]:
    """Confirm a candidate, with a reason where one is given."""
    found = session.confirm(name, reason)
    assert_recalled(session)
    return found


def report(session: ScriptedSession, found: dict[str, Any]) -> None:
    session.validate(found["candidate"], found["outcome"])
    assert_recalled(session)


def assert_recalled(session: ScriptedSession) -> None:
    """A resume would make of rows and cursor what is in memory."""
    again, state = session.recalled(), session.context.state
    for name in type(state).model_fields:
        if name != "before":  # the session's loop sets it, which is not in play here
            assert getattr(again, name) == getattr(state, name), name


def launches(session: ScriptedSession) -> list[str]:
    """What the ledger says of each branch of a confirmation."""
    return [row["title"] for row in session.rows("events") if row["kind"] == "branch" and ": confirm " in row["title"]]


def body(session: ScriptedSession, comparison: str, column: str) -> dict[str, Any]:
    with Reader.open(session.ledger.path) as reader:
        (row,) = [each for each in reader.comparisons(SESSION) if each.id == f"{SESSION}/{comparison}"]
        return dict(getattr(row, column))


def confirmations(session: ScriptedSession) -> list[dict[str, Any]]:
    with Reader.open(session.ledger.path) as reader:
        return [
            {"level": each.inputs["level"], "size": each.result["size"], "outcome": each.result["outcome"]}
            for each in reader.comparisons(SESSION)
            if each.purpose == "confirm"
        ]


def next_round(session: ScriptedSession) -> None:
    """The round, which is decided, ends, and another begins."""
    decision = session.context.round.decision
    assert decision is not None
    with session.ledger.transaction("close"):
        record_end_of_round(session.context, decision)
        session.context.state.refinement = 0
    session.train_stage()
    with session.ledger.transaction("probation"):
        assert judge_probation(session.context) is None
    session.open_round()
    session.ledger.save_cursor(SESSION, session.context.state.model_dump(mode="json"))


# which candidate ------------------------------------------------------------------------------


def test_another_candidate_than_the_first_is_confirmed_with_a_reason_that_the_ledger_keeps(screened: Opening) -> None:
    with screened(GOOD) as session:
        for reason in ("", "  \n"):
            with pytest.raises(ToolRefused, match="c3 while the ranking has c1 first, expected a reason with it"):
                session.call("launch_branch", arm="c3", purpose="confirm", reason=reason)
        reason = "c3 keeps its gain in the last episodes. " * 24
        found = confirm(session, "c3", reason)
        assert (found["candidate"], found["outcome"]) == ("c3", "pass")
        control, candidate = launches(session)
        assert candidate.endswith(f"confirm c3 on 1 seed, chosen over c1: “{reason}”") and "chosen" not in control
        report(session, found)
        assert session.context.round.verdicts[-1].candidate == "c3"
        assert {one.candidate: one.outcome for one in session.context.state.tried} == {
            "c1": "screened out",
            "c2": "screened out",
            "c3": "passed",
        }
        assert session.findings() == []


def test_the_first_needs_no_reason(screened: Opening) -> None:
    with screened(GOOD) as session:
        assert confirm(session, "c1", "It leads.")["outcome"] == "pass"
        assert not any("chosen" in title for title in launches(session))


def test_confirmations_are_made_one_at_a_time(screened: Opening) -> None:
    with screened(GOOD) as session:
        session.call("launch_branch", arm="c1", purpose="confirm")
        with pytest.raises(ToolRefused, match="c2 while that of c1 is not judged, expected one at a time: call conf"):
            session.call("launch_branch", arm="c2", purpose="confirm", reason=WHY)
        again = session.call("launch_branch", arm="c1", purpose="confirm")
        assert again["branch"] == session.context.round.branches[-1].name
        with pytest.raises(ToolRefused, match="Found a confirmation of c1 that is not judged, expected it to be"):
            session.validate("c1", "pass")


def test_one_that_did_worse_than_the_control_is_refused_whatever_the_reason(screened: Opening) -> None:
    with screened({"c1": 0.05, "c2": -0.03, "c3": 0.0}) as session:
        assert session.context.round.screens[-1].confirmable == ("c1",)
        for name in ("c2", "c3"):
            with pytest.raises(
                ToolRefused, match=rf"Found a confirmation of {name}, expected c1 \(better than the con"
            ):
                session.call("launch_branch", arm=name, purpose="confirm", reason=WHY)
        assert launches(session) == []


def test_where_none_did_better_nothing_is_confirmed(screened: Opening) -> None:
    with screened({"c1": -0.01, "c2": -0.02, "c3": -0.03}) as session:
        with pytest.raises(ToolRefused, match="The screen chose no candidate: submit_validation with candidate null"):
            session.call("launch_branch", arm="c1", purpose="confirm", reason=WHY)
        session.validate(None, "inconclusive")
        assert "no candidate does better than the control" in session.context.round.verdicts[-1].reason
        assert session.context.state.level_spent == 0.0 and session.findings() == []
        assert_recalled(session)


def test_nothing_is_confirmed_before_the_screen(tmp_path: Path) -> None:
    with ScriptedSession(tmp_path, by_arm(GOOD), settings=settings()) as session:
        session.propose(*POTENTIALS)
        for arm in ("control", "c1"):
            with pytest.raises(ToolRefused, match="Found no screen yet, expected one before a confirmation"):
                session.call("launch_branch", arm=arm, purpose="confirm", reason=WHY)


def test_a_single_candidate_goes_straight_to_a_confirmation_ordered_by_the_main_run(screened: Opening) -> None:
    with screened({"c1": 0.05}, candidates=1) as session:
        assert confirm(session, "c1")["outcome"] == "pass"
        inputs = body(session, "C1", "inputs")
        assert inputs["ordered_from"] == session.context.head.segment
        assert inputs["ordered_by"]["step"] is None and inputs["ordered_by"]["progress"]


def test_without_the_choice_only_the_first_can_be_confirmed(screened: Opening) -> None:
    with screened(FAILS, settings(choice=False)) as session:
        with pytest.raises(ToolRefused, match="Found a confirmation of c2, expected c1"):
            session.call("launch_branch", arm="c2", purpose="confirm", reason=WHY)
        report(session, confirm(session, "c1"))
        with pytest.raises(ToolRefused, match="Found every confirmable candidate judged: submit_validation"):
            session.call("launch_branch", arm="c2", purpose="confirm", reason=WHY)
        assert allowed_actions(session.context) == ["keep"]


# how many -------------------------------------------------------------------------------------


def test_a_second_candidate_may_be_confirmed_after_one_that_failed(screened: Opening) -> None:
    with screened(FAILS) as session:
        failed = confirm(session, "c1")
        assert (failed["outcome"], failed["after_this"]["confirmable"]) == ("fail", ["c2", "c3"])
        assert failed["after_this"]["confirmations_left"] == 1
        passed = confirm(session, "c2")
        assert (passed["outcome"], passed["after_this"]["confirmable"]) == ("pass", [])
        with pytest.raises(ToolRefused, match="the computed verdict is pass for c2"):
            session.validate("c1", "fail")
        report(session, passed)
        fates = {one.candidate: (one.outcome, one.reason.split(":")[0]) for one in session.context.state.tried}
        assert fates["c1"] == ("failed", "fail on progress") and fates["c2"][0] == "passed"
        session.call("promote", candidate="c2", reason=WHY)
        second = [each for each in session.context.round.branches if each.purpose == "confirm"][-1]
        assert (second.arm, second.attempt) == ("c2", 1)
        assert session.context.head.segment == second.segments[0]
        next_round(session)
        assert [row["fate"] for row in session.rows("fates")] == ["failed", "promoted", "screened out"]
        assert session.findings() == []
        assert_recalled(session)


def test_nothing_is_confirmed_after_a_pass(screened: Opening) -> None:
    with screened(GOOD) as session:
        assert confirm(session, "c1")["outcome"] == "pass"
        for arm in ("control", "c2"):
            with pytest.raises(ToolRefused, match="Found a further confirmation although c1 passed: submit_validation"):
                session.call("launch_branch", arm=arm, purpose="confirm", reason=WHY)


@pytest.mark.parametrize("refinements", [0, 1])
def test_a_round_has_one_confirmation_and_one_for_each_refinement(screened: Opening, refinements: int) -> None:
    effects = FAILS | {("confirm", "c2"): -0.02}
    with screened(effects, settings(refinements)) as session:
        for name in ("c1", "c2")[: 1 + refinements]:
            last = confirm(session, name)
            assert last["outcome"] == "fail"
        assert last["after_this"]["confirmations_left"] == 0
        for arm in ("control", "c3"):
            with pytest.raises(ToolRefused, match=f"{1 + refinements} confirmations in this round, which may make no"):
                session.call("launch_branch", arm=arm, purpose="confirm", reason=WHY)
        report(session, last)
        assert allowed_actions(session.context) == ["keep"]
        with pytest.raises(ToolRefused, match="Found send_back, which is not possible now: call keep"):
            session.call("send_back", candidate="c3", reason=WHY)
        session.call("keep", reason=WHY)
        next_round(session)
        session.propose(*POTENTIALS)
        session.screen()
        confirm(session, "c1")  # negative control: another round has its own


def test_a_refinement_uses_what_the_round_has_left(screened: Opening) -> None:
    with screened(FAILS | {"c4": 0.05, "c5": 0.04}) as session:
        report(session, confirm(session, "c1"))
        session.refine()
        session.propose("covered_fraction", "spacing")
        session.screen()
        found = confirm(session, "c4")
        assert (found["outcome"], found["after_this"]["confirmations_left"]) == ("pass", 0)
        report(session, found)
        assert [each.attempt for each in session.context.round.branches if each.purpose == "confirm"] == [0, 0, 1, 1]
        assert session.findings() == []


# sent back ------------------------------------------------------------------------------------


def test_a_round_is_sent_back_for_another_candidate_and_then_decided(screened: Opening) -> None:
    """The earlier one that passed is promoted after the other failed; with a resume after every step."""
    with screened(GOOD | {("confirm", "c3"): -0.02}) as session:
        report(session, confirm(session, "c1"))
        assert allowed_actions(session.context) == ["promote", "keep", "send_back"]
        answer = session.call("send_back", candidate="c3", reason="c3 is steadier.")
        plan = design(session.context.settings.gate.level(session.context.state.level_spent, 3), 6)
        assert answer["sent_back_for"] == "c3" and answer["confirmations_left"] == 1
        assert answer["env_steps_per_branch"] == 400 and answer["most_branches"] == 12
        assert answer["branches_expected_if_nothing_differs"] == round(plan.branches, 2)
        assert [row["title"] for row in session.rows("events") if row["kind"] == "sent_back"] == [
            "sent back: confirm c3: “c3 is steadier.”"
        ]
        assert_recalled(session)
        session.resume()
        with pytest.raises(ToolRefused, match="Found no confirmation of c3, for which the Coordinator sent the round"):
            session.validate("c1", "pass")
        with pytest.raises(ToolRefused, match="Found a confirmation of c2, expected c3, for which the Coordinator"):
            session.call("launch_branch", arm="c2", purpose="confirm", reason=WHY)
        session.call("launch_branch", arm="control", purpose="confirm")
        session.resume()
        session.call("launch_branch", arm="c3", purpose="confirm")
        session.resume()
        found = session.confirm("c3")
        session.resume()
        assert (found["candidate"], found["outcome"]) == ("c3", "fail")
        assert session.confirm("c3")["comparison"] == found["comparison"]
        report(session, found)
        session.resume()
        assert session.context.round.passed == ("c1",) and allowed_actions(session.context) == ["promote", "keep"]
        with pytest.raises(ToolRefused, match="Found 'c3', expected 'c1' with a passing verdict"):
            session.call("promote", candidate="c3", reason=WHY)
        session.call("promote", candidate="c1", reason=WHY)
        first = next(each for each in session.context.round.branches if each.purpose == "confirm" and each.arm == "c1")
        shaping = session.context.round.candidate("c1").shaping
        assert session.context.head == Head(segment=first.segments[0], env_steps=600, shaping=shaping)
        assert session.rows("decisions")[0]["verdict_id"] == f"{SESSION}/V1.0"
        next_round(session)
        assert (session.context.state.history[-1].candidate, session.context.state.history[-1].outcome) == (
            "c1",
            "pass",
        )
        assert [row["fate"] for row in session.rows("fates")] == ["promoted", "screened out", "failed"]
        assert session.findings() == []
        assert_recalled(session)


def test_of_two_that_passed_the_coordinator_chooses(screened: Opening) -> None:
    with screened(GOOD) as session:
        report(session, confirm(session, "c1"))
        session.call("send_back", candidate="c2", reason=WHY)
        report(session, confirm(session, "c2"))
        assert session.context.round.passed == ("c1", "c2")
        session.call("promote", candidate="c2", reason=WHY)
        size = session.context.round.confirmations[0].size
        assert session.context.state.level_spent == pytest.approx(size)  # that of c1, which was not promoted
        next_round(session)
        assert [row["fate"] for row in session.rows("fates")] == ["passed", "promoted", "screened out"]
        assert session.findings() == []


def test_a_round_without_a_pass_may_be_sent_back_too(screened: Opening) -> None:
    with screened(FAILS) as session:
        report(session, confirm(session, "c1"))
        assert allowed_actions(session.context) == ["keep", "send_back"]
        session.call("send_back", candidate="c3", reason=WHY)
        report(session, confirm(session, "c3"))
        assert session.context.round.passed == ("c3",)


def test_it_is_sent_back_only_for_what_can_be_confirmed(screened: Opening) -> None:
    with screened({"c1": 0.05, "c2": 0.03, "c3": -0.02}) as session:
        with pytest.raises(ToolRefused, match=r"Found 'c9', expected c1 or c2, better than the control in the screen"):
            session.call("send_back", candidate="c9", reason=WHY)
        report(session, confirm(session, "c1"))
        for name in ("c1", "c3"):
            with pytest.raises(ToolRefused, match=f"Found '{name}', expected c2"):
                session.call("send_back", candidate=name, reason=WHY)
        assert session.context.round.sent_back is None


def test_the_paired_gate_sends_nothing_back(screened: Opening) -> None:
    paired = settings().model_copy(update={"gate": GateSettings(mode="paired")})
    with screened(GOOD, paired) as session:
        with pytest.raises(ToolRefused, match="Found a confirmation of c2, expected c1"):
            session.call("launch_branch", arm="c2", purpose="confirm", reason=WHY)
        report(session, confirm(session, "c1"))
        assert allowed_actions(session.context) == ["promote", "keep"]


def test_what_was_judged_before_the_round_was_sent_back_stays_judged(screened: Opening) -> None:
    """Also where the Validator then reports nothing at all."""
    with screened(FAILS) as session:
        report(session, confirm(session, "c1"))
        session.call("send_back", candidate="c2", reason=WHY)
        nothing = verdict_record(session.context, None, None, None, "No comparison was made.")
        with session.ledger.transaction("give up"):
            record_verdict(session.context, nothing.model_copy(update={"id": verdict_id(session.context)}), None)
            session.ledger.save_cursor(SESSION, session.context.state.model_dump(mode="json"))
        assert {one.candidate: one.outcome for one in session.context.state.tried}["c1"] == "failed"
        assert_recalled(session)
        with session.ledger.transaction("keep"):
            decide(session.context, Decision(action="keep", candidate=None, reason=WHY, decided_by="code"))
        next_round(session)
        assert [row["fate"] for row in session.rows("fates")] == ["failed", "screened out", "screened out"]
        assert session.findings() == []


def test_a_key_in_the_coordinators_words_is_kept_nowhere(screened: Opening) -> None:
    key = "sk-" + "a1B2" * 12
    with screened(GOOD) as session:
        report(session, confirm(session, "c1"))
        session.call("send_back", candidate="c2", reason=f"The key is {key}.")
        assert session.context.round.sent_back is not None and key not in session.context.round.sent_back.reason
        assert_recalled(session)
    assert key.encode() not in session.ledger.path.read_bytes()


# at which level -------------------------------------------------------------------------------


def test_each_confirmation_has_a_share_of_the_level_that_is_left(screened: Opening) -> None:
    effects = STAGES | {("screen", "c1"): 0.05, ("screen", "c2"): 0.03, "c1": -0.03, "c2": -0.03}
    with screened(effects, settings(rounds=3), candidates=2) as session:
        for number in (1, 2, 3):
            confirm(session, "c1")
            report(session, confirm(session, "c2"))
            session.call("keep", reason=WHY)
            next_round(session)
            assert_recalled(session)  # the same sum, to the last digit
            if number < 3:
                session.propose(*POTENTIALS[:2])
                session.screen()
        made = confirmations(session)
        assert len(made) == 6 and {each["outcome"] for each in made} == {"fail"}
        spent = 0.0
        assert [round(each["level"], 4) for each in made] == [0.025, 0.0139, 0.0084, 0.0053, 0.0032, 0.0042]
        for place, each in enumerate(made):
            assert each["level"] == pytest.approx(GateSettings().level(spent, 6 - place))
            assert each["size"] == design(each["level"], 6).size
            spent += each["size"]
        assert session.context.state.level_spent == pytest.approx(spent) and spent <= 0.05
        assert session.findings() == []


def test_a_promotion_hands_its_level_on(screened: Opening) -> None:
    levels = {}
    for promoted in (True, False):
        with screened(GOOD) as session:
            report(session, confirm(session, "c1"))
            assert session.context.state.level_spent > 0
            if promoted:
                session.call("promote", candidate="c1", reason=WHY)
                assert session.context.state.level_spent == 0.0
            else:
                session.call("keep", reason=WHY)
            next_round(session)
            assert_recalled(session)
            session.propose("covered_fraction", "spacing")
            session.screen()
            confirm(session, "c1")
            levels[promoted] = confirmations(session)
            assert session.findings() == []
    size = levels[False][0]["size"]
    assert levels[True][1]["level"] == pytest.approx(0.05 / 2)
    assert levels[False][1]["level"] == pytest.approx((0.05 - size) / 2)


# on which seeds and at which price ------------------------------------------------------------


def test_no_two_branches_of_a_confirmation_share_a_seed_or_episodes(screened: Opening) -> None:
    with screened(FAILS) as session:
        confirm(session, "c1")
        confirm(session, "c2")
        rows = {row["id"]: row for row in session.rows("segments")}
        trained = [
            rows[segment]
            for branch in session.context.round.branches
            if branch.purpose == "confirm"
            for segment in branch.segments
        ]
        assert len(trained) == 2 + 2 * len(session.context.round.branches[-1].segments) > 8
        assert len({row["seed"] for row in trained}) == len(trained)
        screen = {rows[each.segments[0]]["seed"] for each in session.context.round.branches if each.purpose == "screen"}
        assert len(screen) == 1 and not screen & {row["seed"] for row in trained}


def test_the_segments_of_every_look_are_those_of_the_branches(screened: Opening) -> None:
    with screened(GOOD) as session:
        for arm in ("control", "c1"):
            session.call("launch_branch", arm=arm, purpose="confirm")

        def recorded() -> list[list[tuple[int, str]]]:
            rows = session.rows("branch_segments")
            names = [f"{SESSION}/{one.name}" for one in session.context.round.branches if one.purpose == "confirm"]
            return [[(r["position"], r["segment_id"]) for r in rows if r["branch_id"] == name] for name in names]

        assert [len(rows) for rows in recorded()] == [1, 1]
        looks = session.confirm("c1")["n"]
        assert looks > 1
        arms = body(session, "C2", "inputs")["arms"]
        expected = [[(k, one["segment"]) for k, one in enumerate(arms[arm])] for arm in ("control", "c1")]
        assert recorded() == expected and [len(rows) for rows in recorded()] == [looks, looks]
        assert_recalled(session)


def test_a_look_that_does_not_fit_the_budget_pauses_the_session_which_goes_on(screened: Opening) -> None:
    with screened(GOOD) as session:
        whole = confirm(session, "c1")
        looks = body(session, "C2", "result")["look"]
    with screened(GOOD) as session:
        for arm in ("control", "c1"):
            session.call("launch_branch", arm=arm, purpose="confirm")
        spent = sum(row["env_steps"] for row in session.rows("segments"))
        for look in range(2, looks + 1):
            session.context.state.budget = Budget(env_steps=spent + 799)
            with pytest.raises(OutOfBudget, match=f"look {look} of the confirmation needs 800 env steps; go on with"):
                session.confirm("c1")
            assert sum(row["env_steps"] for row in session.rows("segments")) == spent
            assert session.context.round.confirmations == []
            session.resume()
            spent += 800
        session.context.state.budget = Budget(env_steps=spent)
        assert session.confirm("c1") == whole
        assert_recalled(session)
        assert session.findings() == []


def test_the_first_look_that_does_not_fit_is_not_begun(screened: Opening) -> None:
    with screened(GOOD) as session:
        spent = sum(row["env_steps"] for row in session.rows("segments"))
        session.context.state.budget = Budget(env_steps=spent + 399)
        with pytest.raises(OutOfBudget, match="the confirm of c1 needs 400 env steps"):
            session.call("launch_branch", arm="c1", purpose="confirm")
        assert launches(session) == [] and sum(row["env_steps"] for row in session.rows("segments")) == spent
        assert json.loads(session.context.state.model_dump_json())["budget"]["env_steps"] == spent + 399
