"""A run begins with another's state as if it went on, or with a policy's weights and everything else new."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from learning_signal.marl.learners import make_learner
from learning_signal.marl.learners.weights import named_weights
from learning_signal.marl.policies.files import export_segment, load_policy
from learning_signal.marl.policies.roots import CannotBegin, from_policy, from_segment
from learning_signal.marl.segments.checkpoint import load_checkpoint
from learning_signal.marl.segments.segment import SegmentResult, SegmentSpec, SegmentStore
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task

LEARNERS = {
    "mappo": {"hidden": (8,), "environments": 8, "epochs": 2, "minibatches": 1},
    "qmix": {"algorithm": "qmix", "hidden": (8,), "environments": 8},
}


def run_of(name: str, **changes: object) -> RunSettings:
    learner = LearnerSettings(**LEARNERS[name] | changes)
    return RunSettings(learner=learner, evaluation=EvaluationSettings(episodes=8, points=2))


def trained(store: SegmentStore, run: RunSettings, parent: str | None, seed: int) -> SegmentResult:
    spec = SegmentSpec(run=run, parent=parent, shaping=ShapingConfig.none(), env_steps=400, seed=seed)
    return run_segment(spec, store)


@pytest.mark.parametrize("name", LEARNERS)
def test_from_a_segment_training_goes_on_to_the_same_bits(tmp_path: Path, name: str) -> None:
    first, second, run = SegmentStore(tmp_path / "a"), SegmentStore(tmp_path / "b"), run_of(name)
    begun = trained(first, run, None, 1)
    on = trained(first, run, begun.id, 2)
    root = from_segment(second, run, first.checkpoint_path(begun.id))
    assert (root.start_env_steps, root.end_env_steps, root.env_steps) == (400, 400, 0)
    assert root.policy == begun.policy and root.id not in (begun.id, on.id)
    again = trained(second, run, root.id, 2)
    assert again.end_env_steps == on.end_env_steps == 800
    assert again.policy == on.policy and again.updates == on.updates
    assert from_segment(second, run, first.checkpoint_path(begun.id)).id == root.id, "the same content, once"


@pytest.mark.parametrize("name", LEARNERS)
def test_from_a_policy_its_weights_come_and_the_rest_is_new(tmp_path: Path, name: str) -> None:
    store, run = SegmentStore(tmp_path / "a"), run_of(name)
    begun = trained(store, run, None, 1)
    export_segment(tmp_path / "policy", begun.id, store, run, ShapingConfig.none())
    root = from_policy(store, run, load_policy(tmp_path / "policy"))
    assert root.policy == begun.policy and root.end_env_steps == 400
    spec = make_task(run.task, 1).spec
    loaded, new = (make_learner(spec, run.learner, 0) for _ in range(2))
    load_checkpoint(store.checkpoint_path(root.id), loaded)
    weights = {id(each.untyped_storage()) for each in named_weights(loaded.policy).values()}
    assert weights
    fresh, there = new.tensors(), loaded.tensors()
    differ = {key for key in fresh if not torch.equal(fresh[key], there[key])}
    assert differ and len(differ) < len(fresh), "the policy is another, critics and optimisers are new"
    for key in differ:
        if key.endswith("_target"):
            assert torch.equal(there[key], there[key.removesuffix("_target")]), "targets begin where the networks do"
    assert trained(store, run, root.id, 2).end_env_steps == 800


def test_other_networks_are_refused_in_a_sentence(tmp_path: Path) -> None:
    store, run = SegmentStore(tmp_path / "a"), run_of("mappo")
    begun = trained(store, run, None, 1)
    export_segment(tmp_path / "policy", begun.id, store, run, ShapingConfig.none())
    wider = run_of("mappo", hidden=(16,))
    with pytest.raises(CannotBegin, match="same task and learner"):
        from_policy(store, wider, load_policy(tmp_path / "policy"))
    for other in (wider, run_of("qmix")):
        with pytest.raises(CannotBegin, match="same task and learner"):
            from_segment(store, other, store.checkpoint_path(begun.id))
