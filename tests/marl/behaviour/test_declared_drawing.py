"""The drawing that an environment of a user declares: shown as it is, refused where it cannot be, played on a page."""

from __future__ import annotations

import numpy as np
import pytest

from learning_signal.marl.behaviour.drawn.episodes import side_by_side
from learning_signal.marl.errors import EnvironmentFailed
from learning_signal.marl.segments.points import seeds_of
from learning_signal.marl.shaping import ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.marl.tasks.foreign.contract import check_environment
from tests.marl.behaviour.test_drawn import recorded, run_of
from tests.support import drawn_environment

HOME = "tests.support.drawn_environment"


def test_it_is_what_play_and_the_page_show():
    name = f"{HOME}:TASK"
    shaping = ShapingConfig.parse({"terms": [{"potential": "left", "weight": -1.0, "scope": "team"}], "beta": 1.0})
    record = recorded(name)
    drawn = side_by_side(run_of(name), make_task(name, 1).spec, record, record, shaping)
    assert drawn.note is None and drawn.pairs[0].after.fields is None, "agents have no declared places"
    for pair in drawn.pairs:
        scene, task = pair.after.scene, make_task(name, 1)
        task.reset(seeds_of(run_of(name), "query")[pair.episode : pair.episode + 1])
        assert len(scene.frames) == pair.after.steps + 1 > 1
        for step, frame in enumerate(scene.frames):
            if step:
                task.step(np.maximum(record.actions[step - 1, pair.episode], 0).astype(np.int64)[None])
            shown = task.draw(0)
            assert shown == drawn_environment.draw(task._copies._members[0].env)
            assert [scene.shapes[each] for each in frame] == [
                (each.kind, each.x, each.y, each.size, each.colour, each.label) for each in shown.shapes
            ]
            assert scene.captions[step] == shown.caption == f"step {step}"


def test_without_one_the_curves_are_all_there_is():
    name = f"{HOME}:UNDRAWN"
    record = recorded(name)
    drawn = side_by_side(run_of(name), make_task(name, 1).spec, record, record, ShapingConfig.none())
    assert "declares no drawing" in drawn.note
    assert drawn.pairs[0].after.scene is None and list(drawn.pairs[0].after.curves) == ["sparse return"]


@pytest.mark.parametrize(
    ("name", "words"), [("PAINTED", "pink"), ("NOWHERE", "nan"), ("WORDS", "a str"), ("EMPTY", "0 x 1")]
)
def test_a_drawing_that_cannot_be_drawn_is_one_sentence(name, words):
    task = make_task(f"{HOME}:{name}", 1)
    task.reset(np.array([1], np.uint64))
    with pytest.raises(EnvironmentFailed, match=rf"draw of {HOME}:{name} gave .*{words}.* expected "):
        task.draw(0)
    assert any(each.level == "error" and "draw of" in each.message for each in check_environment(f"{HOME}:{name}", 2))


def test_a_sound_one_passes_the_check():
    assert not [each for each in check_environment(f"{HOME}:TASK", 2) if each.level == "error"]
