"""The plot of a session: HEAD's curve over everything that was trained, and each decision where it was taken."""

from __future__ import annotations

import asyncio
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from learning_signal import run
from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.tables.curve import SessionCurve, session_curve
from learning_signal.viewer.reports.session_plot import draw
from tests.support.ledger_helpers import tamper
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole session in which a promotion is rolled back, with its sparse twin; only its training is synthetic."""
    settings = tiny_settings(tmp_path_factory.mktemp("plotted"), rounds=3, twin=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHETIC_WORLD", "regresses")
        asyncio.run(run_session(settings, observer=Recorder(), executor=InlinePool(settings.store)))
    return settings.ledger


@pytest.fixture(scope="module")
def curve(ledger: Path) -> SessionCurve:
    with Reader.open(ledger) as reader:
        return session_curve(reader, "latest")


def test_the_curve_ends_at_everything_that_was_trained(ledger: Path, curve: SessionCurve) -> None:
    with Reader.open(ledger) as reader:
        used, twin = reader.segments("latest"), reader.costs("latest").env_steps_twin
    assert curve.total_env_steps == sum(segment.cost for segment in used.values()) - twin and twin > 0
    steps = [env_steps for env_steps, _ in curve.points]
    assert steps == sorted(steps) and steps[-1] == curve.total_env_steps


def test_every_decision_is_where_it_was_taken(ledger: Path, curve: SessionCurve) -> None:
    with Reader.open(ledger) as reader:
        decided = [(each.round, each.action) for each in reader.decisions("latest")]
    assert [(each.round, each.action) for each in curve.decisions] == decided
    assert decided[:2] == [(1, "promote"), (2, "roll_back")]
    assert all(0 < each.begin <= each.end <= curve.total_env_steps for each in curve.decisions)
    assert curve.decisions[0].begin < curve.decisions[0].end, "the branches of a round take env steps"


def test_a_roll_back_returns_to_the_return_before_the_promotion(ledger: Path, curve: SessionCurve) -> None:
    with Reader.open(ledger) as reader:
        undone = next(each for each in reader.decisions("latest") if each.action == "roll_back")
        before = reader.evaluations("latest", undone.segment_to, "report")[-1].sparse_return
    shown = next(each for each in curve.decisions if each.action == "roll_back")
    values = [value for steps, value in curve.points if steps == shown.end]
    # The end of the stage that regressed, where HEAD went back to, and where the next stage begins.
    assert values[1:] == [before, before]


def test_the_curve_is_measured_on_one_set_of_episodes(ledger: Path, curve: SessionCurve, tmp_path: Path) -> None:
    assert curve.episode_set == "report" and "confirm episodes" not in draw(curve)
    older = tmp_path / "older.db"
    older.write_bytes(ledger.read_bytes())
    with Reader.open(ledger) as reader:
        first = reader.main_run("latest")[0].segment.id
    tamper(older, "UPDATE evaluations SET sparse_return = 7 WHERE episode_set = 'confirm'")
    with Reader.open(older) as reader:
        assert session_curve(reader, "latest") == curve, "nothing of it is measured on confirm episodes"
    tamper(older, f"DELETE FROM evaluations WHERE episode_set = 'report' AND segment_id = '{first}'")
    with Reader.open(older) as reader:  # a part of it was trained by an earlier version
        mixed = session_curve(reader, "latest")
    assert mixed.episode_set == "confirm" and "sparse return (confirm episodes)" in draw(mixed)
    assert {value for _, value in mixed.points} == {7}


def test_the_plot_is_svg_with_a_mark_for_every_decision(curve: SessionCurve) -> None:
    drawn = ET.fromstring(draw(curve))
    texts = [element.text for element in drawn.iter(f"{SVG}text")]
    for decision in curve.decisions:
        assert any(f"R{decision.round} {decision.action.replace('_', ' ')}" in (text or "") for text in texts)
    (line,) = drawn.iter(f"{SVG}polyline")
    places = [tuple(map(float, pair.split(","))) for pair in line.get("points", "").split()]
    assert len(places) == len(curve.points) and all(0 <= x <= 720 and 0 <= y <= 260 for x, y in places)


def test_what_a_log_says_stays_text(curve: SessionCurve) -> None:
    """A title of somebody else's log cannot become markup of the picture."""
    hostile = SessionCurve('<script>alert(1)</script> "&\x1b[31m', (), (), (), 0)
    drawn = ET.fromstring(draw(hostile))
    assert not list(drawn.iter(f"{SVG}script")) and not list(drawn.iter(f"{SVG}polyline"))


def test_the_command_writes_the_file(ledger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "new" / "curve.svg"
    assert run.run(["log", "plot", "latest", "--ledger", str(ledger), "--to", str(to), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(to)
    assert ET.parse(to).getroot().tag == f"{SVG}svg"
    assert run.run(["log", "plot", "--ledger", str(ledger)]) == 0
    assert len(list(ledger.parent.glob("*/curve.svg"))) == 1
