"""Hyper-parameters by family: what fills in what is not given, and never replaces what is."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from learning_signal.marl.hyperparameters import (
    FORAGING,
    FOREIGN,
    LENGTHS,
    OVERCOOKED,
    PARTIAL_SIGHT,
    RARE_REWARDS,
    WAREHOUSE,
)
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.tools.plan.settings import SessionSettings


@pytest.mark.parametrize(
    ("task", "algorithm", "expected"),
    [
        ("spread", "mappo", {}),
        ("spread?agents=5", "qmix", {}),
        ("package.foraging:make?n=2", "mappo", FOREIGN),
        ("foraging", "mappo", FORAGING),
        ("Foraging-8x8-2p-2f-coop-v3", "ippo", FORAGING),
        ("Foraging-2s-8x8-2p-2f-coop-v3", "mappo", FORAGING | PARTIAL_SIGHT),
        ("foraging?id=Foraging-2s-8x8-2p-2f-coop-v3", "mappo", FORAGING | PARTIAL_SIGHT),
        ("Foraging-2s-8x8-2p-2f-coop-v3", "vdn", FORAGING | RARE_REWARDS),
        ("rware-tiny-2ag-easy-v2", "mappo", WAREHOUSE),
        ("warehouse", "mappo", WAREHOUSE),
        ("overcooked?layout=forced_coordination", "mappo", OVERCOOKED),
    ],
)
def test_a_task_gets_the_settings_of_its_family(task, algorithm, expected):
    run = RunSettings.model_validate({"task": task, "learner": {"algorithm": algorithm}})
    assert run.learner == LearnerSettings.model_validate({"algorithm": algorithm, **expected})


def test_what_is_given_stays():
    given = {"algorithm": "vdn", "hidden": [8, 8], "q_learning": {"batch_size": 64}}
    learner = RunSettings.model_validate({"task": "foraging", "learner": given}).learner
    assert (learner.hidden, learner.q_learning.batch_size) == ((8, 8), 64)
    assert learner.environments == RARE_REWARDS["environments"]
    assert learner.q_learning.exploration_env_steps == RARE_REWARDS["q_learning"]["exploration_env_steps"]


@pytest.mark.parametrize("task", ["foraging", "Foraging-2s-8x8-2p-2f-coop-v3", "rware-tiny-2ag-easy-v2", "spread"])
@pytest.mark.parametrize("learner", [{}, {"algorithm": "vdn", "q_learning": {"batch_size": 64}}, {"hidden": (8, 8)}])
def test_a_record_says_what_a_mapping_of_its_fields_says(task, learner):
    given = {"task": task, "learner": learner, "evaluation": {"points": 2}}
    as_mapping = RunSettings.model_validate(given)
    as_record = RunSettings(task=task, learner=LearnerSettings(**learner), evaluation=EvaluationSettings(points=2))
    assert as_record == as_mapping
    once_more = RunSettings(task=task, learner=as_record.learner, evaluation=as_record.evaluation)
    assert once_more == as_mapping
    assert (as_record.learner == LearnerSettings(**learner)) == (task == "spread"), (
        "families have settings of their own"
    )


def test_a_stored_run_reads_back_as_it_was():
    run = RunSettings.model_validate({"task": "Foraging-2s-8x8-2p-2f-coop-v3"})
    assert RunSettings.model_validate_json(run.model_dump_json()) == run


def test_a_network_has_hidden_layers():
    with pytest.raises(ValidationError, match="hidden"):
        LearnerSettings(hidden=())
    assert LearnerSettings(hidden=(1,)).hidden == (1,)


def test_memory_settings_are_for_learners_with_memory():
    run = RunSettings.model_validate({"task": "Foraging-2s-8x8-2p-2f-coop-v3", "learner": {"memory": "none"}})
    assert run.learner == LearnerSettings.model_validate({**FORAGING, "memory": "none"})


@pytest.mark.parametrize(
    ("task", "episodes"),
    [("spread", 256), ("foraging", 256), ("rware-tiny-2ag-v2", 64), ("overcooked", 64), ("some.module:make", 64)],
)
def test_long_or_lonely_episodes_are_fewer(task, episodes):
    assert RunSettings.model_validate({"task": task}).evaluation.episodes == episodes
    given = RunSettings.model_validate({"task": task, "evaluation": {"episodes": 8}})
    assert given.evaluation.episodes == 8


@pytest.mark.parametrize(
    ("task", "lengths"),
    [
        ("foraging", LENGTHS["Foraging-8x8-2p-2f-coop-v3"]),
        ("Foraging-8x8-2p-2f-coop-v3", LENGTHS["Foraging-8x8-2p-2f-coop-v3"]),
        ("Foraging-10x10-3p-3f-v3", {}),
        ("spread", {}),
    ],
)
def test_a_session_has_the_lengths_that_were_measured_for_its_task(task, lengths):
    general = SessionSettings()
    expected = {"stage_steps": general.stage_steps, "branch_steps": general.branch_steps} | lengths
    for run in ({"task": task}, RunSettings.model_validate({"task": task})):
        settings = SessionSettings.model_validate({"run": run})
        assert {name: getattr(settings, name) for name in expected} == expected
        assert SessionSettings(run=run, branch_steps=7).branch_steps == 7, "what is given stays"
        assert SessionSettings.model_validate_json(settings.model_dump_json()) == settings
