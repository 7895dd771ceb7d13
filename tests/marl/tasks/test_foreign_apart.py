"""A user's environment that ends, hangs, crashes or prints is checked from outside, and its file and line are named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.tasks.foreign.apart import check_apart
from learning_signal.run import run
from tests.support.places import ROOT

SOURCE = """
import os, subprocess, sys, time
import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


STEPS = 0


class Env(ParallelEnv):
    metadata = {"name": "strange"}
    max_steps = 4

    def __init__(self, fault="none"):
        self.fault, self.possible_agents, self.agents = fault, ["a", "b"], []

    def observation_space(self, agent):
        return Box(0, 1, (1,), np.float32)

    def action_space(self, agent):
        return Discrete(2)

    def seen(self):
        return {agent: np.array([self.place], np.float32) for agent in ["a", "b"]}

    def reset(self, seed=None, options=None):
        self.agents, self.time = ["a", "b"], 0
        self.place = float(np.random.default_rng(seed).random())
        return self.seen(), {"a": {}, "b": {}}

    def step(self, actions):
        global STEPS
        self.time += 1
        STEPS += 1
        if self.time == 3:
            self.misbehave()
        ended = dict.fromkeys("ab", self.time == 4)
        self.agents = [] if self.time == 4 else ["a", "b"]
        return self.seen(), dict.fromkeys("ab", 0.0), dict.fromkeys("ab", False), ended, {"a": {}, "b": {}}

    def misbehave(self):
        if self.fault == "exit":
            sys.exit(0)
        if self.fault == "_exit":
            os._exit(3)
        if self.fault == "thousands":
            self.place = 1_000.0
        if self.fault == "late" and STEPS > 900:
            os._exit(5)
        if self.fault == "fork" and os.fork() == 0:
            os._exit(0)
        if self.fault == "crash":
            os.abort()
        if self.fault == "raise":
            {}["nothing"]
        if self.fault == "sleep":
            self.child = subprocess.Popen(["sleep", "600"])
            print(self.child.pid, flush=True)
            time.sleep(600)
        if self.fault == "print":
            print("\\x1b[31mred\\x07", flush=True)
            print("x" * 10_000, file=sys.stderr, flush=True)
