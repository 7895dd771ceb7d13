"""Metrics over any window, behaviour summaries, the diagnosis that cites them, and the proposal after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from learning_signal.ledger.write.clock import now
from learning_signal.marl.behaviour.by_agent import measured
from learning_signal.marl.segments.metrics import METRICS
from learning_signal.tools.base import ToolRefused, compact
from learning_signal.tools.briefs.brief import brief
from learning_signal.tools.contracts import SummarizeTrajectories
from learning_signal.tools.evidence.metrics import OF_VALUES
from learning_signal.tools.evidence.sources import lineage
from learning_signal.tools.plan.settings import DeliberationSettings
from learning_signal.tools.state import SessionState
from tests.support.scripted_session import PAIRED, SESSION, SETTINGS, ScriptedSession, draft
from tests.support.trainer_double import by_arm, drifting_behaviour

GOOD, OTHER, THIRD = "coverage_distance", "collisions", "worst_coverage_distance"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ScriptedSession]:
    """A session whose main run is one segment: env steps 50, 100, 150, 200; entropy 1.5, 1.4, 1.3, 1.2."""
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03})) as session:
        yield session


@pytest.fixture
def paired(tmp_path: Path) -> Iterator[ScriptedSession]:
    """The same with two seeds in the screen."""
    with ScriptedSession(tmp_path, by_arm({"c1": [0.02, 0.10]}), settings=PAIRED) as session:
        yield session


# query_metrics --------------------------------------------------------------------------------


def test_points_are_the_means_of_equal_parts_of_the_window(session: ScriptedSession) -> None:
    answer = session.call("query_metrics", names=["entropy"], points=2)
    assert answer["window"] == [50, 200]
    # Parts [50, 125] and (125, 200]: the means of 1.5 and 1.4, and of 1.3 and 1.2.
    assert answer["points"] == {"env_steps": [100, 200], "entropy": [1.45, 1.25]}


def test_a_window_leaves_out_what_lies_outside(session: ScriptedSession) -> None:
    answer = session.call("query_metrics", names=["entropy"], first_env_step=100, last_env_step=150, points=1)
    assert answer["points"] == {"env_steps": [150], "entropy": [1.35]}
    # A row on the border of two parts counts once, in the first.
    points = session.call("query_metrics", names=["entropy"], last_env_step=150, points=2)["points"]
    assert points == {"env_steps": [100, 150], "entropy": [1.45, 1.3]}
    whole = session.call("query_metrics", names=["entropy"], points=1)
    assert whole["points"] == {"env_steps": [200], "entropy": [1.35]}


def test_a_part_without_a_value_is_none_and_a_part_without_rows_is_left_out(session: ScriptedSession) -> None:
    points = session.call("query_metrics", names=["explained_variance"], points=40)["points"]
    assert points == {"env_steps": [50, 100, 150, 200], "explained_variance": [None, None, None, 0.5]}


def test_evaluations_are_metrics_too(session: ScriptedSession) -> None:
    segment = session.context.trainer.stored(session.context.state.head.segment)
    final = segment.evaluations_of("query")[-1].mean_progress
    names = ["evaluation_progress", "evaluation_sparse_return"]
    points = session.call("query_metrics", names=names, points=2)["points"]
    assert points["evaluation_progress"] == [0.0, pytest.approx(final, rel=5e-3)]
    assert final < segment.evaluations_of("confirm")[-1].mean_progress  # the gate's own episodes stay unseen


def test_env_steps_asked_for_stay_the_exact_position(session: ScriptedSession) -> None:
    for _ in range(60):
        session.train_stage()
    points = session.call("query_metrics", names=["env_steps", "entropy"], points=3)["points"]
    assert points["env_steps"][-1] == session.context.state.head.env_steps == 61 * 200  # 12,200 has five digits


def test_the_main_run_is_read_along_its_whole_lineage(session: ScriptedSession) -> None:
    session.train_stage()
    answer = session.call("query_metrics", names=["entropy"], points=2)
    assert answer["window"] == [50, 400]
    # Parts [50, 225] and (225, 400]: each holds one segment's four updates.
    assert answer["points"] == {"env_steps": [200, 400], "entropy": [1.35, 1.35]}


def test_a_branch_is_averaged_over_its_seeds(paired: ScriptedSession) -> None:
    paired.propose(GOOD, OTHER)
    branch = paired.call("launch_branch", arm="c1", purpose="screen")["branch"]
    paired.call("read_branch", branch=branch)
    answer = paired.call("query_metrics", source=branch, names=["evaluation_progress", "entropy"], points=1)
    assert answer["source"] == branch
    assert answer["window"] == [250, 400]  # a branch is its own segment, not the main run before it
    seeds = [paired.context.trainer.stored(each) for each in paired.context.round.branches[0].segments]
    values = [each.mean_progress for seed in seeds for each in seed.evaluations_of("query")]
    assert len(values) == 2, "each seed at its end"
    mean = pytest.approx(sum(values) / 2, rel=5e-3)
    assert answer["points"] == {"env_steps": [400], "evaluation_progress": [mean], "entropy": [1.35]}
    apart = paired.call("query_metrics", source=branch, names=["evaluation_progress"], points=1, by_seed=True)["points"]
    assert apart["evaluation_progress"] == [[pytest.approx(value, rel=5e-3)] for value in values]
    assert values[0] != pytest.approx(values[1], rel=5e-3), "or nothing is told apart"


def test_each_agent_is_told_apart_at_the_end_of_every_segment(session: ScriptedSession) -> None:
    session.train_stage()
    first, last = (each.id for each in lineage(session.context))
    store, record = session.context.trainer.store, drifting_behaviour()
    still = record.actions.copy()
    still[:, :, 1] = 0
    store.told = {last: replace(record, actions=still)}
    idle = f"action:{session.context.task.action_names[0]}"
    names = ["action_entropy", idle, "entropy", GOOD]
    answer = session.call("query_metrics", names=names, by_agent=True, points=40)
    entropies = [measured(store.behaviour(each), session.context.task)["action_entropy"] for each in (first, last)]
    assert answer["points"]["env_steps"] == [200, 400]
    assert answer["points"]["action_entropy"] == [
        pytest.approx(list(each), rel=5e-3) for each in zip(*entropies, strict=True)
    ]
    assert entropies[1][1] == 0.0 and answer["points"][idle][1][1] == 1.0 and answer["points"][idle][0][1] < 0.5
    assert answer["unknown"]["entropy"] == "not measured for single agents" and GOOD in answer["unknown"]
    assert "distance" in " ".join(session.call("query_metrics", by_agent=True)["metrics"])
    plain = session.call("query_metrics", names=["entropy", "action_entropy"])
    assert plain["unknown"] == {"action_entropy": "read it with by_agent"}


def test_agents_of_a_branch_are_told_seed_by_seed(paired: ScriptedSession) -> None:
    paired.propose(GOOD, OTHER)
    paired.screen()
    branch = next(each for each in paired.context.round.branches if each.arm == "c1")
    still = replace(drifting_behaviour(), actions=np.zeros_like(drifting_behaviour().actions))
    paired.context.trainer.store.told = {branch.segments[1]: still}
    call = {"source": branch.name, "names": ["action_entropy"], "by_agent": True}
    (first, *_) = paired.call("query_metrics", **call, by_seed=True)["points"]["action_entropy"]
    assert first[0][0] > 1.5 and first[1] == [0.0]
    (pooled, *_) = paired.call("query_metrics", **call)["points"]["action_entropy"]
    assert pooled == [pytest.approx(first[0][0] / 2, rel=1e-2)]


def test_without_evidence_of_behaviour_no_agent_is_told_apart(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"deliberation": DeliberationSettings(behaviour=False)})
    with ScriptedSession(tmp_path, by_arm({}), settings=settings) as session:
        with pytest.raises(ToolRefused, match="Found by_agent in a session without evidence of behaviour"):
            session.call("query_metrics", names=["action_entropy"], by_agent=True)


def test_without_names_every_metric_is_explained(session: ScriptedSession) -> None:
    answer = session.call("query_metrics")
    assert set(answer["metrics"]) == set(METRICS) - OF_VALUES | {"evaluation_sparse_return", "evaluation_progress"}
    assert answer["evidence"] == "E1"


def test_an_unknown_source_is_refused_also_without_names(session: ScriptedSession) -> None:
    with pytest.raises(ToolRefused, match="Found branch 'B9', expected one launched in this round"):
        session.call("query_metrics", source="B9")


def test_names_that_are_known_are_answered_beside_those_that_are_not(session: ScriptedSession) -> None:
    names = ["kl", "entropy", "entropie", "td_loss", "weather"]
    answer = session.call("query_metrics", names=names, points=1)
    assert answer["points"] == {"env_steps": [200], "entropy": [1.35]}
    assert answer["unknown"] == {
        "kl": "did you mean approximate_kl?",
        "entropie": "did you mean entropy?",
        "td_loss": "not logged by this learner on this task",
        "weather": "unknown",
    }
    assert "unknown" not in session.call("query_metrics", names=["entropy"])


def test_a_call_without_any_known_name_is_refused_with_the_known_ones(session: ScriptedSession) -> None:
    with pytest.raises(ToolRefused, match=r"'kl': did you mean approximate_kl\?\), expected some of .*entropy"):
        session.call("query_metrics", names=["kl"])


@pytest.mark.parametrize(
    "window",
    [
        {"first_env_step": 201},
        {"last_env_step": 49},
        {"first_env_step": 150, "last_env_step": 100},
        {"first_env_step": 101, "last_env_step": 149},
    ],
)
def test_a_window_where_nothing_was_logged_is_refused(session: ScriptedSession, window: dict[str, int]) -> None:
    with pytest.raises(ToolRefused, match=r"nothing was logged: metrics exist from 50 to 200"):
        session.call("query_metrics", names=["entropy"], **window)


def test_a_branch_that_is_running_failed_or_unknown_is_refused(session: ScriptedSession) -> None:
    session.pool.score = by_arm({"c2": "The value loss became NaN."})
    session.propose(GOOD, OTHER)
    with pytest.raises(ToolRefused, match=r"Found branch 'B7', expected one launched in this round \(none yet\)"):
        session.call("query_metrics", source="B7", names=["entropy"])
    session.pool.holding = True
    for arm in ("c1", "c2"):
        session.call("launch_branch", arm=arm, purpose="screen")
    with pytest.raises(ToolRefused, match="Found branch B1 running, expected one that is done"):
        session.call("query_metrics", source="B1", names=["entropy"])
    session.pool.release()
    for branch in ("B1", "B2"):
        session.call("read_branch", branch=branch)
    session.call("query_metrics", source="B1", names=["entropy"])
    with pytest.raises(ToolRefused, match="Found branch B2 failed"):
        session.call("query_metrics", source="B2", names=["entropy"])


# summarize_trajectories -----------------------------------------------------------------------


def test_a_summary_has_the_most_tokens_asked_for_and_becomes_the_rounds_evidence(session: ScriptedSession) -> None:
    lengths = []
    for most in (None, 900, 600):
        answer = session.call("summarize_trajectories", most_tokens=most)
        text = compact(answer["summary"])
        assert session.context.count_tokens(text) <= (most or SETTINGS.deliberation.evidence_tokens)
        assert json.loads(session.context.round.evidence_summary) == answer["summary"]
        lengths.append(len(text))
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < lengths[0]
    assert answer["env_steps"] == 200


def test_a_summary_of_a_branch_is_no_evidence_about_the_main_run(session: ScriptedSession) -> None:
    session.propose(GOOD, OTHER)
    branch = session.call("launch_branch", arm="c1", purpose="screen")["branch"]
    session.call("read_branch", branch=branch)
    answer = session.call("summarize_trajectories", source=branch)
    assert answer["env_steps"] == 400
    assert session.context.round.evidence_summary is None


def test_what_a_log_of_before_calls_otherwise_is_read() -> None:
    assert SummarizeTrajectories.model_validate({"budget_tokens": 300}).most_tokens == 300
    assert SessionState.model_validate({"spent": 5}).twin_steps == 5
    assert SessionState(twin_steps=5).model_dump()["twin_steps"] == 5


def test_too_few_tokens_for_any_summary_is_refused(session: ScriptedSession) -> None:
    with pytest.raises(ToolRefused, match=r"shortest behaviour summary takes \d+ tokens, expected at most 200"):
        session.call("summarize_trajectories", most_tokens=200)
    assert session.context.round.evidence_summary is None


def test_more_tokens_than_the_session_allows_is_refused(session: ScriptedSession) -> None:
    limit = SETTINGS.deliberation.evidence_tokens
    with pytest.raises(ToolRefused, match=f"Found most_tokens {limit + 1}, expected at most {limit}"):
        session.call("summarize_trajectories", most_tokens=limit + 1)
    session.call("summarize_trajectories", most_tokens=limit)


def test_a_summary_of_a_running_branch_is_refused(session: ScriptedSession) -> None:
    session.propose(GOOD, OTHER)
    session.pool.holding = True
    session.call("launch_branch", arm="c1", purpose="screen")
    with pytest.raises(ToolRefused, match="Found branch B1 running"):
        session.call("summarize_trajectories", source="B1")


def test_nobody_sees_the_numbers_of_a_confirmation_before_it_is_judged(session: ScriptedSession) -> None:
    session.propose(GOOD)
    for arm in ("control", "c1"):
        session.call("launch_branch", arm=arm, purpose="confirm")
    before = session.call("read_branch", branch="B2")
    assert before["status"] == "done" and before["mean"] == {"sparse_return": None, "progress": None}
    assert "once it is judged" in before["note"]
    for name, arguments in {"summarize_trajectories": {}, "query_metrics": {"names": ["progress"]}}.items():
        with pytest.raises(ToolRefused, match="Found B2, a branch of a confirmation that is not judged yet"):
            session.call(name, source="B2", **arguments)
    session.confirm("c1")
    after = session.call("read_branch", branch="B2")
    assert after["mean"]["progress"] is not None and "note" not in after
    assert session.call("query_metrics", source="B2", names=["progress"])["evidence"]


# submit_diagnosis -----------------------------------------------------------------------------


def diagnosis(*evidence: str) -> dict:
    """A diagnosis with one failure per evidence id."""
    failures = [{"description": f"Failure {name}.", "evidence": [name]} for name in evidence]
    return {"stage": "exploring", "failures": failures, "advice": "Reward coverage."}


def test_an_accepted_diagnosis_is_in_the_ledger_and_in_the_round(session: ScriptedSession) -> None:
    session.call("query_metrics", names=["entropy"])
    session.call("summarize_trajectories")
    assert session.call("submit_diagnosis", **diagnosis("E1", "E2")) == {"accepted": True}
    (row,) = session.rows("diagnoses")
    assert (
        (row["id"], row["stage"])
        == (f"{SESSION}/D1", "exploring")
        == (session.context.round.diagnosis_id, session.context.round.diagnosis.stage)
    )


def test_a_diagnosis_that_cites_what_nobody_measured_is_refused(session: ScriptedSession) -> None:
    session.call("query_metrics", names=["entropy"])
    with pytest.raises(ToolRefused, match="Found evidence id E2, which is not among the results you have read"):
        session.call("submit_diagnosis", **diagnosis("E1", "E2"))
    with pytest.raises(ToolRefused, match="evidence"):
        session.call("submit_diagnosis", **diagnosis("the metrics"))
    assert session.rows("diagnoses") == []
    assert session.context.round.diagnosis is None


# submit_proposal ------------------------------------------------------------------------------


def test_candidates_are_named_and_recorded(session: ScriptedSession) -> None:
    assert session.propose(GOOD, OTHER) == ["c1", "c2"]
    assert [row["id"] for row in session.rows("candidates")] == [f"{SESSION}/P1.0/c1", f"{SESSION}/P1.0/c2"]
    (proposal,) = session.rows("proposals")
    assert proposal["diagnosis_id"] == f"{SESSION}/D1"
    assert [row["shaping_hash"] for row in session.rows("candidates")] == [
        each.shaping.hash() for each in session.candidates()
    ]


def test_annealing_starts_at_the_present_position(session: ScriptedSession) -> None:
    session.diagnose()
    session.call("submit_proposal", candidates=[draft(GOOD, anneal_steps=1000), draft(OTHER)])
    annealed, constant = (each.shaping for each in session.candidates())
    assert (annealed.anneal.start, annealed.anneal.end) == (200, 1200)
    assert constant.anneal is None


def test_too_many_candidates_are_refused(session: ScriptedSession) -> None:
    session.diagnose()
    potentials = (GOOD, OTHER, THIRD, "spacing")
    with pytest.raises(ToolRefused, match="Found 4 candidates, expected at most 3"):
        session.propose(*potentials)
    assert session.propose(*potentials[:3]) == ["c1", "c2", "c3"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (draft("no_such_feature"), "no_such_feature"),
        (draft("coverage_distance +"), "candidate 2 (of 2): "),
        (draft("1 / collisions"), "divisor"),
        (draft(GOOD, weight=-1.01), "nearly equal to your candidate 1"),
        (draft(GOOD, beta=0.0), "nearly equal to the shaping in force"),
        (draft(OTHER, weight=0.0) | {"beta": 0.5}, "weight 0"),
    ],
)
def test_nothing_is_accepted_unless_every_candidate_is(session: ScriptedSession, wrong: dict, message: str) -> None:
    session.diagnose()
    with pytest.raises(ToolRefused) as refused:
        session.call("submit_proposal", candidates=[draft(GOOD), wrong])
    assert message in str(refused.value)
    assert session.rows("proposals") == session.rows("candidates") == session.context.round.proposals == []
    assert session.call("submit_proposal", candidates=[draft(GOOD), draft(OTHER)])["accepted"] == ["c1", "c2"]


def test_every_refused_candidate_is_told_of(session: ScriptedSession) -> None:
    session.diagnose()
    with pytest.raises(ToolRefused, match=r"candidate 1 \(of 3\): .*candidate 3 \(of 3\): ") as refused:
        session.call("submit_proposal", candidates=[draft("nothing"), draft(GOOD), draft("less")])
    assert "candidate 2" not in str(refused.value)


def test_a_refinement_goes_on_counting_and_refuses_what_was_tried(session: ScriptedSession) -> None:
    session.pool.score = by_arm({("screen", "c1"): 0.01, "c2": -0.01})
    assert session.judged(GOOD, OTHER) == "fail"
    session.refine()
    for potential, outcome in ((GOOD, "failed"), (OTHER, "screened out")):
        name = "c1" if potential == GOOD else "c2"
        with pytest.raises(ToolRefused, match=rf"equal to {name}, which was tried in this round \({outcome}\)"):
            session.propose(potential)
    assert session.propose(THIRD) == ["c3"]
    assert session.rows("candidates")[-1]["id"] == f"{SESSION}/P1.1/c3"


def test_what_an_earlier_round_tried_may_be_tried_again(session: ScriptedSession) -> None:
    session.pool.score = by_arm({"c1": 0.0})
    assert session.judged(GOOD) == "fail"
    session.call("keep", reason="It failed.")
    session.train_stage()
    session.open_round()
    assert session.propose(GOOD) == ["c1"]


# the Generator's own record -----------------------------------------------------------------


def own_forecasts(session: ScriptedSession) -> dict | None:
    return json.loads(brief(session.context, "generator").partition("\n")[2]).get("your_forecasts")


def test_the_generator_is_told_how_its_forecasts_came_out(session: ScriptedSession) -> None:
    assert own_forecasts(session) is None, "none is made"
    session.propose(GOOD, OTHER)
    assert own_forecasts(session) is None, "none is scored"
    session.screen()
    told = own_forecasts(session)
    assert (told["n"], told["always_saying_half"]) == (2, 0.25)
    gains = {each["candidate"]: each["difference"] for each in told["last"]}
    came_true = [gain > 0 for gain in gains.values()]
    assert gains["c1"] == pytest.approx(0.03) and came_true == [True, False]
    assert told["brier"] == pytest.approx((0.3**2 + 0.7**2) / 2)  # a probability of 0.7 for both
    assert told["calibration"] == [{"said": 0.7, "came_true": 0.5, "n": 2}]
    assert {each["probability"] for each in told["last"]} == {0.7} and len(json.dumps(told)) < 600


def test_the_record_is_the_present_backends_own(session: ScriptedSession) -> None:
    session.propose(GOOD, OTHER)
    session.screen()
    with session.ledger.transaction("another backend"):
        session.ledger.add(
            "agents",
            session_id=SESSION,
            role="generator",
            spec="openai/gpt-4.1",
            source="test",
            prompt="prompt",
            tools=[],
            since=now(),
        )
    assert own_forecasts(session) is None, "it has made none"
