"""Command lines: every argument and option of every command with strange values, and words that nobody expects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import typer

from bench.hardening.fixtures import CONFIG, Fixtures, copied
from bench.hardening.inputs import Input
from bench.hardening.mutations import ESCAPES
from learning_signal import run as program

BASES: Mapping[str, tuple[str, ...]] = {
    "session": ("--dry-run",),
    "train": ("--dry-run",),
    "study": ("--dry-run",),
    "resume": ("no-session",),
    "say": ("latest", "hello"),
    "counterfactual": ("latest#20", "--with", "rules", "--turn"),
    "ab": ("--agent", "critic", "--with", "rules"),
    "play": ("--heuristic", "--task", "spread", "--episodes", "2"),
    "check-env": ("nowhere:at_all",),
    "compare": ("latest", "latest"),
    "log search": ("coverage",),
    "log diff": ("latest", "latest"),
    "log backup": ("b.db",),
    "log recover": ("ledger.db", "--to", "new.db"),
    "log browse": ("--port", "0"),
    "view": ("--port", "0"),
}
"""What a command needs to be one of seconds. `resume` of what is paused would train."""
STARTING = ("--browser",)
"""Options that start another program."""
SERVING = ("log browse", "log tail", "mcp", "view")
"""Commands that may go on until Ctrl-C."""
WORDS = (
    "", " ", "-", "--", "-1", "0", "1", "nan", "inf", "1e400", "1_000", "9" * 19, "9" * 20, "9" * 5_001, "-" + "9" * 30,
    "0x10", "true", "latest", "latest/R9", "latest#9", "latest#" + "9" * 40, "latest/R" + "9" * 5_001,
    "../../ESCAPED", "%",
    "a" * 100_000, "a " * 5_000, "\udcff", "\u00e9\U0001f511", ESCAPES, "x;touch${IFS}pwned", "$(touch pwned)", "*",
    "a\nb",
    "all=rules", "critic=rules,rules", "critic=openai/m@http://[", "critic=" + "rules," * 2_000, "=", "a=b=c",
    "env-steps=-1",
    "tokens=1e400", "time=1h1h", "spread?agents=1000000", "spread?agents=", "spread?" + "a=1&" * 5_000,
    "rules?x=" + "y" * 9_000,
    "subprocess:getoutput?cmd=touch pwned", "os:system", "builtins:eval?x=1", "mpe2.no_such:env", "replay/../../x",
    "cuda", "ray",
)  # fmt: skip
PLACES = (
    "pipe",
    "zero",
    "folder",
    "text",
    "empty",
    "ledger.db",
    "loop",
    "gone/away/x",
    "a" * 300,
    "x\x1b]0;y\x07",
    ".",
    "",
)
"""What a path may lead to, all of it in the folder: a user may name any other, too, but not in a test."""
ODD = (
    ("--unknown",),
    ("--json", "--json"),
    ("-h",),
    ("extra", "words"),
    ("--",),
    ("-",),
    ("--help", "--version"),
    ("@text",),
)


def inputs(fixtures: Fixtures, random: Random) -> Iterator[Input]:
    """Some 500 command lines."""
    prepare = partial(_prepare, fixtures)
    for name, command in commands():
        base = BASES.get(name, ())
        for parameter in command.params:
            if parameter.opts[0] in STARTING:
                continue
            for value in _values(parameter, random):
                words = (*name.split(), *_with(base, parameter, value))
                yield _input(name, words, prepare, f"{parameter.opts[0]} {value!r:.60}")
        for odd in random.sample(ODD, 3):
            yield _input(name, (*name.split(), *base, *odd), prepare, " ".join(odd))
    for words in (*ODD, ("sesion",), ("log",), ("log", "x"), ("a" * 10_000,), ("\udcff",), (ESCAPES,)):
        yield _input("no command", words, prepare, repr(words)[:60])


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the program, by its name."""
    yield from _of(typer.main.get_command(program.application()), "")


def _of(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name.strip(), command
        return
    for each, inner in sorted(command.commands.items()):
        yield from _of(inner, f"{name} {each}")


def _input(name: str, words: tuple[str, ...], prepare: Callable[[Path], None], what: str) -> Input:
    serves = name in SERVING
    variables = {"LEARNING_SIGNAL_LEDGER": "ledger.db"}
    return Input(f"{name}: {what}", (words,), prepare, variables, serves=serves, ports=None if serves else ())


def _values(parameter: Any, random: Random) -> list[str | None]:
    """A few values of a parameter; None where it is a flag."""
    if getattr(parameter, "is_flag", False):
        return [None]
    paths = parameter.type.name in ("path", "file", "directory") or parameter.metavar in (
        "FILE",
        "FOLDER",
        "PATH",
        "KEY",
    )
    return random.sample(PLACES, 3) + random.sample(WORDS[:6], 1) if paths else random.sample(WORDS, 3)


def _with(base: tuple[str, ...], parameter: Any, value: str | None) -> tuple[str, ...]:
    """The words of a base with this parameter in it, in place of its own."""
    words = list(base)
    option = parameter.opts[0]
    if not option.startswith("-"):
        given = next(
            (place for place, word in enumerate(words) if not word.startswith("-") and _free(words, place)), None
        )
        if given is not None:
            words.pop(given)
        return (value or "", *words)
    if option in words and value is not None:
        place = words.index(option)
        del words[place : place + 2]
    return (*words, option) if value is None else (*words, option, value)


def _free(words: list[str], place: int) -> bool:
    """Whether the word there is an argument, not the value of an option."""
    return (
        not place or not words[place - 1].startswith("--") or words[place - 1] in ("--dry-run", "--heuristic", "--turn")
    )


def _prepare(fixtures: Fixtures, folder: Path) -> None:
    copied(fixtures.two, folder)
    os.mkfifo(folder / "pipe")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    (folder / "folder").mkdir()
    (folder / "text").write_text("some words\n")
    (folder / "empty").touch()
    (folder / "c.toml").write_text(CONFIG)
