"""Groups of agents, and agents that leave: whose network sees what, who acts, and whose actions count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from learning_signal.marl.learners import make_learner
from learning_signal.marl.learners.policy import Inputs, Player, places
from learning_signal.marl.randomness import derive, episode_seeds
from learning_signal.marl.tasks.base import Group
from tests.support.learner_helpers import SETTINGS, collect, collector, learn, solved, train
from tests.support.sanity_tasks import Crew

ALL = [(algorithm, memory) for algorithm in ("mappo", "ippo") for memory in ("none", "gru")]
READERS, CALLER = [0, 2], 1


def crew_learner(algorithm: str = "mappo", memory: str = "none", leaving: bool = False, **changes):
    """A learner on `Crew`, and its collector: 8 environments, 9 steps, episodes of all lengths."""
    changes = {"algorithm": algorithm, "memory": memory, "environments": 8, "rollout_steps": 9} | changes
    settings = SETTINGS.model_copy(update=changes)
    task = Crew(8, leaving=leaving, varied=True)
    return make_learner(task.spec, settings, 0), collector(task, settings)


def test_places_of_neighbours_are_a_slice():
    assert places(Group("all", (0, 1, 2), 1, 1)) == slice(0, 3)
    assert places(Group("one", (3,), 1, 1)) == slice(3, 4)
    assert places(Group("apart", (0, 2), 1, 1)) == [0, 2]
    assert places(Group("turned", (2, 1), 1, 1)) == [2, 1]


def test_every_group_sees_its_own_part_of_the_observations():
    task = Crew(4)
    observations = task.reset(episode_seeds(0, 0, 4))
    inputs = Inputs(task.spec, (4,))
    inputs.write(observations)
    readers, caller = (group.numpy() for group in inputs.groups)
    assert readers.shape == (4, 2, 3 + 2) and caller.shape == (4, 1, 5 + 1)
    assert np.array_equal(readers[..., :3], observations[:, READERS, :3])
    assert np.array_equal(readers[..., 3:], np.broadcast_to(np.eye(2), (4, 2, 2)))
    assert np.array_equal(caller[:, 0, :5], observations[:, CALLER])
    assert (caller[:, 0, 5] == 1).all()


def test_actions_and_draws_land_in_the_right_places():
    task = Crew(4)
    learner = make_learner(task.spec, SETTINGS, 0)
    inputs = Inputs(task.spec, (4,))
    uniforms = torch.arange(12.0).view(4, 3, 1) / 12

    def number_of_draw(distribution, outputs, drawn):
        assert outputs.shape == ((3, 8) if len(drawn) == 8 else (2, 4))
        return (drawn[:, 0] * 12).round().long()

    actions = Player(learner.policy, 4).act(inputs.groups, uniforms, number_of_draw)
    assert torch.equal(actions, torch.arange(12).view(4, 3))

    def number_of_row(distribution, outputs, drawn):
        return torch.arange(len(drawn)) + 100 * (outputs.shape[0] == 2)

    actions = Player(learner.policy, 4).act(inputs.groups, uniforms, number_of_row)
    assert torch.equal(actions[:, READERS], torch.arange(8).view(4, 2))
    assert torch.equal(actions[:, CALLER], 100 + torch.arange(4))


@pytest.mark.parametrize(("algorithm", "memory"), ALL)
def test_networks_by_group(algorithm, memory):
    learner, _ = crew_learner(algorithm, memory)
    assert [(part.name, part.network.inputs, part.network.outputs) for part in learner.actors] == [
        ("actor_readers", 5, 3),
        ("actor_caller", 6, 2),
    ]
    joint, by_group = [("critic", 8, 3)], [("critic_readers", 5, 1), ("critic_caller", 6, 1)]
    critics = [(part.name, part.network.inputs, part.network.outputs) for part in learner.critics]
    assert critics == (joint if algorithm == "mappo" else by_group)


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_an_actor_learns_from_its_own_group_only(memory):
    """The joint critic does not see observations: the caller's change its own actor, and nothing else."""

    def updated(touched: bool) -> dict[str, torch.Tensor]:
        learner, one = crew_learner("mappo", memory)
        rollout = collect(learner, one)
        if touched:
            rollout.inputs[1][..., :5] += 0.5
        learn(learner, rollout)
        return learner.tensors()

    before, after = updated(False), updated(True)
    assert not torch.equal(before["actor_caller"], after["actor_caller"])
    for name in ("actor_readers", "actor_readers_second_moment", "critic", "value_normaliser"):
        assert torch.equal(before[name], after[name]), name


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_a_critic_values_its_own_group_only(memory):
    learner, one = crew_learner("ippo", memory)
    for critic in learner.critics:
        critic.network.parameters.normal_(generator=torch.Generator().manual_seed(2)).mul_(0.5)
    rollout = collect(learner, one)
    values, successors = (part.clone() for part in learner._predict(rollout))
    rollout.inputs[1][..., :5] += 0.5
    for cut in rollout.cuts:
        cut.inputs[1][..., :5] += 0.5
    others, other_successors = learner._predict(rollout)
    assert torch.equal(values[..., READERS], others[..., READERS])
    assert torch.equal(successors[..., READERS], other_successors[..., READERS])
    assert (values[..., CALLER] != others[..., CALLER]).all()
    assert (successors[..., CALLER] != other_successors[..., CALLER]).all()


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
def test_values_and_true_successors(algorithm):
    """Of networks without memory: state by state, an episode's last by what the cut holds."""
    learner, one = crew_learner(algorithm)
    for critic in learner.critics:
        critic.network.parameters.normal_(generator=torch.Generator().manual_seed(2)).mul_(0.5)
    rollout = collect(learner, one)
    assert len(rollout.cuts) > 4

    def value(state: torch.Tensor, inputs: list[torch.Tensor]) -> list[float]:
        """Of one environment, by agent."""
        if algorithm == "mappo":
            network = learner.critics[0].network
            return network.forward(state[None], network.workspace(1))[:, 0].tolist()
        readers, caller = (
            critic.network.forward(seen, critic.network.workspace(len(seen)))[0].tolist()
            for critic, seen in zip(learner.critics, inputs, strict=True)
        )
        return [readers[0], caller[0], readers[1]]

    values, successors = learner._predict(rollout)
    cuts = {(cut.step, int(e)): (cut, i) for cut in rollout.cuts for i, e in enumerate(cut.environments)}
    after_reset = 0
    for t in range(9):
        for e in range(8):
            here = value(rollout.states[t, e], [group[t, e] for group in rollout.inputs])
            assert values[t, e].tolist() == pytest.approx(here, abs=1e-5)
            following = value(rollout.states[t + 1, e], [group[t + 1, e] for group in rollout.inputs])
            if (t, e) in cuts:
                cut, i = cuts[t, e]
                true = value(cut.states[i], [group[i] for group in cut.inputs])
                after_reset += not np.allclose(true, following, atol=1e-3)
                following = true
            assert successors[t, e].tolist() == pytest.approx(following, abs=1e-5)
    assert after_reset > 10, "the state after a reset must be worth something else"


