"""Tests of the rules Critic and Generator, conversation by conversation."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest

from learning_signal.marl.shaping import check, nearly_equal
from learning_signal.marl.tasks.base import Feature
from learning_signal.tools.candidates.examine import shaping_of
from tests.support.rules_chat import (
    FEATURES,
    OBSERVED,
    Chat,
    behaviour,
    candidates_of,
    critic_brief,
    diagnose,
    generator_brief,
    head,
    refusal,
    task,
)

# --- critic


def test_critic_gathers_evidence_and_cites_it():
    _, diagnosis = diagnose(critic_brief())
    assert diagnosis.stage == "exploring"
    said = " ".join(failure.description for failure in diagnosis.failures)
    assert "No reward signal" in said and "nearly random" in said and "oscillate" in said and "act alike" in said
    assert {one for failure in diagnosis.failures for one in failure.evidence} == {"E2", "E3"}
    assert re.search(r"1\. gap \(team, lower is better; mean 2\.5;.*-0\.55", diagnosis.advice)
    assert "Little to gain" in diagnosis.advice and "bumps" in diagnosis.advice.split("Little to gain")[1]


def test_critic_sees_entropy_collapse_and_regression_only_where_they_are():
    points = {"entropy": [1.5, 0.5, 0.1], "evaluation_progress": [0.4, 0.5, 0.2]}
    _, bad = diagnose(
        critic_brief(history=[{"round": 1, "action": "promote", "reason": "It passed."}]),
        {"evidence": "E3", "points": points},
    )
    said = " ".join(failure.description for failure in bad.failures)
    assert "Entropy collapse" in said and "Regression: progress is 0.2" in said and "round 1, promote" in said
    points = {"entropy": [1.5, 0.5, 1.0], "evaluation_progress": [0.4, 0.5, 0.6]}
    _, good = diagnose(critic_brief(), {"evidence": "E3", "points": points})
    said = " ".join(failure.description for failure in good.failures)
    assert "collapse" not in said and "Regression" not in said


def test_the_critic_reads_the_floor_and_the_limit_of_a_summary_from_its_brief():
    low = head(sparse=0.4)
    for floor, said in ((0.5, True), (0.25, False)):
        _, diagnosis = diagnose(critic_brief(head=low, gate={"floor": floor}))
        assert ("No reward signal" in diagnosis.failures[0].description) == said
    chat = Chat("critic", critic_brief(lengths={"evidence_tokens": 700}))
    [_, (_, arguments)] = chat.ask()
    assert arguments["most_tokens"] == 700


def test_the_critic_judges_entropy_only_against_a_largest_value():
    points = {"evidence": "E3", "points": {"entropy": [1.6, -0.5]}}
    _, choices = diagnose(critic_brief(), points)
    _, numbers = diagnose(critic_brief(learner={"algorithm": "mappo"}), points)
    assert "Entropy collapse" in str(choices.failures) and "ntropy" not in str(numbers.failures)


def test_facts_of_the_system_prompt_count_as_the_brief_does():
    """Features as a table; an example of a call in the prompt is no fact."""
    brief = generator_brief()
    facts = {name: brief.pop(name) for name in ("task", "features", "limits", "good_rise", "gate", "lengths")}
    columns = ["name", "description", "scope", "low", "high", "direction"]
    facts["features"] = {"columns": columns, "rows": [[one[name] for name in columns] for one in facts["features"]]}
    prompt = f'A call: {{"candidates": []}}\n\n## The session\n\n{json.dumps(facts)}\n'
    assert Chat("generator", brief, prompt).ask() == Chat("generator", generator_brief()).ask()
    assert "no feature" in Chat("generator", brief).ask()


FAILING = {"share": 0.4, "with_return": 0.7, "with_progress": None}


def test_bad_endings_and_agents_that_leave_are_named():
    actions = {"idle": None, "oscillation": [None, 0.1], "role_difference": None, "present": [1.0, 0.3]}
    summary = behaviour(ended_early=FAILING, actions=actions)
    _, diagnosis = diagnose(critic_brief(), summary={"evidence": "E2", "summary": summary})
    said = str(diagnosis.failures)
    assert "0.4 of the episodes end early" in said and "there in 1, 0.3 of the steps" in said
    _, diagnosis = diagnose(critic_brief())
    assert "end early" not in str(diagnosis.failures) and "leave before" not in str(diagnosis.failures)


def test_critic_works_with_less_evidence_and_gives_up_in_words_without_any():
    chat = Chat("critic", critic_brief())
    chat.ask()
    chat.reply("ERROR: no metrics", {"evidence": "E7", "summary": behaviour()})
    [(name, arguments)] = chat.ask()
    assert name == "submit_diagnosis"
    assert {one for row in arguments["failures"] for one in row["evidence"]} == {"E7"}
    chat = Chat("critic", critic_brief())
    while not isinstance(reply := chat.ask(), str):
        assert len(chat.messages) < 20
        chat.reply(*["ERROR: broken"] * len(reply))
    assert "cannot diagnose" in reply


def test_critic_asks_for_a_smaller_summary_after_a_refusal():
    chat = Chat("critic", critic_brief())
    [_, (_, first)] = chat.ask()
    chat.reply({"evidence": "E1", "metrics": {}}, "ERROR: too long")
    [(name, second)] = chat.ask()
    assert name == "summarize_trajectories" and second["most_tokens"] < first["most_tokens"]


# --- generator


def test_generator_follows_directions_and_observed_scale():
    candidates = candidates_of(generator_brief())
    assert len(candidates) == 3
    [first] = candidates[0].terms
    assert (first.potential, first.scope) == ("gap", "team")
    assert candidates[0].beta * first.weight == pytest.approx(-1 / 0.8, rel=0.1)
    for term in (term for candidate in candidates for term in candidate.terms if term.potential.isidentifier()):
        direction = task().feature(term.potential).direction
        assert (term.weight > 0) == (direction == "higher")
    assert candidates[0].forecast.measure == "progress" and 0 < candidates[0].forecast.probability < 1


def phi(candidate, **values):
    """beta * Phi of a candidate where every feature has the value given, or 0."""
    state = {one.name: np.zeros(1 if one.scope == "team" else (1, 3)) for one in FEATURES}
    state |= {name: np.full_like(state[name], value) for name, value in values.items()}
    return candidate.beta * float(check(shaping_of(candidate, 0), task()).total(state).max())


@pytest.mark.parametrize(("early", "origin"), [(0.0, 1.0), (FAILING, 0.0), (FAILING | {"with_return": -0.7}, 1.0)])
def test_a_potential_is_0_where_an_episode_is_best_left(early, origin):
    """Phi counts as 0 after the end: at success it is 0 already - or at failure, where endings are failures."""
    features = (FEATURES[1],)
    observed = {"filled": (0.2, 0.3, 0.25, 0.2, 0.9)}
    brief = generator_brief(features, evidence=behaviour(features, observed, ended_early=early), candidates_wanted=2)
    for candidate in candidates_of(brief):
        assert phi(candidate, filled=origin) == pytest.approx(0, abs=0.1)
        assert phi(candidate, filled=1.0) > phi(candidate, filled=0.5) > phi(candidate, filled=0.0)


def test_strength_follows_what_can_be_earned():
    small, large = (candidates_of(generator_brief(good_rise=rise)) for rise in (0.1, 2.0))
    for one, other in zip(small, large, strict=True):
        assert one.terms == other.terms and one.beta == pytest.approx(other.beta / 20)


def test_a_feature_that_hardly_leaves_its_bad_end_is_not_paid_by_its_tiny_deviation():
    features = (Feature("held", "?", "team", 0.0, 1.0, "higher"),)
    rare = behaviour(features, {"held": (0.0, 0.1, 0.06, 0.1, 0.9)})
    [first, *_] = candidates_of(generator_brief(features, evidence=rare))
    assert first.terms[0].weight == pytest.approx(4 / 0.94, rel=0.05)  # a quarter of the way, not 1 / 0.1


def test_without_any_direction_the_strongest_tie_to_success_is_tried_openly():
    features = (FEATURES[3],)
    brief = generator_brief(features, evidence=behaviour(features, OBSERVED | {"width": (1.0, 1.1, 1.0, 0.4, -0.2)}))
    [first, *_] = candidates_of(brief)
    assert first.terms[0].potential == "width" and first.terms[0].weight < 0
    assert "no declared direction" in first.rationale


def test_generator_proposes_what_the_tools_accept():
    configs = [shaping_of(one, 200_000) for one in candidates_of(generator_brief())]
    for place, config in enumerate(configs):
        check(config, task())
        assert not any(nearly_equal(config, other, task()) for other in configs[:place])


@pytest.mark.parametrize("seed", range(3))
def test_renamed_features_change_names_and_nothing_else(seed):
    names = [f"x{index}_{random.Random(seed + index).randrange(10**6)}" for index in range(len(FEATURES))]
    new = dict(zip((one.name for one in FEATURES), names, strict=True))
    renamed = [Feature(new[one.name], "?", one.scope, one.low, one.high, one.direction) for one in FEATURES]
    # The feature that is no identifier cannot stand in expressions: it is renamed to one that cannot either.
    renamed[4] = Feature("own thing", "?", "agent", 0.0, 3.0, "lower")
    new["own gap"] = "own thing"
    observed = {new[name]: values for name, values in OBSERVED.items()}
    brief = generator_brief(renamed, evidence=behaviour(renamed, observed))
    for one, other in zip(candidates_of(generator_brief()), candidates_of(brief), strict=True):
        assert one.beta == other.beta
        for term, twin in zip(one.terms, other.terms, strict=True):
            expected = re.sub("|".join(map(re.escape, new)), lambda found: new[found.group()], term.potential)
            assert (twin.potential, twin.weight, twin.scope) == (expected, term.weight, term.scope)


def test_a_reversed_direction_reverses_the_weight():
    mirrored = Feature("gap", "Now higher is better.", "team", -9.0, 0.0, "higher")
    features = (mirrored, *FEATURES[1:])
    observed = OBSERVED | {"gap": (-2.6, -2.4, -2.5, 0.8, 0.55)}
    [first] = candidates_of(generator_brief(features, evidence=behaviour(features, observed)))[0].terms
    assert first.potential == "gap" and first.weight == pytest.approx(1 / 0.8, rel=0.1)


def test_a_direction_is_believed_over_a_correlation_and_none_is_never_led_with():
    observed = OBSERVED | {"gap": (2.6, 2.4, 2.5, 0.8, 0.2), "width": (1.0, 1.1, 1.0, 0.4, 0.95)}
    candidates = candidates_of(generator_brief(evidence=behaviour(observed=observed)))
    for term in (term for candidate in candidates for term in candidate.terms):
        assert term.potential != "width"
        assert term.potential != "gap" or term.weight < 0


def test_what_successes_leave_behind_does_not_count_against_a_feature():
    """A distance that grows when what was close is gone goes with the return, and yet lower is better."""
    bent = OBSERVED | {"gap": (2.6, 2.4, 2.5, 0.8, 0.9)}
    summary = behaviour(observed=bent)

    def place(summary) -> int:
        _, diagnosis = diagnose(critic_brief(), summary={"evidence": "E2", "summary": summary})
        return re.findall(r"\d\. (own gap|gap|filled|reach) \(", diagnosis.advice).index("gap")

    told = behaviour(observed=bent)
    told["features"][0]["with_next_success"] = [-0.6, None]
    assert place(told) == 0 < place(summary), "negative control: by the correlation it comes later"
    _, diagnosis = diagnose(critic_brief(), summary={"evidence": "E2", "summary": told})
    assert "-0.60 with the next success" in diagnosis.advice and "+0.90" not in diagnosis.advice
    told["features"][0]["with_next_success"] = [None, -0.6]  # only later ones are many enough
    assert place(told) == 0


@pytest.mark.parametrize("groups", [False, True])
def test_critic_says_that_an_action_ignores_the_state_where_the_evidence_does(groups):
    words = "load (53 % of the steps) hardly depends on the state: at most 7 points between bands of any of 4 features."
    use = {"in_words": [words], "hardly": {"load": [0.53, 0.07]}}
    summary = behaviour(action_use={"scouts": {"clearly": {}}, "others": use} if groups else use)
    _, diagnosis = diagnose(critic_brief(), summary={"evidence": "E2", "summary": summary})
    (failure,) = [each for each in diagnosis.failures if words in each.description]
    assert failure.evidence == ("E2",)
    _, diagnosis = diagnose(critic_brief())
    assert not any("ignore the state" in each.description for each in diagnosis.failures)


def test_an_undirected_feature_is_used_late_with_the_sign_of_its_correlation_and_said_so():
    features = (FEATURES[0], FEATURES[3])
    brief = generator_brief(features, candidates_wanted=4)
    candidates = candidates_of(brief)
    used = [place for place, one in enumerate(candidates) for term in one.terms if "width" in term.potential]
    assert used and used[0] > 0
    guess = candidates[used[0]]
    assert guess.terms[0].weight > 0 and "no declared direction" in guess.rationale
    weak = behaviour(features, OBSERVED | {"width": (1.0, 1.1, 1.0, 0.4, 0.3)})
    for one in candidates_of(brief | {"evidence": weak}):
        assert all("width" not in term.potential for term in one.terms)


def test_generator_without_evidence_uses_declared_bounds_and_the_order_of_advice():
    advice = {"critic_says": {"stage": "exploring", "failures": [], "advice": "Try filled first, then gap."}}
    first = candidates_of(generator_brief(evidence=None, diagnosis=advice))[0]
    assert first.terms[0].potential == "filled - 1" and first.terms[0].weight * first.beta == pytest.approx(4.0)


def tried(candidate, round=1, difference=0.01, outcome="screened out"):
    return {
        "round": round,
        "candidate": "c1",
        "shaping": shaping_of(candidate, 0).model_dump(mode="json"),
        "shaping_text": "x",
        "outcome": outcome,
        "measure": "progress",
        "difference": difference,
    }


def test_generator_does_not_repeat_what_was_tried_or_is_in_force():
    first = candidates_of(generator_brief())
    again = candidates_of(generator_brief(tried=[tried(one, difference=-0.1) for one in first]))
    shapings = [shaping_of(one, 0) for one in (*first, *again)]
    for place, shaping in enumerate(shapings):
        assert not any(nearly_equal(shaping, other, task()) for other in shapings[:place])


def test_a_refinement_keeps_the_direction_that_came_closest():
    rows = [
        tried(one, difference=value)
        for one, value in zip(candidates_of(generator_brief()), (0.03, 0.01, -0.02), strict=True)
    ]
    for candidate in candidates_of(generator_brief(refinement=1, tried=rows)):
        assert any("gap" in term.potential for term in candidate.terms)


@pytest.mark.parametrize("stage", ["emerging", "improving", "plateau", "regressing"])
def test_every_stage_gives_distinct_acceptable_candidates(stage):
    current = shaping_of(candidates_of(generator_brief())[0], 0)
    brief = generator_brief(
        head=head(current, stage, 1.0, 0.4), diagnosis={"critic_says": {"stage": stage, "advice": ""}}
    )
    candidates = candidates_of(brief)
    shapings = [shaping_of(one, 200_000) for one in candidates]
    for place, shaping in enumerate(shapings):
        check(shaping, task())
        assert not any(nearly_equal(shaping, one, task(), 200_000) for one in [current, *shapings[:place]])
    assert candidates[0].forecast.measure == "sparse_return"
    if stage == "regressing":
        assert shapings[0].beta == pytest.approx(current.beta / 2)
    if stage == "plateau":
        assert any(shaping.anneal for shaping in shapings)


NEARLY_EQUAL = (
    "Nothing was accepted. candidate 2: it is equal or nearly equal to your candidate 1, expected a new one: change "
    "terms or strength."
)


def resubmitted(sentence, **fields):
    """The terms of a generator's first submission, and of the one after it was refused."""
    chat = Chat("generator", generator_brief())
    [(_, before)] = chat.ask()
    chat.reply(refusal(sentence, **fields))
    [(_, after)] = chat.ask()
    return ([row["terms"] for row in one["candidates"]] for one in (before, after))


