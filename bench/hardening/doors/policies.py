"""Exported policies: every field of the description, the weights as bytes and as arrays, and what is no policy."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from bench.hardening.fixtures import Fixtures, copied
from bench.hardening.inputs import Input
from bench.hardening.mutations import VALUES, as_json, changed_bytes, changed_json, changed_text, shown

DESCRIPTION, WEIGHTS = "policy.json", "policy.safetensors"
COMMANDS = (
    (("play", "policy/", "--episodes", "2"),),
    (("play", "policy/", "--episodes", "2", "--sampled", "--json"),),
    (("play", "policy/", "--episodes", "2"), ("log", "verify", "--policy", "policy", "--ledger", "ledger.db")),
)


def inputs(fixtures: Fixtures, random: Random) -> Iterator[Input]:
    """Some 260 policies."""
    folder = fixtures.trained / "policy"
    text = (folder / DESCRIPTION).read_text("utf-8")
    description = json.loads(text)
    made: list[tuple[str, Callable[[Path], None]]] = []
    for path in _paths(description):
        value = random.choice(VALUES)
        made.append((f"{'.'.join(map(str, path))} is {shown(value)}", _described(_set(description, path, value))))
    for _ in range(60):
        changed, what = changed_json(description, random)
        made.append((what, _described(as_json(changed))))
    for _ in range(20):
        changed_, what = changed_text(text, random)
        made.append((f"the description is {what}", _described(changed_)))
    data = (folder / WEIGHTS).read_bytes()
    for _ in range(60):
        bytes_, what = changed_bytes(data, random)
        made.append((f"weights: {what}", _written(WEIGHTS, bytes_)))
    made += _arrays(load_file(folder / WEIGHTS))
    made += _places()
    for index, (what, change) in enumerate(made):
        yield Input(what, COMMANDS[index % 3], _changed(fixtures, change), received=index % 2 == 0)


def _changed(fixtures: Fixtures, change: Callable[[Path], None]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        copied(fixtures.trained, folder)
        change(folder / "policy")

    return prepare


def _paths(data: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of the description, by its keys."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield (*before, key)
        if isinstance(value, (dict, list)):
            yield from _paths(value, (*before, key))


def _set(data: Any, path: tuple[Any, ...], value: Any) -> str:
    changed = json.loads(json.dumps(data))
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return as_json(changed)


def _described(text: str) -> Callable[[Path], None]:
    return _written(DESCRIPTION, text.encode("utf-8", "surrogatepass"))


def _written(name: str, data: bytes) -> Callable[[Path], None]:
    def change(policy: Path) -> None:
        (policy / name).write_bytes(data)

    return change


def _arrays(weights: dict[str, np.ndarray]) -> list[tuple[str, Callable[[Path], None]]]:
    """Weights of other values, shapes, types and names."""
    cases: dict[str, dict[str, np.ndarray]] = {"no weights": {}}
    for name, array in weights.items():
        rest = {other: each for other, each in weights.items() if other != name}
        cases |= {
            f"{name} is left out": rest,
            f"{name} is NaN": rest | {name: np.full_like(array, np.nan)},
            f"{name} is infinite": rest | {name: np.full_like(array, np.inf)},
            f"{name} is 3e38": rest | {name: np.full_like(array, 3e38)},
            f"{name} is empty": rest | {name: np.zeros((0,), np.float32)},
            f"{name} has another shape": rest | {name: np.zeros((*array.shape, 2), np.float32)},
            f"{name} is whole numbers": rest | {name: array.astype(np.int64)},
            f"{name} is of 16 bits": rest | {name: array.astype(np.float16)},
            f"{name} is truth": rest | {name: array.astype(bool)},
            f"{name} has another name": rest | {f"../{name}": array},
        }
    return [(what, _saved(arrays)) for what, arrays in cases.items()]


def _saved(arrays: dict[str, np.ndarray]) -> Callable[[Path], None]:
    return lambda policy: save_file(arrays, policy / WEIGHTS)


class _Touches:
    """What a reader of pickles would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def _places() -> list[tuple[str, Callable[[Path], None]]]:
    """What is no policy at all, in the place of each of its files."""

    def instead(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
        def change(policy: Path) -> None:
            (policy / name).unlink()
            make(policy / name)

        return change

    cases: dict[str, Callable[[Path], Any]] = {
        "is gone": lambda path: None,
        "is a named pipe": os.mkfifo,
        "is a folder": lambda path: path.mkdir(),
        "is /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "is a pickle": lambda path: path.write_bytes(pickle.dumps(_Touches())),
        "is 10 GB": lambda path: (path.touch(), os.truncate(path, 10**10)),
        "may not be read": lambda path: path.touch(0o000),
        "says that its head has 2^63 bytes": lambda path: path.write_bytes((2**63).to_bytes(8, "little") + b"{}"),
    }
    return [(f"{name} {what}", instead(name, make)) for what, make in cases.items() for name in (DESCRIPTION, WEIGHTS)]
