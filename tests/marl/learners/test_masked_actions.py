"""Learners under action masks: closed forms, and every algorithm where a forbidden action is an error."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from learning_signal.marl.errors import EnvironmentFailed
from learning_signal.marl.learners import Collector, Timings, make_learner
from learning_signal.marl.learners.distributions import FORBIDDEN, Categorical, forbid
from learning_signal.marl.learners.policy import Player, Policy, greedy, sample
from learning_signal.marl.learners.ppo import APPROXIMATE_KL
from learning_signal.marl.learners.value_decomposition import Values, epsilon_greedy, exploration
from learning_signal.marl.policies.files import LoadedPolicy, PolicyDescription, PolicyFileError
from learning_signal.marl.policies.play import play
from learning_signal.marl.randomness import derive
from learning_signal.marl.segments.evaluation import Evaluator
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from tests.support.masked_environments import BEST, LEAVES, STEPS

HERE = "tests.support.masked_environments:task?"
TASK = f"{HERE}masks=infos"
KINDS = {
    "mappo": {"algorithm": "mappo"},
    "ippo": {"algorithm": "ippo"},
    "mappo with memory": {"algorithm": "mappo", "memory": "gru"},
    "ippo with memory": {"algorithm": "ippo", "memory": "gru"},
    "qmix": {"algorithm": "qmix"},
    "vdn": {"algorithm": "vdn"},
}


def settings(kind: str, **changes: object) -> LearnerSettings:
    own = {"gradient_steps": 16, "batch_size": 128, "exploration_env_steps": 2_000, "learning_rate": 2e-3}
    sizes = {"environments": 16, "hidden": (32, 32), "learning_rate": 5e-3, "minibatches": 2, "q_learning": own}
    return LearnerSettings.model_validate(sizes | KINDS[kind] | changes)


def rollout_of(learner, task, given: LearnerSettings, update: int = 0):
    one = Collector(task, given, None, learner.keeps)
    position, seed = update * one.size, derive(5, update)
    choose, numbers = learner.behaviour(position), np.random.default_rng(seed)
    return one.collect(learner.policy, choose, position, seed, numbers, Timings())


# --- closed forms ---


def masked(rows: int = 500, actions: int = 5):
    """Outputs ``[actions, rows]``, what is allowed ``[rows, actions + 1]``, and a fine grid of draws."""
    numbers = torch.Generator().manual_seed(2)
    outputs = 3 * torch.randn(actions, rows, generator=numbers)
    allowed = torch.rand(rows, actions + 1, generator=numbers) < 0.4
    allowed[torch.arange(rows), torch.randint(actions, (rows,), generator=numbers)] = True
    return outputs, allowed


def test_probabilities_entropy_and_gradient_are_those_of_the_allowed_actions_alone():
    outputs, allowed = masked(60)
    pull, push = torch.randn(outputs.shape[1]), 0.3
    taken = forbid(outputs.clone(), allowed).argmax(0)
    told = Categorical().taken(forbid(outputs.clone(), allowed), taken)
    gradient = told.gradient(pull, push)
    assert torch.equal(Categorical().log_probability(forbid(outputs.clone(), allowed), taken), told.log_probability)
    for row in range(outputs.shape[1]):
        few = allowed[row, :5].nonzero()[:, 0]
        logits = outputs[few, row].clone().requires_grad_()
        alone = torch.distributions.Categorical(logits=logits)
        chosen = (few == taken[row]).nonzero()[0, 0]
        (pull[row] * alone.log_prob(chosen) + push * alone.entropy()).backward()
        assert told.log_probability[row] == pytest.approx(alone.log_prob(chosen).item(), abs=1e-5)
        assert told.entropy[row] == pytest.approx(alone.entropy().item(), abs=1e-5)
        assert torch.allclose(gradient[few, row], logits.grad, atol=1e-5)
        assert not gradient[~allowed[row, :5], row].any()


class _Fixed:
    """An actor that always gives the same outputs."""

    def __init__(self, outputs: torch.Tensor) -> None:
        self.given, self.parameters = outputs, outputs

    def workspace(self, rows):
        return None

    memory = workspace

    def step(self, inputs, memory, workspace, out=None):
        return self.given.clone() if out is None else out.copy_(self.given)


def act(outputs: torch.Tensor, allowed: torch.Tensor, draws: torch.Tensor, choose, distribution=None) -> torch.Tensor:
    """What a player of one agent per environment chooses for ``outputs [actions, rows]``."""
    spec = make_task("spread?agents=1", 1).spec
    player = Player(Policy(spec, [_Fixed(outputs)], distribution or Categorical()), outputs.shape[1])
    inputs = [torch.zeros(outputs.shape[1], 1, 1)]
    return player.act(inputs, draws[:, None, None], choose, allowed=allowed[:, None])[:, 0].clone()


@pytest.mark.parametrize("draw", [0.0, 0.3, 0.999, float(np.float32(1 - 2**-24))])
def test_no_draw_gives_a_forbidden_action(draw):
    outputs, allowed = masked(20_000)
    rows = torch.arange(outputs.shape[1])
    chosen = act(outputs, allowed, torch.full((len(rows),), draw), sample)
    assert allowed[rows, chosen].all()
    assert torch.equal(
        act(outputs, allowed, torch.full((len(rows),), draw), greedy), forbid(outputs.clone(), allowed).argmax(0)
    )
    if draw > 0.9999:
        # Negative control: by rounding alone the draw would stand for a last action that is not allowed.
        lowered = forbid(outputs.clone(), allowed)
        unchecked = Categorical().sample(lowered, torch.full((len(rows), 1), draw))
        assert not allowed[rows, unchecked].all()


def test_draws_have_the_probabilities_of_the_allowed_actions():
    outputs, allowed = torch.tensor([[0.2], [1.0], [-0.5], [0.7], [2.0]]), torch.tensor([[1, 0, 1, 1, 0]], dtype=bool)
    count = 100_000
    draws = (torch.arange(count) + 0.5) / count
    chosen = act(outputs.expand(-1, count), allowed.expand(count, -1), draws, sample)
    expected = torch.softmax(outputs[[0, 2, 3], 0], 0)
    found = torch.bincount(chosen, minlength=5) / count
    assert torch.allclose(found[[0, 2, 3]], expected, atol=1e-4) and found[[1, 4]].sum() == 0


@pytest.mark.parametrize("epsilon", [1.0, 0.25])
def test_exploration_is_uniform_over_the_allowed_actions(epsilon):
    outputs, allowed = torch.tensor([[9.0], [1.0], [-0.5], [0.7]]), torch.tensor([[0, 1, 1, 1]], dtype=bool)
    count = 120_000
    draws = (torch.arange(count) + 0.5) / count
    chosen = act(
        outputs.expand(-1, count), allowed.expand(count, -1), draws, epsilon_greedy(epsilon, masked=True), Values()
    )
    found = (torch.bincount(chosen, minlength=4) / count).tolist()
    assert found == pytest.approx([0, epsilon / 3 + 1 - epsilon, epsilon / 3, epsilon / 3], abs=1e-4)
    assert epsilon_greedy(0.0, masked=True) is greedy


@pytest.mark.parametrize("kind", ["vdn", "qmix"])
def test_targets_are_those_of_the_best_allowed_actions(kind):
    given = settings(kind)
    task = make_task(TASK, 16)
    learner = make_learner(task.spec, given, 1)
    learner.replay.add(rollout_of(learner, task, given))
    batch = learner.replay.draw(128, np.random.default_rng(0), None, 0)
    assert not bool(batch.after.allowed.all()) and not bool(batch.after.alive.all())
    for one in learner.agents:
        one.part.network.parameters.normal_(generator=torch.Generator().manual_seed(3))
    worth = torch.zeros(128, 2)
    for agent, one in enumerate(learner.agents):
        inputs = one.part.inputs(batch.after).flatten(0, 1)
        online = one.part.network.forward(inputs, one.part.network.workspace(128))
        target = one.target.forward(inputs, one.target.workspace(128))
        for row in range(128):
            few = batch.after.allowed[row, agent].nonzero()[:, 0]
            best = few[online[few, row].argmax()]
            worth[row, agent] = target[best, row] * batch.after.alive[row, agent]
    taken = torch.stack(
        [
            one.part.network.forward(one.part.inputs(batch.before).flatten(0, 1), one.part.network.workspace(128))
            .gather(0, batch.actions[:, agent][None])[0]
            .clone()
            for agent, one in enumerate(learner.agents)
        ],
        dim=1,
    )
    if kind == "vdn":
        targets = batch.rewards + 0.99 * worth.sum(1) * ~batch.terminated
        values = (taken * batch.before.alive).sum(1)
        expected = float((values - targets).square().mean() / 2)
        assert float(learner._gradient_step(batch)[0]) == pytest.approx(expected, rel=1e-4)
        return
    seen = {}
    original = learner._joint
    learner._joint = lambda values, moment, weights: (
        seen.setdefault(len(seen), values.detach().clone()),
        original(values, moment, weights),
    )[1]
    learner._gradient_step(batch)
    assert torch.allclose(seen[0] * batch.after.alive, worth, atol=1e-5)


# --- every algorithm, where a forbidden action is an error ---


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_played_is_what_is_updated(kind):
    """Rollouts keep the masks: before the first gradient step old and new probabilities are the same."""
    given = settings(kind, environments=8)
    task = make_task(TASK, 8)
    learner = make_learner(task.spec, given, 1)
    rollout = rollout_of(learner, task, given)
    chosen = np.take_along_axis(rollout.allowed[:-1], rollout.actions.numpy()[..., None], axis=3)[..., 0]
    assert chosen[rollout.alive[:-1]].all() and rollout.allowed[:, ~rollout.alive[0]].all()
    assert 0.3 < rollout.allowed[:LEAVES, :, 0].mean() < 0.9
    if learner.settings.learns_values:
        learner.replay.add(rollout)
        kept = learner.replay.draw(200, np.random.default_rng(0), None, 0)
        picked = kept.before.allowed.gather(2, kept.actions[:, :, None])[:, :, 0]
        assert bool(picked[kept.before.alive].all()) and not bool(kept.before.allowed[..., :3].all())
        return
    with torch.inference_mode():
        columns, _ = learner.prepare(rollout)
        # Weights away from 0, so that masks matter; the probabilities of what was played are computed anew.
        statistics = learner._gradient_step({name: column.clone() for name, column in columns.items()})
        assert abs(float(statistics[APPROXIMATE_KL])) < 1e-6
        again = make_learner(task.spec, given, 1)
        columns, _ = again.prepare(rollout)
        del columns["allowed"]
        assert float(again._gradient_step(columns)[APPROXIMATE_KL]) > 1e-3


@pytest.mark.parametrize(("kind", "masks"), list(zip(KINDS, 3 * ("observation", "infos"), strict=True)))
def test_no_forbidden_action_is_tried_in_training_evaluation_or_play(kind, masks, tmp_path):
    """The environment raises at the first one; with ``none`` in the place of masks it does (below)."""
    task = f"{HERE}masks={masks}"
    run = RunSettings(task=task, learner=settings(kind, environments=4), evaluation=EvaluationSettings(episodes=8))
    store = SegmentStore(tmp_path)
    segment = SegmentSpec(run=run, parent=None, shaping=ShapingConfig.none(), env_steps=8 * 4 * STEPS, seed=3)
    result = run_segment(segment, store)
    assert result.evaluations_of("query")[-1].sparse_return > 0
    made = make_task(task, 8)
    learner = make_learner(made.spec, run.learner, 0)
    for policy in ("sampled", "greedy"):
        own = run.model_copy(update={"evaluation": EvaluationSettings(episodes=8, policy=policy)})
        evaluations, record = Evaluator(own, made, ("query",)).evaluate(learner.policy, 0, record=True)
        assert record is not None and evaluations[0].sparse_return > 0
    description = described(made.spec, run.learner)
    for sampled in {False, not run.learner.learns_values}:
        played = play(task, LoadedPolicy(learner.policy, description, sampled=sampled, seed=1), 16, 0)
        assert (played.returns > 0).any()


def described(spec, learner: LearnerSettings) -> PolicyDescription:
    """A policy's description with an evaluation that nothing here reads."""
    measured = {"episodes": 8, "sparse_return": 0.0, "low": 0.0, "high": 0.0, "progress": None, "policy": "greedy"}
    return PolicyDescription.of(
        spec, learner, env_steps=0, segment="none", shaping={}, evaluation=measured, code_version="0"
    )


