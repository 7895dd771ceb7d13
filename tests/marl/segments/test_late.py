"""Late evaluation: what is played at the end of a stored segment is what the segment would have played itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from learning_signal.marl.errors import SegmentImpossible
from learning_signal.marl.segments.late import LATE, behaviour_of, complete, late_evaluation, played_again
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore, rollout_size
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, PlayedSets, RunSettings
from learning_signal.marl.shaping import ShapingConfig, Term

SHAPING = ShapingConfig(terms=(Term(potential="coverage_distance", weight=-1.0, scope="team"),), beta=1.0)


def run(algorithm: str = "mappo", memory: str = "none", **played: str) -> RunSettings:
    learner = LearnerSettings(
        algorithm=algorithm, memory=memory, hidden=(8, 8), environments=8, epochs=1, minibatches=2
    )
    evaluation = EvaluationSettings(episodes=6, points=2, played=PlayedSets(**played))
    return RunSettings(learner=learner, evaluation=evaluation)


def branch(settings: RunSettings) -> SegmentSpec:
    held_out = settings.model_copy(update={"held_out_seed": 5})
    return SegmentSpec(run=held_out, parent=None, shaping=SHAPING, env_steps=2 * rollout_size(settings), seed=7)


def branched(store: SegmentStore, **learner: str) -> tuple[RunSettings, SegmentResult]:
    """A branch that played what a gate compares, and the settings of its run."""
    own = branch(run(query="never", screen="never", confirm="later half", **learner))
    return run(**learner), run_segment(own, store)


@pytest.mark.parametrize("learner", [{}, {"memory": "gru"}, {"algorithm": "qmix"}])
def test_a_late_evaluation_is_the_one_that_the_segment_would_have_played(tmp_path, learner):
    store = SegmentStore(tmp_path)
    settings, late = branched(store, **learner)
    whole = run_segment(
        branch(run(query="last", screen="never", confirm="later half", report="last", **learner)), store
    )
    assert whole.id != late.id and whole.updates == late.updates
    assert {each.set for each in complete(store, settings, late.id).evaluations} == {"confirm"}
    for name in LATE:
        spec = late_evaluation(settings, late.id, name)
        result = run_segment(spec, store)
        (played,) = result.evaluations
        (same,) = whole.evaluations_of(name)
        assert played.model_dump(exclude={"points"}) == same.model_dump(exclude={"points"})
        assert (result.env_steps, result.end_env_steps) == (0, whole.end_env_steps)
        assert result.evaluation_steps == 6 * 25 and run_segment(spec, store).reused
    found = complete(store, settings, late.id)
    assert [each.set for each in found.evaluations] == ["confirm", "query", "report"]
    assert found.reported.sparse_returns == whole.reported.sparse_returns and found.reported.set == "report"
    one, other = behaviour_of(store, settings, late.id), store.behaviour(whole.id)
    assert np.array_equal(one.actions, other.actions) and np.array_equal(one.rewards, other.rewards)
    assert all(np.array_equal(values, other.features[name], equal_nan=True) for name, values in one.features.items())


def test_each_set_is_a_segment_of_its_own_that_leaves_no_checkpoint(tmp_path):
    store = SegmentStore(tmp_path)
    settings, late = branched(store)
    query, report = (late_evaluation(settings, late.id, name) for name in LATE)
    assert len({query.id, report.id, late_evaluation(settings, "s" + "0" * 16, "query").id}) == 3
    for spec in (query, report):
        run_segment(spec, store)
        assert not store.checkpoint_path(spec.id).exists()
    assert behaviour_of(store, settings, late.id).sparse_returns.shape == (6,)
    with pytest.raises(SegmentImpossible, match="behaviour record"):
        store.behaviour(report.id)


def test_nothing_is_read_of_a_set_that_nobody_has_played(tmp_path):
    store = SegmentStore(tmp_path)
    settings, late = branched(store)
    with pytest.raises(SegmentImpossible, match="behaviour record"):
        behaviour_of(store, settings, late.id)
    gone = late_evaluation(settings, "s" + "0" * 16, "query")
    with pytest.raises(SegmentImpossible, match="parent segment s0000000000000000 is not in"):
        run_segment(gone, store)


def test_without_a_parent_there_is_nothing_to_evaluate(tmp_path: Path):
    spec = branch(run()).model_copy(update={"env_steps": 0})
    with pytest.raises(Exception, match="A segment of 0 env steps is not a whole number of rollouts"):
        run_segment(spec, SegmentStore(tmp_path))


def test_the_same_episodes_whatever_the_branch_was_held_out_on(tmp_path):
    """Two branches of one policy on different held-out episodes are looked at on the same ones."""
    store = SegmentStore(tmp_path)
    settings, one = branched(store)
    held_out = branch(run(query="never", screen="never", confirm="later half"))
    moved = held_out.model_copy(update={"run": held_out.run.model_copy(update={"held_out_seed": 6})})
    other = run_segment(moved, store)
    judged = [each.evaluations_of("confirm")[-1].progress for each in (one, other)]
    looked = [run_segment(late_evaluation(settings, each.id, "query"), store).evaluations[0] for each in (one, other)]
    assert judged[0] != judged[1] and looked[0].progress == looked[1].progress


@pytest.mark.parametrize("learner", [{}, {"memory": "gru"}, {"algorithm": "qmix"}])
def test_episodes_that_are_played_again_are_those_that_were_recorded_and_leave_nothing(tmp_path, learner):
    store = SegmentStore(tmp_path)
    whole = run_segment(branch(run(query="last", screen="never", confirm="later half", **learner)), store)
    stored = sorted(tmp_path.rglob("*"))
    again, recorded = played_again(store, run(**learner), whole.id), store.behaviour(whole.id)
    assert sorted(tmp_path.rglob("*")) == stored
    for name in ("actions", "rewards", "lengths", "sparse_returns", "progress_means"):
        assert np.array_equal(getattr(again, name), getattr(recorded, name), equal_nan=True)
    for name, values in again.features.items():
        assert np.array_equal(values, recorded.features[name], equal_nan=True)


def test_without_its_checkpoint_a_segment_is_not_played_again(tmp_path):
    store = SegmentStore(tmp_path)
    settings, late = branched(store)
    store.checkpoint_path(late.id).unlink()
    with pytest.raises(SegmentImpossible, match="cannot be read"):
        played_again(store, settings, late.id)
