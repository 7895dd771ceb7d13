"""The rules' Generator looks at its ideas on recorded episodes first: what contradicts itself is mended or dropped."""

from __future__ import annotations

import json
from typing import Any

import pytest

from learning_signal.agents.rules.ideas import from_shaping
from tests.support.rules_chat import TOOLS, Chat, behaviour, generator_brief

EARNED = 1.0


@pytest.fixture(autouse=True)
def previews_are_offered(monkeypatch):
    monkeypatch.setitem(TOOLS, "generator", ("query_metrics", "preview_shaping", "submit_proposal"))


def brief() -> dict[str, Any]:
    """A brief whose evidence has successes worth ``EARNED``, at which ``filled`` rises by 0.2."""
    told = json.loads(json.dumps(generator_brief()))
    told["evidence"] = summary = behaviour()
    summary["successes"] = {"reward": EARNED}
    for row in summary["features"]:
        if row["name"] == "filled":
            row["at_success"] = [0.4, 0.6, 3.0]
    return told


def card(draft: dict[str, Any], *, wrong: str = "", change: float | None = None, falling: float = 0.9):
    """What a preview says of a draft: the term with this potential pays for the worse, and Phi changes so."""
    terms = [
        {"potential": term["potential"], "pays_for": {"x": {"agrees": term["potential"] != wrong}}}
        for term in draft["terms"]
    ]
    at = None if change is None else {"steps": 9, "change": change, "share_falling": falling}
    return {"terms": terms, "at_rewarded_steps": at}


def proposed(**found: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is previewed, and what is proposed where the preview finds this of each."""
    chat = Chat("generator", brief())
    [(name, looked_at)] = chat.ask()
    assert name == "preview_shaping"
    drafts = looked_at["candidates"]
    chat.reply({"evidence": "E3", "candidates": [card(each, **found) for each in drafts]})
    [(name, submitted)] = chat.ask()
    assert name == "submit_proposal"
    return drafts, submitted["candidates"]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return from_shaping(one).effect == from_shaping(other).effect


def test_ideas_that_agree_with_the_record_are_proposed_as_they_are():
    drafts, candidates = proposed()
    assert len(drafts) == 6 and len(candidates) == 3
    assert all(map(same, drafts, candidates))
    [(_, unseen)] = Chat("generator", generator_brief() | {"evidence": brief()["evidence"]}).ask()
    assert unseen["candidates"] == drafts, "all that is looked at is without words"


def test_a_term_against_the_declared_direction_is_left_out_and_an_idea_of_nothing_else_dropped():
    drafts, candidates = proposed(wrong="gap")
    assert any(len(each["terms"]) == 1 and each["terms"][0]["potential"] == "gap" for each in drafts)
    assert len(candidates) == 3 and all(from_shaping(each).terms for each in candidates)
    assert all(term["potential"] != "gap" for each in candidates for term in each["terms"])
    assert any("Without what pays for the worse direction" in each["rationale"] for each in candidates)


def test_what_a_success_takes_back_is_given_back_by_a_feature_that_it_improves():
    drafts, candidates = proposed(change=-0.8)
    assert all(any(term["potential"].startswith("filled") for term in each["terms"]) for each in candidates)
    first, before = candidates[0], drafts[0]
    assert first["terms"][:-1] == before["terms"] and "takes 0.8 back where 1 is earned" in first["rationale"]
    weight = first["terms"][-1]["weight"]
    assert first["beta"] * weight * 0.2 == pytest.approx(1.25 * 0.8, rel=0.05), "it gives a quarter more than was lost"


@pytest.mark.parametrize("found", [{"change": -0.7}, {"change": 0.4}, {"change": -0.8, "falling": 0.4}])
def test_a_small_or_rare_fall_at_successes_changes_nothing(found):
    """Negative control."""
    drafts, candidates = proposed(**found)
    assert all(map(same, drafts, candidates))


def test_without_a_preview_the_ideas_stand():
    chat = Chat("generator", brief())
    [(_, looked_at)] = chat.ask()
    chat.reply("ERROR: preview_shaping did not finish within 30 seconds and was stopped; go on without it.")
    [(name, submitted)] = chat.ask()
    assert name == "submit_proposal" and all(map(same, looked_at["candidates"], submitted["candidates"]))
