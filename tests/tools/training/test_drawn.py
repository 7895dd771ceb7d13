"""What a page draws of a session: shapings over the task, episodes from checkpoints, and what is missing."""

from __future__ import annotations

import shutil
from unittest import mock

import numpy as np
import pytest

from learning_signal.ledger.read.reader import Reader
from learning_signal.marl.errors import UnknownTask
from learning_signal.marl.shaping import Potential, ShapingConfig
from learning_signal.marl.tasks import make_task
from learning_signal.tools.consent import Consent
from learning_signal.tools.training.drawn import BEFORE, drawings
from tests.support.promoted_policies import stored_policies
from tests.support.recorded_ledger import recorded_ledger


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    with Reader.open(recorded_ledger(tmp_path_factory.mktemp("ledger") / "ledger.db")) as opened:
        yield opened


def test_promotions_have_episodes_and_every_round_its_shapings(reader, tmp_path):
    with stored_policies(reader, tmp_path / "store"):
        drawn = drawings(reader)
    assert drawn["note"] is None and list(drawn["rounds"]) == [1, 2, 3, 4]
    first, second = drawn["rounds"][1], drawn["rounds"][2]
    assert BEFORE not in first["fields"] and BEFORE in second["fields"], "nothing was shaped before round 1"
    assert len(first["fields"]) == 3 and second["episodes"] is None and second["note"] is None
    median = first["episodes"]["pairs"][0]
    assert median["before"]["scene"]["places"] != median["after"]["scene"]["places"]
    assert drawn["rounds"][3]["episodes"]["pairs"][0]["after"]["curves"].keys() >= {"Phi", "-1.2*collisions (team)"}


def test_a_field_of_a_candidate_is_its_phi_around_the_start_that_is_drawn(reader):
    drawn = drawings(reader)
    candidate = next(each for each in reader.decisions("latest") if each.action == "promote").candidate_id
    field, scene = drawn["rounds"][1]["fields"][candidate], drawn["start"]
    shaping = ShapingConfig.parse(reader.decisions("latest")[0].shaping_to)
    others = [shape[1:3] for shape in scene["shapes"] if shape[4] == "agent"][1:]
    cell = field["cell"] * (np.stack(np.divmod(np.arange(len(field["values"][0])), field["columns"])[::-1]) + 0.5)
    touching = sum(np.hypot(cell[0] - x, cell[1] - y) < 0.3 for x, y in others)
    apart = float(np.hypot(*np.subtract(*others)) < 0.3)
    assert shaping.terms[0].potential == "collisions"
    assert Potential(shaping, make_task("spread", 1).spec).expressions[0].names == ("collisions",)
    assert field["values"][0] == pytest.approx(-1.2 * (touching + apart), abs=1e-6)
    assert touching.max() > 0


def test_what_the_store_has_no_more_is_said_and_the_rest_is_drawn(reader, tmp_path):
    with stored_policies(reader, tmp_path / "store") as store:
        gone = reader.decisions("latest")[0].segment_to
        shutil.rmtree(store / gone)
        (store / reader.decisions("latest")[2].segment_to / "checkpoint.pt").write_bytes(b"no checkpoint")
        drawn = drawings(reader)
    missing, broken = drawn["rounds"][1], drawn["rounds"][3]
    assert missing["episodes"] is None and missing["fields"]
    assert gone in missing["note"] and str(store) in missing["note"]
    assert broken["episodes"] is None and "cannot be read" in broken["note"]


def test_an_environment_that_came_with_the_log_runs_only_where_it_is_named(reader):
    foreign = "tests.support.foreign_environments:TASK"
    config = reader.config("latest") | {"run": reader.config("latest")["run"] | {"task": foreign}}
    with (
        mock.patch.object(Reader, "config", lambda *_: config),
        mock.patch("learning_signal.marl.behaviour.drawn.scene.make_task") as make,
    ):
        note = drawings(reader)["note"]
        assert "came with this log" in note and "--env" in note
        make.assert_not_called()
        make.side_effect = UnknownTask("It was asked for.")
        assert drawings(reader, consent=Consent(env=foreign))["note"] == "Nothing is drawn: It was asked for."


def test_a_session_of_another_version_is_not_drawn(reader):
    with mock.patch.object(Reader, "config", lambda *_: {"run": "something else"}):
        assert "another version" in drawings(reader)["note"]
