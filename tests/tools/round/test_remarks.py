"""preview_shaping, and the remarks that a candidate must answer before it counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from learning_signal.agents.schemas import tool_schema
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.briefs.brief import brief
from learning_signal.tools.plan.settings import DeliberationSettings
from learning_signal.tools.toolbox import toolbox
from learning_signal.viewer.reports.explain import render_decision
from tests.support.ledger_helpers import tamper
from tests.support.scripted_session import SETTINGS, ScriptedSession, draft
from tests.support.trainer_double import by_arm

GOOD, OTHER = draft("coverage_distance", answer=None), draft("worst_coverage_distance", answer=None)
WRONG = draft("collisions", weight=2.0, answer=None)
STRONG = draft("10 * mean(speed)", weight=1.0, beta=10.0, answer=None)
ANSWER = "Agents that collide are at the same landmark, and that is where they should be."


@pytest.fixture
def session(tmp_path: Path) -> Iterator[ScriptedSession]:
    """A diagnosed session whose recorded features drift from their low to their high bounds."""
    with ScriptedSession(tmp_path, by_arm({"c1": 0.03})) as session:
        session.diagnose()
        yield session


def submit(session: ScriptedSession, *candidates: dict[str, Any]) -> dict[str, Any]:
    return session.call("submit_proposal", candidates=candidates)


def refused(session: ScriptedSession, *candidates: dict[str, Any]) -> ToolRefused:
    with pytest.raises(ToolRefused) as found:
        submit(session, *candidates)
    assert session.rows("candidates") == session.context.round.proposals == []
    return found.value


def told(session: ScriptedSession, role: str) -> dict[str, Any]:
    return json.loads(brief(session.context, role).partition("\n")[2])


# preview_shaping ------------------------------------------------------------------------------


def previewed(session: ScriptedSession, *candidates: dict[str, Any]) -> dict[str, Any]:
    return session.call("preview_shaping", candidates=candidates)


def test_a_preview_is_evidence_and_trains_nothing(session: ScriptedSession) -> None:
    computed = list(session.pool.computed)
    found = previewed(session, GOOD, STRONG)
    assert found["evidence"] == "E2" and found["env_steps"] == 200 and found["good_rise"] == 2.5
    assert session.pool.computed == computed and session.rows("candidates") == []
    good, strong = found["candidates"]
    assert good["rise"]["all"] == good["terms"][0]["rise"] == pytest.approx(-7.1, abs=0.1)
    assert good["rise"]["best_third_of_good_rise"] == pytest.approx(good["rise"]["best_third"] / 2.5, rel=1e-3)
    assert good["terms"][0]["pays_for"] == {"coverage_distance": {"pays": "lower", "declared": "lower", "agrees": True}}
    assert (good["at_rewarded_steps"], good["remarks"]) == (None, [])  # nobody scores
    assert strong["terms"][0]["pays_for"]["speed"] == {"pays": "higher", "declared": None, "agrees": None}
    assert len(strong["remarks"]) == 2 and len(json.dumps(found)) < 1800


def test_both_its_agents_have_it_and_are_told_that_it_is_no_oracle(session: ScriptedSession) -> None:
    for role in ("critic", "generator"):
        (tool,) = (tool for tool in toolbox(session.context, role) if tool.name == "preview_shaping")
        assert "no oracle" in tool.description.lower() and tool.evidence
        properties = tool_schema(tool)["parameters"]["properties"]["candidates"]["items"]["properties"]
        assert set(properties) == {"terms", "beta", "anneal_steps"}
        assert all("description" in each for each in properties.values())
    assert "preview_shaping" not in [tool.name for tool in toolbox(session.context, "validator")]


def test_without_behaviour_there_is_no_preview(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"deliberation": DeliberationSettings(behaviour=False)})
    with ScriptedSession(tmp_path, by_arm({}), settings=settings) as session:
        names = [tool.name for role in ("critic", "generator") for tool in toolbox(session.context, role)]
        assert "preview_shaping" not in names and "submit_proposal" in names


def test_a_preview_takes_shapings_without_words_and_says_what_annealing_leaves(session: ScriptedSession) -> None:
    bare = {"terms": GOOD["terms"], "beta": 1.0, "anneal_steps": 1600}
    (found,) = previewed(session, bare)["candidates"]
    assert found["beta_after_a_branch"] == 0.75  # a branch takes 400 env steps
    with pytest.raises(ToolRefused, match="anneal: unknown field"):
        previewed(session, {"terms": GOOD["terms"], "beta": 1.0, "anneal": 1600})


def test_one_candidate_that_cannot_be_previewed_does_not_cost_the_others(session: ScriptedSession) -> None:
    first, second = previewed(session, draft("no_such_feature"), GOOD)["candidates"]
    assert "no_such_feature" in first["error"] and second["candidate"] == 2 and "rise" in second
    with pytest.raises(ToolRefused, match="candidate 1: .*no_such_feature"):
        previewed(session, draft("no_such_feature"))


# the answer -----------------------------------------------------------------------------------


def test_a_wrong_sign_is_refused_with_what_to_do(session: ScriptedSession) -> None:
    refusal = refused(session, GOOD, WRONG)
    assert (
        'candidate 2 (of 2): term 1 ("collisions", weight 2) pays for higher collisions, declared "lower is better".'
        in str(refusal)
    )
    assert "candidate 1" not in str(refusal) and "in its field answer" in str(refusal)
    assert refusal.fields == {
        "code": "candidates",
        "refused": [],
        "remarked": [{"candidate": 2, "kinds": ["wrong sign"]}],
    }


def test_an_answered_candidate_counts_and_the_answer_is_kept(session: ScriptedSession) -> None:
    refused(session, GOOD, WRONG)
    assert submit(session, GOOD, WRONG | {"answer": ANSWER}) == {"accepted": ["c1", "c2"]}
    sound, doubtful = session.candidates()
    assert (sound.remarks, sound.answer) == ((), None)
    assert ([each.kind for each in doubtful.remarks], doubtful.answer) == (["wrong sign"], ANSWER)
    (row,) = session.rows("remarks")
    assert row["candidate_id"] == session.rows("candidates")[1]["id"]
    assert (json.loads(row["remarks"]), row["answer"]) == ([doubtful.remarks[0].text], ANSWER)
    assert session.recalled().round.proposals == session.context.round.proposals, "a resume reads it back"


def test_whoever_judges_reads_remark_and_answer(session: ScriptedSession) -> None:
    submit(session, GOOD, WRONG | {"answer": ANSWER})
    remark = session.candidates()[1].remarks[0].text
    for cards in (told(session, "validator")["candidates"], told(session, "coordinator")["proposals"][0]):
        assert "remarks_of_code" not in cards[0]
        assert (cards[1]["remarks_of_code"], cards[1]["answer"]) == ([remark], {"generator_says": ANSWER})


def test_explain_shows_remark_and_answer(session: ScriptedSession) -> None:
    from rich.console import Console

    submit(session, GOOD, WRONG | {"answer": ANSWER})
    session.screen()
    session.confirm("c1")
    session.validate("c1", "pass")
    session.call("promote", candidate="c1", reason="It passed.")
    with Reader.open(session.ledger.path) as reader:
        chain = explain(reader)
    assert [(len(each.remarks), each.answer) for each in chain.candidates] == [(0, None), (1, ANSWER)]
    console = Console(width=100, record=True, file=open("/dev/null", "w"))
    console.print(render_decision(chain))
    shown = " ".join(console.export_text().split())
    assert 'remark of code: term 1 ("collisions", weight 2) pays for higher collisions, declared "lower is' in shown
    assert shown.count("answered: “Agents that collide") == shown.count("remark of code") == 1


def test_verify_finds_a_remark_that_was_changed_or_is_missing(session: ScriptedSession) -> None:
    submit(session, GOOD, WRONG | {"answer": ANSWER})
    assert [each for each in session.findings() if each.table == "remarks"] == []
    for change in ("UPDATE remarks SET answer = 'because'", "DELETE FROM remarks"):
        tamper(session.ledger.path, change)
        (found,) = [each for each in session.findings() if each.table == "remarks"]
        assert found.row.endswith("/P1.0/c2") and found.problem == "the remarks are not those of its proposal"


def test_an_answer_of_blanks_is_none(session: ScriptedSession) -> None:
    refused(session, WRONG | {"answer": "  "})


def test_a_changed_candidate_needs_no_answer(session: ScriptedSession) -> None:
    refused(session, GOOD, WRONG)
    assert submit(session, GOOD, draft("collisions", answer=None))["accepted"] == ["c1", "c2"]


def test_a_candidate_that_is_never_answered_is_left_out_where_others_stand(session: ScriptedSession) -> None:
    refused(session, WRONG, GOOD, OTHER)
    found = submit(session, WRONG, GOOD, OTHER)
    assert found == {"accepted": ["c1", "c2"], "left_out": ["candidate 1: its remark was not answered"]}
    assert [each.shaping.terms[0].potential for each in session.candidates()] == [
        "coverage_distance",
        "worst_coverage_distance",
    ]


def test_alone_it_is_refused_again_and_again(session: ScriptedSession) -> None:
    for _ in range(3):
        assert "pays for higher collisions" in str(refused(session, WRONG))
    refused(session, WRONG, STRONG)  # the second one is new
    refused(session, WRONG, STRONG)  # and nothing stands
    assert submit(session, WRONG, STRONG | {"answer": ANSWER})["accepted"] == ["c1"]


def test_a_new_doubtful_candidate_is_told_before_it_is_left_out(session: ScriptedSession) -> None:
    refused(session, GOOD, WRONG)
    refused(session, GOOD, WRONG | {"beta": 0.5})
    assert submit(session, GOOD, WRONG | {"beta": 0.5})["accepted"] == ["c1"]


def test_remarks_are_told_beside_what_cannot_be_used(session: ScriptedSession) -> None:
    refusal = refused(session, draft("nothing"), WRONG, GOOD)
    assert [f"candidate {place} (of 3): " in str(refusal) for place in (1, 2, 3)] == [True, True, False]
    assert (refusal.fields["refused"], refusal.fields["remarked"][0]["candidate"]) == ([1], 2)


def test_what_was_told_survives_a_resume(session: ScriptedSession) -> None:
    refused(session, GOOD, WRONG)
    session.resume()
    assert submit(session, GOOD, WRONG)["accepted"] == ["c1"]


@pytest.mark.parametrize(
    ("candidate", "kinds"),
    [
        (STRONG, ["no direction", "too strong"]),
        (draft("coverage_distance", weight=-10.0, answer=None), ["too strong"]),
        (draft("covered_fraction", weight=0.1, answer=None), ["too weak"]),
        (draft("-1 * coverage_distance", weight=-1.0, answer=None), ["wrong sign"]),
    ],
)
def test_strengths_and_expressions_get_remarks_too(
    session: ScriptedSession, candidate: dict[str, Any], kinds: list[str]
) -> None:
    assert refused(session, candidate).fields["remarked"] == [{"candidate": 1, "kinds": kinds}]
    assert submit(session, candidate | {"answer": ANSWER})["accepted"] == ["c1"]
