"""Settings and shapings: every key with every strange value, as TOML and as variables, and files that are no TOML."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from pydantic import BaseModel

from bench.hardening.fixtures import CONFIG, SHAPING, Fixtures
from bench.hardening.inputs import Input
from bench.hardening.mutations import ESCAPES, VALUES, changed_bytes, changed_text, shown
from learning_signal.tools.plan.settings import SessionSettings

PLANS = (("session",), ("train",), ("study", "--seeds", "1"))
"""What reads settings; nothing is run."""
POTENTIALS = (
    "coverage_distance / 0", "coverage_distance ** 9", "__import__('os').system('touch pwned')", "().__class__", "[].x",
    "coverage_distance if 1 else speed", "lambda: 0", "speed; speed", "exp(exp(exp(speed * 1e6)))", "1e400", "1_000",
    "(" * 90 + "speed" + ")" * 90, "-" * 190 + "speed", "speed + " * 24 + "speed", "min()", "clip(speed)",
    "mean(mean(speed))",
    "no_feature", "speed\x00", "sp\u202eeed", "speed # x", "f'{speed}'", "speed := 1", "9" * 190,
    "speed / (speed - speed)",
    "0x10", "1j", "True", "None", "'speed'", "speed.real", "speed[0]", "*speed", "abs(speed, speed)",
    "max(speed, 1, 2)",
)  # fmt: skip


def inputs(fixtures: Fixtures, random: Random) -> Iterator[Input]:
    """Some 420 settings."""
    paths = sorted(_leaves(SessionSettings))
    for index, path in enumerate(path for path in paths for _ in range(4)):
        value = random.choice(VALUES)
        plan = (*PLANS[index % 3], "--dry-run")
        if index % 4 == 3:
            variable = "LEARNING_SIGNAL_" + path.upper().replace(".", "__")
            text = _for_a_variable(value)
            yield Input(f"{variable} is {shown(text)}", (plan,), _nothing, {variable: text})
        else:
            name = f"{path} is {shown(value)}"
            yield Input(name, ((*plan, "--config", "s.toml"),), _text("s.toml", _toml_of(path, value)))
    for index in range(100):
        yield _file("--config", "s.toml", CONFIG, PLANS[index % 3], random)
    yield from _places("--config")


def shapings(fixtures: Fixtures, random: Random) -> Iterator[Input]:
    """Some 150 shapings."""
    plan = ("train", "--dry-run", "--shaping", "s.toml")
    for text in POTENTIALS:
        for scope in ("team", "agent"):
            written = SHAPING.replace('"coverage_distance * 0.5 + speed"', _toml(text)).replace('"team"', f'"{scope}"')
            yield Input(f"the potential {shown(text)} ({scope})", (plan,), _text("s.toml", written))
    for field in (
        "beta = 1.0",
        "weight = -1.0",
        'scope = "team"',
        "start = 1000",
        "end = 200000",
        "[anneal]",
        "[[terms]]",
    ):
        for _ in range(8):
            value = random.choice(VALUES)
            name = field.partition(" ")[0].strip("[]")
            written = SHAPING.replace(field, f"{name} = {_toml(value)}")
            yield Input(f"{name} is {shown(value)}", (plan,), _text("s.toml", written))
    for _ in range(40):
        yield _file("--shaping", "s.toml", SHAPING, ("train",), random)
    yield from _places("--shaping")


def _leaves(record: type[BaseModel], before: str = "") -> Iterator[str]:
    """The dotted path of every setting."""
    for name, field in record.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{before}{name}.")
        yield before + name


def _toml_of(path: str, value: Any) -> str:
    """A file with this setting, and the smallest run where it leaves room."""
    table, _, key = path.rpartition(".")
    return f"[{table}]\n{key} = {_toml(value)}\n" if table else f"{key} = {_toml(value)}\n"


def _toml(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int):
        return f"1{'0' * 400}" if value == 10**400 else str(value)
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) or '0' for each in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(each) or '0'}" for key, each in value.items()) + "}"
    return json.dumps(value)


def _for_a_variable(value: Any) -> str:
    text = value if isinstance(value, str) else _toml(value)
    return text.replace("\x00", "")[:90_000]


def _file(option: str, name: str, text: str, command: tuple[str, ...], random: Random) -> Input:
    """A file of settings or of a shaping that is hardly one."""
    if random.random() < 0.5:
        changed, what = changed_text(text, random)
        data = changed.encode()
    else:
        data, what = changed_bytes(text.encode(), random)
    return Input(f"{option}: {what}", ((*command, "--dry-run", option, name),), _bytes(name, data))


def _places(option: str) -> Iterator[Input]:
    """What is no regular file, no text, or no settings at all."""
    command = "session" if option == "--config" else "train"
    cases: dict[str, Callable[[Path], None]] = {
        "a named pipe": lambda path: os.mkfifo(path),
        "a folder": lambda path: path.mkdir(),
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "a link to /dev/random": lambda path: path.symlink_to("/dev/random"),
        "a link to nothing": lambda path: path.symlink_to("nothing"),
        "a file that may not be read": lambda path: path.touch(0o000),
        "10 GB": lambda path: os.truncate(_touched(path), 10**10),
        "a ledger": lambda path: _touched(path).write_bytes(b"SQLite format 3\x00" + bytes(4080)),
        "20,000 tables": lambda path: _touched(path).write_text("\n".join(f"[a{n}]" for n in range(20_000))),
        "a key of 20,000 parts": lambda path: _touched(path).write_text(".".join(["a"] * 20_000) + " = 1"),
        "20,000 inline tables": lambda path: _touched(path).write_text("x = " + "{a = " * 20_000),
        "escapes as a key": lambda path: _touched(path).write_text(f"{json.dumps(ESCAPES)} = 1"),
        "UTF-16": lambda path: _touched(path).write_bytes("rounds = 2".encode("utf-16")),
        "a byte order mark": lambda path: _touched(path).write_bytes(b"\xef\xbb\xbf# nothing\n"),
    }
    for what, make in cases.items():
        yield Input(f"{option}: {what}", ((command, "--dry-run", option, "s.toml"),), _path("s.toml", make))


def _touched(path: Path) -> Path:
    path.touch()
    return path


def _nothing(folder: Path) -> None:
    """Nothing is put there."""


def _text(name: str, text: str) -> Callable[[Path], None]:
    return _bytes(name, text.encode("utf-8", "surrogatepass"))


def _bytes(name: str, data: bytes) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return prepare


def _path(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        make(folder / name)

    return prepare
