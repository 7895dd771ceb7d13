"""Checkpoints that finished sessions no longer need can go; what any session needs, and every record, stays."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from learning_signal import run
from learning_signal.agents.session.observer import SessionControl
from learning_signal.ledger import origin
from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.segments.segment import SegmentStore
from learning_signal.tools.consent import Consent, NotTrusted
from learning_signal.tools.training.pruning import NotPruned, prunable, prune
from tests.support.session_helpers import Recorder, run_inline, tiny_settings


def there(store: Path) -> set[str]:
    return {each.name for each in store.iterdir()}


def test_a_finished_session_keeps_what_it_ended_on_and_its_record(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    report = run_inline(settings)
    before = hashlib.sha256(settings.ledger.read_bytes()).digest()
    with Reader.open(settings.ledger) as reader:
        (plan,) = prunable(reader, [report.session_id])
        head = reader.main_run(report.session_id)[-1].segment.id
        with_head = prunable(reader, [report.session_id], heads=True)[0]
    assert plan.kept == 1 and set(plan.segments) == there(settings.store) - {head} and plan.bytes > 0
    assert set(with_head.segments) == there(settings.store)
    told: list[tuple[int, int]] = []
    prune([plan], lambda done, of: told.append((done, of)))
    assert there(settings.store) == {head} and told[-1] == (len(plan.segments),) * 2
    assert hashlib.sha256(settings.ledger.read_bytes()).digest() == before
    assert SegmentStore(settings.store).checkpoint_path(head).is_file()
    # What is gone is computed again where a session asks for it, to the same bits.
    again = run_inline(settings)
    with Reader.open(settings.ledger) as reader:
        first, second = (
            {each.id: each.checkpoint for each in reader.segments(one).values()}
            for one in (report.session_id, again.session_id)
        )
    assert first == second


def test_what_another_session_of_the_log_can_still_go_on_from_stays(tmp_path: Path) -> None:
    settings, control = tiny_settings(tmp_path), SessionControl()
    done = run_inline(settings)

    def pause(row: dict) -> None:
        if row["kind"] == "diagnosis":
            control.request_pause()

    paused = run_inline(settings, Recorder(on_event=pause), control)
    with Reader.open(settings.ledger) as reader:
        shared = set(reader.segments(paused.session_id)) & set(reader.segments(done.session_id))
        (plan,) = prunable(reader, [done.session_id], heads=True)
        assert shared and not shared & set(plan.segments)
        with pytest.raises(NotPruned, match="is paused and can go on"):
            prunable(reader, [paused.session_id])


def test_a_strangers_store_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny_settings(tmp_path)
    report = run_inline(settings)
    monkeypatch.setenv(origin.STATE_VARIABLE, str(tmp_path / "another user"))
    before = there(settings.store)
    with Reader.open(settings.ledger) as reader:
        with pytest.raises(NotTrusted, match="--store"):
            prunable(reader, [report.session_id])
        assert prunable(reader, [report.session_id], consent=Consent(store=settings.store))
    assert run.run(["log", "prune", report.session_id, "--yes", "--ledger", str(settings.ledger)]) == 2
    assert there(settings.store) == before


def test_the_command_lists_first_and_removes_with_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tiny_settings(tmp_path)
    run_inline(settings)
    asked = ["log", "prune", "--ledger", str(settings.ledger)]
    assert run.run(asked) == 0 and "No checkpoint can go" in capsys.readouterr().out, "the newest keep everything"
    before = there(settings.store)
    assert run.run([*asked, "--keep", "0"]) == 0
    assert "would be freed" in capsys.readouterr().out and there(settings.store) == before
    assert run.run([*asked, "--keep", "0", "--yes"]) == 0
    assert "freed." in capsys.readouterr().out
    assert len(there(settings.store)) == 1
    assert run.run([*asked, "--keep", "-1"]) == 2
