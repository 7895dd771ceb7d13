"""Training without agents: a chain of segments that can be cut, stopped, killed and gone on with and stays the same."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import learning_signal.marl.segments.training
from learning_signal import run as command
from learning_signal.ledger.errors import SessionTaken
from learning_signal.ledger.file.lost import LedgerLost
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.ledger.write.writer import Ledger
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.segments.version import code_version
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.shaping import ShapingConfig, ShapingError
from learning_signal.tools.plan.settings import session_rules
from learning_signal.tools.training.policies import ExportError, export_policy
from learning_signal.tools.training.run import InProcess, train
from learning_signal.tools.training.settings import (
    TrainingError,
    TrainingSettings,
    read_shaping,
    stored_settings,
    unfinished,
)
from learning_signal.viewer.cli.terminal import BAD_INPUT
from tests.support.places import ROOT

RUN = RunSettings(
    learner=LearnerSettings(hidden=(8, 8), environments=8, epochs=1, minibatches=1),
    evaluation=EvaluationSettings(episodes=8, points=2),
)
SHAPING = ShapingConfig.parse(
    {"beta": 1.0, "terms": [{"potential": "coverage_distance", "weight": -1.0, "scope": "team"}]}
)


class Watcher:
    """Observer and control in one; ``on_event`` may act on an event as a user would."""

    def __init__(self, on_event=None) -> None:
        self.titles: list[str] = []
        self.progressed: list[tuple[int, dict[str, Any]]] = []
        self.pausing, self._abort, self._on_event = False, None, on_event

    def event(self, row: dict[str, Any]) -> None:
        self.titles.append(row["title"])
        if self._on_event is not None:
            self._on_event(self, row)

    def progress(self, done: int, latest: dict[str, Any]) -> None:
        self.progressed.append((done, latest))

    def bind(self, on_abort) -> None:
        self._abort = on_abort

    def abort(self) -> None:
        self._abort()


def settings_in(folder: Path, **changes: Any) -> TrainingSettings:
    given = {
        "run": RUN,
        "env_steps": 1000,
        "segment_steps": 400,
        "store": folder / "segments",
        "ledger": folder / "l.db",
    }
    return TrainingSettings(**given | changes)


def run(settings: TrainingSettings, watcher: Watcher | None = None, **options: Any):
    watcher = watcher or Watcher()
    return asyncio.run(train(settings, observer=watcher, control=watcher, **options))


def weights(settings: TrainingSettings) -> dict[str, Any]:
    """What the learner at the end of the chain consists of."""
    path = SegmentStore(settings.store).checkpoint_path(settings.chain()[-1].id)
    return torch.load(path, weights_only=True)["learner"]


def sessions(settings: TrainingSettings) -> list:
    with Reader.open(settings.ledger) as reader:
        return reader.sessions(limit=None)


def on_first(kind: str, act):
    """An ``on_event`` that acts once, on the first event of this kind that is ok."""
    acted = []

    def on_event(watcher: Watcher, row: dict[str, Any]) -> None:
        if row["kind"] == kind and row["status"] == "ok" and not acted:
            acted.append(True)
            act(watcher)

    return on_event


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run: settings, outcome, watcher, results."""
    settings, watcher = settings_in(tmp_path_factory.mktemp("whole"), shaping=SHAPING), Watcher()
    results: list = []
    return settings, run(settings, watcher, on_segment=results.append), watcher, results


def test_a_run_is_a_chain_of_segments_in_the_ledger(finished):
    settings, outcome, watcher, results = finished
    assert (outcome.status, outcome.env_steps, outcome.total_env_steps) == ("done", 1000, 1000)
    assert [each.env_steps for each in results] == [400, 400, 200]
    assert [each.id for each in settings.chain()] == [each.id for each in results]
    assert [point["env_steps"] for point in outcome.curve] == [200, 400, 600, 800, 1000]
    assert all(point["low"] <= point["sparse_return"] <= point["high"] for point in outcome.curve)
    assert outcome.env_steps_per_second > 0 and outcome.env_steps_reused == 0
    assert watcher.progressed[-1][0] == 1000 and watcher.progressed[0][0] == 200
    with Reader.open(settings.ledger) as reader:
        (row,) = reader.sessions()
        assert (row.kind, row.status, row.env_steps_main, row.rounds) == ("training", "done", 1000, 0)
        assert [each.id for each in reader.lineage()] == [each.id for each in results]
        assert reader.lineage()[0].shaping == SHAPING.canonical()
        assert {row["name"] for row in reader.rows("SELECT name FROM metrics")} >= {"sparse_return", "entropy"}
        assert verify(reader, recompute, session_rules) == []


