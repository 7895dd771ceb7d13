"""The commands of training: train, export, play and check-env, on a terminal, in a pipe and as JSON."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.text import Text

from learning_signal import run
from learning_signal.commands.running import EXIT_CODES
from learning_signal.ledger.read.reader import Reader
from learning_signal.viewer.live.training import TrainingView
from learning_signal.viewer.reports.training_end import render_training
from tests.cli.test_cli import _own_folder, refused  # noqa: F401 - the fixture is used by its being here
from tests.support.ledger_helpers import tamper
from tests.support.recorded_ledger import RECORDED_ID, recorded_ledger

CONFIG = """
[run.learner]
hidden = [8, 8]
environments = 8
epochs = 1
minibatches = 1
[run.evaluation]
episodes = 8
points = 2
"""
ENVIRONMENT = """
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

class Guess(ParallelEnv):
    metadata = {"name": "guess"}
    possible_agents = ["first", "second"]
    max_cycles = 4

    def __init__(self, honest):
        self.honest = honest

    def observation_space(self, agent):
        return spaces.Box(-1, 1, (2,), np.float32)

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.draws, self.agents, self.steps = np.random.default_rng(seed), list(self.possible_agents), 0
        return self._see(), {agent: {} for agent in self.agents}

    def step(self, actions):
        agents, self.steps = list(self.agents), self.steps + 1
        reward = float(all(action == (self.seen[0] > 0) for action in actions.values()))
        seen, over = self._see(), self.steps == self.max_cycles
        self.agents = [] if over else agents
        every = lambda value: dict.fromkeys(agents, value)
        return seen, every(reward), every(False), every(over), {agent: {} for agent in agents}

    def _see(self):
        self.seen = self.draws.uniform(-1, 1, 2).astype(np.float32) * (1 if self.honest else 5)
        return dict.fromkeys(self.agents, self.seen)

def make():
    return Guess(True)

def make_wrong():
    return Guess(False)