@pytest.mark.parametrize(("algorithm", "memory"), ALL)
def test_the_critic_has_a_value_for_every_agent(algorithm, memory):
    changes = {"algorithm": algorithm, "memory": memory, "discount": 0.5}
    settings = SETTINGS.model_copy(update=changes)
    task = Crew(32)
    learner, one = make_learner(task.spec, settings, 0), collector(task, settings)
    for update in range(25 if memory == "gru" else 40):
        rollout = collect(learner, one, update)
        rollout.rewards = torch.tensor([1.0, -2.0, 3.0]).expand(4, 32, 3).contiguous()
        learn(learner, rollout, update)
    values = learner.normaliser.denormalise(learner._predict(rollout)[0]).flatten(0, 1).mean(0)
    # Reward r for ever at gamma 0.5 is worth 2 r, episodes being truncated, not terminated.
    assert values.tolist() == pytest.approx([2.0, -4.0, 6.0], abs=0.3)


def test_metrics_of_groups_are_weighed_by_their_agents():
    learner, one = crew_learner(epochs=1, minibatches=1)
    metrics = learn(learner, collect(learner, one))
    assert metrics["entropy"] == pytest.approx((2 * np.log(3) + np.log(2)) / 3, abs=1e-3)


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
def test_solves_the_crew_task(algorithm):
    settings = SETTINGS.model_copy(update={"algorithm": algorithm, "discount": 0.5})
    _, rows = train(Crew(32), settings, 100, enough=3.4)
    assert rows[0]["sparse_return"] < 0.6
    assert solved(rows, 3.4)


