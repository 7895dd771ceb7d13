"""Counter-based random numbers: a value is a pure function of its key, so nothing random needs a checkpoint.

Keys are mixed with SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def mix(values: np.ndarray) -> np.ndarray:
    """The SplitMix64 finaliser of each uint64 in ``values`` (same shape)."""
    with np.errstate(over="ignore"):
        z = values + _GAMMA
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniforms(seeds: np.ndarray, count: int, stream: int | np.ndarray = 0) -> np.ndarray:
    """``count`` uniform float64 in [0, 1) for each uint64 seed: shape ``[*seeds.shape, count]``.

    ``stream`` separates independent uses of the same seed (for example, one per time step): a number, or one per seed.
    """
    base = mix(seeds.astype(np.uint64) ^ mix(np.asarray(stream, dtype=np.uint64)))
    return (mix(base[..., None] + _steps(count)) >> np.uint64(11)).astype(np.float64) * 2.0**-53


@lru_cache(maxsize=64)
def _steps(count: int) -> np.ndarray:
    """``[count]``: how far each number is from its seed (the sums wrap around, as they should)."""
    return np.arange(1, count + 1, dtype=np.uint64) * _GAMMA


def derive(*parts: int | str) -> int:
    """A 63-bit seed from a readable path of parts, e.g. ``derive(seed, "confirm", round, 3)``.

    The value depends on every part and on their order, is the same in every process and never negative.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def episode_seeds(seed: int, first: int, count: int) -> np.ndarray:
    """Seeds ``[count]`` uint64 of the episodes ``first, first + 1, ...`` of the stream ``seed``."""
    with np.errstate(over="ignore"):
        keys = np.uint64(seed) + np.arange(first, first + count, dtype=np.uint64) * _GAMMA
    return mix(keys)
