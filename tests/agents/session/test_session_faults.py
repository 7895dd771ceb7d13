"""Whole sessions in which something goes wrong: training, workers, model servers, agents that never end."""

from __future__ import annotations

import asyncio
import json

import pytest

from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import notices, verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.claims.check import recheck
from learning_signal.tools.plan.settings import DeliberationSettings, session_rules
from tests.support.scripted_server import call, serving, text
from tests.support.session_helpers import Recorder, state_of, synthetic_workers, tiny_settings
from tests.support.session_helpers import resume_inline as resume
from tests.support.session_helpers import run_inline as run
from tests.support.synthetic_training import InlinePool


def sound(ledger) -> None:
    """Every hash, chain and statistic of the ledger is as computed anew, and no agent's words are unsupported."""
    with Reader.open(ledger) as reader:
        assert verify(reader, recompute, session_rules) == []
        assert notices(reader, recheck) == []


# what goes wrong in training ----------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 3])
def test_a_promotion_that_regresses_is_rolled_back(tmp_path, monkeypatch, rounds):
    monkeypatch.setenv("SYNTHETIC_WORLD", "regresses")
    settings = tiny_settings(tmp_path, rounds=rounds)
    outcome = run(settings)
    assert outcome.status == "done"
    with Reader.open(settings.ledger) as reader:
        decisions, moves = reader.decisions(), reader.main_run()
        probations = [each for each in reader.comparisons() if each.purpose == "probation"]
    promotion, undoing = decisions[:2]
    assert (promotion.action, undoing.action) == ("promote", "roll_back")
    assert undoing.segment_to == promotion.segment_from != promotion.segment_to
    assert undoing.shaping_to == promotion.shaping_from
    assert undoing.comparison_id == probations[0].id and probations[0].result["outcome"] == "regressed"
    assert [move.reason for move in moves][:4] == ["stage", "promote", "stage", "roll_back"]
    if rounds == 1:
        assert moves[-1].segment.id == moves[0].segment.id == promotion.segment_from
        totals = {name: outcome.after[name] for name in ("total_env_steps", "evaluation_env_steps")}
        assert outcome.after == outcome.before | totals and all(totals.values())
    else:
        assert moves[4].reason == "stage" and moves[4].segment.parent == promotion.segment_from
    assert outcome.promoted == []
    undone = next(each for each in outcome.rejected if each["round"] == 1 and each["outcome"] == "rolled back")
    assert undone["reason"] == probations[0].result["reason"]
    with Reader.open(settings.ledger) as reader:  # what the report says and what the ledger explains is one thing
        explained = {
            (number, one.name): (one.fate, one.detail)
            for number in range(1, rounds + 1)
            for one in explain(reader, f"{outcome.session_id}/R{number}").candidates
        }
        states = state_of(reader, outcome.session_id).tried
        of = (f"{outcome.session_id}/P1.0/{undone['candidate']}",)
        fates = reader.rows("SELECT fate FROM fates WHERE candidate_id = ? ORDER BY round", of)
    assert explained == {(one.round, one.candidate): (one.outcome, one.reason) for one in states}
    assert [row["fate"] for row in fates] == ["promoted", "rolled back"], "what it was at first is not overwritten"
    sound(settings.ledger)


@pytest.mark.parametrize(
    ("candidates", "moves"),
    [
        # A kept shaping goes on from the control's first confirm seed: what was trained is not thrown away.
        (1, ["stage", "keep", "stage", "keep", "stage"]),
        # No candidate is better than the control in the screen, so nothing is confirmed and no control was trained.
        (2, ["stage", "stage", "stage"]),
    ],
)
def test_nothing_is_promoted_where_nothing_helps(tmp_path, monkeypatch, candidates, moves):
    """Negative control of the promotions above."""
    monkeypatch.setenv("SYNTHETIC_WORLD", "nothing helps")
    deliberation = DeliberationSettings(candidates=candidates, refinements=0)
    settings = tiny_settings(tmp_path, rounds=2, deliberation=deliberation)
    outcome = run(settings)
    assert outcome.status == "done" and outcome.promoted == []
    with Reader.open(settings.ledger) as reader:
        assert [each.action for each in reader.decisions()] == ["keep", "keep"]
        assert [move.reason for move in reader.main_run()] == moves


