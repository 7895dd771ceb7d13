"""Numbers of single agents: shares of actions, their entropy and features, also of agents that differ or never act."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from learning_signal.marl.behaviour.by_agent import defined, measured
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.base import Group
from tests.marl.behaviour.test_behaviour import continuous
from tests.support.trainer_double import drifting_behaviour

SPEC = make_task("spread", 1).spec
OWN = next(each.name for each in SPEC.features if each.scope == "agent")


def with_actions(*per_agent: tuple[int, ...]):
    """The double's episodes where each agent repeats a pattern of actions; () is an agent that never acts."""
    record = drifting_behaviour()
    actions = record.actions.copy()
    for agent, pattern in enumerate(per_agent):
        steps = np.resize(pattern, len(actions)) if pattern else np.full(len(actions), -1)
        actions[:, :, agent] = steps[:, None]
    return replace(record, actions=actions)


def test_shares_and_entropy_are_each_agents_own():
    found = measured(with_actions((1,), (1, 2, 1, 2, 1), (0, 1, 2, 3, 4)), SPEC)
    names = SPEC.action_names
    assert found["action_entropy"] == pytest.approx((0.0, -0.6 * math.log(0.6) - 0.4 * math.log(0.4), math.log(5)))
    assert found[f"action:{names[1]}"] == pytest.approx((1.0, 0.6, 0.2))
    assert found[f"action:{names[2]}"] == pytest.approx((0.0, 0.4, 0.2))


def test_an_agent_that_never_acts_has_no_shares():
    found = measured(with_actions((1,), (), (2,)), SPEC)
    assert found["action_entropy"] == (0.0, None, 0.0) and found[f"action:{SPEC.action_names[2]}"] == (0.0, None, 1.0)


def test_features_are_means_over_the_time_that_an_agent_is_there():
    record = drifting_behaviour()
    values = record.features[OWN].copy()
    values[..., 1] += 2.0
    values[10:, :, 0] = np.nan
    values[..., 2] = np.nan
    found = measured(replace(record, features=record.features | {OWN: values}), SPEC)[OWN]
    assert found[:2] == pytest.approx((values[:10, :, 0].mean(), values[..., 1].mean())) and found[2] is None


def test_an_action_that_only_one_group_has_is_none_for_the_other():
    groups = (Group("two", (0, 1), SPEC.observation_size, 5), Group("one", (2,), SPEC.observation_size, 2))
    found = measured(with_actions((1,), (4,), (0,)), replace(SPEC, groups=groups))
    assert found[f"action:{SPEC.action_names[4]}"] == (0.0, 1.0, None)


def test_numbers_have_means_and_no_entropy():
    record, spec = continuous()
    found = measured(record, spec)
    assert "action_entropy" not in found and {"action:gas", "action:wheel"} <= set(found)
    agent = record.actions[:, :, 0, 0]
    assert found["action:gas"][0] == pytest.approx(float(np.nanmean(agent)))


def test_all_that_is_measured_is_defined():
    """Team features are nobody's own."""
    assert list(measured(drifting_behaviour(), SPEC)) == list(defined(SPEC))
    team = {each.name for each in SPEC.features if each.scope == "team"}
    assert team and not team & set(defined(SPEC))
