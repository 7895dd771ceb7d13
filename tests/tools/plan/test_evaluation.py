"""What a segment is evaluated on: what its purpose needs, and held-out episodes that a pair alone shares."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore, rollout_size
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, PlayedSets, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.evaluation import PLAYED, evaluated_for, evaluation_env_steps
from learning_signal.tools.plan.settings import SessionSettings

RUN = RunSettings(
    task="spread",
    learner=LearnerSettings(environments=8, hidden=(8,), minibatches=2, epochs=1),
    evaluation=EvaluationSettings(episodes=6),
)


SPREAD = make_task("spread", 1).spec


@pytest.mark.parametrize("purpose", PLAYED)
def test_the_plan_counts_what_is_played(purpose, tmp_path):
    """Episodes of `spread` have one length, so what is planned at most is what is played."""
    steps = 4 * rollout_size(RUN)
    run = evaluated_for(RUN, purpose, 3, 4)
    spec = SegmentSpec(run=run, parent=None, shaping=ShapingConfig.none(), env_steps=steps, seed=3)
    result = run_segment(spec, SegmentStore(tmp_path))
    planned = evaluation_env_steps(RUN, purpose, steps, SPREAD, 4)
    assert result.evaluation_steps == planned > 0
    every = 3 * 4 * 6 * 25
    assert planned < every


@pytest.mark.parametrize("purpose", ["screen", "confirm"])
def test_branches_share_held_out_episodes_with_their_pair_alone(purpose):
    one, same, other = (evaluated_for(RUN, purpose, seed) for seed in (1, 1, 2))
    assert one.held_out_seed == same.held_out_seed not in (None, other.held_out_seed)
    elsewhere = evaluated_for(RUN.model_copy(update={"evaluation_seed": 1}), purpose, 1)
    assert elsewhere.held_out_seed != one.held_out_seed
    assert {each.evaluation_seed for each in (one, other)} == {RUN.evaluation_seed}, "the query episodes"


@pytest.mark.parametrize("purpose", ["main", "twin", "search", "training"])
def test_what_is_no_branch_is_measured_on_the_same_episodes_always(purpose):
    assert {evaluated_for(RUN, purpose, seed).held_out_seed for seed in (1, 2)} == {None}


@pytest.mark.parametrize("purpose", ["screen", "confirm"])
def test_a_branch_plays_what_the_gate_compares_and_nothing_else(purpose):
    played = dict(evaluated_for(RUN, purpose, 1).evaluation.played)
    assert played.pop(purpose) == "later half" and set(played.values()) == {"never"}


@pytest.mark.parametrize("purpose", ["main", "twin", "search"])
def test_what_head_moves_along_is_reported_at_its_end(purpose):
    assert evaluated_for(RUN, purpose, 1).evaluation.played.report == "last"


def test_nothing_is_played_for_a_report_unless_it_is_asked_for():
    assert RUN.evaluation.played.report == "never"
    assert evaluated_for(RUN, "training", 1).evaluation.played.report == "never"


@pytest.mark.parametrize(
    ("change", "name"),
    [({"held_out_seed": 1}, "held_out_seed"), ({"evaluation": {"played": {"confirm": "never"}}}, "evaluation.played")],
)
def test_a_configuration_that_chooses_episodes_is_refused(change, name):
    with pytest.raises(ValidationError, match=f"found run.{name}, which follows from what a segment is trained for"):
        SessionSettings.model_validate({"run": change})
    assert SessionSettings.model_validate(SessionSettings().model_dump()).run.evaluation.played == PlayedSets()