@pytest.mark.parametrize("kind", ["mappo", "vdn"])
def test_without_the_masks_training_fails_at_once(kind):
    given = settings(kind, environments=4)
    task = make_task(f"{HERE}masks=none", 4)
    with pytest.raises(EnvironmentFailed, match="tried the locked door"):
        rollout_of(make_learner(task.spec, given, 0), task, given)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_algorithm_learns_to_take_the_best_door_that_is_open(kind):
    task_name, given = f"{HERE}masks=infos&largest=True", settings(kind)
    task = make_task(task_name, 16)
    learner = make_learner(task.spec, given, 2)
    for update in range(60):
        rollout = rollout_of(learner, task, given, update)
        learner.update(rollout, np.random.default_rng(update))
    run = RunSettings(task=task_name, learner=given, evaluation=EvaluationSettings(episodes=16, policy="greedy"))
    (evaluation,), _ = Evaluator(run, task, ("query",)).evaluate(learner.policy, 0, record=False)
    assert evaluation.sparse_return == BEST


def test_a_policy_says_when_a_mask_is_missing_or_of_no_use():
    spec = make_task(TASK, 1).spec
    given = settings("mappo")
    policy = LoadedPolicy(make_learner(spec, given, 0).policy, described(spec, given), sampled=False, seed=0)
    seen, mask = np.zeros((3, 2, 2)), np.ones((3, 2, 4), bool)
    assert policy.description.spec().masks_actions and policy.act(seen, mask).shape == (3, 2)
    for wrong, words in (
        (None, r"got no mask, expected one of shape \(3, 2, 4\)"),
        (mask[:, :, :3], r"a mask of shape \(3, 2, 3\), expected one of shape \(3, 2, 4\)"),
        (mask & False, "allows an agent nothing"),
    ):
        with pytest.raises(PolicyFileError, match=words):
            policy.act(seen, wrong)
    plain = make_task("spread", 1).spec
    other = LoadedPolicy(make_learner(plain, given, 0).policy, described(plain, given), sampled=False, seed=0)
    with pytest.raises(PolicyFileError, match="expected none"):
        other.act(np.zeros((1, 3, plain.observation_size)), np.ones((1, 3, 5), bool))


def test_nothing_that_is_learned_reaches_the_value_of_a_forbidden_action():
    assert exploration(settings("vdn").q_learning, 0) == 1.0 and FORBIDDEN <= -1e9
    outputs, allowed = masked()
    lowered = forbid(outputs.clone(), allowed)
    assert (lowered[~allowed[:, :5].t()] == FORBIDDEN).all()
    assert torch.equal(lowered[allowed[:, :5].t()], outputs[allowed[:, :5].t()])
