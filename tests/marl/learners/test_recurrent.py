"""The recurrent network against torch's GRU, and memory that begins with an episode and ends with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from learning_signal.marl.learners import make_learner
from learning_signal.marl.learners.policy import Player
from learning_signal.marl.learners.recurrent import RecurrentNetwork
from learning_signal.marl.learners.rollout import Rollout
from tests.support.learner_helpers import DOUBLE, SETTINGS, collect, collector, generator, learn, train
from tests.support.sanity_tasks import Crew, Cue, Recall

T, ROWS, INPUTS, OUTPUTS = 7, 4, 5, 3
GRU = SETTINGS.model_copy(update={"memory": "gru"})


def recurrent_network() -> RecurrentNetwork:
    network = RecurrentNetwork(INPUTS, (6, 8), OUTPUTS, output_gain=1.0, generator=generator(), dtype=DOUBLE)
    network.parameters.normal_(generator=generator(1)).mul_(0.4)  # biases, too
    return network


def sequences() -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs ``[T, ROWS, INPUTS]`` and starts ``[T, ROWS]``: every row has episodes of other lengths."""
    inputs = torch.randn(T, ROWS, INPUTS, dtype=DOUBLE, generator=generator(2))
    starts = torch.zeros(T, ROWS, dtype=torch.bool)
    starts[0] = True
    starts[3, 1] = starts[2, 2] = starts[5, 2] = starts[6, 3] = starts[5, 3] = True
    return inputs, starts


def plain_modules(network: RecurrentNetwork) -> torch.nn.ModuleDict:
    """The same weights in ordinary torch modules. torch, too, orders its gates reset, update, candidate."""
    views = network.layers
    layer, memory = network.hidden
    modules = torch.nn.ModuleDict(
        {
            "layer": torch.nn.Linear(INPUTS, layer, dtype=DOUBLE),
            "gru": torch.nn.GRU(layer, memory, dtype=DOUBLE),
            "output": torch.nn.Linear(memory, OUTPUTS, dtype=DOUBLE),
        }
    )
    with torch.no_grad():
        for parameter, name in plain_parameters(modules):
            parameter.copy_(views[name].t() if parameter.ndim == 2 else views[name])
    return modules


def plain_parameters(modules: torch.nn.ModuleDict) -> list[tuple[torch.nn.Parameter, str]]:
    """Every parameter of the ordinary modules, and what the same weights are called in ours."""
    layer, gru, output = modules["layer"], modules["gru"], modules["output"]
    return [
        (layer.weight, "layer"),
        (layer.bias, "layer_bias"),
        (gru.weight_ih_l0, "input_gates"),
        (gru.bias_ih_l0, "input_gates_bias"),
        (gru.weight_hh_l0, "memory_gates"),
        (gru.bias_hh_l0, "memory_gates_bias"),
        (output.weight, "output"),
        (output.bias, "output_bias"),
    ]


