"""The README's commands, specs and settings are ones the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import run
from agents.specs import parse_assignments, parse_spec
from tools.sources import gather

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"python run\.py [^`\n]*?(?=\s{2,}|`|\n)", TEXT)))
MODULES = sorted(set(re.findall(r"python -m (bench\.\w+)", TEXT)))


def test_there_are_commands() -> None:
    """Negative control of the patterns: they find what stands in the README."""
    assert len(COMMANDS) >= 10 and len(MODULES) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_known(command: str) -> None:
    """With --help nothing runs, but a wrong command or option is still refused."""
    words = shlex.split(command.removeprefix("python run.py "))
    assert run.run([*words, "--help"]) == 0


@pytest.mark.parametrize("wrong", ["sesion", "session --sed 1", "log shw"])
def test_a_wrong_command_would_be_noticed(wrong: str) -> None:
    assert run.run([*wrong.split(), "--help"]) == run.BAD_INPUT


def test_every_backend_spec_is_readable() -> None:
    given = re.findall(r"--agent (\S+=\S+)", TEXT.replace("'", "")) + re.findall(r"--check (\S+)", TEXT)
    specs = [text for text in given if text != "ROLE=SPEC" and "`" not in text]
    assert len(specs) >= 4
    for text in specs:
        if re.match(r"(critic|generator|validator|coordinator|all)=", text):
            text = parse_assignments([text]).popitem()[1]
        parse_spec(text)


def test_the_configuration_file_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
    path = tmp_path / "session.toml"
    path.write_text(example)
    given = gather({}, {}, path)
    roles = ("critic", "generator", "validator", "coordinator")
    settings = given.settings(dict.fromkeys(roles, "rules"), dict.fromkeys(roles, "default"))
    assert (settings.rounds, settings.run.learner.algorithm, settings.gate.alpha) == (4, "ippo", 0.04)
    assert given.agents == {"critic": "ollama/qwen3:8b"}


@pytest.mark.parametrize("module", MODULES)
def test_every_benchmark_exists(module: str) -> None:
    assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:`|^)make (\w+)", TEXT, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target
