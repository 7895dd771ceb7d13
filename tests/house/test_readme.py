"""The README's commands, specs and settings are ones the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from learning_signal import run
from learning_signal.agents.model.specs import parse_assignments, parse_spec
from learning_signal.marl.randomness import episode_seeds
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.foreign.contract import check_environment
from learning_signal.tools.plan.sources import gather
from tests.support.places import ROOT

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
    assert (settings.rounds, settings.run.learner.algorithm, settings.deliberation.candidates) == (4, "ippo", 8)
    assert (settings.gate.confirm_seeds, settings.gate.screen_halvings) == (6, 2)
    assert given.agents == {"critic": "ollama/qwen3:8b"}


@pytest.mark.parametrize("module", MODULES)
def test_every_benchmark_exists(module: str) -> None:
    assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


def test_every_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:`|^)make (\w+)", TEXT, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", TEXT, re.S)


def test_the_environment_of_a_user_is_a_task(here: Path) -> None:
    (text,) = (block for block in blocks() if "ParallelTask(" in block)
    (here / "talk.py").write_text(text)
    assert check_environment("talk:task", episodes=2) == []
    spec = make_task("talk:task", 2).spec
    assert [len(group.agents) for group in spec.groups] == [1, 1] and spec.max_return == 25.0


def test_a_policy_is_loaded_as_shown(here: Path) -> None:
    (text,) = (block for block in blocks() if "load_policy" in block)
    (here / "small.toml").write_text("[run.learner]\nenvironments = 4\n[run.evaluation]\nepisodes = 4\n")
    assert run.run(["train", "--steps", "100", "--config", "small.toml", "--plain"]) == 0
    assert run.run(["export", "latest", "--to", "my_policy"]) == 0
    names = {"observations": make_task("spread", 4).reset(episode_seeds(0, 0, 4))}
    exec(text, names)
    assert names["actions"].shape == (4, 3)


@pytest.mark.parametrize("name", re.findall(r"^\| `\w+` \| `([^`]+)`", TEXT, re.M))
def test_every_task_that_is_named_exists(name: str) -> None:
    assert make_task(name, 1).spec.horizon > 0
