"""Runs a session, a training run or a study under its view, to its report and exit code."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from learning_signal.ledger.wording import command
from learning_signal.viewer.cli.terminal import STOPPED, err, out, show_json

EXIT_CODES = {"done": 0, "failed": 1, "paused": 4, "interrupted": STOPPED}
"""How a session ended -> the exit code that says so."""


def supervise(
    work: Callable[[Any, Any], Awaitable[Any]], heading: str, ledger: Path, *, as_json: bool, plain: bool, verbose: bool
) -> int:
    """Run a session's coroutine under its view, print its report, and return the exit code."""
    from learning_signal.agents.session.observer import SessionControl
    from learning_signal.tools.context import HumanAnswer
    from learning_signal.viewer.cli.interrupts import watch
    from learning_signal.viewer.live.view import LiveView, PlainView
    from learning_signal.viewer.reports.next_steps import after_session
    from learning_signal.viewer.reports.session_end import render_report

    # With --json, standard output carries the outcome alone.
    shown = err if as_json else out
    kind = LiveView if shown.is_terminal and not plain and not as_json else PlainView
    view = kind(shown, heading, ledger, lambda approved, reason: HumanAnswer(approved=approved, reason=reason))
    outcome = watch(work, view, SessionControl(), ledger, verbose)
    return ended(outcome, lambda data: render_report(data, after_session(data, ledger)), as_json)


def train_chain(
    settings: Any, session: str | None, tensorboard: Path | None = None, *, as_json: bool, plain: bool, verbose: bool
) -> int:
    """Run a training run under its view, print its report, and return the exit code."""
    from learning_signal.agents.session.observer import SessionControl
    from learning_signal.marl.segments.segment import round_up
    from learning_signal.tools.training.run import train as run_training
    from learning_signal.viewer.cli.interrupts import watch
    from learning_signal.viewer.live.training import TrainingView
    from learning_signal.viewer.reports.next_steps import after_training
    from learning_signal.viewer.reports.training_end import render_training

    curves = None
    if tensorboard is not None:
        from learning_signal.marl.policies.curves import Curves

        curves = Curves(tensorboard)
    shown = err if as_json else out
    heading = f"{settings.run.task}, {settings.run.learner.algorithm}, seed {settings.seed}"
    total = round_up(settings.run, settings.env_steps)
    view = TrainingView(shown, heading, total, plain=plain or as_json or not shown.is_terminal)
    on_segment = None if curves is None else curves.add
    try:
        outcome = watch(
            lambda observer, control: run_training(
                settings, observer=observer, control=control, on_segment=on_segment, session=session
            ),
            view,
            SessionControl(),
            settings.ledger,
            verbose,
        )
    finally:
        if curves is not None:
            curves.close()
    return ended(outcome, lambda data: render_training(data, after_training(data, settings.ledger)), as_json)


def compare(settings: Any, planned: Mapping[str, Any], *, as_json: bool, plain: bool, verbose: bool) -> int:
    """Run a study under its view, write its plot, print its table, and return the exit code."""
    from learning_signal.agents.session.observer import SessionControl
    from learning_signal.agents.session.study import run_study
    from learning_signal.tools.study.study import write_whole
    from learning_signal.viewer.cli.interrupts import watch
    from learning_signal.viewer.live.study import StudyView
    from learning_signal.viewer.reports.study_end import render_study
    from learning_signal.viewer.reports.study_plot import draw

    shown = err if as_json else out
    heading = f"{planned['cells']} run{'s' if planned['cells'] > 1 else ''}: {', '.join(settings.arms)}"
    view = StudyView(
        shown, heading, planned["cells"], planned["env_steps_in_all"], plain=plain or as_json or not shown.is_terminal
    )
    control, typed = SessionControl(), command(*sys.argv[1:])
    report = watch(
        lambda observer, control: run_study(settings, observer=observer, control=control, command=typed),
        view,
        control,
        settings.folder / "ledger.db",
        verbose,
        again="the same command",
    )
    plot = settings.folder / "study.svg"
    write_whole(plot, draw(report))
    if as_json:
        show_json(report)
    else:
        out.print(render_study(report, [f"{settings.folder / 'study.json'}", f"{plot}"]))
    outcomes = {cell["outcome"] for cell in report["cells"]}
    if control.aborted:
        return STOPPED
    return EXIT_CODES["paused"] if "stopped" in outcomes else EXIT_CODES["failed"] if "failed" in outcomes else 0


def ended(outcome: Any, report: Callable[[Mapping[str, Any]], Any], as_json: bool) -> int:
    """Print the outcome of a session, and return the exit code."""
    data = outcome.to_dict()
    if as_json:
        show_json(data)
    else:
        out.print(report(data))
    return EXIT_CODES[data["status"]]