def plain_outputs(modules: torch.nn.ModuleDict, inputs: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Outputs ``[OUTPUTS, T * ROWS]``, each episode on its own."""
    rows = []
    for row in range(inputs.shape[1]):
        first = starts[:, row].nonzero()[:, 0].tolist()
        episodes = [inputs[start:end, row] for start, end in zip(first, [*first[1:], len(inputs)], strict=True)]
        memories = [modules["gru"](torch.tanh(modules["layer"](episode)))[0] for episode in episodes]
        rows.append(modules["output"](torch.cat(memories)))
    return torch.stack(rows, dim=1).flatten(0, 1).t()


def stepped(network: RecurrentNetwork, inputs: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    memory = network.memory(inputs.shape[1])
    outputs = []
    for t in range(len(inputs)):
        memory[starts[t]] = 0
        outputs.append(network.step(inputs[t], memory))
    return torch.cat(outputs, dim=1)


def test_outputs_and_gradient_equal_torchs_gru():
    network, (inputs, starts) = recurrent_network(), sequences()
    output_gradient = torch.randn(OUTPUTS, T * ROWS, dtype=DOUBLE, generator=generator(3))
    outputs = network.unroll(inputs, starts)
    network.backward(output_gradient)

    modules = plain_modules(network)
    expected = plain_outputs(modules, inputs, starts)
    expected.backward(output_gradient)
    torch.testing.assert_close(outputs, expected.detach(), rtol=1e-11, atol=1e-12)
    gradients = network.layer_gradients
    for parameter, name in plain_parameters(modules):
        gradient = parameter.grad.t() if parameter.ndim == 2 else parameter.grad
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-10, atol=1e-12)
        assert gradient.abs().max() > 1e-3, f"{name} must matter for this test to mean anything"

    with torch.no_grad():  # negative control: reset and update exchanged
        for parameter, name in plain_parameters(modules):
            if "gates" in name:
                reset, update, candidate = parameter.clone().chunk(3)
                parameter.copy_(torch.cat([update, reset, candidate]))
    assert not torch.allclose(outputs, plain_outputs(modules, inputs, starts), atol=1e-2)


def test_step_by_step_equals_the_unrolled_sequence():
    network, (inputs, starts) = recurrent_network(), sequences()
    unrolled = network.unroll(inputs, starts)
    torch.testing.assert_close(unrolled, stepped(network, inputs, starts), rtol=1e-12, atol=1e-12)
    only_first = starts.clone()
    only_first[1:] = False
    assert not torch.allclose(unrolled, stepped(network, inputs, only_first), atol=1e-3), "resets must matter"


def test_initial_weights():
    network = RecurrentNetwork(8, (8, 8), 3, output_gain=0.01, generator=generator())
    views = network.layers
    for name, gain in (("layer", 5 / 3), ("input_gates", 1.0), ("memory_gates", 1.0)):
        for part in views[name].chunk(3 if "gates" in name else 1, dim=1):
            torch.testing.assert_close(part.t() @ part, gain**2 * torch.eye(8), atol=1e-5, rtol=0)
    assert views["output"].norm(dim=0) == pytest.approx([0.01] * 3)
    assert all(views[name].eq(0).all() for name in views if name.endswith("bias"))


def test_a_recurrent_network_has_two_layers():
    with pytest.raises(ValueError, match=r"got hidden=\(8,\), expected two numbers: the units of its first layer and"):
        RecurrentNetwork(3, (8,), 2, output_gain=1.0, generator=generator())


# In rollouts and updates


def livened(learner):
    """``learner`` with outputs far from 0, so that what its networks remember matters."""
    for part in learner.parts:
        part.network.layers["output"].mul_(100)
    return learner


def forget_nothing(self, environments) -> None:
    pass


@pytest.mark.parametrize("forgets", [True, False])
def test_memory_does_not_cross_an_episode_end(forgets, monkeypatch):
    """What acted is what the update unrolls; with ``forgets`` False, the negative control, it is not."""
    changes = {"algorithm": "ippo", "hidden": (8, 8), "environments": 6, "rollout_steps": 9}
    settings = GRU.model_copy(update=changes | {"epochs": 1, "minibatches": 1})
    if not forgets:
        monkeypatch.setattr(Player, "forget", forget_nothing)
    task = Cue(6, varied=True)
    learner = livened(make_learner(task.spec, settings, 0))
    rollout = collect(learner, collector(task, settings))
    assert rollout.ended[:-1].sum() > 10
    starts = torch.from_numpy(rollout.starts).repeat_interleave(2, dim=1)
    again = learner.policy.actors[0].unroll(rollout.inputs[0][:-1].flatten(1, 2), starts)
    acted = rollout.outputs[0].transpose(0, 1).flatten(1)
    assert torch.allclose(again, acted, atol=1e-5) == forgets
    divergence = learn(learner, rollout)["approximate_kl"]
    assert (abs(divergence) < 1e-6) == forgets, "the first gradient step must begin at the policy that acted"


def brute_force(learner, rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and successors ``[T, E, A]``, one agent of one environment at a time; NaN after a true end."""
    steps, environments, agents = rollout.rewards.shape
    values, successors = torch.full((2, steps, environments, agents), torch.nan)
    for critic in learner.critics:
        members = learner.spec.groups[critic.group].agents
        for e in range(environments):
            for place, agent in enumerate(members):
                seen = rollout.inputs[critic.group][:, e, place]
                for t in range(steps):
                    if rollout.starts[t, e]:
                        memory = critic.network.memory(1)
                    values[t, e, agent] = critic.network.step(seen[t][None], memory)
                    after = seen[t + 1]
                    for cut in rollout.cuts:
                        if cut.step == t and e in cut.environments:
                            after = cut.inputs[critic.group][list(cut.environments).index(e), place]
                    if not rollout.terminated[t, e]:
                        successors[t, e, agent] = critic.network.step(after[None], memory.clone())
    return values, successors


@pytest.mark.parametrize("terminates", [False, True])
def test_a_critic_remembers_each_episode_by_itself(terminates, monkeypatch):
    settings = GRU.model_copy(update={"algorithm": "ippo", "hidden": (8, 8), "environments": 5, "rollout_steps": 9})
    task = Crew(5, varied=True, terminates=terminates)
    learner = livened(make_learner(task.spec, settings, 0))
    rollout = collect(learner, collector(task, settings))
    assert (len(rollout.cuts) > 4) != terminates
    values, successors = learner._predict(rollout)
    expected, expected_successors = brute_force(learner, rollout)
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=0)
    compared = ~expected_successors.isnan()
    assert bool(compared.all()) != terminates
    torch.testing.assert_close(successors[compared], expected_successors[compared], atol=1e-5, rtol=0)

    once = np.zeros_like(rollout.starts)
    once[0] = True
    monkeypatch.setattr(Rollout, "starts", once)
    assert not torch.allclose(learner._predict(rollout)[0], expected, atol=1e-2), "forgetting must matter"