def test_a_segment_whose_workers_die_fails_its_branch_and_not_the_session(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "workers of a candidate die")
    settings = tiny_settings(tmp_path)
    outcome = run(settings, pool=synthetic_workers)
    assert outcome.status == "done"
    with Reader.open(settings.ledger) as reader:
        (failed,) = [each for each in reader.segments().values() if each.status == "error"]
        screen = next(each for each in reader.comparisons() if each.purpose == "screen")
    assert "SIGKILL" in failed.reason
    assert [arm["failure"] is None for arm in screen.result["arms"]] == [True, False]
    assert len(outcome.promoted) == 1  # the other candidate went on
    sound(settings.ledger)


def test_where_every_candidate_diverges_the_round_keeps_the_shaping(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "candidates diverge")
    settings = tiny_settings(tmp_path)
    outcome = run(settings)
    assert outcome.status == "done"
    with Reader.open(settings.ledger) as reader:
        (verdict,), (decision,) = reader.verdicts(), reader.decisions()
        failed = [each.reason for each in reader.segments().values() if each.status == "error"]
    assert (verdict.outcome, verdict.candidate_id, decision.action) == ("inconclusive", None, "keep")
    assert "c1" in verdict.reason and "c2" in verdict.reason
    assert set(failed) == {"Training diverged: the value loss became NaN."}
    sound(settings.ledger)


def test_a_lost_worker_is_replaced_and_its_segment_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "worker of the main run dies")
    settings = tiny_settings(tmp_path)
    assert run(settings, pool=synthetic_workers).status == "done"
    assert (tmp_path / "segments" / "died").exists()
    with Reader.open(settings.ledger) as reader:
        assert {event.status for event in reader.events(kind="segment")} == {"ok"}
        assert reader.costs().cut_off == 200, "what the lost worker had reported"


def test_a_main_run_that_cannot_be_trained_fails_the_session_until_it_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "worker of every main run dies")
    settings = tiny_settings(tmp_path)
    outcome = run(settings, pool=synthetic_workers)
    assert outcome.status == "failed" and outcome.before is outcome.after is None
    assert "The main run stopped" in outcome.stop_reason and "SIGKILL" in outcome.stop_reason
    monkeypatch.delenv("SYNTHETIC_WORLD")
    assert resume(settings, pool=synthetic_workers).status == "done"


# backends -----------------------------------------------------------------------------------------


def test_a_backend_that_is_down_pauses_the_session_and_another_one_finishes_it(tmp_path):
    down = "openai-api/lab/some-model@http://127.0.0.1:9/v1?attempts=1&deadline=5"
    settings = tiny_settings(tmp_path)
    settings = settings.model_copy(update={"agents": settings.agents | {"generator": down}})
    outcome = run(settings)
    assert outcome.status == "paused"
    assert "127.0.0.1:9" in outcome.stop_reason and "\n" not in outcome.stop_reason
    assert resume(settings).status == "paused"  # it is still down
    finished = resume(settings, agents={"generator": "rules"})
    assert finished.status == "done" and finished.promoted
    with Reader.open(settings.ledger) as reader:
        generators = [(each.spec, each.source) for each in reader.agents() if each.role == "generator"]
    assert generators == [(down, "default"), ("rules", "command line (resume)")]


DIAGNOSIS = {
    "stage": "exploring",
    "failures": [{"description": "Nobody covers anything.", "evidence": ["E1"]}],
    "advice": "Reward nearness.",
}


async def served(settings, role, *script, **options):
    """A session in which a scripted server over HTTP answers for one role, and the requests it got."""
    async with serving(*script) as server:
        spec = f"openai-api/lab/some-model@{server.address}?attempts=2&api_key_env=LAB_API_KEY"
        settings = settings.model_copy(update={"agents": settings.agents | {role: spec}})
        outcome = await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store), **options)
        return outcome, server.requests


