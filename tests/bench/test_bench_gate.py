"""The gate's benchmarks: the rules they compare, on drawn scores, and the commands, on tiny branches."""

from __future__ import annotations

import json
import sys
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest

from bench import branch_length
from bench import gate as bench_gate
from bench.support import branch_order
from bench.support.readme import put
from bench.support.trials import (
    BAD,
    CASES,
    CLONE,
    CONTROL,
    GOOD,
    Null,
    Offer,
    Score,
    draw,
    scores,
    share_interval,
    simulate,
    usual,
    verdict,
)
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.segments.records import Evaluation

GATE = GateSettings()
CASE = CASES["spread"]
BASE, DEVIATION = 5.0, 1.0
"""Above the competence floor of `spread` (0.5), where 3 % of the maximum are 0.75 deviations."""


def score(sparse: float | None, progress: float | None = None) -> Score:
    return Score(Measure(sparse_return=sparse, progress=progress))


def value(score: Score) -> float:
    return score.measure.sparse_return


def found(null: int, offered: int, effect: float) -> dict[tuple[str, str], bench_gate.Row]:
    """The rows of a simulation."""
    nulls, offers = simulate(max(null, offered), effect, DEVIATION, BASE, GATE, seed=1)
    rows = bench_gate.report(CASE, nulls[:null], offers[:offered], GATE, 2).rows
    return {(row.scenario, row.rule): row for row in rows}


def passes(control, candidate) -> bool:
    return verdict(control, candidate, CASE.max_return, GATE).outcome == "pass"


# --- the rules, on drawn scores ---


def test_where_nothing_differs_the_gate_errs_within_alpha_and_usual_practice_far_more_often() -> None:
    rows = found(400, 20, effect=2.0)
    row = rows["nothing differs", "this gate"]
    assert row.trials == 400 and row.interval[0] <= 2**-5 <= row.interval[1] and row.rate <= GATE.alpha
    usual_rate, without = (rows["nothing differs", rule].rate for rule in ("usual practice", "usual, without the 3 %"))
    assert rows["nothing differs", "usual practice"].trials == 800
    assert usual_rate > 0.4 and without == pytest.approx(0.75, abs=0.05), "one of four equals is best"
    assert row.met and rows["offered bad", "this gate"].count == 0


def test_power_grows_with_the_effect() -> None:
    rates = [found(0, 60, effect)["offered three: the good one", "this gate"].rate for effect in (0.5, 1.5, 4.0)]
    assert rates[0] < rates[1] < rates[2] and rates[2] > 0.95


@pytest.mark.parametrize("bug", ["confirms on the screen's seeds", "repeats a seed that was bad"])
def test_a_planted_bug_raises_the_error_rate(bug: str) -> None:
    """Negative control: the trials see what a wrong gate does."""
    rng, trials, false = np.random.default_rng(2), 200, 0
    names = {CONTROL: 0.0, **{f"clone {index}": 0.0 for index in range(6)}}
    settings = GATE.model_copy(update={"screen_seeds": GATE.confirm_seeds})
    for _ in range(trials):
        screen, first, second = (draw(rng, names, GATE.confirm_seeds, DEVIATION, BASE) for _ in range(3))
        confirm = screen
        if bug == "repeats a seed that was bad":
            confirm = {
                name: arm if name == CONTROL else [max(pair, key=value) for pair in zip(arm, second[name], strict=True)]
                for name, arm in first.items()
            }
        false += Offer(screen, confirm).promoted(CASE.max_return, settings) is not None
    assert share_interval(false, trials)[0] > GATE.alpha


def test_a_screen_of_clones_does_not_change_the_error_rate_of_fresh_seeds() -> None:
    """Why null trials need no screen."""
    rng, trials = np.random.default_rng(3), 300
    names = {CONTROL: 0.0, "a": 0.0, "b": 0.0, "c": 0.0}
    false = sum(
        Offer(
            *(draw(rng, names, seeds, DEVIATION, BASE) for seeds in (GATE.screen_seeds, GATE.confirm_seeds))
        ).promoted(CASE.max_return, GATE)
        is not None
        for _ in range(trials)
    )
    low, high = share_interval(false, trials)
    assert low <= 2**-5 <= high


def test_usual_practice_takes_the_best_single_run_if_it_clears_the_margin() -> None:
    three = {"a": score(1.0), "b": score(1.9, 0.3), "c": score(None)}
    assert usual(score(1.0, 0.2), three, max_return=25.0) == "b"
    assert usual(score(1.2, 0.2), three, max_return=25.0) is None, "0.7 is less than 3 % of 25"
    assert usual(score(1.2, 0.2), three, max_return=25.0, margin=0.0) == "b"
    assert usual(score(9.0, 0.2), three, max_return=25.0, measure="progress") == "b"
    assert usual(score(None), three, max_return=25.0) is None and usual(score(1.0), {"a": score(None)}, 25.0) is None