@pytest.mark.parametrize("sentence", [NEARLY_EQUAL, "Number two is known.", "candidate 1: no. candidates.0: no."])
@pytest.mark.parametrize("fields", [{"code": "candidates", "refused": [2]}, {"code": "arguments", "refused": [2]}])
def test_generator_replaces_only_the_refused_candidates(sentence, fields):
    """Which ones is read from the fields of the refusal, whatever its sentence says."""
    old, new = resubmitted(sentence, **fields)
    assert old[0] in new and old[2] in new and old[1] not in new and len(new) == 3


@pytest.mark.parametrize("fields", [{}, {"code": "another", "refused": [2]}, {"code": "candidates", "refused": [9]}])
def test_generator_replaces_every_candidate_where_no_field_says_which(fields):
    """Negative control: the sentence alone says nothing to the rules."""
    old, new = resubmitted(NEARLY_EQUAL, **fields)
    assert len(new) == 3 and all(terms not in new for terms in old)


def remarked(*remarks, refused=()):
    """What is submitted before and after a refusal with these remarks, as (place, kinds)."""
    chat = Chat("generator", generator_brief())
    [(_, first)] = chat.ask()
    told = [{"candidate": place, "kinds": [kind]} for place, kind in remarks]
    chat.reply(refusal("Nothing was accepted.", code="candidates", refused=list(refused), remarked=told))
    [(name, second)] = chat.ask()
    assert name == "submit_proposal"
    return first["candidates"], second["candidates"]


