"""The wheel, built from the sdist, in an empty environment beside a user's own ``agents``, ``tools`` and ``tests``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pydantic
import pytest

from tests.support.places import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]

SMALL = """
workers = 1
[run.learner]
hidden = [8]
environments = 8
[run.evaluation]
episodes = 8
points = 2
[deliberation]
candidates = 2
refinements = 0
"""
PROJECT = {
    "agents/__init__.py": "WHOSE = 'the user'",
    "agents/mine.py": "LENGTH = 4",
    "tools/__init__.py": "WHOSE = 'the user'",
    "tests/__init__.py": "WHOSE = 'the user'",
    "mine.py": """
        import numpy as np
        from gymnasium import spaces
        from pettingzoo import ParallelEnv
        from agents.mine import LENGTH
        from learning_signal import ParallelTask

        class Walk(ParallelEnv):
            metadata = {"name": "walk"}
            possible_agents = ["a", "b"]

            def observation_space(self, agent):
                return spaces.Box(0.0, LENGTH, (1,), np.float32)

            def action_space(self, agent):
                return spaces.Discrete(2)

            def reset(self, seed=None, options=None):
                self.agents, self.time = list(self.possible_agents), 0
                self.place = np.random.default_rng(seed).integers(0, 2, size=2)
                return self.seen(), {agent: {} for agent in self.agents}

            def step(self, actions):
                self.time += 1
                self.place = np.minimum(self.place + [actions[agent] for agent in self.agents], LENGTH)
                won, agents = bool((self.place == LENGTH).all()), self.agents
                late = self.time >= 12 and not won
                seen = self.seen()
                self.agents = [] if won or late else agents
                each = lambda value: {agent: value for agent in agents}
                return seen, each(float(won)), each(won), each(late), each({})

            def seen(self):
                return {agent: np.array([self.place[i]], np.float32) for i, agent in enumerate(self.agents)}

        task = ParallelTask(factory=Walk, horizon=12, max_return=2.0)
    """,
}


@dataclass
class Installed:
    """An environment that has the wheel, and a user's project."""

    wheel: Path
    sdist: Path
    scripts: Path
    project: Path

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command of the environment, in the user's project."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        return subprocess.run(
            [self.scripts / command[0], *command[1:]],
            cwd=self.project,
            env=variables,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def done(self, *command: str) -> str:
        """What a command prints, which must succeed."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def build(source: Path, kind: str, folder: Path) -> Path:
    """Build a ``wheel`` or an ``sdist`` of ``source`` with the installed setuptools: nothing is downloaded."""
    code = f"import sys, setuptools.build_meta as backend; backend.build_{kind}(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, folder], cwd=source, check=True, capture_output=True, timeout=120)
    (path,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return path


def copy_of_the_sources(folder: Path) -> Path:
    """The files of the repository, for a build leaves folders beside them."""
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        hidden = any(part.startswith(".") or part in ("__pycache__", "runs", "build", "dist") for part in parts)
        if path.is_file() and not hidden and not parts[0].endswith(".egg-info"):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("package")
    sdist = build(copy_of_the_sources(folder / "sources"), "sdist", folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    wheel = build(unpacked, "wheel", folder)
    environment = folder / "environment"
    venv.create(environment, symlinks=True)
    scripts = environment / "bin"
    # What the wheel depends on is here already. A path in a .pth file is searched last and its own .pth files are not
    # read: the editable installation of this repository is not seen.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(f"{Path(pydantic.__file__).parents[1]}\n")
    command = ["-m", "pip", "--python", scripts / "python", "install", "--no-deps", "--no-index", "--quiet", wheel]
    subprocess.run([sys.executable, *command], check=True, capture_output=True, timeout=120)
    project = folder / "project"
    for name, text in PROJECT.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(textwrap.dedent(text))
    (project / "small.toml").write_text(SMALL)
    return Installed(wheel, sdist, scripts, project)


def test_the_wheel_holds_the_package_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith("METADATA"))
    inside = {name.partition("learning_signal/")[2] for name in names if name.startswith("learning_signal/")}
    rooms = {path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")} - {"bench", "tests"} | {"prompts"}
    pages = [f"viewer/{room}/{what}" for room in ("page", "web") for what in ("templates/*.html", "static/*")]
    expected = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "py.typed", "prompts/*.md", *pages, *(f"{room}/**/*.py" for room in rooms))
        for path in ROOT.glob(pattern)
    }
    assert inside == expected and len(inside) > 150
    assert all(name.startswith(("learning_signal/", "learning_signal-")) for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "License-Expression: MIT" in metadata and "\nVersion: " in metadata


def test_the_sdist_holds_what_a_packager_needs(installed: Installed) -> None:
    with tarfile.open(installed.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("LICENSE", "README.md", "SECURITY.md", "pyproject.toml", "constraints.txt", "prompts/critic.md"):
        assert name in names
    assert "docs/python-api.md" in names and "tests/conftest.py" in names
    assert not [name for name in names if ".venv" in name or "cache" in name or name.endswith((".db", ".pyc", ".pt"))]


def test_everybody_imports_their_own(installed: Installed) -> None:
    code = """
import json, agents, tools, tests, learning_signal.agents, learning_signal.prompts
places = [learning_signal.agents.__file__, learning_signal.prompts.__path__[0]]
print(json.dumps([agents.WHOSE, tools.WHOSE, tests.WHOSE, *places]))
"""
    *whose, agents, prompts = json.loads(installed.done("python", "-c", code))
    assert whose == ["the user"] * 3
    environment = str(installed.scripts.parent)
    assert agents.startswith(environment) and prompts.startswith(environment)


def test_the_command_runs(installed: Installed) -> None:
    tasks = json.loads(installed.done("learning-signal", "tasks", "--json"))
    assert len(tasks) == 5 and "spread" in {task["name"] for task in tasks}
    assert json.loads(installed.done("python", "-m", "learning_signal", "tasks", "--json")) == tasks


def test_a_session_runs_and_is_explained(installed: Installed) -> None:
    options = "--rounds 1 --stages 2 --stage-steps 400 --branch-steps 400 --every 1 --config small.toml".split()
    outcome = json.loads(installed.done("learning-signal", "session", *options, "--json"))
    assert outcome["status"] == "done" and outcome["costs"]["llm_calls"] > 4
    assert installed.done("learning-signal", "log", "verify")
    assert outcome["session_id"] in installed.done("learning-signal", "log", "list")


def test_an_environment_of_the_user_imports_the_user_s_agents(installed: Installed) -> None:
    checked = installed.run("learning-signal", "check-env", "mine:task")
    assert "No module named" not in checked.stdout + checked.stderr and checked.returncode == 0, checked.stdout
    options = "--env mine:task --steps 100 --config small.toml --ledger runs/mine.db".split()
    outcome = json.loads(installed.done("learning-signal", "train", *options, "--json"))
    assert outcome["status"] == "done" and outcome["task"] == "mine:task"
