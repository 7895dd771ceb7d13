"""Networks of several branches as one: the same perceptron with a branch axis in front of its weights.

A batched product computes what the products of the branches would, one after the other, and on the CPU to the same
bits; but one call does it for all, and so do the operations between the products.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from marl.learners.base import Part
from marl.learners.networks import Network, Workspace

_ALIGNED = 16
"""Single-precision numbers in 64 bytes: every branch's weights begin where they would alone."""

_LANES = 32
"""A processor handles so many of them at once (AVX-512, two registers), and rounds what is left over in another way."""

_TINY = 400
"""Multiplications of a product, below which torch does not hand it to the library."""


def whole_vectors(tensor: Tensor, numbers: int) -> bool:
    """Whether an operation on the ``numbers`` of several branches in a row rounds as it would on those of each."""
    return tensor.is_cuda or numbers % _LANES == 0


class StackedNetwork:
    """``B`` networks of one shape; rows of inputs and outputs are branch after branch, equally many of each.

    Has the doors of ``Network`` that act and learn. The weights are copies: ``load`` fills them, ``unload`` gives them
    back.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        """Room for as many branches as there are ``networks``; their weights are loaded."""
        self.like, self.branches = networks[0], len(networks)
        self.inputs, self.outputs = self.like.inputs, self.like.outputs
        self.count = len(self.like.parameters)
        padded = -(-self.count // _ALIGNED) * _ALIGNED
        self.parameters = self.like.parameters.new_zeros(self.branches, padded)
        self.gradient = torch.zeros_like(self.parameters)
        self.weights, self.biases, self.weight_gradients, self.bias_gradients = (
            [self._view(flat, layer) for layer in layers]
            for flat, layers in (
                (self.parameters, self.like.weights), (self.parameters, self.like.biases),
                (self.gradient, self.like.weights), (self.gradient, self.like.biases),
            )
        )  # fmt: skip
        self._minus_one = torch.tensor(-1.0, dtype=self.parameters.dtype, device=self.parameters.device)
        self._workspaces: dict[int, Workspace] = {}
        self.load(networks)

    def _view(self, flat: Tensor, layer: Tensor) -> Tensor:
        """What ``layer`` is in the flat vector of one network, in those of all: ``[B, *layer.shape]``."""
        first = layer.storage_offset()
        return flat[:, first : first + layer.numel()].view(self.branches, *layer.shape)

    def load(self, networks: Sequence[Network]) -> None:
        """Take the weights of ``networks``."""
        self.networks = tuple(networks)
        for row, network in zip(self.parameters, self.networks, strict=True):
            row[: self.count] = network.parameters

    def unload(self) -> None:
        """Give the weights back to the networks they came from."""
        for row, network in zip(self.parameters, self.networks, strict=True):
            network.parameters.copy_(row[: self.count])

    def rows_of(self, flat: Tensor) -> list[Tensor]:
        """``parameters`` or ``gradient`` of each branch: views ``[P]``."""
        return [row[: self.count] for row in flat]

    def workspace(self, rows: int, *, gradients: bool = False) -> Workspace:
        """New buffers for batches of ``rows``, those of all branches together."""
        return self.like.workspace(rows, gradients=gradients)

    def kept_workspace(self, rows: int) -> Workspace:
        """Buffers for a gradient step on ``rows``: the same ones every time."""
        if rows not in self._workspaces:
            with torch.inference_mode(False):  # ordinary tensors, to be used anywhere
                self._workspaces[rows] = self.workspace(rows, gradients=True)
        return self._workspaces[rows]

    def memory(self, rows: int) -> None:
        """Nothing, as in ``Network``."""
        return self.like.memory(rows)

    def step(self, inputs: Tensor, memory: None, workspace: Workspace, out: Tensor | None = None) -> Tensor:
        """``forward``: what a ``Player`` calls."""
        return self.forward(inputs, workspace, out)

    def forward(self, inputs: Tensor, workspace: Workspace, out: Tensor | None = None) -> Tensor:
        """Outputs ``[outputs, B * rows]`` of ``inputs``, ``[B * rows, inputs]`` or ``[B, rows, inputs]``."""
        out = workspace.outputs if out is None else out
        activations = self._split(inputs)
        for weight, bias, flat in zip(self.weights, self.biases, workspace.hidden, strict=False):
            hidden = self._split(flat)
            _add_products(bias[:, None], activations, weight, 2, out=hidden)
            for one in [flat] if whole_vectors(flat, flat.numel() // self.branches) else hidden:
                one.sigmoid_()
            activations = torch.add(self._minus_one, hidden, alpha=2, out=hidden)
        _add_products(self.biases[-1][:, :, None], self.weights[-1], activations.transpose(1, 2), 1, self._columns(out))
        return out

    def backward(self, inputs: Tensor, workspace: Workspace, output_gradient: Tensor) -> None:
        """Set ``gradient`` from ``output_gradient [outputs, B * rows]``; as in ``Network``."""
        last, outer = self._split(workspace.hidden[-1]), self._columns(output_gradient)
        _products(outer, last, out=self.weight_gradients[-1])
        torch.sum(outer, 2, out=self.bias_gradients[-1])
        _products(outer.transpose(1, 2), self.weights[-1], out=self._split(workspace.hidden_gradients[-1]))
        for layer in reversed(range(len(workspace.hidden))):
            gradient = self._split(workspace.hidden_gradients[layer])
            activations = self._split(workspace.hidden[layer])
            below = self._split(workspace.hidden[layer - 1] if layer else inputs)
            torch.ops.aten.tanh_backward.grad_input(gradient, activations, grad_input=gradient)
            _products(below.transpose(1, 2), gradient, out=self.weight_gradients[layer])
            torch.sum(gradient, 1, out=self.bias_gradients[layer])
            if layer:
                under = self._split(workspace.hidden_gradients[layer - 1])
                _products(gradient, self.weights[layer].transpose(1, 2), out=under)

    def _split(self, rows: Tensor) -> Tensor:
        """``[B, rows, n]`` of ``[B * rows, n]``, or of what is split already."""
        return rows if rows.dim() == 3 else rows.view(self.branches, -1, rows.shape[-1])

    def _columns(self, outputs: Tensor) -> Tensor:
        """``[B, outputs, rows]`` of ``[outputs, B * rows]``."""
        return outputs.view(len(outputs), self.branches, -1).transpose(0, 1)


def _products(left: Tensor, right: Tensor, out: Tensor) -> None:
    """Matrix products ``[B, n, m]`` of ``[B, n, k]`` and ``[B, k, m]``."""
    if _batched_as_alone(left, right):
        torch.bmm(left, right, out=out)
    else:
        for one in zip(left, right, out, strict=True):
            torch.mm(*one[:2], out=one[2])


def _add_products(bias: Tensor, left: Tensor, right: Tensor, scale: int, out: Tensor) -> None:
    """``scale`` times the sum of ``bias`` and the products."""
    if _batched_as_alone(left, right):
        torch.baddbmm(bias, left, right, beta=scale, alpha=scale, out=out)
    else:
        for one in zip(bias, left, right, out, strict=True):
            torch.addmm(*one[:3], beta=scale, alpha=scale, out=one[3])


def _batched_as_alone(left: Tensor, right: Tensor) -> bool:
    """Whether batched products round as single ones do: on the CPU torch has loops of its own for tiny ones."""
    return left.is_cuda or left.shape[1] * left.shape[2] * right.shape[2] >= _TINY


def descend(network: StackedNetwork, parts: Sequence[Part], largest_norm: float) -> Tensor:
    """One Adam step per branch, each gradient scaled down to ``largest_norm``; the norms ``[B]`` before.

    ``parts`` are those of the branches in the network's order; their optimisers keep moments and steps.
    """
    gradients, optimisers = network.rows_of(network.gradient), [part.optimiser for part in parts]
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, [largest_norm / size if size > largest_norm else 1.0 for size in norms.tolist()])
    for optimiser in optimisers:
        optimiser.steps += 1
    steps = torch.tensor([float(optimiser.steps) for optimiser in optimisers], device=norms.device)
    torch._fused_adam_(
        network.rows_of(network.parameters),
        gradients,
        [optimiser.first_moment for optimiser in optimisers],
        [optimiser.second_moment for optimiser in optimisers],
        [],
        list(steps.unbind()),
        lr=optimisers[0].learning_rate,
        beta1=0.9,
        beta2=0.999,
        eps=optimisers[0].epsilon,
        weight_decay=0.0,
        amsgrad=False,
        maximize=False,
    )
    return norms