def test_the_joint_critic_needs_no_memory():
    learner = make_learner(Recall(1).spec, GRU, 0)
    assert isinstance(learner.actors[0].network, RecurrentNetwork)
    assert not isinstance(learner.critics[0].network, RecurrentNetwork)


@pytest.mark.parametrize("algorithm", ["mappo", "ippo"])
@pytest.mark.parametrize("memory", ["gru", "none"])
def test_only_who_remembers_solves_the_recall_task(algorithm, memory):
    settings = SETTINGS.model_copy(update={"algorithm": algorithm, "memory": memory})
    _, rows = train(Recall(32), settings, 80, enough=0.85, over=10)
    late = np.mean([row["sparse_return"] for row in rows[-10:]])
    assert late > 0.85 if memory == "gru" else late < 0.5


@pytest.mark.parametrize("minibatches", [1, 3])
def test_minibatches_are_whole_sequences(minibatches, monkeypatch):
    settings = GRU.model_copy(update={"environments": 8, "minibatches": minibatches, "epochs": 2})
    task = Cue(8)
    learner = make_learner(task.spec, settings, 0)
    rollout = collect(learner, collector(task, settings))
    seen, intact = [], RecurrentNetwork.unroll

    def watched(self, inputs, starts):
        seen.append(inputs.clone())
        return intact(self, inputs, starts)

    monkeypatch.setattr(RecurrentNetwork, "unroll", watched)
    learn(learner, rollout)
    assert len(seen) == 2 * minibatches
    sequences = {tuple(row.flatten().tolist()) for row in rollout.inputs[0][:-1].flatten(1, 2).transpose(0, 1)}
    for epoch in (seen[:minibatches], seen[minibatches:]):
        rows = torch.cat(epoch, dim=1).transpose(0, 1)
        assert rows.shape[0] == 16 and {tuple(row.flatten().tolist()) for row in rows} == sequences
