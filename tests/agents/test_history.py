"""What is sent of a conversation: used-up results are left out by rule, and come back where they are needed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from autogen_core import FunctionCall
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    LLMMessage,
    UserMessage,
)

from learning_signal.agents.history import LEFT_OUT, History, condensed, transcript

TABLE = {"source": "main", "points": {"env_steps": [100], "entropy": [1.45]}}


def turn(name: str, number: int, error: str | None = None) -> list[LLMMessage]:
    """A call of ``name`` with the evidence id ``number``, and its result."""
    call = FunctionCall(id=f"call{number}", name=name, arguments='{"names": ["entropy"]}')
    content = error or f'{{"evidence":"E{number}",{json.dumps(TABLE)[1:]}'
    result = FunctionExecutionResult(content=content, name=name, call_id=call.id, is_error=error is not None)
    return [AssistantMessage(content=[call], source="critic"), FunctionExecutionResultMessage(content=[result])]


def conversation(*turns: list[LLMMessage]) -> list[LLMMessage]:
    return [UserMessage(content="Diagnose.", source="session"), *(message for each in turns for message in each)]


def results(messages: list[LLMMessage]) -> dict[str, Any]:
    """By call id, what each result says."""
    found = [result for each in messages if isinstance(each, FunctionExecutionResultMessage) for result in each.content]
    return {one.call_id: one.content if one.is_error else json.loads(one.content) for one in found}


METRICS, BEHAVIOUR, SUBMISSION = "query_metrics", "summarize_trajectories", "submit_diagnosis"
OLDER = conversation(turn(METRICS, 1), turn(BEHAVIOUR, 2), turn(METRICS, 3), turn(METRICS, 4))


def test_tables_older_than_two_turns_are_left_out_and_nothing_else():
    sent = condensed(OLDER)
    told = results(sent)
    assert told["call1"] == {"evidence": "E1", "left_out": LEFT_OUT}
    assert told["call2"]["points"] and told["call3"]["points"] and told["call4"]["points"]
    assert [type(one) for one in sent] == [type(one) for one in OLDER] and sent[:2] == OLDER[:2]
    assert results(condensed(OLDER[:-4]))["call1"]["points"], "two turns are always whole"


def test_a_table_that_a_refusal_names_is_sent_again():
    refused = turn(SUBMISSION, 5, "ERROR: 24.9 was not found in E1, which failure 1 cites.")
    assert results(condensed([*OLDER, *refused]))["call1"]["points"]
    other = turn(SUBMISSION, 5, "ERROR: 24.9 was not found in E11, which failure 1 cites.")
    assert "left_out" in results(condensed([*OLDER, *other]))["call1"]


def test_all_is_saved_and_a_loaded_conversation_sends_the_same():
    async def sent() -> tuple[list[LLMMessage], list[LLMMessage]]:
        first, second = History(), History()
        for message in OLDER:
            await first.add_message(message)
        state = json.loads(json.dumps(await first.save_state()))
        assert json.dumps(state).count("1.45") == 4, "all is saved"
        await second.load_state(state)
        return await first.get_messages(), await second.get_messages()

    first, second = asyncio.run(sent())
    assert first == second == condensed(OLDER)


def test_the_transcript_is_what_was_sent_last():
    state = {"llm_context": {"messages": [message.model_dump(mode="json") for message in OLDER]}}
    lines = transcript(state).splitlines()
    assert lines[0] == "Diagnose." and lines[1] == f'YOU CALLED {METRICS}: {{"names": ["entropy"]}}'
    assert lines[2].startswith(f"RESULT of {METRICS}: ") and LEFT_OUT in lines[2]
    assert "1.45" in lines[-1]
