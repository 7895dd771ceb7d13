"""Whether a round begins now: a pure function of the state of the main run after a stage."""

from __future__ import annotations

from learning_signal.marl.gate.measure import MeasureName, words
from learning_signal.marl.segments.records import Evaluation
from learning_signal.marl.settings import Frozen
from learning_signal.tools.context import SessionContext
from learning_signal.tools.plan.settings import TriggerSettings
from learning_signal.tools.stage import StageLabel
from learning_signal.tools.state import Head, Trigger
from learning_signal.tools.trainer import final_evaluation


class Standing(Frozen):
    """The main run at the end of a stage, on the query episodes."""

    label: StageLabel
    measure: MeasureName
    """Progress while sparse return is below the competence floor and the task declares it; sparse return otherwise."""
    before: float | None
    """``measure`` where the stage began; None in the first stage."""
    now: float
    sparse_return: float
    max_return: float
    rounds: int
    """Rounds so far."""
    stages: int
    """Stages since the last round, this one included."""
    rolled_back: bool
    """Whether the last round was a roll back."""

    @property
    def rise(self) -> float | None:
        """The gain of the stage in ``measure``."""
        return None if self.before is None else self.now - self.before


def trigger(standing: Standing, settings: TriggerSettings) -> Trigger | None:
    """The trigger of a round now, or None where training goes well.

    In this order: *first* - no round has run yet; *after rollback* - the last round only undid a promotion;
    *regression* - the stage's label says so; *stall* - the label is exploring or plateau, or the stage gained less
    than the settings ask for, and the task is not solved; *schedule* - so many stages have passed without one.
    """
    gained, least = _gained(standing), _least(standing, settings)
    if standing.rounds == 0:
        return Trigger(reason="first", text=f"no round has run yet; the stage is labelled {standing.label}")
    if standing.rolled_back:
        return Trigger(reason="after rollback", text=f"the last round only undid a promotion; {gained}")
    if standing.label == "regressing":
        return Trigger(reason="regression", text=f"the stage is labelled regressing; {gained}")
    solved = standing.sparse_return >= settings.solved * standing.max_return
    if not solved and standing.label in ("exploring", "plateau"):
        return Trigger(reason="stall", text=f"the stage is labelled {standing.label}; {gained}")
    if not solved and standing.rise is not None and standing.rise < least:
        return Trigger(reason="stall", text=f"{gained}, and a healthy stage gains {least:.3g}")
    if settings.every is not None and standing.stages >= settings.every:
        stages = "every stage" if settings.every == 1 else f"every {settings.every} stages"
        return Trigger(reason="schedule", text=f"a round is scheduled after {stages}; {gained}")
    return None


def no_trigger(standing: Standing, settings: TriggerSettings) -> str:
    """Why no round begins where ``trigger`` is None."""
    if standing.sparse_return >= settings.solved * standing.max_return:
        return f"the task is solved (sparse return {standing.sparse_return:.3g} of {standing.max_return:.3g})"
    return f"{standing.label}; {_gained(standing)}, and a healthy stage gains {_least(standing, settings):.3g}"


def standing_of(context: SessionContext, label: StageLabel, before: Head | None) -> Standing:
    """Where the main run of ``context`` stands after a stage that went from ``before`` to HEAD."""
    state, task = context.state, context.task
    now = final_evaluation(context.trainer.stored(context.head.segment), "query")
    start = None if before is None else final_evaluation(context.trainer.stored(before.segment), "query")
    below = now.sparse_return < context.settings.gate.floor * task.largest_return and now.mean_progress is not None

    def measured(evaluation: Evaluation) -> float:
        progress = evaluation.mean_progress
        return progress if below and progress is not None else evaluation.sparse_return

    return Standing(
        label=label,
        measure="progress" if below else "sparse_return",
        now=measured(now),
        before=None if start is None else measured(start),
        sparse_return=now.sparse_return,
        max_return=task.max_return,
        rounds=state.round_number,
        stages=state.stages_without,
        rolled_back=bool(state.history) and state.history[-1].action == "roll_back",
    )


def _least(standing: Standing, settings: TriggerSettings) -> float:
    """The gain in the standing's measure below which a stage is a stall."""
    return settings.rise_progress if standing.measure == "progress" else settings.rise * standing.max_return


def _gained(standing: Standing) -> str:
    name = words(standing.measure)
    if standing.rise is None:
        return f"{name} is {standing.now:.3g}"
    return f"{name} went from {standing.before:.3g} to {standing.now:.3g} in the last stage ({standing.rise:+.3g})"
