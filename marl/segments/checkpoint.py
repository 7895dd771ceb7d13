"""Checkpoints: the whole state of training in one file, without any random state.

Weights, optimiser states, what else the learner has (value normaliser; target networks and replay) and the position of
the run. Random numbers are derived from (segment seed, update index) and environments start afresh in every rollout, so
neither needs to be stored.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch

from learning_signal.marl.learners import Learner

FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read or belongs to another learner; one sentence."""


@dataclass(frozen=True)
class Position:
    """How far a run has come, ancestors included."""

    env_steps: int
    updates: int


def save_checkpoint(path: Path, learner: Learner, position: Position) -> str:
    """Write the state of ``learner`` at ``position`` to ``path``; returns the file's SHA-256."""
    payload = {
        "format": FORMAT,
        "algorithm": learner.settings.algorithm,
        "env_steps": position.env_steps,
        "updates": position.updates,
        "learner": learner.state(),
    }
    # Not straight to the path: torch's own writer hides why a write failed, such as a full disk.
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    path.write_bytes(buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def load_checkpoint(path: Path, learner: Learner) -> Position:
    """Put the state at ``path`` into ``learner`` and return its position; ``CheckpointError`` if that cannot be."""
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
        version = (payload["format"], payload["algorithm"])
        position = Position(payload["env_steps"], payload["updates"])
        stored = payload["learner"]
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"The checkpoint {path} cannot be read by torch {torch.__version__} ({type(error).__name__}): use "
            "the torch that wrote it (the log says which), or delete its segment to train it again."
        ) from error
    if version != (FORMAT, learner.settings.algorithm):
        raise CheckpointError(
            f"The checkpoint {path} is of format {version[0]} and algorithm {version[1]}, expected format {FORMAT} and "
            f"{learner.settings.algorithm}; use it with the run that made it."
        )
    try:
        learner.load(stored)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return position