def test_below_the_floor_progress_is_judged() -> None:
    better = [score(0.01, 0.2 + index / 100) for index in range(5)]
    assert passes([score(0.01, 0.1)] * 5, better) and not passes(better, [score(0.01, 0.1)] * 5)
    assert not passes([score(0.01)] * 5, [score(0.02)] * 5), "no progress is declared: inconclusive"
    assert not passes([score(1.0)] * 5, [score(2.0)] * 4 + [score(None)]), "a failed candidate never passes"


def test_the_interval_is_clopper_and_pearsons() -> None:
    assert share_interval(5, 120) == pytest.approx((0.0137, 0.0946), abs=1e-4)
    assert share_interval(0, 10)[0] == 0.0 and share_interval(10, 10)[1] == 1.0


# --- the branches of a trial ---


def test_no_branch_serves_two_null_trials_and_a_clone_has_seeds_of_its_own() -> None:
    wanted = [spec for trial in range(8) for spec, _ in bench_gate.null_branches(CASE, trial, GATE)]
    assert len({spec.id for spec in wanted}) == len(wanted) == 8 * 2 * GATE.confirm_seeds
    assert len({spec.parent for spec in wanted}) == len(CASE.parents)
    for spec in wanted:
        assert spec.shaping in (parent.shaping for parent in CASE.parents) and spec.env_steps == 128_000


def test_offered_arms_share_their_seeds_and_confirmation_has_fresh_ones() -> None:
    wanted = list(bench_gate.offer_branches(CASE, 1, GATE))
    screen = [spec for spec, name in wanted if name == "screen"]
    confirm = [spec for spec, name in wanted if name == "confirm"]
    assert len(screen) == 4 * 2 and len(confirm) == 3 * 5 and len({spec.id for spec, _ in wanted}) == 23
    seeds = [spec.seed for spec in screen]
    assert seeds[:2] == seeds[2:4] == seeds[4:6] and not {*seeds[:2]} & {*seeds[6:]}
    assert not {*seeds} & {spec.seed for spec in confirm} and screen[0].env_steps * 2 == confirm[0].env_steps
    clone = [spec for spec, _ in bench_gate.clone_branches(CASE, 1, GATE)]
    assert clone[0].shaping == confirm[0].shaping and not {spec.seed for spec in clone} & {s.seed for s in confirm}


class _Pool:
    """Answers every segment with the same error."""

    worker_count = 1

    def __init__(self, error: Exception) -> None:
        self.error = error

    def submit(self, spec) -> Future:
        future: Future = Future()
        future.set_exception(self.error)
        return future


def test_a_failed_branch_measures_nothing_and_a_failed_machine_ends_the_run() -> None:
    wanted = [(CASE.branch(CASE.parents[0], CASE.good, seed), "confirm") for seed in (1, 2)]
    found = scores(_Pool(SegmentFailed("it diverged", env_steps=3)), wanted)
    assert [(each.measure.sparse_return, each.env_steps) for each in found] == [(None, 3)] * 2
    with pytest.raises(SegmentImpossible):
        scores(_Pool(SegmentImpossible("the disk is full")), wanted)


def test_only_what_stands_between_the_markers_is_replaced(tmp_path) -> None:
    page = tmp_path / "README.md"
    page.write_text("a\n<!-- gate: begin -->\nold\n<!-- gate: end -->\nb\n")
    put("new", "gate", page)
    assert page.read_text() == "a\n<!-- gate: begin -->\nnew\n<!-- gate: end -->\nb\n"
    with pytest.raises(ValueError, match="branch_steps: begin"):
        put("new", "branch_steps", page)


# --- the branch_length, on drawn runs ---