"""


SMALL = "[run.learner]\nhidden = [8]\nenvironments = 8\n[run.evaluation]\nepisodes = 8\n"
RAISES = '{}["nothing"]'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strange.py").write_text(SOURCE)
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(1)\n")
    return tmp_path


def line_of(code: str) -> int:
    (line,) = [number for number, text in enumerate(SOURCE.splitlines(), start=1) if text.strip() == code]
    return line


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("exit", f"at step 3 failed (it ended the program: sys.exit(0), in strange.py, line {line_of('sys.exit(0)')})"),
        ("raise", f"at step 3 failed (KeyError: 'nothing', in strange.py, line {line_of(RAISES)})"),
        (
            "_exit",
            f"at step 3 failed (it ended the program: os._exit(3), in strange.py, line {line_of('os._exit(3)')})",
        ),
        ("crash", "ended the process (signal 6, SIGABRT)"),
    ],
)
def test_the_call_that_failed_is_named(here: Path, fault: str, words: str) -> None:
    checked = check_apart(f"strange:Env?fault={fault}", 2)
    (finding,) = checked.findings
    assert finding.level == "error" and words in finding.message and checked.task is None


def test_a_fault_of_the_check_is_not_blamed_on_the_environment(here: Path) -> None:
    meddling = "import sys\nsys.modules['__main__'].asdict = None\nfrom strange import Env\n"
    (here / "meddling.py").write_text(meddling)
    (finding,) = check_apart("meddling:Env?fault=none", 2).findings
    assert (
        finding.check == "program" and "(TypeError: " in finding.message and "fault of this program" in finding.message
    )


def test_a_call_that_never_comes_back_is_ended_with_all_it_started(here: Path) -> None:
    waited: list[tuple[str, float]] = []
    began = time.monotonic()
    name = "strange:Env?fault=sleep"
    checked = check_apart(name, 2, 3.0, lambda what, seconds: waited.append((what, seconds)))
    assert (
        "step(actions) at step 3 of strange:Env?fault=sleep has not come back within 3 s" in checked.findings[0].message
    )
    assert time.monotonic() - began < 20 and waited[-1][0] == "step(actions) at step 3" and waited[-1][1] > 0.5
    child = Path(f"/proc/{checked.printed[0]}/stat")
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() - began < 20
        time.sleep(0.01)


def test_a_module_that_leaves_is_a_finding(here: Path) -> None:
    (finding,) = check_apart("leaves:Env", 2).findings
    assert "could not be imported (it ended the program: sys.exit(1), in leaves.py, line 2)" in finding.message


def test_what_is_printed_is_kept_and_bounded(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checked = check_apart("strange:Env?fault=print", 2)
    assert checked.task is not None and checked.task["name"] == "strange:Env?fault=print"
    assert 0 < sum(map(len, checked.printed)) <= 4_000
    assert capfd.readouterr() == ("", "")


def test_the_command_shows_what_was_printed_without_its_escapes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "quiet.py").write_text(SOURCE.replace('print("x" * 10_000, file=sys.stderr, flush=True)', "pass"))
    assert run(["check-env", "quiet:Env?fault=print"]) == 0
    shown = capsys.readouterr().out
    assert "Its code printed:" in shown and "\x1b[31mred" not in shown and "\x07" not in shown
    assert run(["check-env", "quiet:Env?fault=print", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"]["agents"] == 2


def test_observations_of_another_unit_are_a_warning(here: Path) -> None:
    """1000 where other environments have 1."""
    (here / "large.py").write_text(SOURCE.replace("Box(0, 1, (1,)", "Box(0, 1000, (1,)"))
    (warning,) = [each for each in check_apart("large:Env?fault=thousands", 2).findings if each.check == "units"]
    assert warning.level == "warning" and "An observation has a value of size 1000" in warning.message
    assert "units" not in {each.check for each in check_apart("large:Env", 2).findings}


@pytest.mark.slow
def test_only_json_is_on_standard_output_whatever_the_environment_prints(here: Path) -> None:
    """At its import, in its steps, in this process and in workers."""
    (here / "loud.py").write_text(
        "print('imported')\n" + SOURCE.replace("self.time += 1\n", "self.time += 1; print('x')\n")
    )
    (here / "small.toml").write_text(SMALL)
    command = [sys.executable, str(ROOT / "run.py"), "train", "--env", "loud:Env", "--steps", "400", "--json"]
    given = ["--config", "small.toml", "--ledger", "log.db", "--store", "segments"]
    environment = os.environ | {"LEARNING_SIGNAL_STATE": str(here / "state")}
    done = subprocess.run([*command, *given], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done" and "imported" in done.stderr


@pytest.mark.parametrize("fault", ["exit", "_exit"])
def test_no_run_begins_on_it(here: Path, capsys: pytest.CaptureFixture[str], fault: str) -> None:
    for command in (["train", "--steps", "100"], ["session"]):
        assert run([*command, "--env", f"strange:Env?fault={fault}", "--ledger", "log.db"]) == 2
        said = capsys.readouterr().err
        assert "error: step(actions) at step 3" in said and "check-env" in said
    assert not os.path.exists("log.db")


def test_a_process_that_it_forks_ends_as_it_wants(here: Path) -> None:
    checked = check_apart("strange:Env?fault=fork", 2)
    assert checked.task is not None and not [each for each in checked.findings if each.level == "error"]


@pytest.mark.slow
def test_a_training_that_it_would_end_stops_with_its_place_and_keeps_what_was_committed(here: Path) -> None:
    """Run in a process of its own, which the environment would end."""
    command = [sys.executable, str(ROOT / "run.py"), "train", "--env", "strange:Env?fault=late", "--steps", "1600"]
    (here / "small.toml").write_text(SMALL)
    given = ["--config", "small.toml", "--segment-steps", "400", "--ledger", "log.db", "--store", "segments", "--plain"]
    environment = os.environ | {"LEARNING_SIGNAL_STATE": str(here / "state")}
    done = subprocess.run([*command, *given], env=environment, capture_output=True, text=True, timeout=120)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 4, said
    assert "step of strange:Env?fault=late failed at step 3 of the episode" in said
    assert f"os._exit(5), in strange.py, line {line_of('os._exit(5)')}" in said
    with Reader.open(here / "log.db") as reader:
        assert reader.session().status == "paused" and len(reader.main_run()) >= 1
