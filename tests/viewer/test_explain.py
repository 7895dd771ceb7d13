"""``explain`` leaves nothing out, its brief form fits a screen, and what it says would have changed a decision does."""

from __future__ import annotations

import dataclasses
import io
import json

import pytest
from rich.console import Console

from learning_signal.ledger.read.decision.cited import cited_numbers
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.decision.otherwise import otherwise
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.records import ComparisonRow, DecisionChain
from learning_signal.ledger.wording import shaping_changes
from learning_signal.marl.gate.measure import Measure
from learning_signal.marl.gate.order import Order
from learning_signal.marl.gate.settings import GateSettings
from learning_signal.marl.gate.trial import judge_look
from learning_signal.viewer.reports.explain import render_decision
from tests.support.scripted_session import ScriptedSession
from tests.support.trainer_double import by_arm

GATE, MOST, LEVEL = GateSettings(), 25.0, 0.025
ORDER = Order(progress=True, step=None, reason="progress decides")


def shown(chain: DecisionChain, brief: bool = False) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None, highlight=False)
    console.print(render_decision(chain, brief))
    return console.file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> DecisionChain:
    """Two candidates, c1 confirmed and promoted; a call of the Coordinator was refused, and it asked one question."""
    effects = {("screen", "c1"): 0.02, ("screen", "c2"): 0.01, ("confirm", "c1"): 0.03}
    with ScriptedSession(tmp_path_factory.mktemp("told"), by_arm(effects)) as session:
        session.propose("coverage_distance", "collisions")
        session.screen()
        session.validate("c1", session.confirm("c1")["outcome"])
        with pytest.raises(Exception, match="c2"):
            session.call("promote", candidate="c2", reason="I like it better.")
        session.call("promote", candidate="c1", reason="It passed.")
        with Reader.open(session.ledger.path) as reader:
            return explain(reader)


def test_candidates_say_what_they_change(chain: DecisionChain) -> None:
    assert [each.changes for each in chain.candidates] == [
        (f"adds {each.shaping['terms'][0]['weight']}*{name} (team)",)
        for each, name in zip(chain.candidates, ("coverage_distance", "collisions"), strict=True)
    ]
    assert f"changes: {chain.candidates[0].changes[0]}" in words(shown(chain))


def test_every_arm_is_shown_in_both_measures(chain: DecisionChain) -> None:
    (screen,) = [each for each in chain.comparisons if each.purpose == "screen"]
    text = words(shown(chain))
    for arm, (seed,) in screen.inputs["arms"].items():
        assert f"{seed['sparse_return']:.3g} {seed['progress']:.3g}" in text.partition(f" {arm} ")[2], arm


def test_nothing_is_cut_but_in_the_brief_form(chain: DecisionChain) -> None:
    long = dataclasses.replace(chain.decision, reason="because " + "of what was seen " * 60 + "at the end")
    told = dataclasses.replace(chain, decision=long)
    text, brief = shown(told), shown(told, True)
    assert "…" not in text and words(long.reason) in words(text) and "What would have made it another" in text
    lines = brief.rstrip("\n").splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100 and f"explain {chain.decision.id}" in lines[-1]


def look(control: list[float], candidate: list[float]):
    arms = [[Measure(sparse_return=0.0, progress=each) for each in arm] for arm in (control, candidate)]
    return judge_look(*arms, ORDER, MOST, GATE, LEVEL)


def sentence(found, template: DecisionChain) -> str:
    """What is said of a confirmation with this outcome."""
    (trial,) = [each for each in template.comparisons if each.purpose == "confirm"]
    row: ComparisonRow = dataclasses.replace(trial, result=json.loads(found.model_dump_json()))
    said = otherwise(template.decision, row, [row], template.verdicts, template.candidates, [])
    return said[0]


def test_one_pair_less_and_a_smaller_difference_would_not_have_passed(chain: DecisionChain) -> None:
    control, candidate = [0.10, 0.11, 0.12, 0.13], [0.20, 0.21, 0.22, 0.23]
    passed = look(control, candidate)
    assert (passed.outcome, passed.wins, passed.pass_at) == ("pass", 16, 16)
    said = sentence(passed, chain)
    assert "with 1 pair less won (16 of 16, passes from 16 on)" in said
    assert f"a difference of progress of at most {GATE.delta_progress:.3g} (it was +0.1)" in said
    # What is said is what the gate does: one pair less, then the difference of that size.
    fewer = look([*control[:3], 0.205], candidate)
    assert fewer.wins == 15 and fewer.outcome != "pass"
    close = look([0.2] * 4, [0.2 + GATE.delta_progress * share for share in (0.9, 0.95, 1.0, 0.99)])
    assert close.wins == 16 and close.outcome == "fail"
    assert sentence(close, chain) == (
        f"c1 would have passed with a difference of progress above {GATE.delta_progress:.3g} (it was "
        f"{close.mean_difference:+.3g})."
    )
    assert look([0.2] * 4, [0.2 + 2 * GATE.delta_progress] * 4).outcome == "pass"


