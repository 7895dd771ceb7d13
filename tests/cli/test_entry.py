"""One program under three names, a user's folder on the path, and a sentence where nothing is installed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path

import pytest

from learning_signal import run
from learning_signal.ledger.wording import command, resume_command
from tests.support.places import ROOT
from tests.support.recorded_ledger import recorded_ledger

CONSOLE = "import sys; del sys.path[0]; from learning_signal.run import main; main()"
"""What the console script does; Python puts its folder first, which holds nothing of ours."""
WAYS = {"script": [str(ROOT / "run.py")], "module": ["-m", "learning_signal"], "console": ["-c", CONSOLE]}
NAMES = {"script": f"python {ROOT / 'run.py'}", "module": "python -m learning_signal", "console": "learning-signal"}
"""What the program calls itself."""
PROJECT = {
    "agents/__init__.py": "WHOSE = 'the user'",
    "agents/mine.py": "LENGTH = 4",
    "queue.py": "raise RuntimeError('a file of the user hides the standard library')",
    "walk.py": """
        import numpy as np
        from agents.mine import LENGTH
        from gymnasium import spaces
        from pettingzoo import ParallelEnv

        class Walk(ParallelEnv):
            metadata = {"name": "walk"}
            possible_agents = ["a", "b"]
            max_steps = 5

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
                seen, agents, late = self.seen(), self.agents, self.time == self.max_steps
                self.agents = [] if late else agents
                each = lambda value: dict.fromkeys(agents, value)
                return seen, each(float(self.place.min())), each(False), each(late), {agent: {} for agent in agents}

            def seen(self):
                return {agent: np.array([self.place[i]], np.float32) for i, agent in enumerate(self.agents)}
    """,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's project with an ``agents`` package and a ``queue`` module of its own."""
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


def started(way: str, *arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COLUMNS")}
    return subprocess.run(
        [sys.executable, *WAYS[way], *arguments],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("arguments", [["explain", "--help"], ["log", "list"], ["trian"], ["play", "--episodes", "x"]])
def test_every_way_in_is_the_same_program_and_calls_itself_as_it_was_started(tmp_path, arguments):
    said = {way: started(way, *arguments, folder=tmp_path, COLUMNS="300") for way in WAYS}
    for way, done in said.items():
        if arguments[-1] == "--help":
            assert done.returncode == 0 and f"Usage: {NAMES[way]} explain" in done.stdout
        else:
            assert done.returncode == 2 and done.stderr.startswith("error: ")
            assert (NAMES[way] in done.stderr) == (arguments[0] != "log")
    nameless = {
        (done.returncode, done.stdout.replace(NAMES[way], ""), done.stderr.replace(NAMES[way], ""))
        for way, done in said.items()
    }
    assert len(nameless) == 1, said


@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("run.py", "python run.py"),
        ("./run.py", "python run.py"),
        (str(ROOT / "__main__.py"), "python -m learning_signal"),
        ("/usr/local/bin/learning-signal", "learning-signal"),
        ("elsewhere/run.py", "learning-signal"),
        ("", "learning-signal"),
    ],
)
def test_a_hint_names_the_program_as_it_was_started(monkeypatch, started, name):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [started])
    assert command("resume", "a b") == f"{name} resume 'a b'"
    assert resume_command("s1", Path("my log.db"), "tokens=2k") == (
        f"{name} resume s1 --ledger 'my log.db' --budget tokens=2k"
    )


@pytest.mark.parametrize("arguments", [[], ["log"], ["log", "show"], ["check-env"]])
def test_h_is_help_everywhere(capsys, arguments):
    assert run.run([*arguments, "-h"]) == 0
    short = capsys.readouterr().out
    assert run.run([*arguments, "--help"]) == 0
    assert short == capsys.readouterr().out and short.startswith("Usage:")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return recorded_ledger(tmp_path_factory.mktemp("recorded") / "ledger.db")


def test_version_says_what_runs_without_loading_it(tmp_path):
    code = (
        "import sys\nfrom learning_signal.run import run\ncode = run(['--version'])\n"
        "print(code, [name for name in ('torch', 'autogen_core', 'numpy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == (
        f"learning-signal {version('learning-signal')}, Python {platform.python_version()}, torch {version('torch')}\n"
        "0 []\n"
    )


LATE = (
    "torch",
    "numpy",
    "pydantic",
    "jinja2",
    "sqlite_utils",
    "secrets",
    "learning_signal.viewer.transcript.opened",
    "learning_signal.ledger.chain.links",
    "learning_signal.ledger.read.checks.chains",
    "learning_signal.ledger.read.events.search",
)
"""What the first screen of a log needs nothing of."""


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (("log", "list"), []),
        (("log", "show", "latest"), []),
        (("explain", "latest/R1"), []),
        (("log", "show", "latest/R1"), ["learning_signal.viewer.transcript.opened"]),  # negative control
        (("log", "search", "coverage"), ["learning_signal.ledger.read.events.search"]),
    ],
)
def test_reading_loads_what_its_options_need(recorded, arguments, loaded):
    words = [*arguments, "--ledger", str(recorded)]
    code = (
        "import contextlib, io, sys\nfrom learning_signal.run import run\n"
        f"with contextlib.redirect_stdout(io.StringIO()):\n    code = run({words!r})\n"
        f"print(code, [name for name in {LATE!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=recorded.parent, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"0 {loaded}\n", done.stderr


def test_the_list_of_tasks_loads_no_learning_and_no_masked_arrays(tmp_path):
    late = ("torch", "numpy.ma", "sqlite_utils", "numba", "numpy")
    code = (
        "import contextlib, io, sys\nfrom learning_signal.run import run\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n    code = run(['tasks'])\n"
        f"print(code, [name for name in {late!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout == "0 ['numpy']\n", done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_an_environment_file_imports_the_agents_of_its_own_folder(project, way):
    done = started(way, "check-env", "walk:Walk", "--episodes", "2", folder=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "walk:Walk" in done.stdout


def test_a_user_s_module_wins_over_an_installed_one_and_python_s_own_over_both(project, tmp_path_factory):
    installed = tmp_path_factory.mktemp("lib") / "site-packages"
    (installed / "agents").mkdir(parents=True)
    (installed / "agents" / "__init__.py").write_text("WHOSE = 'another package'")
    code = (
        f"import sys; sys.path[0] = {str(project.parent)!r}; sys.path.append({str(installed)!r})\n"
        "from learning_signal.marl.tasks.foreign.declaration import load\n"
        "load('walk:Walk')\n"
        "import agents, queue\n"
        "print(agents.WHOSE, queue.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=60)
    assert done.stdout == "the user queue\n", done.stderr


def test_a_command_that_only_reads_leaves_the_working_folder_off_the_path(project):
    code = (
        "import os, sys; del sys.path[0]\nfrom learning_signal.run import run\nrun(['log', 'list'])\n"
        "print(os.getcwd() in sys.path)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr


def test_without_an_installation_one_sentence_says_how_to_install(tmp_path):
    # No site-packages: neither typer nor this program can be imported.
    done = subprocess.run(
        [sys.executable, "-S", str(ROOT / "run.py"), "tasks"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: typer is not installed")
    assert "pip install -e ." in done.stderr and str(ROOT) in done.stderr
