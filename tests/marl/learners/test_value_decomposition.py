"""QMIX and VDN: closed forms with negative controls, the paper's two-step game, and a tiny task solved in seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from learning_signal import run
from learning_signal.marl.errors import SegmentFailed
from learning_signal.marl.learners import Collector, Diverged, make_learner
from learning_signal.marl.learners.policy import greedy, sample
from learning_signal.marl.learners.replay import Replay
from learning_signal.marl.learners.value_decomposition import (
    ValueDecompositionLearner,
    Values,
    double_q,
    epsilon_greedy,
    exploration,
    monotonic_mix,
)
from learning_signal.marl.segments.metrics import METRICS
from learning_signal.marl.segments.segment import SegmentSpec, SegmentStore
from learning_signal.marl.segments.training import run_segment
from learning_signal.marl.settings import (
    CannotLearn,
    EvaluationSettings,
    LearnerSettings,
    QLearningSettings,
    RunSettings,
)
from learning_signal.marl.shaping import Anneal, ShapingConfig, Term
from learning_signal.marl.tasks.base import Step, Task, TaskSpec
from tests.support.learner_helpers import DOUBLE, collect, generator, solved
from tests.support.sanity_tasks import Crew, Cue, Number, make_sanity_task

ALGORITHMS = ("vdn", "qmix")


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(algorithm: str = "qmix", **q_learning) -> LearnerSettings:
    usual = {
        "learning_rate": 3e-3,
        "batch_size": 128,
        "gradient_steps": 16,
        "exploration_env_steps": 4000,
        "replay_env_steps": 4096,
        "mixing_units": 8,
        "hypernetwork_units": 16,
        "target_rate": 0.05,
    }
    return LearnerSettings(
        algorithm=algorithm, environments=32, hidden=(32, 32), q_learning=QLearningSettings(**usual | q_learning)
    )


def collector_of(task: Task, learner: ValueDecompositionLearner) -> Collector:
    return Collector(task, learner.settings, None, keep=learner.keeps)


def train(task: Task, changed: LearnerSettings, updates: int, seed: int = 0, enough: float = float("inf")):
    """A learner after some updates without shaping, fewer where the task is solved before, and its metrics."""
    learner, rows = make_learner(task.spec, changed, seed), []
    one = collector_of(task, learner)
    for update in range(updates):
        rollout = collect(learner, one, update, seed)
        learned = learner.update(rollout, np.random.default_rng([seed, update]))
        rows.append(rollout.episode_metrics() | learned)
        if solved(rows, enough):
            break
    return learner, rows


# Exploration


def frequencies(choose, outputs: torch.Tensor, count: int = 60_000) -> torch.Tensor:
    draws = torch.rand(count, 1, generator=generator())
    return torch.bincount(choose(Values(), outputs[:, None].expand(-1, count), draws), minlength=len(outputs)) / count


def test_epsilon_greedy_frequencies():
    values = torch.tensor([0.0, 2.0, 1.0])
    expected = torch.tensor([0.1, 0.8, 0.1])
    torch.testing.assert_close(frequencies(epsilon_greedy(0.3), values), expected, atol=0.01, rtol=0)
    assert not torch.allclose(frequencies(epsilon_greedy(0.4), values), expected, atol=0.01)
    assert frequencies(epsilon_greedy(0.0), values).tolist() == [0, 1, 0]
    torch.testing.assert_close(frequencies(epsilon_greedy(1.0), values), torch.full((3,), 1 / 3), atol=0.01, rtol=0)


@pytest.mark.parametrize("epsilon", [1.0, 0.3, 0.05, 1e-6])
def test_every_draw_gives_an_action_that_exists(epsilon):
    draws = torch.tensor([0.0, np.nextafter(np.float32(epsilon), np.float32(0)), epsilon, 1 - 2**-24])[:, None]
    actions = epsilon_greedy(epsilon)(Values(), torch.zeros(5, 4), draws)
    assert actions[0] == 0 and actions[1] == 4 and actions.max() == 4 and actions.min() == 0


def test_values_are_no_probabilities():
    """What is evaluated is the best action, also where the run's settings say to draw one."""
    values, draws = torch.tensor([[1.0], [1.1]]).expand(2, 50), torch.rand(50, 1, generator=generator())
    assert sample(Values(), values, draws).eq(1).all() and greedy(Values(), values, draws).eq(1).all()