def test_how_it_is_cut_into_segments_changes_nothing(finished, tmp_path):
    settings, _, _, _ = finished
    whole = settings_in(tmp_path, shaping=SHAPING, segment_steps=1000)
    run(whole)
    one, other = weights(settings), weights(whole)
    assert one.keys() == other.keys()
    assert all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)
    different = settings_in(tmp_path, shaping=SHAPING, segment_steps=1000, seed=1)
    run(different)
    assert not torch.equal(weights(different)["actor"], one["actor"])  # negative control


def test_a_pause_is_gone_on_with_by_the_same_settings(finished, tmp_path):
    def pause(watcher):
        watcher.pausing = True

    settings = settings_in(tmp_path, shaping=SHAPING)
    first = run(settings, Watcher(on_first("stage", pause)))
    assert (first.status, first.env_steps) == ("paused", 400)
    assert unfinished(settings.model_copy(update={"seed": 1})) is None
    second = run(settings)
    assert (second.status, second.session_id, second.env_steps) == ("done", first.session_id, 1000)
    assert second.env_steps_reused == 0  # this session computed all of it
    assert len(sessions(settings)) == 1 and unfinished(settings) is None
    assert torch.equal(weights(settings)["actor"], weights(finished[0])["actor"])
    third = run(settings)
    assert third.session_id != first.session_id
    assert (third.env_steps_reused, third.env_steps_per_second) == (1000, None)
    with Reader.open(settings.ledger) as reader:
        assert len(reader.main_run(first.session_id)) == 3 and verify(reader, recompute, session_rules) == []


def test_an_abort_stops_in_the_middle_of_a_segment_and_loses_only_that(tmp_path):
    settings = settings_in(tmp_path, env_steps=200_000, segment_steps=400)
    begun = []

    def act(watcher, row):
        if row["title"].endswith("started"):
            begun.append(row)
            if len(begun) == 3:
                watcher.abort()

    outcome = run(settings, Watcher(act))
    assert (outcome.status, outcome.env_steps) == ("interrupted", 800)
    (row,) = sessions(settings)
    assert row.status == "interrupted" and unfinished(settings) == row.id


def test_what_an_abort_cuts_off_is_counted(tmp_path):
    class Impatient(Watcher):
        def progress(self, done, latest):
            super().progress(done, latest)
            self.abort()

    settings = settings_in(tmp_path, env_steps=200_000, segment_steps=200_000)
    assert run(settings, Impatient()).status == "interrupted"
    with Reader.open(settings.ledger) as reader:
        costs = reader.costs()
        assert [event.title for event in reader.events() if "cut off" in event.title] == [
            f"cut off: {costs.cut_off:,} env steps of training"
        ]
    assert costs.env_steps_main == 0 and costs.cut_off_unknown == 0
    assert 200 <= costs.cut_off < 200_000 and costs.cut_off % 200 == 0, "whole updates"


