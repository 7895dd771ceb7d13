"""Forecasts are scored by what was measured: Brier score and calibration, by agent and backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.forecasts import UNINFORMED, Forecast, forecasts_of, measured, records_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import tamper
from tests.support.recorded_ledger import RECORDED_ID


def forecast(probability: float, difference: float | None, backend: str = "rules") -> Forecast:
    by = None if difference is None else "screen"
    return Forecast("s", 1, "c1", "generator", backend, "progress", 0.01, probability, difference, by)


def compared(purpose: str, control: list[float | None], c1: list[float | None], **more: object) -> ComparisonRow:
    """A comparison of c1 of round 1 in progress; the sparse returns say the opposite."""
    arms = {
        arm: [{"progress": each, "sparse_return": None if each is None else -each} for each in values]
        for arm, values in (("control", control), ("c1", c1))
    }
    made = {"round": 1, "refinement": 0, "candidate_id": "s/P1.0/c1" if purpose == "confirm" else None} | more
    return ComparisonRow(
        id="s/C1", session_id="s", purpose=purpose, event_seq=1, inputs={"arms": arms}, result={}, settings={},
        code_version="0", **made,
    )  # fmt: skip


def found(*comparisons: ComparisonRow, measure: str = "progress") -> tuple[float | None, str | None]:
    difference, by = measured(comparisons, "s/P1.0/c1", (1, 0), measure)
    return None if difference is None else pytest.approx(difference), by


# what was measured ----------------------------------------------------------------------------


def test_a_confirmation_says_what_came_true_and_without_one_the_screen():
    screen, confirmed = compared("screen", [0.1], [0.3]), compared("confirm", [0.2, 0.2], [0.1, 0.2])
    assert found(screen) == (0.2, "screen")
    assert found(screen, confirmed) == found(confirmed, screen) == (-0.05, "confirm")
    assert found(screen, measure="sparse_return") == (-0.2, "screen"), "in the measure that was forecast"
    later = compared("screen", [0.1, 0.1], [0.1, 0.2])  # a further rung or seed of the same screen
    assert found(screen, later) == (0.05, "screen")


def test_what_was_not_compared_is_not_measured():
    assert found() == (None, None)
    assert found(compared("screen", [0.1, 0.1], [0.3, None])) == (None, None), "its second branch failed"
    assert found(compared("screen", [None], [0.3])) == (None, None), "the control's only branch failed"
    assert found(compared("screen", [None, 0.1], [0.9, 0.3])) == (0.2, "screen"), "of the pair that there is"
    assert found(compared("screen", [0.1], [])) == (None, None)
    assert found(compared("probation", [0.1], [0.3])) == (None, None)
    for elsewhere in ({"round": 2}, {"refinement": 1}):
        assert found(compared("screen", [0.1], [0.3], **elsewhere)) == (None, None), "another candidate of this name"
    other = compared("confirm", [0.1], [0.3], candidate_id="s/P1.0/c2")
    assert found(other, compared("screen", [0.2], [0.1])) == (-0.1, "screen")


# the score ------------------------------------------------------------------------------------


def test_the_brier_score_is_the_mean_squared_error_of_the_probabilities():
    (record,) = records_of([forecast(0.9, 0.1), forecast(0.2, 0.1), forecast(0.6, -0.1), forecast(0.5, 0.0)])
    assert record.brier == pytest.approx((0.01 + 0.64 + 0.36 + 0.25) / 4)  # a difference of 0 is not above 0
    assert (record.n, record.unscored) == (4, 0)


def test_always_saying_half_scores_a_quarter_and_knowing_better_less():
    differences = [0.1, -0.1, 0.2, 0.3]
    (half,) = records_of([forecast(0.5, each) for each in differences])
    assert half.brier == UNINFORMED
    (right,) = records_of([forecast(0.9 if each > 0 else 0.1, each) for each in differences])
    (wrong,) = records_of([forecast(0.1 if each > 0 else 0.9, each) for each in differences])
    assert right.brier < UNINFORMED < wrong.brier


def test_what_was_not_compared_is_not_scored_and_counts_as_such():
    scored = [forecast(0.9, 0.1), forecast(0.8, -0.1)]
    (record,), (more,) = records_of(scored), records_of([*scored, forecast(1.0, None), forecast(0.0, None)])
    assert more == replace(record, unscored=2)
    (nothing,) = records_of([forecast(1.0, None)])
    assert (nothing.n, nothing.unscored, nothing.brier, nothing.calibration) == (0, 1, None, ())
    assert records_of([]) == []


def test_calibration_is_what_was_said_against_what_came_true():
    said = [(0.0, -1), (0.2, 1), (1 / 3, 1), (0.5, 1), (2 / 3, -1), (1.0, 1)]
    (record,) = records_of([forecast(*each) for each in said])
    assert [(each.n, each.share_true) for each in record.calibration] == [(2, 0.5), (2, 1.0), (2, 0.5)]
    means = [each.mean_probability for each in record.calibration]
    assert means == pytest.approx([0.1, (1 / 3 + 0.5) / 2, (2 / 3 + 1) / 2])
    (sure,) = records_of([forecast(0.9, 0.1)])
    assert [each.n for each in sure.calibration] == [1], "an empty bin is left out"


def test_every_backend_has_a_record_of_its_own():
    one, other = records_of([forecast(0.9, 0.1), forecast(0.9, -0.1, "openai/gpt-4.1"), forecast(0.7, 0.1)])
    assert (one.backend, one.n, other.backend, other.n) == ("rules", 2, "openai/gpt-4.1", 1)
    assert one.brier == pytest.approx((0.01 + 0.09) / 2) and other.brier == pytest.approx(0.81)


# a session ------------------------------------------------------------------------------------


def test_the_forecasts_of_a_session_are_scored_by_its_rows(recorded: Reader):
    forecasts = forecasts_of(recorded, RECORDED_ID)
    first = {each.candidate: each for each in forecasts if each.round == 1}
    assert (first["c1"].measured_by, first["c2"].measured_by, first["c3"].measured_by) == ("confirm", "screen", None)
    assert first["c3"].came_true is None, "its worker died"
    confirmed = next(each for each in recorded.comparisons() if each.purpose == "confirm")
    assert first["c1"].difference == pytest.approx(confirmed.result["mean_difference"]) and first["c1"].came_true
    assert {(each.role, each.backend) for each in forecasts} == {("generator", "rules")}
    (record,) = records_of(forecasts)
    scored = [each for each in forecasts if each.difference is not None]
    assert (record.n, record.unscored) == (len(scored), len(forecasts) - len(scored)) and record.unscored
    told = {each.name: (each.difference, each.measured_by) for each in explain(recorded, "R1").candidates}
    assert told == {name: (each.difference, each.measured_by) for name, each in first.items()}


def test_a_forecast_belongs_to_the_backend_that_made_it(written: Ledger):
    with Reader.open(written.path) as reader:
        at = {row["round"]: row["started_at"] for row in reader.events(kind="proposal") for row in [vars(row)]}
    with written.transaction("another backend"):
        (row,) = [each for each in written.find("agents", session_id=RECORDED_ID) if each["role"] == "generator"]
        written.add("agents", **row | {"spec": "openai/gpt-4.1", "since": at[3]})
    with Reader.open(written.path) as reader:
        made = [(each.round, each.backend) for each in forecasts_of(reader, "latest")]
        one, other = records_of(forecasts_of(reader, "latest"))
    assert set(made) == {(1, "rules"), (2, "rules"), (3, "openai/gpt-4.1")}
    assert one.n + one.unscored + other.n + other.unscored == len(made)


def test_another_outcome_gives_another_score(written: Ledger):
    """Negative control: the score is of the rows."""
    with Reader.open(written.path) as reader:
        (before,) = records_of(forecasts_of(reader, "latest"))
    tamper(written.path, "UPDATE candidates SET forecast_probability = 1 - forecast_probability")
    with Reader.open(written.path) as reader:
        (after,) = records_of(forecasts_of(reader, "latest"))
    assert after.n == before.n and after.brier != pytest.approx(before.brier)
