"""``session --from``: a run or a policy gives state, task and learner, and costs are the session's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from learning_signal import run
from learning_signal.ledger import origin
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.marl.settings import LearnerSettings
from learning_signal.tools.plan.settings import session_rules
from learning_signal.tools.plan.sources import Given, SettingsError
from learning_signal.tools.training.policies import export_policy
from learning_signal.tools.training.root import as_source, rooted, source_of
from tests.support import kinds_of_sessions
from tests.support.session_helpers import run_inline, tiny_settings


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """The log of a training run of 400 env steps."""
    return kinds_of_sessions.training(tmp_path)


def test_a_session_begins_where_a_run_ended_and_counts_only_its_own(tmp_path: Path, ledger: Path) -> None:
    source = source_of("latest", ledger)
    plain = tiny_settings(tmp_path)
    settings = rooted(
        plain.model_copy(update={"run": plain.run.model_copy(update={"learner": source.learner})}), source
    )
    assert settings.root is not None and settings.root.env_steps == 400 and settings.root.whole
    # Training is synthetic in what follows, and so is the state that it begins with.
    SegmentStore(settings.store).checkpoint_path(settings.root.segment).write_text(json.dumps({"skill": 0.02}))
    report = run_inline(settings)
    with Reader.open(ledger) as reader:
        row, moves, costs = reader.session(report.session_id), reader.main_run(report.session_id), reader.costs()
        assert moves[0].segment.parent == settings.root.segment and moves[0].segment.start_env_steps == 400
        assert costs.env_steps_main == sum(each.env_steps for each in reader.lineage(report.session_id))
        assert "from session" in reader.events(report.session_id)[0].title and row.status == "done"
        assert verify(reader, recompute, session_rules) == []


def test_an_exported_policy_is_a_source_too(ledger: Path, tmp_path: Path) -> None:
    folder = export_policy(ledger, "latest", tmp_path / "policy")
    source = source_of(str(folder), ledger)
    settings = tiny_settings(tmp_path)
    settings = settings.model_copy(update={"run": settings.run.model_copy(update={"learner": source.learner})})
    made = rooted(settings, source)
    assert made.root is not None and not made.root.whole and made.root.env_steps == 400
    assert made.root.of == f"policy {folder}"


def test_task_and_learner_are_taken_over_and_what_is_given_counts(ledger: Path) -> None:
    source = replace(source_of("latest", ledger), task="pursuit")
    taken = as_source(Given({}, {}, {}), source).settings({}, {})
    assert taken.run.task == "pursuit" and taken.run.learner.hidden == source.learner.hidden == (8,)
    given = Given({"run": {"learner": {"learning_rate": 0.5}}}, {}, {})
    assert as_source(given, source).settings({}, {}).run.learner.learning_rate == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"task": "pursuit"}, "expected pursuit"), ({"learner": LearnerSettings(algorithm="qmix")}, "expected qmix")],
)
def test_another_task_or_algorithm_is_refused(tmp_path: Path, ledger: Path, changes: dict, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        rooted(tiny_settings(tmp_path), replace(source_of("latest", ledger), **changes))


def test_what_cannot_be_begun_from_is_one_sentence(
    tmp_path: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for named, said in (("nothere", "no session 'nothere'"), (str(tmp_path / "nothere"), "no policy.json")):
        assert run.run(["session", "--from", named, "--ledger", str(ledger)]) == 2
        assert said in capsys.readouterr().err
    folder = export_policy(ledger, "latest", tmp_path / "policy")
    source = replace(source_of(str(folder), ledger), task="os:system")
    with pytest.raises(SettingsError, match="give --env"):
        as_source(Given({}, {}, {}), source)
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "another user"))
    with pytest.raises(SettingsError, match="was not begun by you"):
        source_of("latest", ledger)