def test_exploration_falls_linearly_and_stays():
    schedule = QLearningSettings(exploration_start=0.9, exploration_end=0.1, exploration_env_steps=1000)
    found = [exploration(schedule, steps) for steps in (0, 250, 500, 1000, 10**9)]
    assert found == pytest.approx([0.9, 0.7, 0.5, 0.1, 0.1])


# Values and targets


def test_double_q_values_the_choice_of_the_other_network():
    online, target = torch.tensor([[1.0, 5.0], [2.0, 4.0]]), torch.tensor([[9.0, 1.0], [3.0, 8.0]])
    assert double_q(online, target).tolist() == [3.0, 1.0]
    assert target.max(0).values.tolist() == [9.0, 8.0], "the largest value is another"


def test_double_q_does_not_overestimate():
    """Ten actions worth 0, valued with independent noise: the maximum is far off, the other's value is not."""
    first, second = torch.randn(2, 10, 20_000, generator=generator())
    assert abs(double_q(first, second).mean()) < 0.02
    assert double_q(first, first).mean() > 1.4


def slopes(values: torch.Tensor, weights: torch.Tensor, mix=monotonic_mix) -> torch.Tensor:
    values = values.clone().requires_grad_()
    return torch.autograd.grad(mix(values, weights).sum(), values)[0]


