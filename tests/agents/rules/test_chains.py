"""Tests of chains: found in made-up evidence where there is one, and only there."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from learning_signal.marl.shaping import check, nearly_equal
from learning_signal.marl.tasks.base import Feature
from learning_signal.tools.candidates.examine import shaping_of
from tests.support.rules_chat import candidates_of, critic_brief, diagnose, generator_brief, head, task

FEATURES = (
    Feature("first", "?", "agent", 0.0, 10.0, "lower"),
    Feature("second", "?", "agent", 0.0, 10.0, "lower"),
    Feature("third", "?", "agent", 0.0, 10.0, "lower"),
    Feature("mess", "?", "agent", 0.0, 1.0, "lower"),
    Feature("turned", "?", "agent", 0.0, 1.0, "higher"),
)
ROWS = {
    "first": {"mean": 4.0, "standard_deviation": 2.0, "over_time": [4.0, 4.0], "at_success": [0.0, 5.0, 30.0]},
    "second": {
        "mean": 8.0,
        "standard_deviation": 3.0,
        "over_time": [10.0, 8.0],
        "at_success": [0.0, 10.0, 12.0],
        "waits": {"share": 0.7, "until": ["first", "turned"], "then": [4.0, 2.0]},
    },
    "third": {
        "mean": 9.5,
        "standard_deviation": 2.0,
        "over_time": [10.0, 9.5],
        "at_success": [1.0, 10.0, 1.0],
        "waits": {"share": 0.95, "until": ["first", "second", "mess"], "then": [4.0, 2.0]},
    },
    "mess": {"mean": 0.5, "standard_deviation": 0.5, "over_time": [0.0, 0.7], "at_success": [0.0, 1.0, 60.0]},
    "turned": {
        "mean": 0.3,
        "standard_deviation": 0.45,
        "over_time": [0.0, 0.3],
        "at_success": [1.0, 0.0, 30.0],
        "waits": {"share": 0.7, "until": ["first"], "then": [1.0, 0.0]},
    },
}


def evidence(reward=1.0, **changes):
    """A summary of ``ROWS``, with ``changes`` of the rows; a row of None is left as in a summary without successes."""
    rows = []
    for one in FEATURES:
        row = ROWS[one.name] | changes.get(one.name, {})
        declared = {"name": one.name, "scope": one.scope, "low": one.low, "high": one.high}
        rows.append(declared | {"direction": one.direction} | row)
    return {"features": rows, "successes": {"by": "sparse reward", "moments": 20, "reward": reward}}


def brief(summary=None, **changes):
    card = {"name": "t", "max_return": 25.0, "agents": 3}
    return generator_brief(FEATURES, evidence=summary or evidence(), task=card) | changes


def names(candidate):
    """The features of a candidate's terms."""
    return [re.findall("|".join(ROWS), term.potential) for term in candidate.terms]


def effects(candidate):
    return [candidate.beta * term.weight for term in candidate.terms]


def test_a_chain_is_proposed_whole_and_its_last_link_is_worth_most():
    keeping, plain, team = candidates_of(brief())
    assert names(plain) == [["third"], ["second"], ["first"]]
    assert effects(plain) == pytest.approx([-1 / 9, -1 / 3 / 10, -1 / 9 / 5], rel=0.06)
    assert names(keeping) == [*names(plain), ["mess"]] and effects(keeping)[-1] == pytest.approx(-0.1, rel=0.1)
    assert [term.potential for term in team.terms] == [f"mean({one.potential})" for one in keeping.terms]
    assert effects(team) == pytest.approx([3 * one for one in effects(keeping)], rel=0.06)
    assert {term.scope for term in team.terms} == {"team"}


def test_the_tools_accept_what_is_proposed_of_a_chain():
    spec = replace(task(FEATURES), name="t")
    configs = [shaping_of(one, 200_000) for one in candidates_of(brief(candidates_wanted=6))]
    for place, config in enumerate(configs):
        check(config, spec)
        assert not any(nearly_equal(config, other, spec) for other in configs[:place])


@pytest.mark.parametrize(("reward", "beta"), [(1.0, 1.0), (0.25, 0.25), (50.0, 1.0), (None, 1.0)])
def test_a_success_earns_at_least_what_the_last_link_takes_back(reward, beta):
    """Or what a good rise allows, where that is less (2.0 in the brief, for two deviations)."""
    assert candidates_of(brief(evidence(reward)))[0].beta == beta


