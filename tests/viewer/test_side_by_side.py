"""``compare A B``: candidates of two sessions pair where they share checkpoint and seeds, and nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.read.across.compare import compare_sessions, difference_of
from learning_signal.ledger.read.reader import Reader
from learning_signal.run import run
from learning_signal.tools.roles import ROLES
from tests.support import synthetic_training
from tests.support.session_helpers import run_inline, tiny_settings

ROOT = Path(__file__).parents[2]
PAIRS = 4


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """The ledger, and the sessions in it: rules; a random Generator, whose shapings do more; rules on another seed."""
    folder = tmp_path_factory.mktemp("sessions")
    rules = run_inline(tiny_settings(folder)).session_id
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_training, "SHAPED", 3e-4)
        agents = dict.fromkeys(ROLES, "rules") | {"generator": "random"}
        drawn = run_inline(tiny_settings(folder, agents=agents, rounds=2)).session_id
    other = run_inline(tiny_settings(folder, seed=1)).session_id
    return folder / "ledger.db", rules, drawn, other


def compared(sessions, first, second):
    with Reader.open(sessions[0]) as reader:
        return compare_sessions(reader, first, second)


def test_candidates_pair_branch_by_branch(sessions):
    _, rules, drawn, _ = sessions
    found = compared(sessions, rules, drawn)
    (pair,) = found.rounds[0].paired

    mine, theirs = _progress_by_seed(sessions[0], rules, pair.first), _progress_by_seed(sessions[0], drawn, pair.second)
    by_hand = [mine[seed] - theirs[seed] for seed in mine]
    assert pair.n == PAIRS and pair.branches == (PAIRS, PAIRS) and not pair.same_shaping
    difference = pair.differences["progress"]
    assert sorted(difference.values) == pytest.approx(sorted(by_hand))
    # 400 env steps with 2e-4 and with 3e-4 progress each, over the later half: the seeds' noise is the same.
    assert difference.mean == pytest.approx(-0.04, abs=0.005)
    assert (difference.above, difference.level) == (0, 0.875)
    assert difference.conclusion.startswith("The second is better from this checkpoint, as far as 4 pairs can say")


def _progress_by_seed(ledger, session, candidate):
    """The progress of every branch of the session's confirmation, by its seed."""
    with Reader.open(ledger) as reader:
        segments = reader.segments(session)
        (row,) = (row for row in reader.comparisons(session) if row.purpose == "confirm")
    return {segments[each["segment"]].seed: each["progress"] for each in row.inputs["arms"][candidate]}


def test_the_other_way_round_is_the_same_with_the_signs_turned(sessions):
    _, rules, drawn, _ = sessions
    there, back = compared(sessions, rules, drawn), compared(sessions, drawn, rules)

    assert there.first == back.second and there.settings == {"rounds": (1, 2)}
    turned = [-value for value in there.rounds[0].paired[0].differences["progress"].values]
    assert sorted(back.rounds[0].paired[0].differences["progress"].values) == pytest.approx(sorted(turned))


def test_another_seed_does_not_pair_and_it_is_said_why(sessions):
    _, rules, _, other = sessions
    found = compared(sessions, rules, other)

    assert found.settings == {"seed": (0, 1)}
    assert [(each.paired, each.why_not) for each in found.rounds] == [
        ((), "their candidates begin at different checkpoints")
    ]


def test_rounds_that_one_session_does_not_have_are_named(sessions):
    _, rules, drawn, _ = sessions
    first, second = compared(sessions, rules, drawn).rounds

    assert first.why_not is None
    assert (second.first, second.paired) == (None, ())
    assert second.why_not == "the first session has not decided such a round"


def test_a_session_is_not_compared_with_itself(sessions):
    with pytest.raises(LedgerError, match="twice, expected two sessions"):
        compared(sessions, sessions[1], sessions[1])


@pytest.mark.parametrize(
    ("values", "low", "high", "level"),
    [
        ([0.3], 0.3, 0.3, 0.0),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 0.1, 0.5, 1 - 2 / 32),
        (list(range(6)), 0, 5, 1 - 2 / 64),
        (list(range(9)), 1, 7, 1 - 2 * (1 + 9) / 512),
        (list(range(10)), 1, 8, 1 - 2 * (1 + 10) / 1024),
    ],
)
def test_the_interval_of_the_median_is_that_of_order_statistics(values, low, high, level):
    found = difference_of(values)
    assert (found.low, found.high, found.level) == (low, high, pytest.approx(level))


@pytest.mark.parametrize(
    ("values", "conclusion"),
    [
        ([0.1], "One pair says nothing about the next."),
        ([0.0, 0.0, 0.0], "Equal in every pair."),
        ([0.1, -0.2, 0.3], "Which one is better is open."),
        ([0.1, 0.2, 0.3], "The first is better from this checkpoint, as far as 3 pairs can say; other"),
    ],
)
def test_what_may_be_concluded_is_said(values, conclusion):
    assert difference_of(values).conclusion.startswith(conclusion)


def test_the_command_prints_both_sessions_in_100_columns(sessions, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    ledger, rules, drawn, _ = sessions
    assert run(["compare", rules, drawn, "--ledger", str(ledger)]) == 0

    printed = capsys.readouterr().out
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= 100
    for words in (rules, drawn, "random", "c1 of the first minus c1 of the second", "Other settings: rounds 1 / 2"):
        assert words in printed


def test_the_json_has_the_same(sessions, capsys):
    ledger, rules, drawn, _ = sessions
    assert run(["compare", rules, drawn, "--ledger", str(ledger), "--json"]) == 0

    data = json.loads(capsys.readouterr().out)
    assert data["first"]["session"] == rules and data["second"]["backends"]["generator"] == "random"
    assert len(data["rounds"][0]["paired"][0]["differences"]["progress"]["values"]) == PAIRS


def test_neither_torch_nor_autogen_is_loaded(sessions):
    ledger, rules, drawn, _ = sessions
    code = (
        "import sys; from learning_signal.run import run; "
        f"run(['compare', '{rules}', '{drawn}', '--ledger', '{ledger}']); "
        "sys.exit(any(name.partition('.')[0] in ('torch', 'autogen_core', 'openai', 'scipy') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60).returncode == 0
