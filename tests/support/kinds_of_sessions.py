"""A small ledger of every kind of session, each written by the program itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest import mock

import learning_signal.agents.session.study
from learning_signal.agents.session.observer import SessionControl
from learning_signal.agents.session.study import run_study
from learning_signal.tools.study.study import study_settings
from learning_signal.tools.training.run import train
from learning_signal.tools.training.settings import TrainingSettings
from tests.support.recorded_ledger import recorded_ledger
from tests.support.session_helpers import RUN, Recorder, resume_inline, run_inline, tiny_settings
from tests.support.synthetic_training import InlinePool


class _Nobody:
    """Watches a training or a study, and stops neither."""

    pausing = False

    def event(self, row: dict[str, Any]) -> None: ...

    def progress(self, *report: Any) -> None: ...

    def cell(self, cell: Any, result: Any) -> None: ...

    def bind(self, on_abort: Any) -> None: ...


def killed_with_human(folder: Path) -> Path:
    """The recorded session: a person approved its promotions, and it was killed in the middle of a step."""
    return recorded_ledger(folder / "ledger.db")


def supervised(folder: Path) -> Path:
    """One round with agents by rule."""
    settings = tiny_settings(folder)
    run_inline(settings)
    return settings.ledger


def training(folder: Path) -> Path:
    """Training without agents."""
    settings = TrainingSettings(
        run=RUN, env_steps=400, segment_steps=200, store=folder / "segments", ledger=folder / "ledger.db"
    )
    asyncio.run(train(settings, observer=_Nobody(), control=_Nobody()))
    return settings.ledger


def study(folder: Path) -> Path:
    """The sessions of a study."""
    base = tiny_settings(folder, stage_steps=1_000, branch_steps=800)
    settings = study_settings("supervised,twin", [base], 1, "14000", folder / "study")
    with mock.patch.object(learning_signal.agents.session.study, "open_executor", InlinePool):
        asyncio.run(run_study(settings, observer=_Nobody(), control=SessionControl()))
    return settings.folder / "ledger.db"


def resumed_beside_another(folder: Path) -> Path:
    """A session that was paused and resumed, and between both a second one in the same ledger, which is paused."""
    control = SessionControl()
    settings = tiny_settings(folder)

    def pause(row: dict[str, Any]) -> None:
        if row["kind"] == "diagnosis":
            control.request_pause()

    first = run_inline(settings, Recorder(on_event=pause), control)
    control = SessionControl()
    run_inline(settings.model_copy(update={"seed": 1}), Recorder(on_event=pause), control)
    resume_inline(settings, first.session_id)
    return settings.ledger


KINDS = (killed_with_human, supervised, training, study, resumed_beside_another)