def test_generator_answers_remarks_and_keeps_its_candidates():
    old, new = remarked((2, "too strong"), (3, "no direction"))
    assert [{**one, "answer": None} for one in new] == [{**one, "answer": None} for one in old]  # forecasts too
    assert ["answer" in one for one in new] == [False, True, True] and "typical difference" in new[1]["answer"]


def test_generator_replaces_what_pays_for_the_wrong_direction():
    old, new = remarked((2, "wrong sign"), (3, "too weak"))
    terms = [(one["terms"], one["beta"]) for one in new]
    assert len(new) == 3 and (old[1]["terms"], old[1]["beta"]) not in terms
    assert (old[0]["terms"], old[0]["beta"]) in terms and (old[2]["terms"], old[2]["beta"]) in terms


def test_generator_stops_after_endless_refusals():
    chat, seen = Chat("generator", generator_brief()), []
    while not isinstance(reply := chat.ask(), str):
        seen.append(json.dumps([(row["terms"], row["beta"]) for row in reply[0][1]["candidates"]]))
        chat.reply("ERROR: no")
    assert len(seen) <= 6 and len(set(seen)) == len(seen)
    assert "no acceptable candidate" in reply


def test_generator_says_so_where_nothing_can_be_shaped():
    assert "no feature" in Chat("generator", generator_brief((FEATURES[3],), evidence=None)).ask()


def test_weights_beyond_the_limit_move_into_beta():
    tiny = Feature("dust", "?", "team", 0.0, 0.02, "higher")
    observed = {"dust": (0.008, 0.008, 0.008, 0.004, 0.5)}
    [one, *_] = candidates_of(generator_brief((tiny,), evidence=behaviour((tiny,), observed)))
    assert abs(one.terms[0].weight) <= 10 and one.beta == 10
    assert "is the limit" in one.rationale