"""


@pytest.fixture
def module():
    """A module of the user's in the current folder, forgotten afterwards."""
    before = list(sys.path)
    Path("guessing_game.py").write_text(ENVIRONMENT)
    yield "guessing_game"
    sys.modules.pop("guessing_game", None)
    sys.path[:] = before


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> str:
    """A ledger with one finished training run, made by the command itself."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "c.toml").write_text(CONFIG)
    ledger = str(folder / "runs" / "ledger.db")
    arguments = ["train", "--steps", "900", "--segment-steps", "400", "--seed", "5", "--config", str(folder / "c.toml")]
    arguments += ["--ledger", ledger, "--store", str(folder / "segments"), "--tensorboard", str(folder / "curves")]
    assert run.run([*arguments, "--json"]) == 0
    return ledger


def result(capsys, *arguments: str, code: int = 0) -> dict:
    assert run.run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


# train --------------------------------------------------------------------------------------------------------


def test_the_log_reads_well_for_a_training_run(capsys, trained):
    with Reader.open(trained) as reader:
        row = reader.session()
    assert (row.kind, row.status, row.env_steps_main, row.seed) == ("training", "done", 1000, 5)
    assert list(Path(trained).parent.parent.glob("curves/events.out.tfevents.*"))
    for arguments, parts in (
        (["log", "list"], [row.id, "training", "1,000"]),
        (["log", "show", "-v"], ["training, no agents", "begins: no shaping", "400 env steps, sparse return 0"]),
        (["log", "verify"], ["agrees"]),
    ):
        assert run.run([*arguments, "--ledger", trained]) == 0
        text = capsys.readouterr().out
        unwrapped = " ".join(text.split())  # a long title goes on in the next line
        assert all(part in unwrapped for part in parts), text
        assert max(map(len, text.splitlines())) <= 100
    assert "training run without agents" in refused(capsys, "explain", row.id, "--ledger", trained)
    assert "is done" in refused(capsys, "resume", row.id, "--ledger", trained)
    assert "has no agents" in refused(capsys, "resume", row.id, "--agent", "all=rules", "--ledger", trained)


def test_train_reports_what_it_came_to_and_what_to_type_next(capsys):
    Path("c.toml").write_text(CONFIG)
    assert run.run(["train", "--steps", "400", "--config", "c.toml"]) == 0
    text = capsys.readouterr().out
    session = re.search(r"Training (\S+) done", text).group(1)
    for part in (
        "95 % interval",
        "400 of 400 env steps",
        "no shaping",
        "runs/ledger.db",
        f"learning-signal play {session}",
    ):
        assert part in text, text
    assert max(map(len, text.splitlines())) <= 100
    assert run.run(["train", "--steps", "400", "--config", "c.toml"]) == 0
    assert "(400 were stored already)" in capsys.readouterr().out


def test_settings_of_train_come_from_where_those_of_a_session_come_from(capsys, monkeypatch):
    Path("c.toml").write_text("rounds = 9\n" + CONFIG + "[agents]\ncritic = 'rules'\n")
    monkeypatch.setenv("LEARNING_SIGNAL_ROUNDS", "8")  # of a session only: no reason to refuse
    monkeypatch.setenv("LEARNING_SIGNAL_SEED", "4")
    Path("s.toml").write_text('beta = 2.0\n[[terms]]\npotential = "coverage_distance"\nweight = -1.0\nscope = "team"\n')
    arguments = ["train", "--steps", "200", "--algorithm", "ippo", "--shaping", "s.toml", "--config", "c.toml"]
    outcome = result(capsys, *arguments)
    assert (outcome["seed"], outcome["algorithm"]) == (4, "ippo")
    assert outcome["shaping_text"] == "beta 2.0: -1.0*coverage_distance (team)"
    assert [point["env_steps"] for point in outcome["curve"]] == [200]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "--task", "spred"], ["spred", "spread"]),
        (["train", "--steps", "many"], ["'many'", "whole number"]),
        (["train", "--steps", "0"], ["env_steps 0", "greater than or equal to 1"]),
        (["train", "--segment-steps", "-5"], ["segment_steps -5"]),
        (["train", "--shaping", "missing.toml"], ["missing.toml", "no such file"]),
        (["train", "--shaping", "wrong.toml"], ["wrong.toml", "not valid TOML"]),
        (["train", "--shaping", "unfit.toml"], ["height"]),
        (["train", "--seed", "x"], ["--seed", "valid integer"]),
        (["train", "--device", "tpu"], ["--device", "'tpu'", "'cpu' or 'cuda'"]),
        (["session", "--device", "tpu"], ["--device", "'tpu'"]),
        (["train", "--algorithm", "qmix", "--config", "gru.toml"], ["gru"]),
        (["train", "--task", "spread", "--env", "m:f"], ["--task spread", "--env m:f", "one of them"]),
        (["session", "--task", "spread", "--env", "m:f"], ["--task spread", "--env m:f"]),
        (["train", "--env", "spread"], ["--env spread", "MODULE:FACTORY"]),
        (["train", "--env", "no_such_module:make"], ["no_such_module"]),
        (["export", "latest"], ["ledger"]),
        (["train", "--seed", "1.5"], ["--seed", "expected a valid integer: change"]),
        (
            ["train", "--algorithm", "qmix", "--env", "tests.support.foreign_environments:Push"],
            ["continuous actions", "mappo or ippo"],
        ),
        (["train", "--ledger", "."], ["The ledger . is a directory"]),
        (["export"], ["session", "'learning-signal export --help'"]),
        (["play", "latest", "--episodes", "x"], ["'learning-signal play --help'"]),
        (["log", "show", "latest", "--round", "x"], ["'learning-signal log show --help'"]),
        (["trian"], ["No such command 'trian' (did you mean 'train'?); 'learning-signal --help'"]),
        (["play", "--heuristic", "--task", "spread", "--sampled"], ["--sampled with --heuristic"]),
        (["play", "--heuristic", "--task", "spread", "--seed", "-1"], ["the seed -1", "0 or more"]),
        (
            ["check-env", "tests.support.foreign_environments:Walk", "--episodes", "0"],
            ["0 episodes", "expected 2 to 10,000"],
        ),
        (["play"], ["found nothing to play", "expected SESSION, or FOLDER, or --heuristic"]),
        (["play", "latest", "--heuristic", "--task", "spread"], ["latest with --heuristic with --task spread to play"]),
        (["play", "--task", "spread"], ["Found --task spread to play", "--heuristic with --task"]),
        (["play", "./nothing"], ["There is no policy.json in nothing"]),
        (["play", "latest"], ["ledger"]),
        (["play", "--heuristic", "--task", "spred"], ["spred", "spread"]),
        (["play", "--heuristic", "--task", "spread", "--episodes", "1"], ["1 episodes", "expected 2 to 1,000,000"]),
        (["check-env"], ["module:factory"]),
    ],
)
def test_bad_input_is_one_sentence(capsys, arguments, parts):
    Path("wrong.toml").write_text("beta =")
    Path("gru.toml").write_text("[run.learner]\nmemory = 'gru'\n")
    Path("unfit.toml").write_text('beta = 1.0\n[[terms]]\npotential = "height"\nweight = 1.0\nscope = "team"\n')
    sentence = refused(capsys, *arguments)
    for part in parts:
        assert part.lower() in sentence.lower(), sentence
    assert not Path("runs").exists()


@pytest.mark.parametrize(("count", "status"), [(1, "paused"), (2, "interrupted")])
def test_ctrl_c_pauses_or_stops_and_the_same_command_goes_on(capsys, monkeypatch, count, status):
    Path("c.toml").write_text(CONFIG)
    original, sent = TrainingView.event, []

    def event(view, row):
        original(view, row)
        if row["title"].endswith("started") and len(sent) < count:
            sent.extend([True] * count)
            for _ in range(count):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)  # two at once would be one

    monkeypatch.setattr(TrainingView, "event", event)
    arguments = ["train", "--steps", "8000", "--segment-steps", "4000", "--config", "c.toml", "--plain"]
    assert run.run(arguments) == EXIT_CODES[status]
    text = capsys.readouterr().out
    session = re.search(rf"Training (\S+) {status}", text).group(1)
    assert "Ctrl-C: pausing after the running step" in text and f"learning-signal resume {session}" in text
    with Reader.open("runs/ledger.db") as reader:
        assert reader.session().env_steps_main == (4000 if status == "paused" else 0)
    assert result(capsys, *arguments)["session_id"] == session
    assert f"session {session} is done" in refused(capsys, "resume", session).lower()


def test_resume_goes_on_with_a_training_run(capsys, monkeypatch):
    import learning_signal.marl.segments.training
    from learning_signal.marl.errors import SegmentImpossible

    Path("c.toml").write_text(CONFIG)
    original = learning_signal.marl.segments.training.run_segment

    def lost(*_, **__):
        raise SegmentImpossible("The disk went away.")

    monkeypatch.setattr(learning_signal.marl.segments.training, "run_segment", lost)
    stopped = result(capsys, "train", "--steps", "200", "--config", "c.toml", code=EXIT_CODES["paused"])
    assert stopped["stop_reason"] == "The disk went away."
    monkeypatch.setattr(learning_signal.marl.segments.training, "run_segment", original)
    outcome = result(capsys, "resume", "latest")
    assert (outcome["session_id"], outcome["status"], outcome["env_steps"]) == (stopped["session_id"], "done", 200)


# export and play ----------------------------------------------------------------------------------------------


def test_a_session_is_exported_and_played(capsys, monkeypatch, trained):
    with Reader.open(trained) as reader:
        session = reader.session().id
    folder = Path(trained).parent / "policies" / session
    assert "expected 2 to 1,000,000" in refused(capsys, "play", "latest", "--ledger", trained, "--episodes", "0")
    assert not folder.exists()
    assert result(capsys, "export", session[:-1], "--ledger", trained) == {"folder": str(folder)}
    played = result(capsys, "play", "latest", "--ledger", trained, "--episodes", "6", "--seed", "3")
    both = ["policy (greedy)", "policy (sampled)"]
    assert list(played["scores"]) == [*both, "heuristic"] and played["task"] == "spread"
    assert len(played["scores"]["heuristic"]["sparse_returns"]) == 6
    assert played["animations"] == {name: str(folder / f"{name}.gif") for name in ("best", "median")}
    assert all(Path(path).read_bytes()[:4] == b"GIF8" for path in played["animations"].values())
    monkeypatch.setattr("learning_signal.marl.policies.play.animate", lambda pictures, path: None)
    again = result(capsys, "play", str(folder), "--episodes", "6", "--seed", "3", "--to", "here")
    assert again["scores"] == played["scores"] and again["animations"]["best"] == "here/best.gif"
    other = result(capsys, "play", str(folder), "--episodes", "6", "--seed", "4", "--sampled")
    assert list(other["scores"]) == [*reversed(both), "heuristic"]
    assert other["scores"]["heuristic"] != played["scores"]["heuristic"]
    assert run.run(["play", str(folder), "--episodes", "4"]) == 0
    text = capsys.readouterr().out
    assert "95 % interval" in text and "median episode" in text


def test_the_heuristic_of_a_task_is_played_alone(capsys):
    played = result(capsys, "play", "--heuristic", "--task", "spread?agents=2", "--episodes", "4")
    assert list(played["scores"]) == ["heuristic"] and played["scores"]["heuristic"]["sparse_return"] > 0
    assert Path("runs/heuristics/spread_agents_2/best.gif").exists()


def test_a_session_without_training_or_store_is_one_sentence(capsys, tmp_path, trained):
    for change, said in (
        (None, "kept its policy in the store"),
        ("UPDATE bodies SET body = json_remove(body, '$.store') WHERE hash = (SELECT config FROM sessions)", "store:"),
        ("DELETE FROM main_run", "has trained nothing to its end yet"),
    ):
        path = recorded_ledger(Path("l.db"))
        if change is not None:
            tamper(path, change)
        sentence = refused(capsys, "export", "latest", "--ledger", "l.db")
        assert f"Session {RECORDED_ID} " in sentence and said in sentence
    assert "nosuch" in refused(capsys, "play", "nosuch", "--ledger", trained)


def test_what_cannot_be_trained_here_is_refused_before_anything_is_written(capsys):
    wrong = "tests.support.foreign_environments:Broken?fault=unseeded"
    for command in ("train", "session"):
        text = refused(capsys, command, "--env", wrong, "--ledger", "l.db")
        assert "The same seed" in text and f"check-env {shlex.quote(wrong)}" in text
        if not torch.cuda.is_available():
            assert "set device to cpu" in refused(capsys, command, "--device", "cuda", "--ledger", "l.db")
    assert not Path("l.db").exists()


# an environment of the user's ---------------------------------------------------------------------------------


def test_an_environment_in_the_current_folder_is_checked_trained_and_played(capsys, module):
    Path("c.toml").write_text(CONFIG)
    checked = result(capsys, "check-env", f"{module}:make", "--episodes", "2")
    assert all(each["level"] == "warning" for each in checked["findings"])
    assert checked["task"]["agents"] == 2
    outcome = result(capsys, "train", "--env", f"{module}:make", "--steps", "64", "--config", "c.toml")
    assert (outcome["task"], outcome["status"]) == (f"{module}:make", "done")
    played = result(capsys, "play", "latest", "--episodes", "4")
    assert list(played["scores"]) == ["policy (greedy)", "policy (sampled)"]
    assert Path(played["animations"]["best"]).exists()


@pytest.mark.slow
def test_a_worker_process_finds_the_environment_in_the_current_folder(module):
    from learning_signal.marl.executors.local import WorkerPool
    from learning_signal.marl.segments.segment import SegmentSpec
    from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
    from learning_signal.marl.shaping import ShapingConfig

    assert run.run(["log", "--help"]) == 0  # any command makes the current folder importable
    small = LearnerSettings(hidden=(8, 8), environments=4, epochs=1, minibatches=1)
    settings = RunSettings(task=f"{module}:make", learner=small, evaluation=EvaluationSettings(episodes=2, points=2))
    spec = SegmentSpec(run=settings, parent=None, shaping=ShapingConfig.none(), env_steps=32, seed=0)
    with WorkerPool(Path("segments"), 1) as pool:
        assert pool.submit(spec).result(timeout=60).env_steps == 32


def test_check_env_prints_what_is_wrong_and_fails(capsys, module):
    assert run.run(["check-env", f"{module}:make_wrong", "--episodes", "2"]) == 1
    text = capsys.readouterr().out
    assert "cannot be trained on yet" in text and "error (" in text and "As a task" not in text
    assert result(capsys, "check-env", f"{module}:make_wrong", code=1)["task"] is None
    assert run.run(["check-env", f"{module}:make", "--episodes", "2"]) == 0
    text = capsys.readouterr().out
    assert "keeps the contract" in text and "As a task" in text and "observation_0" in text
    assert max(map(len, text.splitlines())) <= 100


# a session's own ----------------------------------------------------------------------------------------------


def test_the_help_of_a_session_tells_the_defaults(capsys):
    from learning_signal.tools.plan.settings import SessionSettings
    from learning_signal.tools.plan.sources import OPTIONS

    assert run.run(["session", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    defaults = SessionSettings()
    told = dict(re.findall(r"--([a-z-]+) [A-Z]+ (?:(?!--)[^[])*\[([^\]]+)\]", text))
    # None, or a flag
    without = {"workers", "twin", "address", "family_alpha", "stages", "every", "speculate", "budget"}
    for name, path in OPTIONS.items():
        value = defaults
        for part in path.split("."):
            value = getattr(value, part)
        if name not in without:
            assert told[name.replace("_", "-")] == str(value), name


def test_a_dry_run_with_a_twin_counts_the_twin(capsys):
    plain, twin = (result(capsys, "session", "--dry-run", *more)["env_steps"] for more in ((), ("--twin",)))
    assert plain["sparse_twin_at_most"] == 0
    assert plain["total_at_most"] == plain["main_run_at_most"] + plain["branches_at_most"]
    assert twin["sparse_twin_at_most"] == plain["total_at_most"]
    assert twin["total_at_most"] == 2 * plain["total_at_most"]


# what a terminal shows ----------------------------------------------------------------------------------------


def screen(terminal: bool) -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=terminal, color_system=None)


def test_the_bar_shows_steps_rate_and_measures():
    console = screen(terminal=True)
    with TrainingView(console, "spread, mappo, seed 0", 1000, plain=False) as view:
        view.event({"session_id": "s1", "kind": "session", "status": "ok", "title": "training s1 begins"})
        view.progress(100, {"sparse_return": 0.5, "progress": 0.25})
        time.sleep(0.02)
        view.progress(300, {"sparse_return": 1.5, "progress": 0.5})
        view.say(Text("a word"))
    text = console.file.getvalue()
    assert view.session == "s1" and "a word" in text and "training s1 begins" in text
    assert re.search(r"300 of 1,000 env steps, [\d,]+/s, return 1.5, progress 0.5", text), text


@pytest.mark.parametrize(("every", "shown"), [(0.0, ["  100", "  200"]), (1e9, [])])
def test_without_a_terminal_there_is_a_line_every_few_seconds(every, shown):
    console = screen(terminal=False)
    with TrainingView(console, "spread", 1000, plain=True, every=every) as view:
        view.progress(100, {"sparse_return": None, "progress": None})
        view.progress(200, {"sparse_return": None, "progress": None})
        view.stop()
    heading, *lines = console.file.getvalue().splitlines() or [None]
    assert heading == ("spread" if shown else None)
    assert [line.partition(" of 1,000 env steps")[0] for line in lines] == shown
    assert all(line.endswith("return -") for line in lines)


@pytest.mark.parametrize(
    ("rate", "time"), [(1234.5, "Time       2.0 s, 1,234 env steps/s"), (None, "Time       2.0 s")]
)
def test_a_rate_is_shown_where_something_was_computed(rate, time):
    console = screen(terminal=False)
    outcome = {
        "session_id": "s1",
        "status": "done",
        "stop_reason": None,
        "curve": [],
        "env_steps": 4,
        "total_env_steps": 4,
        "env_steps_reused": 0,
        "evaluation_env_steps": None,
        "wall_seconds": 2.0,
        "env_steps_per_second": rate,
        "shaping_text": "none",
        "ledger": "l",
    }
    console.print(render_training(outcome, ()))
    assert time in [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_long_curve_is_thinned_out_and_ends_with_the_last_point():
    points = [
        {"env_steps": 100 * k, "sparse_return": k, "low": k - 1, "high": k + 1, "progress": None, "episodes": 8}
        for k in range(1, 101)
    ]
    outcome = {
        "session_id": "s1",
        "status": "done",
        "stop_reason": None,
        "curve": points,
        "env_steps": 10_000,
        "total_env_steps": 10_000,
        "env_steps_reused": 0,
        "evaluation_env_steps": 4800,
        "env_steps_per_second": None,
        "wall_seconds": 3.0,
        "shaping_text": "no shaping",
        "ledger": "l.db",
    }
    console = screen(terminal=False)
    console.print(render_training(outcome, []))
    rows = [line for line in console.file.getvalue().splitlines() if re.match(r"\s*[\d,]+\s+\d", line)]
    assert len(rows) == 12 and rows[-1].split()[0] == "10,000"
