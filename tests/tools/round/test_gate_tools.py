"""The Validator's tools: what may be launched when, what is compared, and the verdict that must follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.gate.screening import rank_screen
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.round.record import record_verdict
from learning_signal.tools.round.screens import owes_screen
from learning_signal.tools.round.verdicts import computed_verdict
from learning_signal.tools.state import VerdictRecord
from tests.support.scripted_session import PAIRED, SESSION, SETTINGS, ScriptedSession
from tests.support.trainer_double import Launched, Score, by_arm

GOOD, OTHER, THIRD = "coverage_distance", "collisions", "worst_coverage_distance"
DIED = "The worker died (signal 9, SIGKILL)."

Opening = Callable[..., AbstractContextManager[ScriptedSession]]


@pytest.fixture
def opened(tmp_path: Path) -> Opening:
    """Open a session whose arms have these effects on progress (or this score)."""

    def opening(effects: dict | Score) -> ScriptedSession:
        return ScriptedSession(tmp_path, effects if callable(effects) else by_arm(effects))

    return opening


@pytest.fixture
def paired(tmp_path: Path) -> Opening:
    """The same under the paired gate."""

    def opening(effects: dict | Score) -> ScriptedSession:
        return ScriptedSession(tmp_path, effects if callable(effects) else by_arm(effects), settings=PAIRED)

    return opening


# launch_branch --------------------------------------------------------------------------------


def test_an_arm_runs_on_every_seed_of_its_purpose(paired: Opening) -> None:
    with paired({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        launched = session.call("launch_branch", arm="c1", purpose="screen")
        assert launched == {"branch": "B1", "arm": "c1", "purpose": "screen", "segments": 2, "env_steps_each": 200}
        assert len(session.rows("branch_segments")) == 2
        (row,) = session.rows("branches")
        assert (row["id"], row["candidate_id"]) == (f"{SESSION}/B1", f"{SESSION}/P1.0/c1")


def test_arms_of_a_comparison_share_parent_and_seeds_and_purposes_do_not(paired: Opening) -> None:
    with paired({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        session.screen()
        session.confirm("c1")
        segments = {row["id"]: row for row in session.rows("segments")}
        seeds = {
            (branch.purpose, branch.arm): [segments[each]["seed"] for each in branch.segments]
            for branch in session.context.round.branches
        }
        assert seeds["screen", "control"] == seeds["screen", "c1"] == seeds["screen", "c2"]
        assert seeds["confirm", "control"] == seeds["confirm", "c1"]
        assert len({*seeds["screen", "control"], *seeds["confirm", "control"]}) == 2 + 5
        parents = {segments[each]["parent"] for branch in session.context.round.branches for each in branch.segments}
        assert parents == {session.context.state.head.segment}


def test_arms_of_a_sequential_confirmation_share_no_seed(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        session.screen()
        compared = session.confirm("c1")
        segments = {row["id"]: row for row in session.rows("segments")}
        confirmed = [each for each in session.context.round.branches if each.purpose == "confirm"]
        assert [len(each.segments) for each in confirmed] == [compared["n"]] * 2
        seeds = [segments[each]["seed"] for branch in confirmed for each in branch.segments]
        assert len(set(seeds)) == 2 * compared["n"]
        (screened,) = {segments[each]["seed"] for one in session.context.round.branches[:3] for each in one.segments}
        assert screened not in seeds
        assert len(session.rows("branch_segments")) == 3 + 2 * compared["n"]
        assert session.findings() == []


def test_an_unknown_arm_is_refused(opened: Opening) -> None:
    with opened({}) as session:
        session.propose(GOOD, OTHER)
        with pytest.raises(ToolRefused, match="Found the arm 'c3', expected one of control, c1, c2"):
            session.call("launch_branch", arm="c3", purpose="screen")
        assert session.rows("branches") == []


def test_launching_again_answers_with_the_same_branch(opened: Opening) -> None:
    with opened({}) as session:
        session.propose(GOOD, OTHER)
        first = session.call("launch_branch", arm="c1", purpose="screen")
        computed = list(session.pool.computed)
        assert session.call("launch_branch", arm="c1", purpose="screen") == first
        assert session.call("launch_branch", arm="c2", purpose="screen")["branch"] == "B2"
        assert len(session.rows("branches")) == 2
        assert session.pool.computed[: len(computed)] == computed
        assert len(session.pool.computed) == len(computed) + 1


def test_a_confirmation_waits_for_the_screen_and_takes_its_winner(opened: Opening) -> None:
    with opened({"c1": 0.01, "c2": 0.03}) as session:
        session.propose(GOOD, OTHER)
        for arm in ("control", "c1"):
            with pytest.raises(ToolRefused, match="Found no screen yet"):
                session.call("launch_branch", arm=arm, purpose="confirm")
        assert session.screen()["chosen"] == "c2"
        with pytest.raises(ToolRefused, match="of c1 while the ranking has c2 first, expected a reason with it"):
            session.call("launch_branch", arm="c1", purpose="confirm")
        assert session.call("launch_branch", arm="c2", purpose="confirm")["segments"] == 1


def test_a_single_candidate_is_confirmed_without_a_screen(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD)
        assert not owes_screen(session.context)
        with pytest.raises(ToolRefused, match="Found a screen of one candidate"):
            session.call("launch_branch", arm="c1", purpose="screen")
        assert session.confirm("c1")["outcome"] == "pass"


def test_a_refinement_reuses_the_screened_control_and_confirms_on_fresh_seeds(opened: Opening) -> None:
    with opened({("screen", "c1"): 0.01, ("screen", "c3"): 0.01}) as session:
        assert session.judged(GOOD, OTHER) == "fail"
        session.refine()
        session.propose(THIRD, "spacing")
        before = list(session.pool.computed)
        session.call("launch_branch", arm="control", purpose="screen")
        assert session.pool.computed == before
        session.screen()
        session.confirm("c3")
        first, second = (
            next(
                each
                for each in session.context.round.branches
                if (each.purpose, each.arm, each.refinement) == ("confirm", "control", refinement)
            )
            for refinement in (0, 1)
        )
        assert not set(first.segments) & set(second.segments)
        assert session.findings() == []


# read_branch ----------------------------------------------------------------------------------


def test_reading_without_waiting_says_running(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        session.pool.holding = True
        branch = session.call("launch_branch", arm="c1", purpose="screen")["branch"]
        reading = session.call("read_branch", branch=branch, wait=False)
        assert reading["status"] == "running"
        assert reading["mean"] == {"sparse_return": None, "progress": None}
        session.pool.release()
        reading = session.call("read_branch", branch=branch)
        assert reading["status"] == "done"
        assert [seed["status"] for seed in reading["seeds"]] == ["done"]
        # Half of what the gate's own episodes give: agents read the query episodes.
        assert 0.03 < reading["mean"]["progress"] < 0.04
        assert reading["mean"]["sparse_return"] == 0.0


def test_a_failed_branch_gives_its_reason(paired: Opening) -> None:
    with paired({"c1": [0.0, DIED]}) as session:
        session.propose(GOOD, OTHER)
        branch = session.call("launch_branch", arm="c1", purpose="screen")["branch"]
        reading = session.call("read_branch", branch=branch)
        assert reading["status"] == "failed"
        assert [(seed["status"], seed.get("reason")) for seed in reading["seeds"]] == [("done", None), ("failed", DIED)]
        assert reading["mean"]["progress"] is None
        trained = [row["status"] for row in session.rows("segments") if row["env_steps"]]
        assert trained == ["ok", "ok", "error"]


def test_an_unknown_branch_is_refused(opened: Opening) -> None:
    with opened({}) as session:
        session.propose(GOOD)
        session.call("launch_branch", arm="c1", purpose="confirm")
        with pytest.raises(ToolRefused, match=r"Found branch 'B2', expected one launched in this round \(B1\)"):
            session.call("read_branch", branch="B2")


# screen and confirm ---------------------------------------------------------------------------


def test_a_screen_ranks_candidates_and_leaves_out_what_failed(opened: Opening) -> None:
    with opened({"c1": 0.01, "c2": DIED, "c3": 0.02}) as session:
        session.propose(GOOD, OTHER, THIRD)
        compared = session.screen()
        assert [row["candidate"] for row in compared["ranking"]] == ["c3", "c1", "c2"]
        assert [row["difference"] for row in compared["ranking"]] == [0.02, 0.01, None]
        assert "no sparse return" in compared["ranking"][2]["note"]
        assert (compared["chosen"], compared["measure"]) == ("c3", "progress")


def test_a_comparison_has_every_arm(opened: Opening) -> None:
    """Those that were launched before take part in it, and are trained once."""
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        for arm in ("control", "c1"):
            session.call("launch_branch", arm=arm, purpose="screen")
        with pytest.raises(ToolRefused, match="Found no screen yet"):
            session.confirm("c1")
        screened = session.screen()
        assert [screened["control"]["branch"], *(row["branch"] for row in screened["ranking"])] == ["B1", "B2", "B3"]
        session.call("launch_branch", arm="c1")
        compared = session.confirm("c1")
        assert {arm: row["branch"] for arm, row in compared["values"].items()} == {"candidate": "B4", "control": "B5"}
        assert len(session.pool.computed) == len(set(session.pool.computed)) == 1 + 3 + 2 * compared["n"]
        assert session.findings() == []


@pytest.mark.parametrize(
    ("effects", "outcome"),
    [(0.03, "pass"), (-0.03, "fail"), ([0.05, -0.03, 0.05, -0.03, 0.01], "inconclusive"), (DIED, "fail")],
)
def test_a_confirmation_judges_progress_where_nobody_scores(paired: Opening, effects: object, outcome: str) -> None:
    with paired({"c1": effects}) as session:
        session.propose(GOOD)
        compared = session.confirm("c1")
        assert compared["outcome"] == outcome
        if effects != DIED:
            assert compared["measure"] == "progress"
            mean = effects if isinstance(effects, float) else 0.01
            assert compared["difference"] == pytest.approx(mean)
        assert session.validate("c1", outcome) == {"accepted": True, "outcome": outcome}


@pytest.mark.parametrize(
    ("effects", "outcome", "looks"),
    [
        (0.03, "pass", 4),  # every pair won: at level 0.025 that passes from the fourth look on
        (-0.03, "fail", 1),
        ([0.05, 0.05, 0.05, -0.03, -0.03, -0.03], "inconclusive", 5),  # 15 of 25 pairs: it could hardly pass
        ([0.05, 0.05, 0.05, DIED], "fail", 4),
    ],
)
def test_a_sequential_confirmation_goes_on_until_it_is_decided(
    opened: Opening, effects: object, outcome: str, looks: int
) -> None:
    with opened({"c1": effects}) as session:
        session.propose(GOOD)
        compared = session.confirm("c1")
        assert (compared["outcome"], compared["n"]) == (outcome, looks)
        assert session.validate("c1", outcome) == {"accepted": True, "outcome": outcome}
        assert session.findings() == []


def test_a_failed_control_leaves_the_verdict_open(opened: Opening) -> None:
    with opened({"c1": 0.03, "control": DIED}) as session:
        session.propose(GOOD)
        compared = session.confirm("c1")
        assert (compared["outcome"], compared["p"], compared["difference"]) == ("inconclusive", None, None)
        assert "the control has no sparse return" in compared["reason"]


def scoring(control: tuple[float, float | None], candidate: tuple[float, float | None]) -> Score:
    """Every seed of an arm scores the same."""

    def score(launched: Launched) -> tuple[float, float | None]:
        return candidate if launched.arm == "c1" else control

    return score


@pytest.mark.parametrize(
    ("control", "candidate", "outcome", "rule"),
    [
        ((1.0, 0.2), (1.2, 0.1), "pass", "sparse_return"),  # above the floor (0.5) progress does not count
        ((1.0, 0.2), (0.9, 0.3), "fail", "sparse_return"),
        ((0.1, 0.2), (0.1, 0.3), "pass", "progress"),
        ((0.1, 0.2), (0.05, 0.3), "fail", "progress"),  # sparse return is significantly worse
    ],
)
def test_sparse_return_rules_where_somebody_scores(
    paired: Opening, control: tuple, candidate: tuple, outcome: str, rule: str
) -> None:
    with paired(scoring(control, candidate)) as session:
        session.propose(GOOD)
        compared = session.confirm("c1")
        assert (compared["outcome"], compared["measure"]) == (outcome, rule)


def test_without_declared_progress_nobody_scoring_is_inconclusive(paired: Opening) -> None:
    with paired(scoring((0.0, None), (0.1, None))) as session:
        session.context.task = replace(session.context.task, progress=None)
        session.propose(GOOD)
        compared = session.confirm("c1")
        assert compared["outcome"] == "inconclusive"
        assert "declares no progress" in compared["reason"]
        session.validate("c1", "inconclusive")
        assert session.findings() == []


def test_each_comparison_rests_on_its_own_episodes(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        session.screen()
        session.confirm("c1")
        for row in session.rows("comparisons"):
            inputs = json.loads(session.ledger.find("bodies", hash=row["inputs"])[0]["body"])
            seeds = [seed for arm in inputs["arms"].values() for seed in arm]
            assert {seed["episode_set"] for seed in seeds} == {row["purpose"]}
            assert all(seed["progress"] >= 0.04 for seed in seeds)  # the query episodes give half of it


def test_comparing_twice_is_recorded_once(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        for compare in (session.screen, lambda: session.confirm("c1")):
            first = compare()
            assert compare() == first
        assert [row["id"] for row in session.rows("comparisons")] == [f"{SESSION}/C1", f"{SESSION}/C2"]
        assert session.context.state.comparisons == 2


def test_equal_candidates_are_recomputed_in_the_order_they_were_given() -> None:
    arm = [Measure(sparse_return=0.0, progress=0.1)] * 2
    arms = {"control": arm, "c9": arm, "c10": arm}
    result = rank_screen(arm, {"c9": arm, "c10": arm}, 25.0, PAIRED.gate)
    inputs = {
        "max_return": 25.0,
        "progress_declared": True,
        "order": list(arms),
        "arms": {name: [each.model_dump() for each in arms[name]] for name in arms},
    }
    stored = json.loads(json.dumps(inputs, sort_keys=True))
    assert recompute("screen", stored, PAIRED.gate.model_dump()) == result.model_dump(mode="json")
    del stored["order"]
    assert recompute("screen", stored, PAIRED.gate.model_dump())["chosen"] == "c10"  # and so the order is needed


def test_the_order_of_candidates_is_in_the_ledger(tmp_path: Path) -> None:
    deliberation = SETTINGS.deliberation.model_copy(update={"candidates": 8})
    settings = SETTINGS.model_copy(update={"deliberation": deliberation})
    team = (GOOD, OTHER, THIRD, "spacing")
    potentials = [*team, *(f"{one} * {other}" for one, other in combinations(team, 2))]
    with ScriptedSession(tmp_path, by_arm({("screen", "c1"): 0.01}), settings=settings) as session:
        assert session.judged(*potentials[:8]) == "fail"
        session.refine()
        assert session.propose(*potentials[8:]) == ["c9", "c10"]
        assert [row["candidate"] for row in session.screen()["ranking"]] == ["c9", "c10"]
        assert session.findings() == []


# submit_validation ----------------------------------------------------------------------------


def test_a_verdict_other_than_the_computed_one_is_refused(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        session.screen()
        session.confirm("c1")
        for candidate, outcome in (("c1", "fail"), ("c1", "inconclusive"), ("c2", "pass"), (None, "inconclusive")):
            with pytest.raises(ToolRefused, match="the computed verdict is pass for c1"):
                session.validate(candidate, outcome)
        assert session.rows("verdicts") == []
        session.validate("c1", "pass")
        (row,) = session.rows("verdicts")
        assert (row["outcome"], row["rule"], row["candidate_id"]) == ("pass", "progress", f"{SESSION}/P1.0/c1")
        assert row["comparison_id"] == f"{SESSION}/C2"
        assert session.context.round.promotable == "c1"
        assert [(each.candidate, each.outcome) for each in session.context.state.tried] == [
            ("c1", "passed"),
            ("c2", "screened out"),
        ]


def test_no_verdict_before_its_comparison(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        for outcome in ("inconclusive", "pass"):
            with pytest.raises(ToolRefused, match="Found no comparison for a verdict"):
                session.validate(None, outcome)
        session.screen()
        with pytest.raises(ToolRefused, match="Found no comparison for a verdict"):
            session.validate("c1", "pass")
        assert session.rows("verdicts") == []


@pytest.mark.parametrize("failed", [{"c1": DIED, "c2": DIED}, {"control": DIED}])
def test_a_screen_of_failures_ends_inconclusive_without_a_candidate(opened: Opening, failed: dict) -> None:
    with opened(failed) as session:
        session.propose(GOOD, OTHER)
        assert session.screen()["chosen"] is None
        with pytest.raises(ToolRefused, match="The screen chose no candidate"):
            session.call("launch_branch", arm="control", purpose="confirm")
        with pytest.raises(ToolRefused, match="the computed verdict is inconclusive for None"):
            session.validate("c1", "inconclusive")
        session.validate(None, "inconclusive")
        (row,) = session.rows("verdicts")
        assert (row["candidate_id"], row["rule"]) == (None, None)
        assert "c1" in row["reason"] and "c2" in row["reason"]
        assert session.context.round.promotable is None
        assert session.findings() == []


def test_a_winner_that_was_never_confirmed_is_not_called_screened_out(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        session.screen()
        with pytest.raises(ToolRefused):
            computed_verdict(session.context)
        verdict = VerdictRecord(
            id=f"{SESSION}/V1.0",
            refinement=0,
            candidate=None,
            outcome="inconclusive",
            measure=None,
            reason="No comparison was made.",
            reading="(none)",
        )
        record_verdict(session.context, verdict, None)
        first, second = session.context.state.tried
        assert (first.outcome, first.difference) == ("not compared", pytest.approx(0.03))
        assert second.outcome == "screened out"
        assert second.reason == "behind c1 in the screen: +0 against +0.03 of progress"


# recovery -------------------------------------------------------------------------------------


def test_a_resumed_session_looks_up_what_was_computed(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD, OTHER)
        screened = session.screen()
        for arm in ("control", "c1"):
            session.call("launch_branch", arm=arm, purpose="confirm")
        session.call("read_branch", branch="B5")
        computed = list(session.pool.computed)
        session.resume()
        assert session.screen() == screened
        compared = session.confirm("c1")
        assert compared["outcome"] == "pass"
        added = session.pool.computed[len(computed) :]
        assert session.pool.computed[: len(computed)] == computed and not set(added) & set(computed)
        assert len(added) == 2 * (compared["n"] - 1), "one more branch of each arm for every look after the first"
        session.validate("c1", "pass")
        assert session.findings() == []


def test_a_branch_that_failed_stays_failed_after_a_resume(opened: Opening) -> None:
    with opened({"c1": DIED, "c2": 0.01}) as session:
        session.propose(GOOD, OTHER)
        for arm in ("control", "c1", "c2"):
            branch = session.call("launch_branch", arm=arm, purpose="screen")["branch"]
            session.call("read_branch", branch=branch)
        session.resume()
        session.pool.score = by_arm({"c1": 0.05})  # it would do well now: but then a resume would decide otherwise
        reading = session.call("read_branch", branch="B2")
        assert (reading["status"], reading["seeds"][0]["reason"]) == ("failed", DIED)
        assert session.screen()["chosen"] == "c2"
        assert session.findings() == []


def test_a_control_that_failed_fails_the_refinement_too_but_not_the_session(opened: Opening) -> None:
    with opened({("screen", "control"): DIED}) as session:
        session.propose(GOOD, OTHER)
        assert session.screen()["chosen"] is None
        session.validate(None, "inconclusive")
        session.refine()
        session.propose(THIRD, "spacing")
        assert session.screen()["chosen"] is None
        session.validate(None, "inconclusive")
        assert session.findings() == []


def test_a_piece_of_the_main_run_that_failed_is_tried_again(opened: Opening) -> None:
    with opened({}) as session:
        session.pool.score = lambda launched: DIED
        with pytest.raises(Exception, match="The worker died"):
            session.train_stage()
        session.pool.score = by_arm({})
        session.train_stage()
        assert [row["status"] for row in session.rows("segments")] == ["ok", "ok"]
        assert session.context.state.head.env_steps == 400


def test_what_the_end_of_a_session_cuts_off_has_not_failed(opened: Opening) -> None:
    with opened({"c1": 0.03}) as session:
        session.propose(GOOD)
        session.pool.holding = True
        for arm in ("control", "c1"):
            session.call("launch_branch", arm=arm, purpose="confirm")
        session.resume()
        session.call("query_metrics")  # whatever the pool's answers still set off has happened after this
        assert {row["status"] for row in session.rows("segments")[1:]} == {"pending"}
        assert session.confirm("c1")["outcome"] == "pass"
        assert {row["status"] for row in session.rows("segments")} == {"ok"}
        assert session.findings() == []
