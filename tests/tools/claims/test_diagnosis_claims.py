"""A diagnosis against its evidence: honest numbers are never marked, changed ones mostly, and the sentence says why.

``data/strong_model.json`` has two recorded sessions of a strong model: what it read, and what it said of it.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from learning_signal.marl.segments.metrics import METRICS
from learning_signal.tools.claims.diagnosis import marks_of_diagnosis
from learning_signal.tools.claims.mark import Known
from learning_signal.tools.claims.numbers import written_numbers
from learning_signal.tools.claims.record import numbers_in, numbers_of
from learning_signal.tools.claims.round import RoundRecord, marks_of_rationale, marks_of_words
from learning_signal.tools.contracts import Diagnosis

STRONG = json.loads((Path(__file__).parent / "data" / "strong_model.json").read_text(encoding="utf-8"))
KNOWN = Known(
    stage="exploring",
    told={"head": {"env_steps": 150_400, "sparse_return": 0.24, "progress": 0.2}},
    bounds=(0.0, 1.0, 16.0, 25.0, 1.7918),
    features=("distance", "food_left"),
    metrics=tuple(METRICS),
    names=("load", "query_metrics"),
)
POINTS = {
    "source": "main",
    "points": [
        {"env_steps": 75_000, "entropy": 1.76, "sparse_return": 0.1105, "progress": 0.3},
        {"env_steps": 150_400, "entropy": 1.094, "sparse_return": 0.2366, "progress": 0.31},
    ],
}
SUMMARY = {
    "summary": {
        "episodes": 256,
        "features": [
            {"name": "distance", "low": 0.0, "high": 16.0, "over_time": [4.58, 3.27], "with_return": [-0.39, None]},
            {"name": "food_left", "low": 0.0, "high": 1.0, "over_time": [1.0, 0.734]},
        ],
        "ended_early": {"share": 0.0312},
    }
}
LISTING = {"metrics": {"entropy": "mean entropy of the policy, in nats, at most 1.79"}}
COLUMNS = ["name", "over_time", "with_return", "waits"]
TABLE = {
    "columns": COLUMNS,
    "rows": [
        ["distance", [4.58, 3.27], [-0.39, None], {"share": 0.678, "until": ["food_left"], "then": [0.523, 0.229]}],
        ["food_left", [1.0, 0.734], None, None],
    ],
}
EVIDENCE = {"E1": json.dumps(LISTING), "E2": json.dumps(SUMMARY), "E3": json.dumps(POINTS)}
EVIDENCE |= {"E4": json.dumps({"summary": {"features": TABLE}})}


def marks(description: str, *cited: str, advice: str = "Shape distance.", **fields: Any) -> list[str]:
    failures = [{"description": description, "evidence": list(cited or ("E3",))}]
    diagnosis = Diagnosis.model_validate({"stage": "exploring", "failures": failures, "advice": advice} | fields)
    return [mark.problem for mark in marks_of_diagnosis(diagnosis, EVIDENCE, KNOWN)]


@pytest.mark.parametrize(
    ("description", "cited"),
    [
        ("Entropy fell from 1.76 to 1.09 of at most 1.79.", "E3"),
        ("The sparse return went from 0.11 to 0.24 of 25 after 150 k env steps.", "E3"),
        ("The sparse return is 24 % of 1.", "E3"),
        ("Entropy fell by 0.67, from 1.76 to 1.09.", "E3"),
        ("distance falls from 4.6 to 3.3, and `food_left` ends at 73 %.", "E2"),
        ("Only 3 % of 256 episodes end early (ended_early).", "E2"),
        ("The rank correlation of distance with return is -0.39.", "E2"),
        ("All 3 agents `load` wherever they are.", "E2"),
        ("HEAD has a sparse return of 0.24 after 150,400 env steps.", "E2"),
        ("No number at all.", "E2"),
    ],
)
def test_what_the_evidence_has_is_not_marked(description, cited):
    assert marks(description, cited) == []


@pytest.mark.parametrize(
    ("description", "cited", "problem"),
    [
        ("Entropy collapsed to 0.01.", "E3", "says 0.01 of entropy, which is not in E3 (nearest of entropy 1.094)"),
        ("The sparse return is 24.9 of 25.", "E3", "says 24.9 of sparse_return"),
        ("The sparse return is 25 of 25.", "E3", "says 25 of sparse_return, which is not in E3"),
        ("The sparse return is 0.31.", "E3", "says 0.31 of sparse_return"),  # that is progress
        ("Entropy fell from 1.76 to 1.09.", "E2", "says 1.76 of entropy, which is not in E2 (no number of entropy)"),
        ("Entropy is 1.79.", "E1", "cites only E1, which defines metrics and has no value of any"),
        ("distance falls from 4.58 to 0.73.", "E2", "says 0.73 of distance"),  # that is food_left
        ("Progress rose by 0.15, from 0.3 to 0.31.", "E3", "says 0.15 of progress"),
        ("The correlation is +0.39.", "E2", "says +0.39"),
        ("They are 16 apart.", "E2", "says 16, which is not in E2"),  # a bound is no measurement
        ("They wait at `gate_3` for long.", "E2", "names gate_3, which is no feature and no metric here"),
    ],
)
def test_what_the_evidence_does_not_have_is_marked(description, cited, problem):
    found, *_ = marks(description, cited)
    assert found.startswith("failure 1 ") and problem in found


def test_the_stage_and_its_reason_are_held_against_the_record():
    (found,) = marks("No number.", stage="plateau")
    assert found == "stage says plateau, but the computed stage is exploring, and no stage_reason says why"
    assert marks("No number.", stage="plateau", stage_reason="Entropy has been 1.09 for long.") == []
    (found,) = marks("No number.", stage="plateau", stage_reason="Entropy is 0.5.")
    assert found.startswith("stage_reason says 0.5 of entropy")


@pytest.mark.parametrize(
    "advice",
    [
        "Shape `distance` with a weight of 0.37, then food_left; see `query_metrics`.",
        "1. distance (lower is better; 4.58 at the start), 2. food_left (0.734 at the end, of 1).",
        "Shape distance, so that it should fall to 0.5 within 12 steps; eating pays 0.067.",
        "Scale by 2.6 and anneal over 900,000 env steps. Only 3 % of the episodes end early.",
        "Entropy fell by 0.67, from 1.76 to 1.09: sharpen nothing yet.",
    ],
)
def test_advice_may_plan_and_quote_any_evidence(advice):
    assert marks("No number.", advice=advice) == []


@pytest.mark.parametrize(
    ("advice", "problem"),
    [
        ("Shape distance: it is 9.87 all the time.", "says 9.87 of distance, which is not in any evidence (nearest of"),
        ("Use distance first, as distance stays at 12.", "says 12 of distance"),
        ("Agents idle in 93 % of their steps.", "says 93 %"),
        ("The worst third ends at 0.61, so weigh it by 2.", "says 0.61"),
        ("Weigh distance by 0.5. Entropy is 0.01.", "says 0.01 of entropy"),
    ],
)
def test_measured_numbers_of_the_advice_must_be_in_evidence(advice, problem):
    (found,) = marks("No number.", advice=advice)
    assert found.startswith("advice ") and problem in found


def test_names_in_the_advice_must_exist():
    assert marks("No number.", advice="Use `exp(-distance / 2) - 1`.") == []
    (found,) = marks("No number.", advice="Use `exp(-velocity_x / 2)`.")
    assert found.startswith("advice names velocity_x")


# the recorded strong sessions ------------------------------------------------------------------------


def recorded(name: str) -> tuple[dict[str, Any], dict[str, str], Known, RoundRecord]:
    told = STRONG[name]
    evidence = {identity: json.dumps(result) for identity, result in told["evidence"].items()}
    known = Known(
        stage=told["stage"],
        told={"head": told["head"]},
        bounds=tuple(told["bounds"]),
        features=tuple(told["features"]),
        metrics=tuple(METRICS),
        names=tuple(told["actions"]),
    )
    results = told["results"]
    names = {result[key] for result in results for key in ("branch", "comparison") if key in result}
    numbers = [number for each in [*results, known.told] for number in numbers_in(each)]
    record = RoundRecord(
        ids=frozenset({*evidence, *names, "c1", "c2", "c3"}),
        outcomes={result["candidate"]: frozenset({result["outcome"]}) for result in results if "outcome" in result},
        numbers=tuple(numbers + [number for text in evidence.values() for number in numbers_of(text)]),
        evidence=evidence,
    )
    return told["words"], evidence, known, record


@pytest.mark.parametrize(
    ("name", "marked"),
    [
        # The mean distance of four evaluations, which the model had computed itself.
        ("foraging", ["failure 3 says 37 k, which is not in E3, E4 (nearest 38400)"]),
        # The brief said regressing, and no reason is given.
        ("rware", ["stage says exploring, but the computed stage is regressing, and no stage_reason says why"]),
    ],
)
def test_of_what_a_strong_model_said_next_to_nothing_is_marked(name, marked):
    words, evidence, known, record = recorded(name)
    diagnosis = Diagnosis.model_validate(words["diagnosis"])
    assert [mark.problem for mark in marks_of_diagnosis(diagnosis, evidence, known)] == marked
    for text in words["rationales"]:
        assert marks_of_rationale("rationale", text, record, known) == ()
    assert marks_of_words("reading", words["reading"], record, known) == ()
    assert marks_of_words("reason", words["reason"], record, known, promotes="c2") == ()


def test_most_of_the_same_numbers_are_found_where_they_are_changed():
    """Negative control: every number of the recorded diagnoses, changed by one of eight factors."""
    rng, changed, found = random.Random(0), 0, 0
    for name in STRONG:
        words, evidence, known, _ = recorded(name)
        for each in words["diagnosis"]["failures"]:
            for number in written_numbers(each["description"]):
                decimals = len(number.text.rstrip(" %").partition(".")[2])
                for _ in range(5):
                    lie = f"{number.value * rng.choice([0.1, 0.3, 0.5, 0.7, 1.5, 2, 3, 10]):.{decimals}f}"
                    lie += " %" if number.percent else ""
                    text = each["description"][: number.start] + lie + each["description"][number.end :]
                    false = words["diagnosis"] | {"stage": known.stage, "failures": [each | {"description": text}]}
                    marks = marks_of_diagnosis(Diagnosis.model_validate(false), evidence, known)
                    changed += 1
                    found += any(lie in mark.problem for mark in marks)
    assert changed > 200 and found > 0.65 * changed


def test_honest_numbers_in_usual_words_are_never_marked():
    """Property: of 1,000 sentences made of generated evidence, in usual ways of rounding, none is marked."""
    rng, marked, numbers = random.Random(1), [], 0
    for _ in range(1000):
        values = {name: [round(rng.uniform(0, 3), 4) for _ in range(6)] for name in ("entropy", "sparse_return")}
        over_time = [float(f"{rng.uniform(0, 16):.3g}") for _ in range(5)]
        share = float(f"{rng.uniform(0, 1):.3g}")
        evidence = {
            "E1": json.dumps(
                {"points": [dict(zip(values, each, strict=True)) for each in zip(*values.values(), strict=True)]}
            ),
            "E2": json.dumps(
                {
                    "table": {"columns": ["name", "start", "end"], "rows": [["distance", over_time[0], over_time[-1]]]},
                    "shares": {"idle": share},
                    "lines": [f"step 12: distance {over_time[2]:.2f}, reward {over_time[3]:.3f}"],
                }
            ),
        }
        first, last = values["entropy"][0], values["entropy"][-1]
        digits = rng.choice([1, 2, 3])
        sentences = (
            f"Entropy went from {first:.{digits}f} to {last:.{digits}f}.",
            f"Entropy moved by {abs(first - last):.2f}, from {first:.4f} to {last:.4f}, while nothing else did.",
            f"The sparse return is {values['sparse_return'][3]:.{digits}f} of at most 25.",
            f"distance starts at {over_time[0]:.2g} and ends at {over_time[-1]:.3g}.",
            f"Agents idle in {100 * share:.0f} % of their steps.",
            f"At step 12 the distance was {over_time[2]:.2f} and the reward {over_time[3]:.2f}.",
        )
        for sentence in sentences:
            failures = [{"description": sentence, "evidence": ["E1", "E2"]}]
            diagnosis = Diagnosis.model_validate({"stage": "exploring", "failures": failures, "advice": "Go on."})
            numbers += len(written_numbers(sentence))
            marked += [mark.problem for mark in marks_of_diagnosis(diagnosis, evidence, KNOWN)]
    assert numbers > 8000 and marked == []


@pytest.mark.parametrize(
    ("description", "found"),
    [
        ("distance falls from 4.58 to 3.27, food_left only to 0.734.", True),
        ("distance waits in 68 % of the states.", True),
        ("distance falls to 0.734.", False),
        ("food_left falls to 3.27.", False),
        ("distance waits in 71 % of the states.", False),
    ],
)
def test_a_number_of_a_table_of_features_is_found_under_the_name_of_its_row(description, found):
    assert (marks(description, "E4") == []) == found