def test_a_segment_is_stopped_and_not_cancelled(tmp_path):
    """Where the loop ends first, as with a closed pipe, its thread must not trip over a cancelled future."""
    settings = settings_in(tmp_path, env_steps=200_000, segment_steps=200_000)
    pool = InProcess(SegmentStore(settings.store), lambda progress: None)
    future = pool.submit(settings.chain()[0])
    assert not future.cancel()
    pool.close()
    with pytest.raises(SegmentImpossible, match="was stopped"):
        future.result(timeout=0)


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    settings = settings_in(tmp_path)
    script = f"""
        import asyncio, os, signal, sys
        sys.path[:0] = [{str(ROOT)!r}]
        import torch
        from tests.tools.training.test_train import Watcher, run, settings_in
        from pathlib import Path
        def die(watcher, row):
            if row["kind"] == "stage":
                os.kill(os.getpid(), signal.SIGKILL)
        run(settings_in(Path({str(tmp_path)!r})), Watcher(die))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (row,) = sessions(settings)
    assert (row.status, row.env_steps_main, row.code_version) == ("interrupted", 400, code_version())
    watcher = Watcher()
    outcome = run(settings, watcher)
    assert (outcome.session_id, outcome.status, outcome.env_steps) == (row.id, "done", 1000)
    assert any("goes on" in title for title in watcher.titles)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (SegmentFailed("Training diverged: the value loss became NaN."), "failed", "diverged"),
        (SegmentImpossible("The parent is gone."), "paused", "parent is gone"),
        (OSError(28, "No space left on device"), "paused", "disk is full"),
        (ValueError("qmix takes no continuous actions"), "failed", "continuous"),
    ],
)
def test_what_ends_a_segment_ends_the_run_with_its_sentence(tmp_path, monkeypatch, error, status, words):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr(learning_signal.marl.segments.training, "run_segment", broken)
    settings = settings_in(tmp_path)
    outcome = run(settings)
    assert outcome.status == status and words in outcome.stop_reason
    assert outcome.curve == [] and outcome.env_steps == 0
    assert unfinished(settings) == outcome.session_id  # starting again tries again
    with pytest.raises(ExportError, match="has trained nothing to its end yet"):
        export_policy(settings.ledger, "latest")


def test_a_run_that_was_taken_over_writes_nothing_more(tmp_path):
    settings = settings_in(tmp_path, env_steps=20_000)
    others: list[Ledger] = []

    def steal(watcher):
        others.append(Ledger.open(settings.ledger))
        others[0].resume_session(sessions(settings)[0].id, code_version())

    with pytest.raises(SessionTaken):
        run(settings, Watcher(on_first("stage", steal)))
    others[0].close()
    assert sessions(settings)[0].status == "running"


def test_a_run_whose_folder_is_deleted_stops_and_its_rows_are_rescued(tmp_path, monkeypatch):
    settings = settings_in(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LedgerLost, match=f"all of its rows are in {tmp_path}/l-rescued-"):
        run(settings, Watcher(on_first("stage", lambda _: shutil.rmtree(tmp_path / "runs"))))
    (file,) = tmp_path.glob("l-rescued-*")
    assert run(settings.model_copy(update={"ledger": file})).status == "done"


def test_a_shaping_that_does_not_fit_the_task_is_refused_before_anything_is_written(tmp_path):
    wrong = ShapingConfig.parse({"beta": 1.0, "terms": [{"potential": "height", "weight": 1.0, "scope": "team"}]})
    with pytest.raises(ShapingError, match="height"):
        run(settings_in(tmp_path, shaping=wrong))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["file", "environment"])
def test_a_budget_is_refused(tmp_path, monkeypatch, capsys, place):
    options = ["train", "--ledger", str(tmp_path / "l.db")]
    if place == "file":
        (tmp_path / "c.toml").write_text("[budget]\ntokens = 5000\n")
        options += ["--config", str(tmp_path / "c.toml")]
    else:
        monkeypatch.setenv("LEARNING_SIGNAL_BUDGET", "tokens=5000")
    assert command.run(options) == BAD_INPUT
    assert "A budget was found (5 k tokens), expected none" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "l.db").exists()


def test_settings_of_another_version_are_refused(finished):
    settings, outcome, _, _ = finished
    with Reader.open(settings.ledger) as reader:
        assert stored_settings(reader, outcome.session_id).chain() == settings.chain()
        config = reader.config(outcome.session_id) | {"colour": "red"}
        reader.config = lambda session: config
        with pytest.raises(TrainingError, match="another version of this program"):
            stored_settings(reader, outcome.session_id)


def test_a_shaping_file_is_read_or_refused_with_its_name(tmp_path):
    assert read_shaping(None).is_none
    path = tmp_path / "s.toml"
    path.write_text(SHAPING.to_toml())
    assert read_shaping(path) == SHAPING
    for text, words in (("beta =", "not valid TOML"), ("beta = 99.0\nterms = []", "99.0"), ("beta = 1.0", "terms")):
        path.write_text(text)
        with pytest.raises(TrainingError, match=words) as caught:
            read_shaping(path)
        assert "s.toml" in str(caught.value) and "\n" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match="not UTF-8"):
        read_shaping(path)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_shaping(tmp_path / "missing.toml")


def test_what_was_computed_for_a_session_is_not_computed_again(finished, tmp_path):
    """The store is shared: another ledger finds the segments there."""
    settings, outcome, _, _ = finished
    again = run(settings.model_copy(update={"ledger": tmp_path / "other.db"}))
    assert again.env_steps_reused == 1000 and again.curve == outcome.curve


def test_curves_for_tensorboard(finished, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from learning_signal.marl.policies.curves import Curves

    _, outcome, _, results = finished
    for known in (results[:2], results):  # as after a kill, and when the run goes on
        curves = Curves(tmp_path / "tb")
        for result in known:
            curves.add(result)
        curves.close()
    written = EventAccumulator(str(tmp_path / "tb"))
    written.Reload()
    confirm = [(each.step, each.value) for each in written.Scalars("confirm/sparse_return")]
    assert confirm == [(point["env_steps"], pytest.approx(point["sparse_return"], rel=1e-6)) for point in outcome.curve]
    assert [each.step for each in written.Scalars("train/entropy")] == [200, 400, 600, 800, 1000]


def test_missing_tensorboard_is_one_sentence(monkeypatch, tmp_path):
    from learning_signal.marl.policies.curves import Curves, TensorBoardMissing

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TensorBoardMissing, match=r"pip install 'learning-signal\[tensorboard\]'"):
        Curves(tmp_path / "tb")
    assert not (tmp_path / "tb").exists()
