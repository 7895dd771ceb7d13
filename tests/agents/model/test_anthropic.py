"""Anthropic's protocol over real HTTP, with its own SDK: signed thinking comes back, a refusal is said once."""

from __future__ import annotations

import asyncio

import pytest
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    SystemMessage,
    UserMessage,
)

from learning_signal.agents.model.call import CallContext, Limits
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.stack.client import agent_client
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import SESSION
from tests.support.scripted_server import Reply, serving

pytest.importorskip("anthropic")

TOOLS = [{"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}]
LIMITS = Limits(attempts=3, timeout=30.0, deadline=60.0, backoff=0.01)
THINKING = {"type": "thinking", "thinking": "Is it 7?", "signature": "EqQB"}
HIDDEN = {"type": "redacted_thinking", "data": "EmwK"}


def message(*blocks, reason="tool_use"):
    """A reply of the Messages API."""
    return Reply(
        body={
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "claude-served",
            "content": list(blocks),
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": {"input_tokens": 11, "output_tokens": 7},
        }
    )


def used(place):
    return {"type": "tool_use", "id": f"toolu_{place}", "name": "look", "input": {"x": place}}


def thinking(request):
    """Thinks before every call, and refuses a history in which a call has lost its thinking."""
    turns = [each["content"] for each in request.body["messages"] if each["role"] == "assistant"]
    for turn in turns:
        if turn[:2] != [THINKING, HIDDEN]:
            words = "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."
            return Reply(400, {"type": "error", "error": {"type": "invalid_request_error", "message": words}})
    return message(THINKING, HIDDEN, {"type": "text", "text": "I look."}, used(len(turns)))


@pytest.fixture
def ledger(tmp_path):
    with Ledger.open(tmp_path / "log.db") as opened:
        opened.begin_session(id=SESSION, task="spread", algorithm="mappo", seed=0, config={}, code_version="test")
        yield opened


async def asked(ledger, script, turns, resumed):
    """The last reply after so many turns of a phase, and the requests."""
    messages = [SystemMessage(content="Be brief."), UserMessage(content="Go on.", source="session")]
    context, client, result = CallContext(1, "critic", "0"), None, None
    async with serving(script) as server:
        for turn in range(turns):
            context.step = str(turn)
            if client is None or resumed:
                spec = parse_spec(f"anthropic/claude-x@{server.address.removesuffix('/v1')}")
                key = {"ANTHROPIC_API_KEY": "sk-ant-canary-0123456789"}
                client = agent_client(
                    spec, "critic", ledger=ledger, session_id=SESSION, context=context, limits=LIMITS, environment=key
                )
            try:
                result = await client.create(messages, tools=TOOLS)
            finally:
                if resumed or turn == turns - 1:
                    await client.close()
            messages.append(AssistantMessage(content=result.content, thought=result.thought, source="critic"))
            if isinstance(result.content, str):
                messages.append(UserMessage(content="Call a tool.", source="session"))
                continue
            answers = [
                FunctionExecutionResult(content="7", name=call.name, call_id=call.id, is_error=False)
                for call in result.content
            ]
            messages.append(FunctionExecutionResultMessage(content=answers))
        return result, server.requests


@pytest.mark.parametrize("resumed", [False, True])
def test_signed_thinking_comes_back_in_front_of_its_calls(ledger, resumed):
    result, requests = asyncio.run(asked(ledger, thinking, 3, resumed))
    assert len(requests) == 3 and result.thought == "Is it 7?"
    turns = [each["content"] for each in requests[2].body["messages"] if each["role"] == "assistant"]
    assert [[block["type"] for block in turn] for turn in turns] == [
        ["thinking", "redacted_thinking", "text", "tool_use"]
    ] * 2
    assert [turn[3]["input"] for turn in turns] == [{"x": 0}, {"x": 1}]
    assert turns[0][2]["text"] == "I look.", "the thinking is not repeated as text"
    rows = ledger.rows("SELECT model_served, tokens_in, finish_reason FROM llm_calls")
    assert [tuple(row.values()) for row in rows] == [("claude-served", 11, "tool_use")] * 3


def test_signed_thinking_comes_back_in_front_of_a_text(ledger):
    def twice(request):
        return message(THINKING, {"type": "text", "text": "It is 7."}, reason="end_turn")

    _, requests = asyncio.run(asked(ledger, twice, 2, False))
    (turn,) = [each["content"] for each in requests[1].body["messages"] if each["role"] == "assistant"]
    assert turn == [THINKING, {"type": "text", "text": "It is 7."}]


def test_half_a_character_spoils_no_later_request(ledger):
    poison = message({"type": "text", "text": "\ud83d"}, used(0) | {"input": {"x": "\ud83d"}})
    _, requests = asyncio.run(asked(ledger, poison, 2, False))
    assert len(requests) == 2


def test_a_refusal_is_said_and_not_asked_again(ledger):
    with pytest.raises(BackendError, match="declines to answer.*stop_reason: refusal") as raised:
        asyncio.run(asked(ledger, message(reason="refusal"), 1, False))
    assert raised.value.kind == "permanent"
    assert len(ledger.rows("SELECT 1 FROM llm_calls")) == 1


def test_an_error_has_the_words_of_the_server(ledger):
    words = "prompt is too long: 210000 tokens > 200000 maximum"
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": words}}
    with pytest.raises(BackendError, match="prompt is too long: 210000 tokens"):
        asyncio.run(asked(ledger, Reply(400, body), 1, False))
