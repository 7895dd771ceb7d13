"""How many held-out episodes a branch has: what a share of its training pays for, and the same in every arm."""

from __future__ import annotations

import numpy as np
import pytest

from bench.support.designs import ranked
from bench.support.episodes import Scatter
from learning_signal.marl.gate.sequential import design
from learning_signal.marl.segments.segment import round_up
from learning_signal.marl.settings import RunSettings
from learning_signal.marl.tasks import make_task
from learning_signal.tools.plan.evaluation import branch_episodes, evaluated_for, evaluation_env_steps
from learning_signal.tools.plan.settings import SessionSettings
from learning_signal.tools.round.branches import screen_specs
from learning_signal.tools.round.confirmations import confirm_specs
from tests.support.scripted_session import ScriptedSession
from tests.support.trainer_double import by_arm

FORAGING, WAREHOUSE = "Foraging-8x8-2p-2f-coop-v3", "rware-tiny-2ag-easy-v2"


def of_default_session(task: str) -> tuple[int, int, int]:
    """Episodes of a branch, and what a confirmation branch of a default session trains and plays."""
    settings, spec = SessionSettings.model_validate({"run": {"task": task}}), make_task(task, 1).spec
    steps, episodes = (
        round_up(settings.run, settings.branch_steps, spec),
        branch_episodes(settings.run, settings.branch_steps, spec),
    )
    return episodes, steps, evaluation_env_steps(settings.run, "confirm", steps, spec, episodes)


def test_the_numbers_of_default_sessions():
    assert of_default_session("spread") == (256, 128_000, 12_800)
    assert of_default_session(FORAGING) == (64, 25_600, 6_400), "a tenth would pay for 25: too few for an error"
    assert of_default_session(WAREHOUSE) == (64, 128_000, 64_000)


def test_a_user_may_choose_another_share_or_the_number_itself():
    spec = make_task("spread", 1).spec

    def episodes(**evaluation) -> int:
        return branch_episodes(RunSettings(evaluation=evaluation), 125_000, spec)

    assert (episodes(), episodes(share=0.25), episodes(share=0.5)) == (256, 640, 1280)
    assert episodes(share=None) == 256 and episodes(share=None, episodes=100) == 100
    assert episodes(share=0.001) == 64 and episodes(share=0.001, episodes=16) == 16
    main = evaluated_for(RunSettings(), "main", 0, 640)
    assert main.evaluation.episodes == 256, "what all stages play stays as it is"
    assert {evaluated_for(RunSettings(), name, 0, 640).evaluation.episodes for name in ("screen", "confirm")} == {640}


def test_no_arm_of_a_comparison_has_other_episodes_than_another(tmp_path):
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03})) as session:
        session.propose("coverage_distance", "collisions")
        screens = [spec for name in ("control", "c1", "c2") for spec in _screened(session, name)]
        trials = [spec for name in ("control", "c1") for spec in confirm_specs(session.context, name, 0, 0, 3)]
        planned = branch_episodes(session.context.settings.run, session.context.branch_steps, session.context.task)
        assert {spec.run.evaluation.episodes for spec in (*screens, *trials)} == {planned}
        assert len({spec.run.held_out_seed for spec in trials}) == 6, "though each has its own"


def _screened(session: ScriptedSession, arm: str):
    return screen_specs(session.context, session.context.shaping_of(arm), 0)


@pytest.mark.parametrize(("of_candidate", "exact"), [(640, True), (64, True), (64 * 64, False)])
def test_the_level_holds_for_any_number_of_episodes_that_both_arms_have(of_candidate, exact):
    """Nothing differs: means of skewed episodes, no seed better than another. Unequal numbers are the control."""
    plan, runs, random = design(0.025, 6), 20_000, np.random.default_rng(1)
    of_control = of_candidate if exact else 64

    def means(episodes: int) -> np.ndarray:
        """``[runs, 6]``: means of so many exponential episodes."""
        return random.gamma(episodes, 1 / episodes, (runs, 6))

    passed, _ = ranked(plan.pass_at, plan.stop_at)(means(of_control), means(of_candidate))
    error = (plan.size * (1 - plan.size) / runs) ** 0.5
    found = float(passed.mean())
    assert abs(found - plan.size) < 4 * error if exact else found > 0.025 + 6 * error


def test_the_best_share_is_the_cheapest():
    row = Scatter("spread", "a parent", "progress", 20, 1.0, 100.0, 128_000, 50, 640)
    best = row.cost(row.episodes(row.best_share))
    assert row.best_share == pytest.approx(0.1976, abs=1e-4)
    assert all(row.cost(row.episodes(row.best_share * factor)) > best for factor in (0.5, 0.8, 1.25, 2.0))
    # Two branches of variance 0.5 are worth one of 0.25: twice the env steps, twice the variance.
    assert row.cost(100) == pytest.approx((128_000 + 5_000) * 2.0)
