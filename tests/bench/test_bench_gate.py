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
from bench.support.cases import CASES
from bench.support.gate_rows import Measured, Row, report
from bench.support.gate_table import plain, written
from bench.support.readme import put
from bench.support.trials import (
    BAD,
    CLONE,
    CONTROL,
    GATE,
    GOOD,
    LEVELS,
    PAIRED,
    Score,
    Trial,
    confirmation,
    draw,
    fours,
    offer,
    order_at,
    paired_verdict,
    score,
    share_interval,
    simulate,
    usual,
)
from learning_signal.marl.errors import SegmentFailed, SegmentImpossible
from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.sequential import design
from learning_signal.marl.segments.records import Evaluation

CASE = CASES["spread"]
BASE, DEVIATION = 5.0, 1.0
"""3 % of the maximum of `spread` are 0.75 deviations."""
HEAD = Measure(sparse_return=BASE, progress=None)
ALONE, SHARED = LEVELS


def scored(sparse: float | None, progress: float | None = None) -> Score:
    return Score(Measure(sparse_return=sparse, progress=progress, succeeded=0.5, error=0.0), env_steps=1)


def value(score: Score) -> float:
    return score.measure.sparse_return


def found(null: int, offered: int, effect: float) -> dict[tuple[str, str], Row]:
    """The rows of a simulation."""
    nulls, offers = simulate(max(null, offered), effect, DEVIATION, BASE, CASE.max_return, seed=1)
    rows = report(CASE, Measured(nulls[:null], offers[:offered]), 2).rows
    return {(row.scenario, row.rule.partition(" (0")[0]): row for row in rows}


def passes(trial: Trial, level: float = ALONE) -> bool:
    return trial.ended(CASE.max_return, level).outcome == "pass"


# --- the rules, on drawn scores ---


def test_where_nothing_differs_the_gate_errs_within_its_levels_and_usual_practice_far_more_often() -> None:
    rows = found(600, 20, effect=2.0)
    for rule, level in (("this gate", ALONE), ("its share of a session", SHARED)):
        row, size = rows["nothing differs", rule], design(level, GATE.looks).size
        assert row.trials == 600 and row.interval[0] <= size <= min(level, row.interval[1])
    usual_rate, without = (rows["nothing differs", rule].rate for rule in ("usual practice", "usual, without the 3 %"))
    assert rows["nothing differs", "usual practice"].trials == 300
    assert usual_rate > 0.4 and without == pytest.approx(0.75, abs=0.08), "one of four equals is best"
    assert rows["nothing differs", "its share of a session"].met and rows["offered bad", "this gate"].count == 0


def test_power_grows_with_the_effect_and_with_the_level() -> None:
    rates = [found(0, 60, effect)["offered three: the good one", "this gate"].rate for effect in (0.5, 1.5, 4.0)]
    assert rates[0] < rates[1] < rates[2] and rates[2] > 0.95
    rows = found(0, 60, 1.5)
    assert rows["offered three: the good one", "its share of a session"].rate < rates[1]


@pytest.mark.parametrize("bug", ["confirms on the branches that were screened", "repeats a seed that was bad"])
def test_a_planted_bug_raises_the_error_rate(bug: str) -> None:
    """Negative control: the trials see what a wrong gate does."""
    rng, trials, false = np.random.default_rng(2), 200, 0

    def fresh(index: int) -> Score:
        return draw(rng, BASE, DEVIATION)

    def best_of_two(index: int) -> Score:
        return max(fresh(index), fresh(index), key=value)

    for _ in range(trials):
        candidate = best_of_two
        if bug == "confirms on the branches that were screened":
            arms = [[fresh(index) for index in range(GATE.looks)] for _ in range(6)]
            candidate = max(arms, key=lambda arm: sum(map(value, arm))).__getitem__
        false += passes(confirmation(fresh, candidate, order_at(HEAD), CASE.max_return))
    assert share_interval(false, trials)[0] > ALONE


def test_a_screen_of_clones_does_not_change_the_error_rate_of_fresh_seeds() -> None:
    """Why null trials need no screen."""
    rng, trials = np.random.default_rng(3), 400
    offers = [offer(lambda *_: draw(rng, BASE, DEVIATION), HEAD, CASE.max_return) for _ in range(trials)]
    confirmed = [each for each in offers if each.trial is not None]
    assert 0.6 < len(confirmed) / trials < 0.9, "the control is best of four in one of four"
    false = sum(each.promoted(CASE.max_return, ALONE) is not None for each in confirmed)
    low, high = share_interval(false, len(confirmed))
    assert low <= design(ALONE, GATE.looks).size <= high


