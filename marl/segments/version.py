"""Versions of this program's code, by which results of other code are told apart from its own.

``training_version`` is part of every segment's id: it covers the folders and files that a segment's result can depend
on, and no others, so that a change of the gate, of the executors or of the viewer leaves the ids as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from learning_signal.marl.canonical import short_hash

ROOT = Path(__file__).resolve().parents[1]
"""The folder ``marl``."""
TRAINING = ("hyperparameters.py", "learners", "randomness.py", "segments", "settings.py", "shaping", "tasks")
"""The folders (with all that is in them) and the files of ``marl`` that a segment's result depends on."""


@cache
def code_version() -> str:
    """A 16-digit hash of the sources of ``marl``: other code may give other results for the same inputs."""
    return hash_of_sources(ROOT, all_sources(ROOT))


def libraries() -> str:
    """The versions of what training computes with, in words: ``torch 2.13.0, NumPy 2.4.6``."""
    return f"torch {version('torch')}, NumPy {version('numpy')}"


@cache
def training_version() -> str:
    """The same of `training_sources`, and of the versions of torch and NumPy."""
    versions = " ".join(version(package) for package in ("torch", "numpy"))
    return short_hash(f"{hash_of_sources(ROOT, training_sources(ROOT))} {versions}")


def all_sources(root: Path) -> list[Path]:
    """Every Python file below ``root``."""
    return sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix())


def training_sources(root: Path) -> list[Path]:
    """Those of `all_sources` that a segment's result depends on."""
    return [path for path in all_sources(root) if path.relative_to(root).parts[0] in TRAINING]


def hash_of_sources(root: Path, sources: Iterable[Path]) -> str:
    """16 hexadecimal digits: SHA-256 over the names below ``root`` and the bytes of ``sources``, in this order."""
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