class _Shortened(Crew):
    """The caller's group is declared with an observation that leaves its own cue out."""

    def __init__(self, environments: int) -> None:
        super().__init__(environments)
        readers, caller = self.spec.groups
        self.spec = replace(self.spec, groups=(readers, replace(caller, observation_size=3)))


def test_a_group_needs_its_own_observation_size():
    _, rows = train(_Shortened(32), SETTINGS.model_copy(update={"discount": 0.5}), 70)  # the others need about 30
    assert np.mean([row["sparse_return"] for row in rows[-5:]]) < 2.6


# Agents that leave


def test_who_is_there_is_written_down():
    learner, one = crew_learner(leaving=True)
    rollout = collect(learner, one)
    single = Crew(8, leaving=True, varied=True)
    single.reset(episode_seeds(derive(0, "train", 0), 0, 8))
    resets = 1
    for t in range(9):
        assert np.array_equal(rollout.alive[t], single._alive())
        step = single.step(rollout.actions[t].numpy())
        ended = step.terminated | step.truncated
        if ended.any():
            single.reset(episode_seeds(derive(0, "train", 0), resets * 8, 8), ended)
            resets += 1
    gone = ~rollout.alive[:-1]
    assert gone[..., CALLER].any() and gone[..., 2].any() and not gone[..., 0].any()
    assert rollout.alive[:-1][rollout.starts].all(), "everybody is there when an episode starts"
    assert crew_learner()[1].rollout.alive is None


@pytest.mark.parametrize(("algorithm", "memory"), ALL)
def test_what_those_who_left_are_told_to_do_changes_nothing(algorithm, memory):
    def updated(touched: bool, masked: bool) -> dict[str, torch.Tensor]:
        learner, one = crew_learner(algorithm, memory, leaving=True)
        rollout = collect(learner, one)
        gone = torch.from_numpy(~rollout.alive[:-1])
        assert gone.any()
        if touched:
            rollout.actions[..., READERS] = rollout.actions[..., READERS].where(~gone[..., READERS], 2)
            rollout.actions[..., CALLER] = rollout.actions[..., CALLER].where(~gone[..., CALLER], 1)
            for outputs, agents in zip(rollout.outputs, (READERS, [CALLER]), strict=True):
                by_agent = outputs.view(9, -1, 8, len(agents)).permute(0, 2, 3, 1)
                by_agent[gone[..., agents]] += torch.arange(outputs.shape[1])
        if not masked:
            rollout.alive = None
        return learner.tensors() | learn(learner, rollout)

    before, after = updated(False, masked=True), updated(True, masked=True)
    assert all(
        torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name]
        for name, value in before.items()
    )
    before, after = updated(False, masked=False), updated(True, masked=False)
    assert not torch.equal(before["actor_readers"], after["actor_readers"])
    assert not torch.equal(before["actor_caller"], after["actor_caller"])


def test_metrics_count_who_is_there():
    """A policy is undecided but for those who left: they do not lower the entropy."""
    learner, one = crew_learner(leaving=True, epochs=1, minibatches=1, hidden=(8,))
    rollout = collect(learner, one)
    for group, actor in zip(rollout.inputs, learner.actors, strict=True):
        first, last = actor.network.weights[0], actor.network.weights[-1]
        first.zero_()
        last.zero_()
        first[0, 0] = 10.0
        last[0, 0] = 50.0
        agents = actor.places
        group[..., 0] = torch.from_numpy(~rollout.alive[..., agents]).float()  # seen by the first unit only
    metrics = learn(learner, rollout)
    assert metrics["entropy"] == pytest.approx((2 * np.log(3) + np.log(2)) / 3, abs=1e-4)
    rollout.alive = None
    assert learn(learner, rollout)["entropy"] < 0.9 * metrics["entropy"]


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
def test_solves_the_crew_task_where_agents_leave(algorithm):
    _, rows = train(Crew(32, leaving=True), SETTINGS.model_copy(update={"algorithm": algorithm}), 60, enough=2.8)
    assert rows[0]["sparse_return"] < 1.5
    assert solved(rows, 2.8)
