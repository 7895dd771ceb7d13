"""A gated recurrent network (Cho et al. 2014, arXiv 1406.1078) over one flat parameter vector, gradient in closed form.

``inputs -> tanh layer -> GRU -> linear outputs``. It has the doors of ``Network``: outputs are ``[outputs, rows]`` and
the parameters are one vector. What is remembered starts at 0 with every episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Unrolled:
    """What ``backward`` needs of a pass through time; ``T`` steps of ``rows`` sequences."""

    inputs: Tensor
    """``[T * rows, inputs]``."""
    layer: Tensor
    """``[T * rows, L]``: activations of the first layer."""
    keep: Tensor
    """``[T, rows, 1]``: 0 where an episode begins, else 1."""
    before: Tensor
    """``[T, rows, H]``: the memory that a step starts from."""
    own: Tensor
    """``[T, rows, 3 H]``: what that memory adds to the gates."""
    gates: Tensor
    """``[T, rows, 3 H]``: values of reset gate, update gate and candidate."""
    after: Tensor
    """``[T, rows, H]``: the memory that a step leaves."""


class RecurrentNetwork:
    """Weights and passes; ``parameters`` and ``gradient`` are flat ``[P]`` vectors."""

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        *,
        output_gain: float,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Orthogonal initial weights and zero biases. ``hidden`` gives the units of the layer and of the memory."""
        if len(hidden) != 2:
            raise ValueError(
                f"A recurrent network got hidden={tuple(hidden)}, expected two numbers: the units of its first layer "
                "and of its memory."
            )
        self.inputs, self.hidden, self.outputs = inputs, tuple(hidden), outputs
        layer, memory = hidden
        self._shapes = {
            "layer": (inputs, layer),
            "layer_bias": (layer,),
            "input_gates": (layer, 3 * memory),
            "input_gates_bias": (3 * memory,),
            "memory_gates": (memory, 3 * memory),
            "memory_gates_bias": (3 * memory,),
            "output": (memory, outputs),
            "output_bias": (outputs,),
        }
        count = sum(torch.Size(shape).numel() for shape in self._shapes.values())
        self.parameters = torch.zeros(count, dtype=dtype, device=device)
        self.gradient = torch.zeros_like(self.parameters)
        self.layers, self.layer_gradients = self._split(self.parameters), self._split(self.gradient)
        """Weights and biases by name, and their gradients: views into the flat vectors."""
        gains = {"layer": 5 / 3, "input_gates": 1.0, "memory_gates": 1.0, "output": output_gain}
        for name, gain in gains.items():
            for part in self.layers[name].chunk(3 if "gates" in name else 1, dim=1):
                initial = torch.empty(part.shape, dtype=torch.float64)
                part.copy_(torch.nn.init.orthogonal_(initial, gain, generator=generator))
        self._unrolled: Unrolled | None = None

    def workspace(self, rows: int) -> None:
        """Nothing: this network allocates as it goes."""

    def memory(self, rows: int) -> Tensor:
        """What ``rows`` agents remember before their first step: ``[rows, H]`` zeros."""
        return self.parameters.new_zeros(rows, self.hidden[1])

    def step(self, inputs: Tensor, memory: Tensor, workspace: None = None, out: Tensor | None = None) -> Tensor:
        """Outputs ``[outputs, rows]`` of one step, of ``inputs [rows, inputs]``; ``memory`` is brought up to date."""
        views = self.layers
        layer = torch.addmm(views["layer_bias"], inputs, views["layer"]).tanh_()
        gates = torch.addmm(views["input_gates_bias"], layer, views["input_gates"])
        own = torch.addmm(views["memory_gates_bias"], memory, views["memory_gates"])
        _remember(gates, own, memory, out=memory)
        return torch.addmm(views["output_bias"][:, None], views["output"].t(), memory.t(), out=out)

    def unroll(self, inputs: Tensor, starts: Tensor) -> Tensor:
        """Outputs ``[outputs, T * rows]`` of whole sequences ``inputs [T, rows, inputs]``, kept for ``backward``.

        ``starts [T, rows]`` bool marks the first step of an episode. Sequences begin with an empty memory.
        """
        views, (steps, rows, _), size = self.layers, inputs.shape, self.hidden[1]
        inputs = inputs.flatten(0, 1)
        layer = torch.addmm(views["layer_bias"], inputs, views["layer"]).tanh_()
        gates = torch.addmm(views["input_gates_bias"], layer, views["input_gates"]).view(steps, rows, -1)
        keep = (~starts).to(inputs.dtype)[:, :, None]
        own, memory = torch.empty_like(gates), self.memory(rows)
        before, after = gates.new_empty(steps, rows, size), gates.new_empty(steps, rows, size)
        for t in range(steps):
            torch.mul(memory, keep[t], out=before[t])
            torch.addmm(views["memory_gates_bias"], before[t], views["memory_gates"], out=own[t])
            memory = _remember(gates[t], own[t], before[t], out=after[t])
        self._unrolled = Unrolled(inputs, layer, keep, before, own, gates, after)
        return torch.addmm(views["output_bias"][:, None], views["output"].t(), after.flatten(0, 1).t())

    def backward(self, output_gradient: Tensor) -> None:
        """Set ``gradient`` from ``output_gradient [outputs, T * rows]`` of the last ``unroll``, back through time."""
        views, gradients, past, size = self.layers, self.layer_gradients, self._unrolled, self.hidden[1]
        assert past is not None, "every backward follows an unroll of its own"
        self._unrolled = None
        torch.mm(past.after.flatten(0, 1).t(), output_gradient.t(), out=gradients["output"])
        torch.sum(output_gradient, 1, out=gradients["output_bias"])
        of_memory = torch.mm(output_gradient.t(), views["output"].t()).view_as(past.after)
        of_gates, of_own = torch.empty_like(past.gates), torch.empty_like(past.own)
        carried = torch.zeros_like(of_memory[0])
        for t in reversed(range(len(of_memory))):
            arriving = of_memory[t].add_(carried)
            reset, update, candidate = past.gates[t].split(size, dim=1)
            of_candidate = (arriving - arriving * update) * (1 - candidate.square())
            of_update = arriving * (past.before[t] - candidate) * (update - update.square())
            of_reset = of_candidate * past.own[t, :, 2 * size :] * (reset - reset.square())
            torch.cat([of_reset, of_update, of_candidate], 1, out=of_gates[t])
            torch.cat([of_reset, of_update, of_candidate * reset], 1, out=of_own[t])
            carried = torch.addmm(arriving * update, of_own[t], views["memory_gates"].t()).mul_(past.keep[t])
        of_gates, of_own = of_gates.flatten(0, 1), of_own.flatten(0, 1)
        torch.mm(past.before.flatten(0, 1).t(), of_own, out=gradients["memory_gates"])
        torch.sum(of_own, 0, out=gradients["memory_gates_bias"])
        torch.mm(past.layer.t(), of_gates, out=gradients["input_gates"])
        torch.sum(of_gates, 0, out=gradients["input_gates_bias"])
        of_layer = torch.mm(of_gates, views["input_gates"].t())
        torch.ops.aten.tanh_backward.grad_input(of_layer, past.layer, grad_input=of_layer)
        torch.mm(past.inputs.t(), of_layer, out=gradients["layer"])
        torch.sum(of_layer, 0, out=gradients["layer_bias"])

    def _split(self, flat: Tensor) -> dict[str, Tensor]:
        """The layers as views into ``flat``."""
        sizes = [torch.Size(shape).numel() for shape in self._shapes.values()]
        return {
            name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), flat.split(sizes), strict=True)
        }


def _remember(gates: Tensor, own: Tensor, memory: Tensor, out: Tensor) -> Tensor:
    """The memory ``[rows, H]`` after a step, written to ``out``.

    ``gates [rows, 3 H]`` hold what the inputs add to reset gate, update gate and candidate, ``own`` what the memory
    adds; the values of all three replace ``gates``.
    """
    size = memory.shape[1]
    both, candidate = gates[:, : 2 * size], gates[:, 2 * size :]
    both.add_(own[:, : 2 * size]).sigmoid_()
    candidate.addcmul_(both[:, :size], own[:, 2 * size :]).tanh_()
    return torch.lerp(candidate, memory, both[:, size:], out=out)