def test_a_trial_takes_branches_until_its_levels_have_ended_and_no_more() -> None:
    taken = []

    def arm(name: str, worth: float):
        return lambda index: taken.append((name, index)) or scored(worth + index / 100)

    lost = confirmation(arm("control", 1.0), arm("candidate", 0.0), order_at(HEAD), CASE.max_return)
    assert taken == [("control", 0), ("candidate", 0)] and not passes(lost)
    won = confirmation(arm("control", 0.0), arm("candidate", 9.0), order_at(HEAD), CASE.max_return)
    early, late = (won.ended(CASE.max_return, level) for level in LEVELS)
    assert early.outcome == late.outcome == "pass" and early.look == late.look == len(won.control) == 4
    assert early.pass_at < late.pass_at, "the smaller level wants more wins"
    assert len(won.needed(early)) == len(won.needed(late)) == 8
    with pytest.raises(ValueError, match="3 branches of each arm, expected more"):
        Trial(won.order, won.control[:3], won.candidate[:3]).ended(CASE.max_return, SHARED)


def test_an_offer_counts_its_screen_and_what_its_level_needed() -> None:
    worth = {CONTROL: 1.0, GOOD: 9.0, BAD: 0.0, CLONE: 1.0}
    one = offer(lambda arm, purpose, index: scored(worth[arm] + index / 100), HEAD, CASE.max_return)
    assert one.chosen == GOOD and [len(one.needed(CASE.max_return, level)) for level in LEVELS] == [4 + 8, 4 + 8]
    assert {one.promoted(CASE.max_return, level) for level in LEVELS} == {GOOD} and len(one.alone.control) == 1
    assert {name: value(score) for name, score in one.singles.items()} == worth
    none = offer(lambda arm, purpose, index: scored(-worth[arm]), HEAD, CASE.max_return)
    assert none.chosen == BAD, "the least bad of them is better than the control"
    worth[BAD] = 2.0
    none = offer(lambda arm, purpose, index: scored(-worth[arm]), HEAD, CASE.max_return)
    assert none.chosen is None and none.promoted(CASE.max_return, ALONE) is None
    assert len(none.needed(CASE.max_return, ALONE)) == 4


def test_usual_practice_sees_the_first_look_of_two_trials_at_one_parent() -> None:
    nulls = [
        Trial(order_at(HEAD), [scored(10.0 * at), scored(0.0)], [scored(10.0 * at + 1), scored(0.0)]) for at in range(6)
    ]
    seen = [[value(control), *map(value, others.values())] for control, others in fours(nulls, 2)]
    assert seen == [[0.0, 1.0, 20.0, 21.0], [10.0, 11.0, 30.0, 31.0]], "trials 4 and 5 have no partner"


def test_usual_practice_takes_the_best_single_run_if_it_clears_the_margin() -> None:
    three = {"a": scored(1.0), "b": scored(1.9, 0.3), "c": scored(None)}
    assert usual(scored(1.0, 0.2), three, max_return=25.0) == "b"
    assert usual(scored(1.2, 0.2), three, max_return=25.0) is None, "0.7 is less than 3 % of 25"
    assert usual(scored(1.2, 0.2), three, max_return=25.0, margin=0.0) == "b"
    assert usual(scored(9.0, 0.2), three, max_return=25.0, measure="progress") == "b"
    assert usual(scored(None), three, max_return=25.0) is None and usual(scored(1.0), {"a": scored(None)}, 25.0) is None


def test_the_paired_gate_judges_progress_below_the_floor() -> None:
    def paired(control: list[Score], candidate: list[Score]) -> bool:
        return paired_verdict(control, candidate, CASE.max_return).outcome == "pass"

    better = [scored(0.01, 0.2 + index / 100) for index in range(5)]
    assert paired([scored(0.01, 0.1)] * 5, better) and not paired(better, [scored(0.01, 0.1)] * 5)
    assert not paired([scored(0.01)] * 5, [scored(0.02)] * 5), "no progress is declared: inconclusive"
    assert not paired([scored(1.0)] * 5, [scored(2.0)] * 4 + [scored(None)]), "a failed candidate never passes"


def test_the_interval_is_clopper_and_pearsons() -> None:
    assert share_interval(5, 120) == pytest.approx((0.0137, 0.0946), abs=1e-4)
    assert share_interval(0, 10)[0] == 0.0 and share_interval(10, 10)[1] == 1.0


# --- the branches of a trial ---


def test_no_branch_serves_two_null_trials_and_arms_share_neither_seeds_nor_episodes() -> None:
    wanted = [
        bench_gate.null_branch(CASE, trial, arm, index)
        for trial in range(8)
        for arm in (CONTROL, CLONE)
        for index in range(GATE.looks)
    ]
    assert len({spec.id for spec in wanted}) == len({spec.seed for spec in wanted}) == len(wanted) == 96
    assert len({spec.run.held_out_seed for spec in wanted}) == 96
    assert len({spec.parent for spec in wanted}) == len(CASE.parents)
    for spec in wanted:
        assert spec.shaping in (parent.shaping for parent in CASE.parents) and spec.env_steps == 128_000


