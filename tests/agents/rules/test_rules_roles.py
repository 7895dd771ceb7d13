"""Tests of what holds for every role of the rules backend: determinism, termination, questions, no task words."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

from learning_signal.agents.rules import RulesClient
from learning_signal.tools.roles import ROLES
from tests.support.places import ROOT
from tests.support.rules_chat import (
    ENDING,
    Chat,
    coordinator_brief,
    critic_brief,
    diagnose,
    generator_brief,
    validator_brief,
)

# --- all roles

BRIEFS = {
    "critic": critic_brief,
    "generator": generator_brief,
    "validator": validator_brief,
    "coordinator": coordinator_brief,
}


@pytest.mark.parametrize("role", ROLES)
def test_the_same_conversation_gives_the_same_reply_with_ids_of_its_own(role):
    one, two = Chat(role, BRIEFS[role]()), Chat(role, BRIEFS[role]())
    one.ask(), two.ask()
    assert one.result == two.result and one.result.usage.prompt_tokens > 0
    other = Chat(role, BRIEFS[role](round=2))
    other.ask()
    assert {call.id for call in one.result.content}.isdisjoint(call.id for call in other.result.content)


@pytest.mark.parametrize("role", ROLES)
def test_one_client_holds_nothing_between_conversations(role):
    chat = Chat(role, BRIEFS[role]())
    chat.ask()
    first = chat.result.content
    later = Chat(role, BRIEFS[role](round=3))
    later.client = chat.client
    later.ask()
    again = Chat(role, BRIEFS[role]())
    again.client = chat.client
    again.ask()
    assert again.result.content == first


GARBAGE = (
    "",
    "null",
    "[]",
    "{}",
    "{",
    "ERROR: no",
    '{"evidence": "E1"}',
    '{"branch": "B1", "status": "running"}',
    '{"metrics": {"entropy": 1}, "points": {"entropy": ["x", 3]}}',
    '{"metrics": {"entropy": 1}, "points": [{"entropy": "x"}, 3]}',
    '{"summary": {"features": 3}}',
    '{"chosen": "c1", "ranking": [1]}',
    '{"chosen": 7}',
    '{"outcome": "maybe", "interval": 3}',
    '{"outcome": "pass", "interval": [null], "p": "x", "evidence": "E2"}',
    '{"outcome": "fail", "candidate": "c2", "after_this": {"confirmations_left": 9, "confirmable": ["c1", "c2"]}}',
    '{"outcome": "fail", "candidate": "c1", "after_this": {"confirmations_left": 9, "confirmable": ["c2"]}}',
    '{"outcome": "pass", "values": {"control": {"progress": {"branches": [1, "x"]}}, "candidate": 3}, "wins": 4}',
    "<html>",
    '{"answer": 3}',
)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("seed", range(12))
def test_garbage_never_raises_and_a_phase_ends_within_16_steps(role, seed):
    draw = random.Random(seed)
    brief = BRIEFS[role]()
    for key in draw.sample(sorted(brief), draw.randrange(4)):
        brief[key] = draw.choice([None, 3, "x", [], {}, [None], {"a": [1]}])
    chat = Chat(role, brief)
    for _ in range(16):
        calls = chat.ask()
        if isinstance(calls, str):
            return
        results = [draw.choice(GARBAGE) for _ in calls]
        if any(name in ENDING and not text.startswith("ERROR") for (name, _), text in zip(calls, results, strict=True)):
            return
        chat.reply(*results)
    pytest.fail("the phase did not end")


@pytest.mark.parametrize("role", ROLES)
def test_a_question_without_a_conversation_gets_a_sentence(role):
    reply = Chat(role, None).question("What do you think?")
    assert isinstance(reply, str) and reply.endswith(".")


def test_critic_and_generator_answer_from_what_they_submitted():
    chat, diagnosis = diagnose(critic_brief())
    assert diagnosis.failures[0].description in chat.question("What is the main failure?")
    chat = Chat("generator", generator_brief())
    chat.ask()
    assert "One clear direction: gap" in chat.question("Which one first?")


def test_an_unknown_role_is_refused():
    with pytest.raises(ValueError, match="Found the role 'referee', expected one of critic"):
        RulesClient("referee")


def test_nothing_is_called_that_is_not_offered():
    chat = Chat("validator", validator_brief())
    reply = asyncio.run(chat.client.create(chat.messages, tools=[{"name": "query_metrics"}]))
    assert isinstance(reply.content, str) and "confirm" in reply.content


TASK_WORDS = (
    "landmark spread cover collision food shelf shelves predator prey evader pursu centre carry nearest spacing "
    "warehouse forag speed velocity"
).split()


def words_found(source: str) -> list[str]:
    return [word for word in TASK_WORDS if word in source.lower()]


def test_no_task_word_is_written_into_the_rules():
    folder = ROOT / "agents" / "rules"
    found = {path.name: words for path in sorted(folder.glob("*.py")) if (words := words_found(path.read_text()))}
    assert not found
    assert words_found("if 'Landmark' in name:") == ["landmark"]


def test_a_real_agent_runs_the_rules_through_a_phase():
    from autogen_agentchat.agents import AssistantAgent

    seen = []

    async def submit_proposal(candidates: list[dict]) -> str:
        """Submit."""
        seen.append(candidates)
        return json.dumps({"accepted": ["c1"]})

    agent = AssistantAgent("generator", RulesClient("generator"), tools=[submit_proposal], system_message="You.")
    brief = "Propose.\n" + json.dumps(generator_brief())
    asyncio.run(agent.run(task=brief))
    assert len(seen) == 1 and len(seen[0]) == 3
