"""What both arms of a judged confirmation learnt: curves of their training, and what their agents do differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from learning_signal.marl.behaviour.against import against
from learning_signal.marl.behaviour.words.against import against_body
from learning_signal.marl.behaviour.words.rounding import rounded_body
from learning_signal.tools.context import SessionContext
from learning_signal.tools.evidence.metrics import curves, logged_metrics, metric_rows, whole_window
from learning_signal.tools.evidence.sources import behaviours, done
from learning_signal.tools.state import Branch

CURVES = ("sparse_return", "progress", "entropy")
"""Metrics of training that are told, as far as they are logged."""
POINTS = 4
"""Parts of a branch that a curve is averaged over."""


def arms_told(context: SessionContext, arms: Mapping[str, Branch]) -> dict[str, Any]:
    """Of the branches ``candidate`` and ``control``: their ``training``, and the candidate ``against`` the control.

    Both over the seeds that are done; {} where an arm has none. ``against`` is left out where the session has no
    evidence of behaviour.
    """
    segments = {name: done(context, branch) for name, branch in arms.items()}
    if not all(segments.values()):
        return {}
    rows = {name: [metric_rows([context.trainer.stored(each)]) for each in ids] for name, ids in segments.items()}
    window = whole_window([seed for seeds in rows.values() for seed in seeds])
    logged = logged_metrics(context)
    names = [name for name in CURVES if name in logged]
    told: dict[str, Any] = {"training": {name: curves(seeds, names, window, POINTS) for name, seeds in rows.items()}}
    if not context.settings.deliberation.behaviour:
        return told
    candidate, control = (behaviours(context, segments[name]) for name in ("candidate", "control"))
    return told | {"against": rounded_body(against_body(against(candidate, control, context.task)))}
