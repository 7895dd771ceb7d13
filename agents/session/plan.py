"""The most a session would do, before anything runs: what ``--dry-run`` prints."""

from __future__ import annotations

import math
from typing import Any

from learning_signal.agents.model.prices import refuse_unpriced
from learning_signal.agents.roles import secrets_of
from learning_signal.ledger.wording import shadow_of
from learning_signal.marl.segments.segment import round_up
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.cost import looks_at_branches, round_cost, round_evaluation
from learning_signal.tools.plan.evaluation import branch_episodes, evaluation_env_steps
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.plan.suitability import refuse_unsuitable, remarks


def plan(settings: SessionSettings) -> dict[str, Any]:
    """The most that a session with these settings would do, without running anything.

    Raises ``SpecError`` where a backend's key is missing, or its price under a budget in USD, and ``Unsuitable`` where
    no session is possible on the task.
    """
    secrets_of(settings)
    task = make_task(settings.run.task, 1).spec
    refuse_unsuitable(settings, task)
    refuse_unpriced(settings, settings.budget)
    gate, talk = settings.gate, settings.deliberation
    branch_steps = round_up(settings.run, settings.branch_steps)
    screen = round_up(settings.run, int(settings.branch_steps * gate.screen_fraction))
    stage = round_up(settings.run, settings.stage_steps)
    price = round_cost(settings, task)
    main = stage * settings.most_stages
    branches = price.limit * settings.rounds  # including those that the main run continues from
    twin = main + branches if settings.twin else 0  # as many env steps as everything else together
    played = round_evaluation(settings, task)
    of_stage = evaluation_env_steps(settings.run, "main", stage, task)
    of_main, of_branches = of_stage * settings.most_stages, played.limit * settings.rounds
    of_twin = evaluation_env_steps(settings.run, "twin", stage, task) * math.ceil(twin / stage)
    of_looks = looks_at_branches(settings, task) * settings.rounds
    return {
        "task": task.name,
        "algorithm": settings.run.learner.algorithm,
        "seed": settings.seed,
        "rounds": settings.rounds,
        "stages": settings.most_stages,
        "candidates": talk.candidates,
        "refinements": talk.refinements,
        "episodes_of_a_branch": branch_episodes(settings.run, settings.branch_steps, task),
        "env_steps": {
            "stage": stage,
            "screening_branch": screen,
            "confirmation_branch": branch_steps,
            "round_at_most": price.first,
            "round_if_nothing_differs": price.undecided,
            "round_with_refinements": price.most,
            "further_seeds_of_a_screen": price.further,
            "main_run_at_most": main,
            "branches_at_most": branches,
            "sparse_twin_at_most": twin,
            "total_at_most": main + branches + twin,
        },
        "evaluation_env_steps": {
            "stage": of_stage,
            "round_at_most": played.first,
            "round_if_nothing_differs": played.undecided,
            "round_with_refinements": played.most,
            "further_seeds_of_a_screen": played.further,
            "main_run_at_most": of_main,
            "branches_at_most": of_branches,
            "sparse_twin_at_most": of_twin,
            "agents_look_at_branches_at_most": of_looks,
            "total_at_most": of_main + of_branches + of_twin + of_looks,
        },
        "a_round_begins": settings.trigger.model_dump(mode="json"),
        "budget": {"time_seconds" if name == "time" else name: each for name, each in settings.budget.limits().items()},
        "gate": gate.model_dump(mode="json"),
        "agents": [
            {"role": role, "backend": spec, "from": settings.agent_sources.get(role, "default")}
            for role, spec in settings.agents.items()
        ]
        + [
            {"role": shadow_of(role), "backend": spec, "from": "command line"}
            for role, spec in settings.shadows.items()
        ],
        "ledger": str(settings.ledger),
        "store": str(settings.store),
        "remarks": [{"remark": remark} for remark in remarks(settings, task)],
    }
