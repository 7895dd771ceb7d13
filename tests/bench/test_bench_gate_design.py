"""The designs of a confirmation that bench.gate_design compares: their sizes, what they decide, and stored branches."""

from __future__ import annotations

import json
import sys
from fractions import Fraction

import numpy as np
import pytest

from bench import gate_design
from bench.gate import null_branch, offered_branch
from bench.support import promises
from bench.support.cases import CASES
from bench.support.designs import entries, once, ranked
from bench.support.episodes import scatter, tables
from bench.support.stored_trials import Stored, correlation, stored, values
from bench.support.trials import CLONE, CONTROL, GOOD
from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.sequential import EARLY_SHARE, design
from learning_signal.marl.segments.records import Evaluation
from learning_signal.marl.segments.segment import SegmentResult

CASE = CASES["spread"]
DESIGNS = {each.name: each for each in entries((5, 6), (Fraction(3, 4),))}


def drawn(effect: float, runs: int = 20_000, most: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    control, own = np.random.default_rng(seed).standard_normal((2, runs, most))
    return control, effect + own


def decided(name: str, effect: float) -> tuple[np.ndarray, np.ndarray]:
    each = DESIGNS[name]
    return each.decide(*(arm[:, : each.most] for arm in drawn(effect)))


@pytest.mark.parametrize("name", list(DESIGNS))
def test_where_nothing_differs_each_design_passes_as_often_as_it_says(name: str) -> None:
    size = DESIGNS[name].size
    assert abs(decided(name, 0.0)[0].mean() - size) < 4 * (size / 20_000) ** 0.5


def test_sizes_are_counted() -> None:
    assert [once(each, 0.05) for each in (3, 4, 5)] == [(9, 1 / 20), (15, 2 / 70), (21, 12 / 252)]
    assert (DESIGNS["paired 5, curtailed"].size, DESIGNS["paired 5 + 1, curtailed"].size) == (1 / 32, 3 / 64)


def test_looking_again_at_the_level_of_one_look_passes_too_often() -> None:
    """Negative control: the simulation sees what a wrong design does."""
    peeking = ranked([None, None, *(once(each, 0.05)[0] for each in (3, 4, 5, 6))], (0, 1, 2, 3, 4, 5))
    assert peeking(*drawn(0.0))[0].mean() > 0.065


def test_the_share_of_the_early_looks_decides_when_a_trial_may_pass_first() -> None:
    plans = [design(0.05, 6, share) for share in (Fraction(1, 2), EARLY_SHARE, Fraction(1))]
    first = [next(look for look, needed in enumerate(plan.pass_at, 1) if needed) for plan in plans]
    assert first == [4, 4, 3], "one order in 20 has three of the candidate above three of the control"
    assert plans[1] == design(0.05, 6) and all(plan.size <= 0.05 for plan in plans)
    with pytest.raises(ValueError, match="can never reach"):
        design(0.05, 2, Fraction(1))


@pytest.mark.parametrize("effect", [0.0, 1.0])
def test_curtailment_changes_the_price_and_no_decision(effect: float) -> None:
    whole, curtailed = (decided(name, effect) for name in ("paired 5 (version 0.1)", "paired 5, curtailed"))
    assert (whole[0] == curtailed[0]).all() and (whole[1] == 10).all()
    assert (curtailed[1] <= 10).all() and (curtailed[1][curtailed[0]] == 10).all() and curtailed[1].mean() < 8


def test_one_more_pair_decides_where_the_smallest_difference_alone_is_negative() -> None:
    one_more = DESIGNS["paired 5 + 1, curtailed"].decide
    candidate = np.array(
        [[1, 2, 3, 4, 5, -9], [-1, 2, 3, 4, 5, 1], [-1, 2, 3, 4, 5, -1], [-3, 2, 3, 4, 5, 1], [-1] * 6]
    )
    passed, branches = one_more(np.zeros((5, 6)), candidate.astype(float))
    assert passed.tolist() == [True, True, False, False, False] and branches.tolist() == [10, 12, 12, 4, 4]


def test_power_grows_with_the_effect_and_ties_never_pass() -> None:
    rows = {row.name: row for row in gate_design.simulate(list(DESIGNS.values()), 2_000, 0.0)}
    for row in rows.values():
        assert list(row.power) == sorted(row.power) and row.power[-1] > 0.85
    for each in DESIGNS.values():
        assert not each.decide(*np.zeros((2, 3, each.most)))[0].any()


def test_pairs_that_are_alike_help_paired_designs_alone() -> None:
    apart, alike = (gate_design.simulate(list(DESIGNS.values()), 4_000, rho) for rho in (0.0, 0.8))
    for one, other in zip(apart, alike, strict=True):
        gained = other.power[2] - one.power[2]
        assert gained > 0.1 if one.name.startswith("paired") else abs(gained) < 0.05


# --- on stored branches ---


def measured(sparse: float, progress: float = 0.5) -> Measure:
    return Measure(sparse_return=sparse, progress=progress, succeeded=0.5, error=0.0)


class _Store:
    """Holds results by the id of their segment."""

    def __init__(self) -> None:
        self.results: dict[str, SegmentResult] = {}

    def add(self, spec, episodes: str, sparse: float) -> None:
        one = Evaluation(env_steps=1, set=episodes, sparse_returns=(sparse, sparse + 1), progress=(0.5, 0.5))
        self.results[spec.id] = SegmentResult(
            id=spec.id,
            parent=spec.parent,
            start_env_steps=0,
            end_env_steps=1,
            env_steps=1,
            updates=(),
            evaluations=(one,),
            wall_seconds=0.0,
            timings={},
        )

    def has(self, segment: str) -> bool:
        return segment in self.results

    def load_result(self, segment: str) -> SegmentResult:
        return self.results[segment]


def test_stored_branches_are_found_by_parent_and_arm() -> None:
    store = _Store()
    for trial in (0, 1, 4):  # the parent of 4 is that of 0
        store.add(null_branch(CASE, trial, CONTROL, 0), "confirm", trial)
        store.add(null_branch(CASE, trial, CLONE, 0), "confirm", 10 + trial)
    store.add(null_branch(CASE, 4, CONTROL, 1), "confirm", 20.0)
    for arm, sparse in ((CONTROL, 0.0), (GOOD, 5.0)):
        store.add(offered_branch(CASE, 0, arm, "screen", 0), "screen", sparse)
        store.add(offered_branch(CASE, 0, arm, "confirm", 0), "confirm", 30 + sparse)
    first, second = stored(CASE, store)
    assert [each.sparse_return - 0.5 for each in first.control] == [0, 10, 4, 20, 14, 30]
    assert [each.sparse_return - 0.5 for each in first.good] == [35] and len(first.pairs) == 1
    assert [each.sparse_return - 0.5 for each in second.control] == [1, 11] and not second.good and not second.pairs
    with_one, _ = stored(CASE, store, 1)
    assert [each.sparse_return for each in with_one.control] == [0, 10, 4, 20, 14, 30], "the first of two episodes"


def test_a_branch_is_placed_by_the_order_of_its_parent() -> None:
    each = Stored("parent", (measured(1.0, 0.2), measured(1.0, 0.4)), (measured(2.0, 0.1),), ())
    placed = values({"control": each.control, "good": each.good}, each.order)
    assert placed["control"].tolist() == [0, 1] and placed["good"].tolist() == [2]
    failing = [one.model_copy(update={"sparse_return": 0.0, "succeeded": 0.0}) for one in (*each.control, *each.good)]
    below = Stored("parent", tuple(failing[:2]), tuple(failing[2:]), ())
    assert below.order.step is None
    placed = values({"control": below.control, "good": below.good}, below.order)
    assert placed["control"].tolist() == [1, 2] and placed["good"].tolist() == [0]


@pytest.mark.parametrize(("planted", "low", "high"), [(0.0, -0.35, 0.35), (0.9, 0.8, 0.96)])
def test_the_correlation_of_a_seed_is_that_within_parents(planted: float, low: float, high: float) -> None:
    """Parents that differ, however much, make no arms alike."""
    rng, parents = np.random.default_rng(0), []
    for base in (1.0, 100.0):
        shared, own = rng.standard_normal((2, 40))
        other = planted * shared + (1 - planted**2) ** 0.5 * own
        pairs = tuple((measured(base + one), measured(base + two)) for one, two in zip(shared, other, strict=True))
        parents.append(Stored("parent", (measured(base),), (), pairs))
    r, (least, most), count = correlation(parents)
    assert count == 80 and low < r < high and least < planted < most
    assert np.isnan(correlation(parents[:0])[0])


def test_a_good_shaping_is_found_in_stored_branches_and_nothing_where_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    control, good = (tuple(measured(float(base + one)) for one in rng.standard_normal(24)) for base in (5.0, 50.0))
    designs = list(DESIGNS.values())
    rows = gate_design.resample("spread", [Stored("parent", control, good, ())], designs, 2_000)
    for row in rows:
        size = DESIGNS[row.name].size
        assert row.passed == 1.0 if row.scenario == "good shaping" else abs(row.passed - size) < 0.02
    few = gate_design.resample("spread", [Stored("parent", control[:8], (), ())], designs, 50)
    assert all(row.passed is None for row in few if row.scenario == "good shaping" or DESIGNS[row.name].most > 4)


# --- episodes of a branch ---


def test_variances_of_seeds_and_of_episodes_are_told_apart() -> None:
    """Planted: seeds with a standard deviation of 0.3, episodes with one of 2, in two arms far from each other."""
    rng, store = np.random.default_rng(2), _Store()
    for trial in range(0, 120, 4):
        for arm, base in ((CONTROL, 0.0), (CLONE, 0.0)):
            spec = null_branch(CASE, trial, arm, 0)
            values = base + 5 + 0.3 * rng.standard_normal() + 2 * rng.standard_normal(200)
            store.add(spec, "confirm", 0.0)
            one = store.results[spec.id].evaluations[0]
            one = one.model_copy(update={"sparse_returns": tuple(values), "progress": (0.5,) * 200})
            changed = {"evaluations": (one,), "env_steps": spec.env_steps}
            store.results[spec.id] = store.results[spec.id].model_copy(update=changed)
    (row,) = scatter(CASE, stored(CASE, store))
    assert (row.branches, row.branch, row.episode, row.chosen) == (60, 128_000, 25, 256)
    assert row.of_seeds == pytest.approx(0.09, rel=0.5) and row.of_episodes == pytest.approx(4.0, rel=0.05)
    assert row.best_share == pytest.approx((4 / 0.09 * 25 / 128_000) ** 0.5, rel=0.4)
    priced, decided_ = tables([row], 500)
    assert priced[2][0][0] == "spread: unshaped, seed 1, 60 branches, sparse return"
    assert [line[0] for line in decided_[2]] == ["0", "0.25", "0.5", "0.75", "1"] and tables([], 500) == []
    power = [[float(cell.split()[0]) for cell in line[1:]] for line in decided_[2]]
    assert max(power[0]) < 0.06 and power[2][-1] > power[2][0] + 0.1, "more episodes find more"


# --- where nothing differs ---


def test_one_set_of_episodes_for_all_breaks_the_level_and_own_ones_do_not() -> None:
    size = design(0.05, 6).size
    for ratio, pairs, shared, own in promises.episodes_shared_or_own(20_000):
        pairs, shared, own = (float(each.rstrip("%")) / 100 for each in (pairs, shared, own))
        assert abs(own - size) < 4 * (size / 20_000) ** 0.5, ratio
        assert (pairs > 0.05 and shared > 0.06) == (float(ratio) > 0), ratio


def test_a_session_keeps_its_promise_and_one_of_before_did_not() -> None:
    now, before = promises.session_promotes()
    assert 0.03 < now <= 0.05 and before == pytest.approx(0.173, abs=0.001)


# --- the command ---


def test_the_command_prints_both_tables(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setattr(sys, "argv", ["gate_design", "--quick", "--store", str(tmp_path)])
    gate_design.main()
    assert "run python -m bench.gate first" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setattr(sys, "argv", ["gate_design", "--quick", "--store", str(tmp_path), "--json"])
    gate_design.main()
    data = json.loads(capsys.readouterr().out)
    assert data["real"] == [] and data["simulated"][0]["name"] == "paired 5 (version 0.1)"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--quick", "--write"], "measures nothing worth writing"),
        (["--episodes", "1"], "expected at least 2"),
        (["--correlation", "1"], "expected at least 1 run and a correlation from 0 to below 1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], said: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gate_design", *arguments])
    with pytest.raises(SystemExit):
        gate_design.main()
    assert said in " ".join(capsys.readouterr().err.split())
