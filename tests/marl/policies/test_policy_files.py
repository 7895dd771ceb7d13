"""Exported policies act exactly like the checkpoints they come from, and what is not one is refused in one sentence."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from learning_signal.marl.learners import make_learner
from learning_signal.marl.learners.policy import Inputs, Player, greedy, sample
from learning_signal.marl.learners.weights import named_weights, weights_hash
from learning_signal.marl.policies.files import (
    DESCRIPTION,
    WEIGHTS,
    PolicyFileError,
    export_segment,
    load_policy,
    save_policy,
)
from learning_signal.marl.segments.checkpoint import load_checkpoint
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore, rollout_size
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from tests.support.sanity_tasks import make_sanity_task

KINDS = [
    ("cue", "mappo", "none"),
    ("recall", "ippo", "gru"),
    ("number", "mappo", "none"),
    ("crew-leaving", "ippo", "none"),
    ("crew-leaving", "mappo", "gru"),
    ("cue", "qmix", "none"),
]
SHAPING = ShapingConfig.parse({"beta": 0.5, "terms": [{"potential": "right_share", "weight": 1.0, "scope": "team"}]})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """``(task, algorithm, memory) -> (store, segment spec, folder of its export)``, each made once."""
    made = {}

    def make(task: str, algorithm: str, memory: str):
        key = (task, algorithm, memory)
        if key not in made:
            root = tmp_path_factory.mktemp("-".join(key))
            run = RunSettings(
                task=task,
                learner=LearnerSettings(algorithm=algorithm, memory=memory, hidden=(8, 8), environments=16, epochs=1),
                evaluation=EvaluationSettings(episodes=8, points=2),
            )
            size = rollout_size(run, make_sanity_task(task, 1).spec)
            spec = SegmentSpec(run=run, parent=None, shaping=SHAPING, env_steps=2 * size, seed=3)
            store = SegmentStore(root / "segments")
            run_segment(spec, store, make_task=make_sanity_task)
            export_segment(root / "policy", spec.id, store, run, SHAPING, make_sanity_task)
            made[key] = store, spec, root / "policy"
        return made[key]

    return make


def checkpoint_actions(store: SegmentStore, spec: SegmentSpec, observations: np.ndarray, choose, seed: int = 0):
    """What the learner in the checkpoint itself does with ``observations [T, E, A, O]``."""
    task = make_sanity_task(spec.run.task, 1).spec
    learner = make_learner(task, spec.run.learner, 1)
    load_checkpoint(store.checkpoint_path(spec.id), learner)
    environments = observations.shape[1]
    player, inputs = Player(learner.policy, environments), Inputs(task, (environments,))
    generator, actions = np.random.Generator(np.random.PCG64(seed)), []
    for one in observations:
        inputs.write(one)
        shape = (environments, task.agents, learner.policy.distribution.width)
        draws = torch.from_numpy(generator.random(shape, dtype=np.float32))
        actions.append(player.act(inputs.groups, draws, choose).numpy().copy())
    return np.stack(actions)


def some_observations(name: str, steps: int = 3, environments: int = 6) -> np.ndarray:
    spec = make_sanity_task(name, 1).spec
    shape = (steps, environments, spec.agents, spec.observation_size)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_policy_acts_bit_for_bit_like_its_checkpoint(trained, tmp_path, kind):
    store, spec, folder = trained(*kind)
    alone = tmp_path / "elsewhere"
    shutil.copytree(folder, alone)  # nothing but the two files
    assert sorted(each.name for each in alone.iterdir()) == [DESCRIPTION, WEIGHTS]
    observations = some_observations(kind[0])
    loaded = load_policy(alone)
    actions = np.stack([loaded.act(one) for one in observations])
    expected = checkpoint_actions(store, spec, observations, greedy)
    if kind[0] == "number":
        expected = np.clip(expected, -1, 1)
    np.testing.assert_array_equal(actions, expected)
    assert actions.dtype == (np.float32 if kind[0] == "number" else np.int64)


def test_other_weights_would_act_differently(trained):
    """Negative control: the comparison above can fail."""
    store, spec, folder = trained("number", "mappo", "none")
    loaded = load_policy(folder)
    loaded.policy.actors[0].parameters.mul_(1.001)
    observations = some_observations("number")
    actions = np.stack([loaded.act(one) for one in observations])
    assert (actions != np.clip(checkpoint_actions(store, spec, observations, greedy), -1, 1)).any()


def test_sampled_actions_are_those_of_the_same_draws(trained):
    store, spec, folder = trained("cue", "mappo", "none")
    observations = some_observations("cue", environments=50)
    for seed in (5, 6):
        loaded = load_policy(folder, sampled=True, seed=seed)
        actions = np.stack([loaded.act(one) for one in observations])
        np.testing.assert_array_equal(actions, checkpoint_actions(store, spec, observations, sample, seed))
    assert len(np.unique(actions)) == 3
    assert (actions != np.stack([load_policy(folder, sampled=True, seed=5).act(one) for one in observations])).any()


def test_a_policy_remembers_until_it_is_reset(trained):
    _, _, folder = trained("recall", "ippo", "gru")
    policy = load_policy(folder)
    first, second = some_observations("recall", steps=2)

    def memory() -> torch.Tensor:
        return policy._player._memories[0].clone()

    policy.act(first)
    fresh = memory()
    policy.act(second)
    assert not torch.equal(memory(), fresh)
    policy.reset()
    policy.act(first)
    assert torch.equal(memory(), fresh)
    policy.reset(np.arange(6) == 2)
    agents = len(fresh) // 6
    forgotten = memory().view(6, agents, -1)[2]
    assert not forgotten.any() and memory().view(6, agents, -1)[1].any()


def test_the_description_says_what_the_policy_is(trained):
    store, spec, folder = trained("crew-leaving", "ippo", "none")
    said = json.loads((folder / DESCRIPTION).read_text())
    task = make_sanity_task("crew-leaving", 1).spec
    assert [(each["name"], tuple(each["agents"])) for each in said["groups"]] == [
        (each.name, each.agents) for each in task.groups
    ]
    assert said["segment"] == spec.id and said["shaping"] == SHAPING.canonical()
    assert said["env_steps"] == spec.env_steps and said["learner"]["hidden"] == [8, 8]
    measured, stored = said["evaluation"], store.load_result(spec.id).evaluations_of("confirm")[-1]
    assert measured["episodes"] == 8 and measured["sparse_return"] == stored.sparse_return
    assert measured["low"] <= measured["sparse_return"] <= measured["high"]
    from safetensors.numpy import load_file

    names = set(load_file(folder / WEIGHTS))
    for group in task.groups:
        assert {f"{group.name}.layer_0.weight", f"{group.name}.output.bias"} <= names


def test_a_recurrent_policy_names_its_gates(trained):
    from safetensors.numpy import load_file

    _, _, folder = trained("recall", "ippo", "gru")
    names = {name.partition(".")[2] for name in load_file(folder / WEIGHTS)}
    parts = ("layer", "input_gates", "memory_gates", "output")
    assert names == {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}


def test_acting_refuses_what_the_policy_does_not_know(trained):
    _, _, folder = trained("cue", "mappo", "none")
    policy = load_policy(folder)
    with pytest.raises(PolicyFileError, match=r"shape \(4, 3, 3\), expected environments x 2 agents x 3"):
        policy.act(np.zeros((4, 3, 3)))
    policy.act(np.zeros((4, 2, 3)))
    with pytest.raises(PolicyFileError, match="acted in 4 environments and now got 5"):
        policy.act(np.zeros((5, 2, 3)))
    policy.reset()
    assert policy.act(np.zeros((5, 2, 3))).shape == (5, 2)


def test_values_cannot_be_sampled(trained):
    _, _, folder = trained("cue", "qmix", "none")
    with pytest.raises(PolicyFileError, match="qmix policy for cue was asked to draw"):
        load_policy(folder, sampled=True)


def _no_description(folder: Path) -> None:
    (folder / DESCRIPTION).unlink()


def _no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _no_json(folder: Path) -> None:
    (folder / DESCRIPTION).write_text("{")


def _other_format(folder: Path) -> None:
    path = folder / DESCRIPTION
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


def _no_safetensors(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"these are no weights")


def _cut_short(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-40])


def _other_layers(folder: Path) -> None:
    path = folder / DESCRIPTION
    said = json.loads(path.read_text())
    said["learner"]["hidden"] = [8, 9]
    path.write_text(json.dumps(said))


def _another_tensor(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = folder / WEIGHTS
    save_file(load_file(path) | {"agents.extra": np.zeros(2, np.float32)}, path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_no_description, "There is no policy.json"),
        (_no_weights, "There is no policy.safetensors"),
        (_no_json, "not the description of a policy of format 1"),
        (_other_format, r"format 1 \(format:"),
        (_no_safetensors, "expected a safetensors file"),
        (_cut_short, "expected a safetensors file"),
        (_other_layers, r"holds \(8, 8\) for agents.layer_1.weight, but policy.json describes \(8, 9\)"),
        (_another_tensor, r"holds \(2,\) for agents.extra, but policy.json describes nothing"),
    ],
)
def test_a_wrong_file_is_one_sentence(trained, tmp_path, damage, words):
    _, _, folder = trained("cue", "mappo", "none")
    copy = tmp_path / "policy"
    shutil.copytree(folder, copy)
    load_policy(copy)  # nothing is wrong yet
    damage(copy)
    with pytest.raises(PolicyFileError, match=words) as caught:
        load_policy(copy)
    assert "\n" not in str(caught.value)


def test_saving_again_replaces_both_files(trained, tmp_path):
    _, _, folder = trained("cue", "mappo", "none")
    policy = load_policy(folder)
    policy.policy.actors[0].parameters.add_(1.0)
    for _ in range(2):
        save_policy(tmp_path / "p", policy.policy, policy.description)
    again = load_policy(tmp_path / "p")
    assert torch.equal(again.policy.actors[0].parameters, policy.policy.actors[0].parameters)
    assert sorted(each.name for each in (tmp_path / "p").iterdir()) == [DESCRIPTION, WEIGHTS]


@pytest.mark.parametrize("kind", KINDS)
def test_hashes_tell_what_was_trained_and_not_where(trained, tmp_path: Path, kind: tuple[str, str, str]) -> None:
    store, spec, folder = trained(*kind)
    first = store.load_result(spec.id)
    again = run_segment(spec, SegmentStore(tmp_path), make_task=make_sanity_task)
    assert (again.checkpoint, again.policy) == (first.checkpoint, first.policy)
    assert first.checkpoint == hashlib.sha256(store.checkpoint_path(spec.id).read_bytes()).hexdigest()
    weights = named_weights(load_policy(folder).policy)
    assert weights_hash(weights) == first.policy
    weights["new"] = weights.pop(next(iter(weights)))
    assert weights_hash(weights) != first.policy
    other = run_segment(spec.model_copy(update={"seed": 4}), store, make_task=make_sanity_task)
    assert other.checkpoint != first.checkpoint and other.policy != first.policy