def runs(field: branch_order.Field, noise: float, turn: bool, seed: int = 0) -> list[dict[str, list[branch_order.Run]]]:
    """Arms whose sparse returns keep their order, or with ``turn`` reverse it after two units."""
    rng, table = np.random.default_rng(seed), []
    marks = [field.unit * quarter // 16 for quarter in range(1, 17)] + [field.unit * q // 4 for q in range(5, 41)]
    for _ in field.parents:
        table.append(
            {
                name: [
                    branch_order.Run(
                        tuple(
                            Evaluation(
                                env_steps=mark,
                                set="confirm",
                                progress=None,
                                sparse_returns=tuple(
                                    (
                                        1.0
                                        + mark / field.unit * (-arm if turn and mark > 2 * field.unit else arm)
                                        + noise * rng.standard_normal(),
                                    )
                                    * 2
                                ),
                            )
                            for mark in marks
                        ),
                        0,
                        10 * field.unit,
                        1.0,
                    )
                    for _ in range(3)
                ]
                for arm, name in enumerate(field.shapings)
            }
        )
    return table


def test_an_order_that_lasts_is_predicted_by_the_shortest_branch() -> None:
    field = branch_order.FIELDS["spread"]
    rows = branch_order.rows(field, runs(field, 0.0, turn=False), resamples=50)
    assert [row.branch_steps for row in rows] == [32_000, 64_000, 128_000, 256_000]
    assert all(row.rho == pytest.approx((1.0, 1.0)) and row.tau == pytest.approx(1.0) for row in rows)
    assert [row.recommended for row in rows] == [True, False, False, False]
    assert rows[2].env_steps == 14 * 128_000 and rows[2].judged_on == "sparse_return" and rows[2].same_side == 1.0


def test_an_order_that_turns_is_not_predicted() -> None:
    """Negative control."""
    field = branch_order.FIELDS["spread"]
    rows = branch_order.rows(field, runs(field, 0.0, turn=True), resamples=50)
    assert rows[0].rho[1] == pytest.approx(-1.0) and rows[0].same_side == 0.0
    assert not any(row.recommended for row in rows)


def test_a_branch_length_that_is_mostly_noise_is_not_recommended() -> None:
    field = branch_order.FIELDS["spread"]
    rows = branch_order.rows(field, runs(field, 0.8, turn=False), resamples=200)
    assert rows[0].rho[1] < rows[3].rho[1] and not rows[0].recommended


def test_rank_correlation_of_a_constant_is_unknown() -> None:
    assert np.isnan(branch_order.spearman(np.ones(3), np.arange(3.0)))
    assert branch_order.spearman(np.array([1.0, 5.0, 9.0]), np.array([0.0, 2.0, 7.0])) == pytest.approx(1.0)


@pytest.mark.parametrize("task", list(CASES))
def test_each_parent_s_own_shaping_is_among_those_compared(task: str) -> None:
    field = branch_order.FIELDS[task]
    assert [branch_order.control_of(field, parent) for parent in field.parents] == [0, 1 if task == "spread" else 0]
    assert len({config.hash() for config in field.shapings.values()}) == 8


# --- the commands ---


@pytest.mark.slow
@pytest.mark.parametrize(("module", "key"), [(bench_gate, "rows"), (branch_length, "rho")])
def test_the_commands_run(module, key: str, monkeypatch, capsys, tmp_path) -> None:
    arguments = ["--quick", "--tasks", "spread", "--store", str(tmp_path), "--workers", "1"]
    arguments += ["--null", "1", "--offers", "1"] if module is bench_gate else ["--seeds", "2"]
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments, "--json"])
    module.main()
    assert key in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (bench_gate, ["--quick", "--write"], "measures nothing worth writing"),
        (bench_gate, ["--null", "0", "--offers", "0"], "expected --null or --offers above 0"),
        (branch_length, ["--quick", "--write"], "measures nothing worth writing"),
        (branch_length, ["--seeds", "1"], "expected at least 2"),
    ],
)
def test_wrong_arguments_are_refused(module, arguments: list[str], said: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments])
    with pytest.raises(SystemExit):
        module.main()
    assert said in capsys.readouterr().err


def test_reports_fit_a_page_and_are_json() -> None:
    nulls, offers = simulate(4, 5.0, DEVIATION, BASE, GATE, seed=0)
    case = replace(CASE, episodes=16)
    report = bench_gate.report(case, nulls, offers, GATE, 2)
    data = json.loads(json.dumps(bench_gate.plain(report, 2)))
    assert data["task"] == "spread" and [each["trials"] for each in data["parents"]] == [1, 1, 1, 1]
    page = bench_gate.written([report], 2, "command")
    assert "offered three: the good one" in page and ": met" in page and "Clopper" not in page
    lost = [Null([score(None)] * 5, [score(None)] * 5)]  # hours of trials, of which a parent's all failed
    assert "a sparse return of - and progress -" in bench_gate.written(
        [bench_gate.report(case, lost, [], GATE, 2)], 2, "command"
    )
    assert isinstance(nulls[0], Null) and offers[0].promoted(case.max_return, GATE) in (None, GOOD, BAD, CLONE)
