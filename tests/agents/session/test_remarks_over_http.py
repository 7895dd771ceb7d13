"""A Generator behind a real server that pays for the wrong direction: what it is told, and how its round ends."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from learning_signal.agents.session.session import run_session
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.read.verify import verify
from learning_signal.marl.gate.recompute import recompute
from learning_signal.tools.plan.settings import DeliberationSettings, session_rules
from tests.support.scripted_server import Reply, call, serving
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool

STEPS = 5


def draft(potential: str, weight: float, beta: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {
        "terms": [{"potential": potential, "weight": weight, "scope": "team"}],
        "beta": beta,
        "rationale": "It will help.",
        "forecast": {"measure": "progress", "change": 0.01, "probability": 0.9},
    } | fields


SOUND = draft("coverage_distance", -1.0)
WRONG = draft("collisions", 2.0)
HIDDEN = draft("3 - 1 / (1 + collisions)", 5.0)
STRONG = draft("10 * mean(speed)", 1.0, beta=10.0)


def submits(*candidates: dict[str, Any]) -> Reply:
    return call("submit_proposal", json.dumps({"candidates": candidates}))


def played(folder: Path, monkeypatch: pytest.MonkeyPatch, *script: Reply) -> tuple[Any, list[str], Any]:
    """The outcome of a session of one round, what the Generator was answered, and the explanation of its decision."""
    monkeypatch.setenv("LAB_API_KEY", "sk-canary-0123456789abcdef")
    settings = tiny_settings(folder, deliberation=DeliberationSettings(candidates=2, refinements=0, steps=STEPS))

    async def session() -> tuple[Any, list[str]]:
        async with serving(*script) as server:
            spec = f"openai-api/lab/some-model@{server.address}?attempts=2&api_key_env=LAB_API_KEY"
            served = settings.model_copy(update={"agents": settings.agents | {"generator": spec}})
            outcome = await run_session(served, observer=Recorder(), executor=InlinePool(served.store))
            return outcome, [str(each.body["messages"][-1]["content"]) for each in server.requests[1:]]

    outcome, answers = asyncio.run(session())
    assert outcome.status == "done"
    with Reader.open(settings.ledger) as reader:
        assert verify(reader, recompute, session_rules) == []
        return outcome, answers, explain(reader)


@pytest.mark.parametrize(
    ("candidate", "told"),
    [
        (WRONG, 'pays for higher collisions, declared "lower is better"'),
        (HIDDEN, 'pays for higher collisions, declared "lower is better"'),
        (STRONG, "no direction of speed is declared to be better"),
    ],
)
def test_what_is_never_answered_is_left_out_and_the_other_candidate_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, candidate: dict[str, Any], told: str
) -> None:
    outcome, answers, chain = played(tmp_path, monkeypatch, submits(candidate, SOUND))
    assert len(answers) == 1 and answers[0].startswith("ERROR: Nothing was accepted. candidate 1 (of 2): ")
    assert told in answers[0] and "say in its field answer" in answers[0]
    assert [each.shaping["terms"][0]["potential"] for each in chain.candidates] == ["coverage_distance"]
    assert outcome.promoted, "the sound candidate is judged as ever"


def test_an_answer_is_kept_beside_the_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "Agents that collide are at one landmark."
    script = submits(WRONG, SOUND), submits(WRONG | {"answer": answer}, SOUND)
    _, answers, chain = played(tmp_path, monkeypatch, *script)
    assert len(answers) == 1
    doubtful, sound = chain.candidates
    assert (doubtful.answer, len(doubtful.remarks)) == (answer, 1)
    assert (sound.answer, sound.remarks) == (None, ())


def test_a_round_of_nothing_but_doubts_is_kept_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The turns of the phase end it: no session hangs, and nothing is promoted."""
    outcome, answers, chain = played(tmp_path, monkeypatch, submits(WRONG, STRONG))
    assert 1 <= len(answers) < STEPS and all(answer.startswith("ERROR: ") for answer in answers)
    assert (outcome.promoted, chain.candidates, chain.decision.action) == ([], [], "keep")