def test_the_pairs_that_were_lacking_would_have_passed_it(chain: DecisionChain) -> None:
    candidate = [0.20, 0.21, 0.22, 0.23, 0.24, 0.25]
    found = look([0.195, 0.205, 0.215, 0.212, 0.1, 0.1], candidate)
    assert found.outcome != "pass" and found.pass_at is not None and found.wins is not None
    lacking = found.pass_at - found.wins
    assert f"with {lacking} more pair" in sentence(found, chain)
    # The control loses just so many pairs more.
    better = look([0.195, 0.195, 0.195, 0.195, 0.1, 0.1], candidate)
    assert better.wins is not None and better.wins >= found.pass_at and better.outcome == "pass"


def test_a_loss_of_sparse_return_is_named_where_it_failed(chain: DecisionChain) -> None:
    arms = [[Measure(sparse_return=value, progress=each) for each in (0.1, 0.11, 0.12, 0.13)] for value in (1.0,)]
    worse = [Measure(sparse_return=0.5, progress=each) for each in (0.2, 0.21, 0.22, 0.23)]
    found = judge_look(arms[0], worse, ORDER, MOST, GATE, LEVEL)
    if found.measure == "progress":
        assert found.outcome == "fail" and "not lower than the control's by 0.5" in sentence(found, chain)
    else:  # the order decides by sparse return, which is lower
        assert found.outcome == "fail" and "a difference of sparse return above" in sentence(found, chain)


def test_who_decides_is_told_apart_from_what_passed(chain: DecisionChain) -> None:
    kept = dataclasses.replace(chain.decision, action="keep")
    failed = [dataclasses.replace(each, outcome="fail") for each in chain.verdicts]

    def last(decision, verdicts, approvals=()):
        return otherwise(decision, None, [], verdicts, chain.candidates, approvals)[-1]

    assert last(kept, chain.verdicts) == "c1 had passed: the Coordinator could have promoted it, and kept the shaping."
    assert last(kept, failed).startswith("No verdict is a pass")
    assert last(chain.decision, chain.verdicts).startswith("Without a verdict of pass")


EVIDENCE = json.dumps(
    {
        "points": {"env_steps": [0, 150400], "sparse_return": [0.0, 0.0117]},
        "features": {"columns": ["name", "mean"], "rows": [["speed", 0.41], ["spacing", 0.407]]},
        "actions": {"down": 0.263},
    }
)


@pytest.mark.parametrize(
    ("sentence", "places"),
    [
        ("The mean of spacing is 0.41.", ["features[spacing].mean"]),
        ("The mean of speed is 0.41.", ["features[speed].mean"]),
        ("After 150400 env steps the sparse return is 0.0117.", ["points.env_steps[1]", "points.sparse_return[1]"]),
        ("They go down in 26% of the steps.", ["actions.down"]),
        ("The entropy is 0.99 of 2.", []),
    ],
)
def test_the_numbers_of_a_claim_are_found_where_they_stand(sentence: str, places: list[str]) -> None:
    assert [each.path for each in cited_numbers(sentence, EVIDENCE)] == places


def test_evidence_that_is_none_cites_nothing() -> None:
    for evidence in (None, "", "{", "[" * 20_000, '"text with 0.41"', "[NaN, 1e999]"):
        assert cited_numbers("It is 0.41.", evidence) == []


def test_differences_of_shapings() -> None:
    term = {"potential": "speed", "weight": -1.0, "scope": "team"}
    before = {"beta": 1.0, "terms": [term], "anneal": None}
    none = {"beta": 0.0, "terms": [], "anneal": None}
    assert shaping_changes(before, before) == []
    assert shaping_changes(none, before) == ["adds -1.0*speed (team)"]
    assert shaping_changes(before, none) == ["takes out -1.0*speed (team)"]
    other = {"beta": 0.5, "terms": [term | {"weight": -2.0}], "anneal": {"start": 0, "end": 9}}
    assert shaping_changes(before, other) == [
        "weighs speed (team) -2.0 in place of -1.0",
        "beta 0.5 in place of 1.0",
        "beta falls to 0 over env steps 0 to 9",
    ]
    assert shaping_changes(other, before)[-1] == "beta falls no longer"
