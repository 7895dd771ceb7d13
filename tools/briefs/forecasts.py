"""An agent's own record of forecasts, for its brief."""

from __future__ import annotations

from typing import Any

from learning_signal.ledger.read.forecasts import UNINFORMED, forecasts_of, records_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import speaker
from learning_signal.tools.base import rounded
from learning_signal.tools.context import SessionContext
from learning_signal.tools.roles import Role

LAST_FORECASTS = 4
"""Of an agent's own forecasts, with what was measured, in its brief."""


def own_forecasts(context: SessionContext, role: Role) -> dict[str, Any] | None:
    """The record of a role on its present backend in this session; None before any of its forecasts is scored."""
    with Reader.open(context.ledger.path) as reader:
        agents = [each for each in reader.agents(context.session) if each.role == role]
        made = forecasts_of(reader, context.session)
    backend = speaker(agents[-1].spec) if agents else None
    made = [each for each in made if (each.role, each.backend) == (role, backend)]
    scored = [each for each in made if each.difference is not None]
    if not scored:
        return None
    (record,) = records_of(made)
    return {
        "n": record.n,
        "unscored": record.unscored,
        "brier": rounded(record.brier),
        "always_saying_half": UNINFORMED,
        "calibration": [
            {"said": rounded(each.mean_probability), "came_true": rounded(each.share_true), "n": each.n}
            for each in record.calibration
        ],
        "last": [
            {
                "round": each.round,
                "candidate": each.candidate,
                "measure": each.measure,
                "change": rounded(each.change),
                "probability": rounded(each.probability),
                "difference": rounded(each.difference),
            }
            for each in scored[-LAST_FORECASTS:]
        ],
    }