def without_abs(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mixer as it would be, were its weights of either sign."""
    agents = values.shape[1]
    units = (len(weights) - 1) // (agents + 2)
    first, biases, second, bias = weights.split([agents * units, units, units, 1])
    hidden = (first.view(agents, units, -1) * values.t()[:, None]).sum(0) + biases
    return (second * torch.nn.functional.elu(hidden)).sum(0) + bias[0]


def test_the_joint_value_never_falls_with_an_agents_value():
    values = torch.randn(500, 3, dtype=DOUBLE, generator=generator())
    weights = torch.randn(5 * 8 + 1, 500, dtype=DOUBLE, generator=generator(1))
    found = slopes(values, weights)
    assert (found >= 0).all() and (found > 0.01).any()
    assert (slopes(values, weights, without_abs) < -0.01).any(), "the check must notice weights of either sign"
    torch.testing.assert_close(monotonic_mix(values, weights.abs()), without_abs(values, weights.abs()))


def test_the_whole_gradient_of_a_step_equals_autograd():
    """Of the loss with respect to all weights: through mixer and hypernetwork, masks and both kinds of agents."""
    task = Crew(32, leaving=True)
    tiny = settings(batch_size=16).model_copy(update={"hidden": (12,), "max_gradient_norm": 1e9})
    learner = make_learner(task.spec, tiny, 0)
    learner.replay.add(collect(learner, collector_of(task, learner)))
    batch = learner.replay.draw(16, np.random.default_rng(0), None, 0)
    assert not batch.before.alive.all()
    before = {one.part.name: one.part.network.parameters.clone() for one in learner.pairs}
    for one in learner.pairs:
        one.target.parameters.zero_()  # targets are then the rewards alone
    statistics = learner._gradient_step(batch)

    views = {name: flat.requires_grad_() for name, flat in before.items()}
    values = torch.zeros(16, 3)
    for one in (pair.part for pair in learner.agents):
        outputs = plain(one.network, views[one.name], batch.before.inputs[one.group])
        taken = batch.actions[:, one.places]
        values[:, one.places] = outputs.gather(2, taken[..., None])[..., 0]
    weights = plain(learner.mixer.part.network, views["mixer"], batch.before.states).t()
    total = monotonic_mix(values * batch.before.alive, weights)
    loss = (total - batch.rewards).square().mean() / 2
    loss.backward()
    assert loss.item() == pytest.approx(float(statistics[0]), rel=1e-5)
    for one in (pair.part for pair in learner.pairs):
        torch.testing.assert_close(one.network.gradient, views[one.name].grad, rtol=1e-4, atol=1e-6)
        # Adam's first step: the first moment is a tenth of the gradient.
        torch.testing.assert_close(one.optimiser.first_moment, 0.1 * views[one.name].grad, rtol=1e-4, atol=1e-6)


def plain(network, flat: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    """The passes of a network with one hidden layer, in ordinary operations."""
    hidden, outputs = network.hidden[0], network.outputs
    first, bias, last, last_bias = flat.split([network.inputs * hidden, hidden, outputs * hidden, outputs])
    layer = torch.tanh(inputs @ first.view(network.inputs, hidden) + bias)
    return layer @ last.view(outputs, hidden).t() + last_bias


# The two-step game of Rashid et al. 2018, section 5.1

PAYOFFS = np.array([[[7, 7], [7, 7]], [[0, 1], [1, 8]]], np.float32)


class TwoSteps:
    """At first, agent 0 chooses which of two matrix games is played next; both agents see which one that is."""

    def __init__(self, environments: int) -> None:
        self.environments = environments
        self._place = np.zeros(environments, np.int64)
        self.spec = TaskSpec(
            name="two-steps",
            description="Choose a game, then play it.",
            sparse_reward="the payoff of the game",
            agents=2,
            observation_size=3,
            state_size=3,
            actions=2,
            action_names=("a", "b"),
            idle_action=None,
            horizon=2,
            max_return=8.0,
            features=(),
            progress=None,
        )

    def reset(self, seeds: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
        self._place[slice(None) if where is None else where] = 0
        return self._observations()

    def _observations(self) -> np.ndarray:
        return np.repeat(self.state()[:, None], 2, axis=1)

    def step(self, actions: np.ndarray) -> Step:
        second = self._place > 0
        reward = np.where(second, PAYOFFS[self._place - 1, actions[:, 0], actions[:, 1]], np.float32(0))
        self._place = np.where(second, self._place, 1 + actions[:, 0])
        return Step(self._observations(), reward, second, np.zeros_like(second))

    def state(self) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[self._place]

    def features(self, names=None) -> dict[str, np.ndarray]:
        return {}

    def progress(self) -> None:
        return None


def two_step_settings(algorithm: str) -> LearnerSettings:
    """Actions are always random: every joint action is seen equally often."""
    changed = settings(
        algorithm,
        exploration_end=1.0,
        target_rate=0.1,
        gradient_steps=25,
        replay_env_steps=2048,
        batch_size=128,
        learning_rate=5e-3,
    )
    return changed.model_copy(update={"environments": 64, "discount": 1.0})


def joint_values(learner: ValueDecompositionLearner) -> torch.Tensor:
    """``[3, 2, 2]``: joint values of every state and joint action."""
    states, network = torch.eye(3), learner.agents[0].part.network
    inputs = torch.cat([states[:, None].expand(3, 2, 3), torch.eye(2).expand(3, 2, 2)], dim=2).flatten(0, 1)
    values = network.forward(inputs, network.workspace(6)).t().view(3, 2, 2)
    found = torch.zeros(3, 2, 2)
    for first in range(2):
        for second in range(2):
            both = torch.stack([values[:, 0, first], values[:, 1, second]], dim=1)
            if learner.settings.algorithm == "qmix":
                mixer = learner.mixer.part.network
                found[:, first, second] = monotonic_mix(both, mixer.forward(states, mixer.workspace(3)))
            else:
                found[:, first, second] = both.sum(1)
    return found


def greedy_return(learner: ValueDecompositionLearner) -> float:
    found, place, total = joint_values(learner), 0, 0.0
    for _ in range(2):
        first, second = divmod(int(found[place].argmax()), 2)
        total += PAYOFFS[place - 1, first, second] if place else 0.0
        place = place or 1 + first
    return total


def test_vdn_finds_the_best_sum_and_takes_the_safe_game():
    """Of all sums, ``row mean + column mean - mean`` is nearest to a matrix that is seen uniformly: the fixed point."""
    learner, rows = train(TwoSteps(64), two_step_settings("vdn"), 30)
    # With 6.5 as the best of the second game and 7 of the first, the first choice is worth 7 or 6.5.
    expected = torch.tensor([[[7.0, 7.0], [6.5, 6.5]], [[7.0, 7.0], [7.0, 7.0]], [[-1.5, 2.5], [2.5, 6.5]]])
    torch.testing.assert_close(joint_values(learner), expected, atol=0.4, rtol=0)
    assert greedy_return(learner) == 7
    assert rows[-1]["td_loss"] > 0.2, "a sum cannot represent the second game"


def test_qmix_represents_the_risky_game_and_takes_it():
    learner, rows = train(TwoSteps(64), two_step_settings("qmix"), 20)
    expected = torch.tensor([[[7.0, 7.0], [8.0, 8.0]], [[7.0, 7.0], [7.0, 7.0]], [[0.0, 1.0], [1.0, 8.0]]])
    torch.testing.assert_close(joint_values(learner), expected, atol=0.4, rtol=0)
    assert greedy_return(learner) == 8 and rows[-1]["td_loss"] < 0.02


# The learner


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_solves_the_cue(algorithm):
    _, rows = train(Cue(32), settings(algorithm), 40, enough=3.4)
    assert rows[0]["sparse_return"] < 1.0
    assert solved(rows, 3.4), "of 4, with an epsilon of 0.05"


def test_does_not_solve_the_cue_without_knowing_who_it_is(monkeypatch):
    """The negative control: all agents then answer alike, and only one of two can be right."""

    def anonymous(self, rollout):
        for inputs, group in zip(rollout.inputs, self.spec.groups, strict=True):
            inputs[..., group.observation_size :] = 0
        return add(self, rollout)

    add = Replay.add
    monkeypatch.setattr(Replay, "add", anonymous)
    monkeypatch.setattr(torch, "eye", lambda count: torch.zeros(count, count))
    _, rows = train(Cue(32), settings("vdn"), 25)
    assert rows[-1]["sparse_return"] < 1.5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_agents_of_two_kinds_who_leave(algorithm):
    _, rows = train(Crew(32, leaving=True), settings(algorithm), 40, enough=3.0)
    assert solved(rows, 3.0), "of 4"


@pytest.mark.parametrize("where", ["truncated", "other"])
def test_states_at_the_time_limit_are_mixed_as_those_before(where):
    """What a mixer makes of states in which nobody ever acts is not learned, and must not be learned from."""
    learner, _ = train(Crew(32), settings(), 1)
    batch = learner.replay.draw(128, np.random.default_rng(0), None, 0)
    assert 0 < batch.truncated.sum() < 128
    chosen = batch.truncated if where == "truncated" else ~batch.truncated
    states = torch.where(chosen[:, None], 100.0, batch.after.states)
    changed = replace(batch, after=replace(batch.after, states=states))
    losses = []
    for one in (batch, changed):
        fresh = make_learner(learner.spec, learner.settings, 0)
        losses.append(float(fresh._gradient_step(one)[0]))
    assert (losses[0] == losses[1]) == (where == "truncated")


def test_targets_follow_slowly():
    learner, _ = train(Cue(32), settings(gradient_steps=1, target_rate=0.25), 1)
    start = make_learner(Cue(1).spec, learner.settings, 0)
    for one, initial in zip(learner.pairs, start.pairs, strict=True):
        online, first = one.part.network.parameters, initial.part.network.parameters
        assert (online - first).abs().max() > 0
        torch.testing.assert_close(one.target.parameters, first + 0.25 * (online - first))
        assert not torch.allclose(one.target.parameters, online)
    at_once, _ = train(Cue(32), settings(gradient_steps=1, target_rate=1.0), 1)
    assert torch.equal(at_once.mixer.target.parameters, at_once.mixer.part.network.parameters)


def test_what_a_step_reports_and_only_that_is_in_metrics():
    _, rows = train(Cue(32), settings(), 2)
    assert set(rows[0]) <= set(METRICS) and rows[0]["epsilon"] == 1.0 and rows[1]["epsilon"] < 1.0
    assert [row["replay_env_steps"] for row in rows] == [128, 256]
    assert all(rows[1][name] > 0 for name in ("td_loss", "gradient_norm"))


def test_divergence_is_noticed():
    with pytest.raises(Diverged, match="td loss became|weights became"):
        train(Cue(32), settings(learning_rate=1e30), 2)


def test_the_same_seed_gives_the_same_learner():
    first, second, other = (train(Cue(32), settings(), 2, seed)[0].tensors() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["values"], other["values"])


# Segments


ANNEALED = ShapingConfig(
    terms=(Term(potential="right", weight=1.0, scope="agent"),), beta=1.0, anneal=Anneal(start=128, end=900)
)
SIZE = 32 * 4


def segment(algorithm: str, task: str = "cue-varied", **changes) -> SegmentSpec:
    # The ring holds 3 of the 6 rollouts, so that it has gone round by the end of the first half.
    learner = settings(algorithm, gradient_steps=4, replay_env_steps=2 * SIZE)
    whole = RunSettings(task=task, learner=learner, evaluation=EvaluationSettings(episodes=4, points=2))
    inputs = {"run": whole, "parent": None, "shaping": ANNEALED, "env_steps": 3 * SIZE, "seed": 7}
    return SegmentSpec(**(inputs | changes))


def stored_learner(store: SegmentStore, name: str) -> dict:
    return torch.load(store.checkpoint_path(name), weights_only=True)["learner"]


def same(first: dict, second: dict) -> bool:
    assert first.keys() == second.keys()
    pairs = [(value, second[name]) for name, value in first.items()]
    return all(torch.equal(*pair) if isinstance(pair[0], torch.Tensor) else pair[0] == pair[1] for pair in pairs)


def test_two_halves_equal_the_whole_to_the_bit(tmp_path):
    """The second half knows nothing but the checkpoint; that the process is none of its inputs, test_segments shows."""
    store, whole, halves = SegmentStore(tmp_path), [], []
    for algorithm in ALGORITHMS:
        whole.append(run_segment(segment(algorithm, env_steps=6 * SIZE), store, make_task=make_sanity_task))
        first = run_segment(segment(algorithm), store, make_task=make_sanity_task)
        halves.append(segment(algorithm, parent=first.id))
        run_segment(halves[-1], store, make_task=make_sanity_task)
    for one, half in zip(whole, halves, strict=True):
        learned = stored_learner(store, one.id)
        assert len(learned["replay_cut_transitions"]) > 0 and learned["replay_added"] == 6
        assert {"replay_states", "values_target", "values_second_moment"} <= learned.keys()
        assert same(learned, stored_learner(store, half.id))
        result = store.load_result(half.id)
        assert result.updates == one.updates[3:] and result.evaluations[-3:] == one.evaluations[-3:]


@pytest.mark.parametrize(
    "forgotten",
    [
        "values_target",
        "mixer_second_moment",
        "replay_feature_right",
        "replay_sparse_rewards",
        "replay_cut_states",
        "replay_added",
        "optimiser_steps",
    ],
)
def test_the_comparison_notices_a_forgotten_piece(forgotten, tmp_path, monkeypatch):
    store = SegmentStore(tmp_path)
    whole = run_segment(segment("qmix", env_steps=4 * SIZE), store, make_task=make_sanity_task)
    intact = ValueDecompositionLearner.state

    def forgetful(self):
        stored = intact(self)
        # The ring has three places, full either way.
        changed = {"optimiser_steps": 1, "replay_added": 4}
        stored[forgotten] = changed.get(forgotten) or torch.zeros_like(stored[forgotten])
        return stored

    with monkeypatch.context() as patch:
        patch.setattr(ValueDecompositionLearner, "state", forgetful)
        first = run_segment(segment("qmix"), store, make_task=make_sanity_task)
    second = run_segment(segment("qmix", parent=first.id, env_steps=SIZE), store, make_task=make_sanity_task)
    assert not same(stored_learner(store, whole.id), stored_learner(store, second.id))


def test_a_promotion_continues_from_the_checkpoint(tmp_path):
    """Another shaping than the parent's: the replay, which has no rewards, is as good as before."""
    store = SegmentStore(tmp_path)
    first = run_segment(segment("qmix"), store, make_task=make_sanity_task)
    promoted = segment("qmix", parent=first.id, shaping=ShapingConfig.none())
    assert run_segment(promoted, store, make_task=make_sanity_task).updates[-1]["replay_env_steps"] == 2 * SIZE


def test_what_cannot_be_learned_is_refused(tmp_path):
    with pytest.raises(SegmentFailed, match="Task number has continuous actions and vdn .*; use mappo or ippo.$"):
        run_segment(
            segment("vdn", "number", shaping=ShapingConfig.none()), SegmentStore(tmp_path), None, None, make_sanity_task
        )
    with pytest.raises(CannotLearn, match="continuous actions and qmix"):
        make_learner(Number(1).spec, settings("qmix"), 0)
    make_learner(Number(1).spec, LearnerSettings(algorithm="ippo"), 0)
    with pytest.raises(ValidationError, match="found memory 'gru' with algorithm 'qmix', expected mappo or ippo"):
        LearnerSettings(algorithm="qmix", memory="gru")


def test_a_session_refuses_it_before_anything_is_written(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = run.run(["session", "--env", "tests.support.foreign_environments:Push", "--algorithm", "vdn", "--plain"])
    assert code == 2 and "has continuous actions and vdn" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_through_the_whole_door(algorithm, tmp_path):
    learner = settings(algorithm, gradient_steps=2).model_copy(update={"environments": 8})
    shaping = ShapingConfig(terms=(Term(potential="spacing", weight=1.0, scope="team"),), beta=1.0)
    for task, horizon in (("spread", 25), ("Foraging-8x8-2p-2f-coop-v3", 50)):
        whole = RunSettings(task=task, learner=learner, evaluation=EvaluationSettings(episodes=4, points=2))
        spec = SegmentSpec(run=whole, parent=None, shaping=shaping, env_steps=2 * 8 * horizon, seed=0)
        result = run_segment(spec, SegmentStore(tmp_path))
        assert len(result.updates) == 2 and result.updates[-1]["td_loss"] is not None