def test_an_agent_over_http_is_recorded_and_its_key_is_not(tmp_path, monkeypatch):
    canary = "sk-canary-0123456789abcdef"
    monkeypatch.setenv("LAB_API_KEY", canary)
    settings = tiny_settings(tmp_path)
    outcome, requests = asyncio.run(
        served(
            settings,
            "critic",
            call("query_metrics", json.dumps({"names": ["progress"]}), content=f"I repeat what I was given: {canary}."),
            call("submit_diagnosis", json.dumps({"stage": "exploring"})),
            call("submit_diagnosis", json.dumps(DIAGNOSIS)),
        )
    )
    assert outcome.status == "done" and outcome.promoted
    assert [request.headers["authorization"] for request in requests] == [f"Bearer {canary}"] * 3
    refused = requests[2].body["messages"][-1]["content"]
    assert refused.startswith("ERROR: ") and "failures" in refused
    with Reader.open(settings.ledger) as reader:
        rows = reader.rows("SELECT * FROM llm_calls WHERE agent = 'critic' ORDER BY id")
        (diagnosis,) = reader.rows("SELECT body FROM diagnoses")
        assert reader.json(diagnosis["body"])["advice"] == "Reward nearness."
    assert [(row["model_requested"], row["model_served"]) for row in rows] == [("lab/some-model", "served-model")] * 3
    assert [(row["tokens_in"], row["tokens_out"], row["tokens_source"]) for row in rows] == [(11, 7, "server")] * 3
    assert (outcome.costs["tokens_in"]["critic"], outcome.costs["tokens_out"]["critic"]) == (33, 21)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"I repeat what I was given" in stored
    assert canary.encode() not in stored


def test_an_agent_that_never_calls_a_tool_is_nudged_and_then_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_API_KEY", "sk-anything-at-all")
    settings = tiny_settings(tmp_path, deliberation=DeliberationSettings(candidates=2, refinements=0, steps=8))
    thoughts = [text(f"Let me think about it {n} times.") for n in range(8)]
    outcome, requests = asyncio.run(served(settings, "critic", *thoughts))
    assert outcome.status == "done" and outcome.promoted, "a round without a diagnosis is a round"
    assert len(requests) == 8
    assert [request.body.get("tool_choice") for request in requests] == ["auto"] + ["required"] * 7
    nudges = [message["content"] for message in requests[-1].body["messages"] if message["role"] == "user"][1:]
    assert len(nudges) == 7 and all("calls no tool" in nudge and "submit_diagnosis" in nudge for nudge in nudges)
    assert "1 step is left" in nudges[-1] and "2 steps are left" in nudges[-2]
    with Reader.open(settings.ledger) as reader:
        (decision,) = reader.decisions()
        (error,) = reader.events(kind="error")
        (diagnosis,) = reader.rows("SELECT body FROM diagnoses")
        assert "the Critic did not finish within 8 steps" in reader.json(diagnosis["body"])["advice"]
    assert error.title.endswith("did not finish within 8 steps: the round goes on without a diagnosis.")
    assert decision.action == "promote"
    sound(settings.ledger)


def test_a_coordinator_that_never_decides_leaves_the_shaping_to_code_which_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_API_KEY", "sk-anything-at-all")
    settings = tiny_settings(tmp_path)
    outcome, _ = asyncio.run(served(settings, "coordinator", *[text(f"Hard to say {n} times.") for n in range(16)]))
    assert outcome.status == "done" and outcome.promoted == []
    with Reader.open(settings.ledger) as reader:
        (decision,), (verdict,) = reader.decisions(), reader.verdicts()
    assert verdict.outcome == "pass"  # what passed is not promoted behind the Coordinator's back
    assert (decision.action, decision.decided_by) == ("keep", "code")
    assert decision.reason == "The coordinator did not finish within 16 steps."
    assert decision.reason in outcome.rejected[0]["reason"]
    sound(settings.ledger)
