"""The weights of a policy by name, and their hash: what is left of a checkpoint in a policy's file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from torch import Tensor

from learning_signal.marl.learners.networks import Network
from learning_signal.marl.learners.policy import Policy
from learning_signal.marl.learners.recurrent import RecurrentNetwork


def named_weights(policy: Policy) -> dict[str, Tensor]:
    """Every weight as a view, called ``group.layer.kind``."""
    return {
        f"{group.name}.{name}": tensor
        for group, actor in zip(policy.spec.groups, policy.actors, strict=True)
        for name, tensor in _layers(actor).items()
    }


def _layers(network: Network | RecurrentNetwork) -> dict[str, Tensor]:
    """The layers of a network as views into its parameters."""
    if isinstance(network, RecurrentNetwork):
        return {
            name.replace("_bias", ".bias") if name.endswith("_bias") else f"{name}.weight": tensor
            for name, tensor in network.layers.items()
        }
    names = [f"layer_{index}" for index in range(len(network.hidden))] + ["output"]
    named = {f"{name}.weight": tensor for name, tensor in zip(names, network.weights, strict=True)}
    return named | {f"{name}.bias": tensor for name, tensor in zip(names, network.biases, strict=True)}


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights: of name, type, shape and bytes of each, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
