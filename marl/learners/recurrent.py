"""A gated recurrent network (Cho et al. 2014, arXiv 1406.1078) over one flat parameter vector; its gradient is autograd's.

``inputs -> tanh layer -> GRU -> linear outputs``. It has the doors of ``Network``: outputs are ``[outputs, rows]`` and the
parameters are one vector. What is remembered starts at 0 with every episode.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
        self._views = self._split(self.parameters)
        gains = {"layer": 5 / 3, "input_gates": 1.0, "memory_gates": 1.0, "output": output_gain}
        for name, gain in gains.items():
            for part in self._views[name].chunk(3 if "gates" in name else 1, dim=1):
                initial = torch.empty(part.shape, dtype=torch.float64)
                part.copy_(torch.nn.init.orthogonal_(initial, gain, generator=generator))
        self._unrolled: tuple[Tensor, Tensor] | None = None

    def workspace(self, rows: int) -> None:
        """Nothing: this network allocates as it goes."""

    def memory(self, rows: int) -> Tensor:
        """What ``rows`` agents remember before their first step: ``[rows, H]`` zeros."""
        return self.parameters.new_zeros(rows, self.hidden[1])

    def step(self, inputs: Tensor, memory: Tensor, workspace: None = None, out: Tensor | None = None) -> Tensor:
        """Outputs ``[outputs, rows]`` of one time step of ``inputs [rows, inputs]``; ``memory`` is brought up to date."""
        views = self._views
        layer = torch.addmm(views["layer_bias"], inputs, views["layer"]).tanh_()
        gates = torch.addmm(views["input_gates_bias"], layer, views["input_gates"])
        memory.copy_(_remember(gates, memory, views))
        return torch.addmm(views["output_bias"][:, None], views["output"].t(), memory.t(), out=out)

    def unroll(self, inputs: Tensor, starts: Tensor) -> Tensor:
        """Outputs ``[outputs, T * rows]`` of whole sequences ``inputs [T, rows, inputs]``, kept for ``backward``.

        ``starts [T, rows]`` bool marks the first step of an episode. Sequences begin with an empty memory.
        """
        flat = self.parameters.detach().requires_grad_()
        views = self._split(flat)
        with torch.enable_grad():
            layer = torch.tanh(torch.addmm(views["layer_bias"], inputs.flatten(0, 1), views["layer"]))
            gates = torch.addmm(views["input_gates_bias"], layer, views["input_gates"]).view(*inputs.shape[:2], -1)
            keep = (~starts).to(inputs.dtype)[:, :, None]
            memory, memories = self.memory(inputs.shape[1]), []
            for t in range(len(inputs)):
                memory = _remember(gates[t], memory * keep[t], views)
                memories.append(memory)
            rows = torch.cat(memories)
            outputs = torch.addmm(views["output_bias"][:, None], views["output"].t(), rows.t())
        self._unrolled = outputs, flat
        return outputs.detach()

    def backward(self, output_gradient: Tensor) -> None:
        """Set ``gradient`` from ``output_gradient [outputs, T * rows]`` of the last ``unroll``."""
        outputs, flat = self._unrolled
        self._unrolled = None
        self.gradient.copy_(torch.autograd.grad(outputs, flat, output_gradient)[0])

    def _split(self, flat: Tensor) -> dict[str, Tensor]:
        """The layers as views into ``flat``."""
        sizes = [torch.Size(shape).numel() for shape in self._shapes.values()]
        return {
            name: part.view(shape)
            for (name, shape), part in zip(self._shapes.items(), flat.split(sizes), strict=True)
        }


def _remember(gates: Tensor, memory: Tensor, views: dict[str, Tensor]) -> Tensor:
    """The memory ``[rows, H]`` after a step whose inputs gave ``gates [rows, 3 H]``: reset, update and candidate."""
    own = torch.addmm(views["memory_gates_bias"], memory, views["memory_gates"])
    size = memory.shape[1]
    reset, update = torch.sigmoid(gates[:, : 2 * size] + own[:, : 2 * size]).chunk(2, dim=1)
    candidate = torch.tanh(gates[:, 2 * size :] + reset * own[:, 2 * size :])
    return torch.lerp(candidate, memory, update)
