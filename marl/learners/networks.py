"""A tanh multilayer perceptron over one flat parameter vector, with a hand-written, allocation-free gradient.

On one CPU core the cost of a small network is not its matrix products alone: ``torch.tanh`` takes twice as
long as the product before it. ``tanh(x) = 2 sigmoid(2x) - 1`` takes a sixth of that, and the factor 2 of its
argument is free inside ``addmm``. Outputs are kept as ``[outputs, rows]``: a softmax over a handful of actions then
runs along contiguous rows. Only plain torch operations are used, so the same code runs on any device and in any
floating-point type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Within, this thread takes the smallest numbers (below 1e-38 in single precision) for 0.

    Probabilities of a decided policy are so small that a processor takes ten times as long over them. Environments must
    not run within: in a process of their own they would compute something else.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@dataclass(frozen=True)
class Workspace:
    """Buffers for one batch size, reused by every pass."""

    hidden: tuple[Tensor, ...]
    """Activations ``[rows, units]`` of each hidden layer."""
    hidden_gradients: tuple[Tensor, ...]
    """Gradients of the loss with respect to each of them; may be the memory of activations needed no longer."""
    outputs: Tensor
    """``[outputs, rows]``."""


class Network:
    """Weights, gradient and passes of a perceptron ``inputs -> tanh layers -> linear outputs``.

    ``parameters`` and ``gradient`` are flat ``[P]`` vectors; the layers are views into them, so an optimiser step, a
    gradient norm and a checkpoint each handle one tensor.
    """

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
        """Orthogonal initial weights (gain 5/3 before a tanh, ``output_gain`` at the end) and zero biases."""
        self.inputs, self.hidden, self.outputs = inputs, tuple(hidden), outputs
        sizes = (inputs, *hidden)
        # Hidden weights map row vectors ([in, out]); the last maps column vectors ([out, in]).
        shapes = [(sizes[i], sizes[i + 1]) for i in range(len(hidden))] + [(outputs, sizes[-1])]
        units = [*hidden, outputs]
        count = sum(rows * columns for rows, columns in shapes) + sum(units)
        self.parameters = torch.zeros(count, dtype=dtype, device=device)
        self.gradient = torch.zeros_like(self.parameters)
        self.weights, self.biases = _layers(self.parameters, shapes, units)
        self.weight_gradients, self.bias_gradients = _layers(self.gradient, shapes, units)
        for weight in self.weights:
            gain = output_gain if weight is self.weights[-1] else 5 / 3
            initial = torch.empty(weight.shape, dtype=torch.float64)
            weight.copy_(torch.nn.init.orthogonal_(initial, gain, generator=generator))
        self._minus_one = torch.tensor(-1.0, dtype=dtype, device=device)

    def workspace(self, rows: int, *, gradients: bool = False) -> Workspace:
        """New buffers for batches of ``rows``; with ``gradients``, also those that ``backward`` needs."""
        like = self.parameters
        hidden = tuple(like.new_empty(rows, units) for units in self.hidden)
        hidden_gradients: tuple[Tensor, ...] = ()
        if gradients:
            # When the gradient of a layer is computed, the activations of the layer above are no longer needed: where
            # they fit, they give their memory. What fits into the cache is what a small network's speed depends on.
            below = zip(self.hidden[:-1], hidden[1:], strict=True)
            hidden_gradients = (
                *(above if above.shape[1] == units else like.new_empty(rows, units) for units, above in below),
                like.new_empty(rows, self.hidden[-1]),
            )
        return Workspace(hidden, hidden_gradients, like.new_empty(self.outputs, rows))

    def forward(self, inputs: Tensor, workspace: Workspace, out: Tensor | None = None) -> Tensor:
        """Outputs ``[outputs, rows]`` of ``inputs [rows, inputs]``, written to ``out`` or a buffer of the workspace."""
        out = workspace.outputs if out is None else out
        activations = inputs
        for weight, bias, hidden in zip(self.weights, self.biases, workspace.hidden, strict=False):
            torch.addmm(bias, activations, weight, beta=2, alpha=2, out=hidden)
            hidden.sigmoid_()
            activations = torch.add(self._minus_one, hidden, alpha=2, out=hidden)
        return torch.addmm(self.biases[-1][:, None], self.weights[-1], activations.t(), out=out)

    def memory(self, rows: int) -> None:
        """Nothing: this network remembers nothing between steps."""

    def step(self, inputs: Tensor, memory: None, workspace: Workspace, out: Tensor | None = None) -> Tensor:
        """``forward``: the door that a recurrent network has, too."""
        return self.forward(inputs, workspace, out)

    def backward(self, inputs: Tensor, workspace: Workspace, output_gradient: Tensor) -> None:
        """Set ``gradient`` from ``output_gradient [outputs, rows]``, the loss's gradient with respect to the outputs.

        Must follow ``forward`` of the same ``inputs`` with the same ``workspace`` (made with ``gradients=True``), whose
        activations it may overwrite.
        """
        last = workspace.hidden[-1]
        torch.mm(output_gradient, last, out=self.weight_gradients[-1])
        torch.sum(output_gradient, 1, out=self.bias_gradients[-1])
        torch.mm(output_gradient.t(), self.weights[-1], out=workspace.hidden_gradients[-1])
        for layer in reversed(range(len(self.hidden))):
            gradient, activations = workspace.hidden_gradients[layer], workspace.hidden[layer]
            below = workspace.hidden[layer - 1] if layer else inputs
            torch.ops.aten.tanh_backward.grad_input(gradient, activations, grad_input=gradient)
            torch.mm(below.t(), gradient, out=self.weight_gradients[layer])
            torch.sum(gradient, 0, out=self.bias_gradients[layer])
            if layer:
                torch.mm(gradient, self.weights[layer].t(), out=workspace.hidden_gradients[layer - 1])

    def flops(self, rows: int, *, backward: bool) -> int:
        """Floating-point operations of the matrix products of one pass over ``rows`` (2 per multiply-add)."""
        forward = 2 * rows * sum(weight.numel() for weight in self.weights)
        if not backward:
            return forward
        # The gradients of weights and of activations cost one product each; the inputs need no gradient.
        return 3 * forward - 2 * rows * self.weights[0].numel()


def _layers(flat: Tensor, shapes: list[tuple[int, int]], units: list[int]) -> tuple[tuple[Tensor, ...], ...]:
    """Weights and biases as views into ``flat``, one layer after the other."""
    weights, biases, start = [], [], 0
    for (rows, columns), width in zip(shapes, units, strict=True):
        weights.append(flat[start : start + rows * columns].view(rows, columns))
        start += rows * columns
        biases.append(flat[start : start + width])
        start += width
    return tuple(weights), tuple(biases)


class Trainable(Protocol):
    """What an optimiser moves."""

    parameters: Tensor
    """``[P]``, flat."""
    gradient: Tensor
    """``[P]``: of the loss with respect to them."""


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1) on one flat parameter vector: one fused operation per step.

    A handful of small operations between two large products costs more than it computes: code and data of each have
    left the cache by then.
    """

    def __init__(self, network: Trainable, learning_rate: float, epsilon: float = 1e-4) -> None:
        """``epsilon`` is large for Adam, so that the tiny gradients of a task that does not pay move little."""
        self.network, self.learning_rate, self.epsilon = network, learning_rate, epsilon
        self.first_moment = torch.zeros_like(network.parameters)
        self.second_moment = torch.zeros_like(network.parameters)
        self.steps = 0
        self._steps = torch.zeros((), device=network.parameters.device)

    def step(self, gradient_scale: Tensor | float = 1.0) -> None:
        """Move the parameters against ``gradient_scale`` times the network's gradient."""
        self.steps += 1
        if gradient_scale != 1:
            self.network.gradient.mul_(gradient_scale)
        torch._fused_adam_(
            [self.network.parameters],
            [self.network.gradient],
            [self.first_moment],
            [self.second_moment],
            [],
            [self._steps.fill_(self.steps)],
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            eps=self.epsilon,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )
