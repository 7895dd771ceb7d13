"""Recorded episodes as plain numbers to draw: positions, Phi over places, curves; refused where they do not repeat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learning_signal.marl.behaviour.drawn.episodes import curves_of, side_by_side
from learning_signal.marl.behaviour.drawn.scene import NotTheSame, fields_of, spaced, step_again
from learning_signal.marl.learners import make_learner
from learning_signal.marl.learners.weights import named_weights
from learning_signal.marl.segments.evaluation import Evaluator
from learning_signal.marl.segments.points import seeds_of
from learning_signal.marl.settings import EvaluationSettings, LearnerSettings, RunSettings
from learning_signal.marl.shaping import Potential, ShapingConfig
from learning_signal.marl.tasks import make_task

SHAPED = {
    "spread": ("coverage_distance", "nearest_landmark_distance"),
    "pursuit": ("nearest_distance", "distance_to_evader"),
    "Foraging-8x8-2p-2f-coop-v3": ("team_distance", "nearest_food_distance"),
    "rware-tiny-2ag-easy-v2": ("requests_held", "pickup_distance"),
    "overcooked?layout=asymmetric_advantages": ("spacing", "onion_distance"),
}


def run_of(task: str) -> RunSettings:
    return RunSettings(task=task, learner=LearnerSettings(hidden=(8,)), evaluation=EvaluationSettings(episodes=3))


def recorded(task: str, *, other: bool = False):
    """The query episodes of a policy that has learned nothing, or of another that is as clueless and surer."""
    run, made = run_of(task), make_task(task, 3)
    learner = make_learner(made.spec, run.learner, 0)
    if other:
        for weights in named_weights(learner.policy).values():
            weights.mul_(30.0)
    _, record = Evaluator(run, made, ("query",)).evaluate(learner.policy, 0, record=True)
    return record


def shaping_of(task: str) -> ShapingConfig:
    team, agent = SHAPED[task]
    terms = [
        {"potential": team, "weight": -1.0, "scope": "team"},
        {"potential": agent, "weight": -0.5, "scope": "agent"},
    ]
    return ShapingConfig.parse({"terms": terms, "beta": 1.0})


@pytest.fixture(scope="module")
def records():
    return {task: recorded(task) for task in SHAPED}


@pytest.mark.parametrize("name", SHAPED)
def test_what_is_drawn_is_what_the_environment_showed_at_that_step(name, records):
    record, seed = records[name], seeds_of(run_of(name), "query")[1]
    scene = step_again(name, record, 1, seed)
    task, length = make_task(name, 1), int(record.lengths[1])
    task.reset(np.array([seed]))
    assert scene.steps[0] == 0 and scene.steps[-1] == length
    for place, step in enumerate(scene.steps):
        if step:
            task.step(record.actions[step - 1, 1].astype(np.int64)[None])
        drawn, shown = [scene.shapes[each] for each in scene.frames[place]], task.draw(0)
        assert [each[0] for each in drawn] == [each.kind for each in shown.shapes]
        assert [each[4:] for each in drawn] == [(each.colour, each.label) for each in shown.shapes]
        where = np.array([(each.x, each.y, each.size) for each in shown.shapes])
        assert np.abs(np.array([each[1:4] for each in drawn]) - where).max() < 1e-4
        assert scene.captions[place] == shown.caption
        assert np.abs(np.array(scene.places[place]) - task.places(0)[0]).max() < 1e-4


@pytest.mark.parametrize("name", SHAPED)
def test_phi_of_a_cell_is_the_potential_of_an_agent_there(name, records):
    record, seed = records[name], seeds_of(run_of(name), "query")[2]
    potential = Potential(shaping_of(name), make_task(name, 1).spec)
    fields = fields_of(name, record, 2, seed, potential)
    assert len(fields.steps) > 20
    place = len(fields.steps) // 2
    task = make_task(name, 1)
    task.reset(np.array([seed]))
    for step in range(fields.steps[place]):
        task.step(record.actions[step, 2].astype(np.int64)[None])
    cells = range(0, len(fields.values[place]), 4)
    for cell in cells:
        features, can_be = task.features_at(0, task.ground.middles()[[cell]])
        value = fields.values[place][cell]
        assert (value is None) == (not can_be[0])
        if value is not None:
            assert value == pytest.approx(float(potential(features)[0, 0]), rel=1e-4)
    assert len({fields.values[place][cell] for cell in cells}) > 3


@pytest.mark.parametrize("name", ["Foraging-8x8-2p-2f-coop-v3", "rware-tiny-2ag-easy-v2"])
def test_where_the_agent_is_on_a_board_its_field_is_its_phi(name, records):
    record, seed, spec = records[name], seeds_of(run_of(name), "query")[0], make_task(name, 1).spec
    potential = Potential(shaping_of(name), spec)
    scene, fields = step_again(name, record, 0, seed), fields_of(name, record, 0, seed, potential)
    for step, values in zip(fields.steps, fields.values, strict=True):
        x, y = scene.places[scene.steps.index(step)]
        phi = potential({each: values[step, :1] for each, values in record.features.items()})[0, 0]
        assert values[int(y) * fields.columns + int(x)] == pytest.approx(float(phi), rel=1e-4)


def test_curves_are_phi_and_its_terms_of_the_recorded_features(records):
    record, shaping = records["spread"], shaping_of("spread")
    curves = curves_of(record, 1, Potential(shaping, make_task("spread", 1).spec))
    coverage, nearest = (record.features[each][:, 1].astype(float) for each in SHAPED["spread"])
    assert list(curves) == [
        "sparse return",
        "progress",
        "Phi",
        "-1.0*coverage_distance (team)",
        "-0.5*nearest_landmark_distance (agent)",
    ]
    assert curves["-1.0*coverage_distance (team)"] == pytest.approx(-coverage, rel=1e-4)
    assert curves["Phi"] == pytest.approx(-coverage - 0.5 * nearest.mean(axis=1), rel=1e-4)
    assert curves["sparse return"][-1] == pytest.approx(record.sparse_returns[1])
    alone = ShapingConfig.parse({"terms": shaping.model_dump()["terms"][:1], "beta": 1.0})
    only = curves_of(record, 1, Potential(alone, make_task("spread", 1).spec))
    assert list(only)[2:] == ["Phi = -1.0*coverage_distance (team)"]


def test_both_sides_are_the_same_episodes_chosen_by_what_came_after():
    name, after = "Foraging-8x8-2p-2f-coop-v3", recorded("Foraging-8x8-2p-2f-coop-v3", other=True)
    after = replace(after, sparse_returns=np.array([0.5, 0.0, 0.2]))
    drawn = side_by_side(run_of(name), make_task(name, 1).spec, recorded(name), after, shaping_of(name))
    assert [(each.rank, each.episode) for each in drawn.pairs] == [("median", 2), ("best", 0), ("worst", 1)]
    assert drawn.note is None and drawn.after == pytest.approx(0.7 / 3)
    for pair in drawn.pairs:
        starts = [[side.scene.shapes[each] for each in side.scene.frames[0]] for side in (pair.before, pair.after)]
        assert starts[0] == starts[1] and pair.before.scene.places != pair.after.scene.places


def test_an_episode_that_does_not_repeat_is_not_drawn(records):
    record = records["spread"]
    other = replace(record, actions=(record.actions + 1) % 5)
    with pytest.raises(NotTheSame, match="Played again, .* at step [12] is .* was recorded"):
        step_again("spread", other, 0, seeds_of(run_of("spread"), "query")[0])
    drawn = side_by_side(run_of("spread"), make_task("spread", 1).spec, record, other, shaping_of("spread"))
    assert "was recorded" in drawn.note and drawn.pairs[0].after.scene is None and drawn.pairs[0].after.curves


def test_long_episodes_are_drawn_at_evenly_spaced_steps():
    assert spaced(25, 601) == tuple(range(26))
    assert spaced(1000, 601) == tuple(range(0, 1001, 2))
    assert spaced(7, 4) == (0, 3, 6, 7)