def test_pairs_of_the_paired_gate_share_their_episodes() -> None:
    control, clone = (
        [bench_gate.paired_branch(CASE, 3, arm, index) for index in range(PAIRED.confirm_seeds)]
        for arm in (CONTROL, CLONE)
    )
    assert [spec.run.held_out_seed for spec in control] == [spec.run.held_out_seed for spec in clone]
    assert (
        len({spec.seed for spec in (*control, *clone)}) == 10 and control[0].run.evaluation == clone[0].run.evaluation
    )


def test_screened_arms_share_their_seed_and_confirmation_has_fresh_ones() -> None:
    screen = {arm: bench_gate.offered_branch(CASE, 1, arm, "screen", 0) for arm in (CONTROL, GOOD, BAD, CLONE)}
    assert screen[CONTROL].seed == screen[GOOD].seed == screen[BAD].seed != screen[CLONE].seed
    assert len({spec.run.held_out_seed for spec in screen.values()}) == 1 and len({s.id for s in screen.values()}) == 4
    confirm = [
        bench_gate.offered_branch(CASE, 1, arm, purpose, index)
        for purpose in ("confirm", "alone")
        for arm in (CONTROL, GOOD, BAD)
        for index in range(2)
    ]
    seeds = {spec.seed for spec in confirm}
    assert len(seeds) == len(confirm) and not seeds & {spec.seed for spec in screen.values()}
    assert screen[CONTROL].env_steps * 2 == confirm[0].env_steps
    assert screen[CLONE].shaping == confirm[0].shaping and screen[GOOD].shaping == CASE.good


@pytest.mark.parametrize("task", list(CASES))
def test_the_bad_shaping_is_the_negative_of_the_good_one(task: str) -> None:
    good, bad = ({term.potential: term.weight for term in each.terms} for each in (CASES[task].good, CASES[task].bad))
    assert bad == {name: -weight for name, weight in good.items()}


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
    spec = CASE.branch(CASE.parents[0], CASE.good, 1)
    failed = score(_Pool(SegmentFailed("it diverged", env_steps=3)), spec, "confirm")
    assert (failed.measure.sparse_return, failed.env_steps) == (None, 3)
    with pytest.raises(SegmentImpossible):
        score(_Pool(SegmentImpossible("the disk is full")), spec, "confirm")


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


@pytest.mark.parametrize("task", list(branch_order.FIELDS))
def test_each_parent_s_own_shaping_is_among_those_compared(task: str) -> None:
    field = branch_order.FIELDS[task]
    assert [branch_order.control_of(field, parent) for parent in field.parents] == [0, 1 if task == "spread" else 0]
    assert len({config.hash() for config in field.shapings.values()}) == 8


# --- the commands ---


@pytest.mark.slow
@pytest.mark.parametrize(("module", "key"), [(bench_gate, "rows"), (branch_length, "rho")])
def test_the_commands_run(module, key: str, monkeypatch, capsys, tmp_path) -> None:
    arguments = ["--quick", "--tasks", "spread", "--store", str(tmp_path), "--workers", "1"]
    arguments += ["--null", "1", "--offers", "1", "--paired", "1"] if module is bench_gate else ["--seeds", "2"]
    monkeypatch.setattr(sys, "argv", [module.__name__, *arguments, "--json"])
    module.main()
    assert key in capsys.readouterr().out


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        (bench_gate, ["--quick", "--write"], "measures nothing worth writing"),
        (bench_gate, ["--null", "0", "--offers", "0"], "expected --null, --offers or --paired above 0"),
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
    nulls, offers = simulate(4, 5.0, DEVIATION, BASE, CASE.max_return, seed=0)
    case = replace(CASE, episodes=16)
    pairs = [([scored(1.0)] * 5, [scored(2.0)] * 5)]
    full = report(case, Measured(nulls, offers, pairs), 2)
    data = json.loads(json.dumps(plain(full, 2)))
    assert data["task"] == "spread" and [each["trials"] for each in data["parents"]] == [1, 1, 1, 1]
    assert sum(data["screens"].values()) == 4
    page = written([full], 2, "command")
    assert "offered three: the good one" in page and ": met" in page and "Screens sent on: the good one" in page
    assert "the paired gate of version 0.1" in page
    lost = [Trial(order_at(HEAD), [scored(None)], [scored(None)])]  # hours of trials, of which a parent's all failed
    assert "a sparse return of - and progress -" in written([report(case, Measured(lost), 2)], 2, "command")
