"""The rules on tasks they were never written for: whole sessions with synthetic training, from declarations alone."""

from __future__ import annotations

import numpy as np
import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import notices, verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.marl.shaping import Potential
from learning_signal.marl.tasks import make_task
from learning_signal.tools.claims.check import recheck
from learning_signal.tools.plan.settings import session_rules
from tests.support.session_helpers import RUN, state_of, tiny_settings
from tests.support.session_helpers import run_inline as run

TASKS = ("Foraging-8x8-2p-2f-coop-v3", "pursuit", "rware-tiny-2ag-easy-v2", "overcooked")


def on(task: str, folder):
    """A tiny session on ``task``."""
    horizon = make_task(task, 1).spec.horizon
    sizes = {"stage_steps": 24 * horizon, "branch_steps": 16 * horizon}
    return tiny_settings(folder, run=RUN.model_copy(update={"task": task}), **sizes)


@pytest.mark.parametrize("task", TASKS)
def test_a_session_promotes_a_potential_that_rises_to_0_at_its_good_end(task, tmp_path):
    settings, spec = on(task, tmp_path), make_task(task, 1).spec
    outcome = run(settings)
    assert outcome.status == "done" and len(outcome.promoted) == 1
    with Reader.open(settings.ledger) as reader:
        assert verify(reader, recompute, session_rules) == [] == notices(reader, recheck)
        assert reader.rows("SELECT 1 FROM tool_calls WHERE name = 'submit_diagnosis' AND status = 'refused'") == []
        shaping = state_of(reader).head.shaping
    best, middle, worst = (
        {
            feature.name: np.full(1 if feature.scope == "team" else (1, spec.agents), value, np.float64)
            for feature, value in zip(spec.features, values, strict=True)
        }
        for values in zip(*(ends(feature) for feature in spec.features), strict=True)
    )
    potential = Potential(shaping, spec)
    phi = [float(potential(state).mean()) for state in (best, middle, worst)]
    assert phi[0] == pytest.approx(0, abs=1e-4) and phi[0] > phi[1] > phi[2]


def ends(feature):
    """The best, a middle and the worst value of a feature."""
    low, high = (feature.low, feature.high) if feature.direction == "higher" else (feature.high, feature.low)
    return high, (low + high) / 2, low
