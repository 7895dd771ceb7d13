"""What both arms of a judged confirmation learnt: curves of their training, and what their agents do differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from learning_signal.marl.behaviour.against import against
from learning_signal.marl.behaviour.words.against import against_body
from learning_signal.marl.behaviour.words.rounding import rounded_body
from learning_signal.tools.context import SessionContext
from learning_signal.tools.evidence.metrics import curves, logged_metrics, metric_rows, whole_window
from learning_signal.tools.evidence.sources import behaviours, done, play_query
from learning_signal.tools.state import Branch

CURVES = ("sparse_return", "progress", "entropy")
"""Metrics of training that are told, as far as they are logged."""
POINTS = 4
"""Parts of a branch that a curve is averaged over."""


WATCHED = 2
"""Branches of each arm whose behaviour is told: two show the noise of training, and each costs a set of episodes."""


async def arms_told(context: SessionContext, arms: Mapping[str, Branch]) -> dict[str, Any]:
    """Of the branches ``candidate`` and ``control``: their ``training``, and the candidate ``against`` the control.

    The one over all seeds that are done, the other over the first `WATCHED`, whose query episodes are played for it
    unless they were; {} where an arm has none. ``against`` is left out where the session has no evidence of behaviour.
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
    watched = {name: ids[:WATCHED] for name, ids in segments.items()}
    await play_query(context, [each for ids in watched.values() for each in ids])
    candidate, control = (behaviours(context, watched[name]) for name in ("candidate", "control"))
    return told | {"against": rounded_body(against_body(against(candidate, control, context.task)))}