def proposes_a_chain(summary) -> bool:
    return any(["third"] in names(one) for one in candidates_of(brief(summary)))


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("nothing waits", {name: {"waits": None} for name in ROWS}),
        ("it waits for nobody that is known", {"third": {"waits": ROWS["third"]["waits"] | {"until": ["else"]}}}),
        ("the last one is a switch", {"third": {"waits": ROWS["third"]["waits"] | {"then": [4.0, 0.1]}}}),
        ("the last one is as far at a success", {"third": {"at_success": [9.0, 10.0, 1.0]}}),
        ("no success was seen", {name: {"at_success": None} for name in ROWS}),
        ("the first one is a rare event", {"first": {"mean": 9.8, "standard_deviation": 0.5}}),
        (
            "the parts follow at once",
            {"first": {"at_success": [0.0, 5.0, 4.0]}, "second": {"at_success": [0.0, 10.0, 3.0]}},
        ),
        ("all come to their best together", {name: {"at_success": [0.0, 9.0, 1.0]} for name in ROWS}),
    ],
)
def test_no_chain_where_there_is_none(what, changes):
    """Negative controls: each takes one part of the evidence away."""
    changes = changes if "third" in changes else {"third": {}} | changes
    summary = evidence(**changes)
    if what == "the first one is a rare event":
        # Nothing else is left that could come first.
        summary["features"] = [row for row in summary["features"] if row["name"] != "second"]
    assert not proposes_a_chain(summary), what
    assert proposes_a_chain(evidence())


def test_a_switch_is_no_link_and_a_feature_at_its_best_from_the_start_is_only_kept():
    for candidate in candidates_of(brief(candidates_wanted=4)):
        assert ["turned"] not in names(candidate)
        weights = dict(zip([name for [name] in names(candidate)], effects(candidate), strict=True))
        assert "mess" not in weights or abs(weights["mess"]) < 0.2 * abs(9 * weights["third"])


def test_a_chain_of_two_is_one_too():
    two = evidence(third={"waits": ROWS["third"]["waits"] | {"until": ["first"]}})
    assert names(candidates_of(brief(two))[0]) == [["third"], ["first"]]


def test_a_chain_in_force_is_built_on_and_not_proposed_again():
    current = shaping_of(candidates_of(brief())[1], 0)
    later = candidates_of(brief(head=head(current, "improving", 1.0, 0.4), diagnosis={"stage": "improving"}))
    assert not any("One chain" in one.rationale for one in later)
    other = shaping_of(candidates_of(brief())[1].model_copy(update={"terms": candidates_of(brief())[1].terms[2:]}), 0)
    later = candidates_of(brief(head=head(other, "improving", 1.0, 0.4), diagnosis={"stage": "improving"}))
    assert any("One chain" in one.rationale for one in later)


def test_the_critic_names_the_order_of_a_chain_and_none_where_there_is_none():
    _, diagnosis = diagnose(critic_brief(features=[vars(one) for one in FEATURES]), summary=said(evidence()))
    words = " ".join(failure.description for failure in diagnosis.failures)
    assert "first (as good as it gets 30 steps before a success), then second" in words
    assert "shape first and second and third together" in diagnosis.advice
    apart = evidence(**{name: {"waits": None} for name in ROWS})
    _, diagnosis = diagnose(critic_brief(features=[vars(one) for one in FEATURES]), summary=said(apart))
    assert "follow one another" not in str(diagnosis.failures) and "chain" not in diagnosis.advice


def jumps(**changes):
    """A summary of a distance that jumps up at a success and a share that rises there, which nothing waits for."""
    features = (Feature("gap", "?", "team", 0.0, 9.0, "lower"), Feature("done", "?", "team", 0.0, 1.0, "higher"))
    rows = {
        "gap": {"mean": 4.0, "standard_deviation": 2.0, "over_time": [4.0, 4.0], "at_success": [1.0, 5.0, 2.0]},
        "done": {"mean": 0.1, "standard_deviation": 0.2, "over_time": [0.0, 0.2], "at_success": [0.0, 0.5, 9.0]},
    }
    summary = {"features": [{"name": name} | row | changes.get(name, {}) for name, row in rows.items()]}
    return generator_brief(features, evidence=summary, candidates_wanted=6)


def rise_at_success(candidate, summary):
    around = {row["name"]: row["at_success"] for row in summary["features"]}
    weights = {name: term.weight for term in candidate.terms for name in around if term.potential.startswith(name)}
    return sum(weight * (around[name][1] - around[name][0]) for name, weight in weights.items())


def test_a_term_that_counts_makes_up_for_what_a_success_takes_back():
    found = [one for one in candidates_of(jumps()) if "A success takes" in one.rationale]
    assert found and all(rise_at_success(one, jumps()["evidence"]) > 0 for one in found)
    [plain, *_] = candidates_of(jumps())
    assert rise_at_success(plain, jumps()["evidence"]) < 0


@pytest.mark.parametrize(
    "changes", [{"gap": {"at_success": [1.0, 0.5, 2.0]}}, {"done": {"at_success": [0.5, 0.5, 9.0]}}]
)
def test_nothing_is_made_up_for_where_nothing_falls_or_nothing_counts(changes):
    assert not any("A success takes" in one.rationale for one in candidates_of(jumps(**changes)))


def said(summary):
    return {"evidence": "E2", "summary": summary}
