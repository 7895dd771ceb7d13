"""What the end of a process cuts off is counted as far as it is known, and said to be unknown where it is not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

import learning_signal.agents.session.running
from learning_signal.agents.session.session import SessionControl
from learning_signal.ledger.read.costs import Costs
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.budget import Budget
from learning_signal.tools.plan.settings import session_rules
from learning_signal.tools.spending import spent_of
from learning_signal.viewer.reports.session_end import render_report
from tests.support.places import ROOT
from tests.support.session_helpers import Recorder, resume, resume_inline, run, story, synthetic_workers, tiny_settings
from tests.support.synthetic_training import InlinePool


def costs(ledger: Path) -> Costs:
    with Reader.open(ledger) as reader:
        return reader.costs()


def cut_off(ledger: Path) -> tuple[int | None, int | None]:
    found = costs(ledger)
    return found.cut_off, found.cut_off_unknown


def titles(ledger: Path) -> list[str]:
    with Reader.open(ledger) as reader:
        return [event.title for event in reader.events(kind="session") if event.title.startswith("cut off")]


class OnProgress(Recorder):
    """Acts as soon as a branch has reported how far it is."""

    def __init__(self, act) -> None:
        super().__init__()
        self._act = act

    def progress(self, *report) -> None:
        super().progress(*report)
        if report[1] != "main":
            self._act()


@pytest.fixture
def own_workers(monkeypatch):
    """Sessions open real worker processes themselves."""
    monkeypatch.setattr(learning_signal.agents.session.running, "open_executor", synthetic_workers)


@pytest.mark.parametrize("how", ["abort", "request_pause"])
def test_what_a_stop_or_a_pause_cuts_off_is_counted(own_workers, tmp_path, monkeypatch, how):
    """SIGTERM and Ctrl-C do either. The worker reports one env step of a branch and hangs."""
    settings, control = tiny_settings(tmp_path, budget=Budget(env_steps=10**6)), SessionControl()
    monkeypatch.setenv("SYNTHETIC_WORLD", "hangs")
    outcome = run(settings, OnProgress(getattr(control, how)), control)
    assert outcome.status == {"abort": "interrupted", "request_pause": "paused"}[how]
    assert cut_off(settings.ledger) == (1, 0)
    assert titles(settings.ledger) == ["cut off: 1 env steps of training"]
    assert (outcome.costs["cut_off"], outcome.costs["cut_off_unknown"]) == (1, 0)
    found = costs(settings.ledger)
    counted = found.env_steps_main + found.env_steps_branches + found.env_steps_twin
    assert spent_of(found)["env_steps"] == counted + 1 == outcome.budget["env_steps"]["spent"]
    monkeypatch.delenv("SYNTHETIC_WORLD")
    assert resume_inline(settings).status == "done"
    assert cut_off(settings.ledger) == (1, 0), "the resume trains it whole and counts it once more"
    with Reader.open(settings.ledger) as reader:
        assert verify(reader, recompute, session_rules) == []


def test_what_a_shared_executor_goes_on_with_is_unknown(tmp_path, monkeypatch):
    """As in a study: one worker has begun the first segment of the control, and the others wait."""
    settings, control = tiny_settings(tmp_path), SessionControl()
    monkeypatch.setenv("SYNTHETIC_WORLD", "hangs")
    pause = Recorder(lambda row: row["kind"] == "diagnosis" and control.request_pause())
    assert run(settings, pause, control, pool=partial(synthetic_workers, workers=1)).status == "paused"
    assert cut_off(settings.ledger) == (0, 1)
    assert titles(settings.ledger) == ["cut off: what 1 segment had trained is unknown"]


def test_what_a_resume_trains_again_is_the_same_as_without_a_cut(own_workers, tmp_path, monkeypatch):
    whole = tiny_settings(tmp_path / "whole")
    run(whole)
    assert cut_off(whole.ledger) == (0, 0) and titles(whole.ledger) == [], "negative control"
    settings, control = tiny_settings(tmp_path / "cut"), SessionControl()
    monkeypatch.setenv("SYNTHETIC_WORLD", "hangs")
    run(settings, OnProgress(control.abort), control)
    monkeypatch.delenv("SYNTHETIC_WORLD")
    resume(settings)
    assert story(settings.ledger) == story(whole.ledger)


def killed(folder: Path, label: str, when: str, workers: bool) -> Path:
    """The ledger of a session that died of SIGKILL at its first such commit."""
    case = {"folder": str(folder), "label": label, "nth": 1, "when": when, "workers": workers}
    script = str(ROOT / "tests" / "support" / "killed_session.py")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script, json.dumps([case])], capture_output=True, text=True, env=environment, timeout=60
    )
    assert json.loads(done.stdout.splitlines()[-1]) == [signal.SIGKILL], done.stderr
    return folder / "ledger.db"


@pytest.mark.parametrize("workers", [False, True])
def test_what_a_kill_cuts_off_is_said_to_be_unknown(tmp_path, workers):
    ledger = killed(tmp_path, "segment-start", "after", workers)
    assert cut_off(ledger) == (0, 1), "also before anybody resumes it"
    assert resume_inline(tiny_settings(tmp_path)).status == "done"
    assert cut_off(ledger) == (0, 1)
    assert titles(ledger) == ["cut off: what 1 segment had trained is unknown"]


def test_what_a_killed_session_had_stored_is_not_lost(tmp_path):
    """Negative control: the segment was finished, and only its row was not."""
    ledger = killed(tmp_path, "segment-end", "before", workers=False)
    assert resume_inline(tiny_settings(tmp_path)).status == "done"
    assert cut_off(ledger) == (0, 0) and titles(ledger) == []


def test_a_report_says_what_was_cut_off(tmp_path):
    outcome = run(tiny_settings(tmp_path), pool=InlinePool)

    def shown(**changes) -> str:
        console = Console(width=100)
        with console.capture() as capture:
            console.print(render_report(outcome.to_dict() | {"costs": outcome.costs | changes}, []))
        return capture.get()

    assert "Cut off" not in shown()
    said = "Cut off: 12,800 env steps of training; what 2 segments had trained is unknown"
    assert said in shown(cut_off=12_800, cut_off_unknown=2)
    assert "Cut off: what 1 segment had trained is unknown" in shown(cut_off=0, cut_off_unknown=1)
