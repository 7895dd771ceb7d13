"""Calls written as text: understood where they are certain, and else told apart by what is wrong with them."""

from __future__ import annotations

import json

import pytest

from learning_signal.agents.model.written_calls import read_calls
from learning_signal.agents.schemas import plain_schema
from learning_signal.tools.contracts import Diagnosis, Keep, Promote, QueryMetrics, RollBack

MODELS = {
    "query_metrics": QueryMetrics,
    "submit_diagnosis": Diagnosis,
    "promote": Promote,
    "keep": Keep,
    "roll_back": RollBack,
}
CRITIC, COORDINATOR = ("query_metrics", "submit_diagnosis"), ("query_metrics", "promote", "keep", "roll_back")
LOOK = '{"names": ["entropy"]}'
GIVEN = '{"stage": "exploring", "failures": [{"description": "Nobody scores.", "evidence": ["E1"]}], "advice": "Try."}'
NAMED = f'{{"name": "submit_diagnosis", "arguments": {GIVEN}}}'


def read(text: str, *tools: str):
    return read_calls(text, [{"name": name, "parameters": plain_schema(MODELS[name])} for name in tools])


UNDERSTOOD = {
    "Hermes and Qwen": f"<tool_call>\n{NAMED}\n</tool_call>",
    "a tag that is not closed": f"I am ready.\n<tool_call>{NAMED}",
    "Llama": f"<function=submit_diagnosis>{GIVEN}</function>",
    "Llama with parameters": f'<|python_tag|>{{"name": "submit_diagnosis", "parameters": {GIVEN}}}',
    "Mistral": f"[TOOL_CALLS][{NAMED}]",
    "Mistral since 2025": f"[TOOL_CALLS]submit_diagnosis[ARGS]{GIVEN}",
    "fenced": f"Here is my diagnosis:\n```json\n{NAMED}\n```\nThat is all.",
    "bare": NAMED,
    "in Python's notation": str(json.loads(NAMED)),
    "as OpenAI sends it": json.dumps({"tool_calls": [{"function": {"name": "submit_diagnosis", "arguments": GIVEN}}]}),
    "as OpenAI used to": json.dumps({"function_call": {"name": "submit_diagnosis", "arguments": GIVEN}}),
    "with other keys": f'{{"tool": "submit_diagnosis", "input": {GIVEN}}}',
    "with a prefix": NAMED.replace("submit_diagnosis", "functions.submit_diagnosis"),
    "the name as the key": f'{{"submit_diagnosis": {GIVEN}}}',
    "ReAct": f"Thought: enough.\nAction: submit_diagnosis\nAction Input: {GIVEN}",
    "the name before the arguments": f"submit_diagnosis\n```json\n{GIVEN}\n```",
    "as a function": f"submit_diagnosis({GIVEN})",
    "as a function with keywords": 'submit_diagnosis(stage="exploring", advice="Try.", '
    'failures=[{"description": "Nobody scores.", "evidence": ["E1"]}])',
}


@pytest.mark.parametrize("form", UNDERSTOOD)
def test_a_certain_call_is_understood(form):
    written = read(UNDERSTOOD[form], *CRITIC)
    (call,) = written.calls
    assert (call.name, json.loads(call.arguments)) == ("submit_diagnosis", json.loads(GIVEN)) and not written.problem


def test_parameters_in_tags_are_read_by_their_kind():
    text = '<tool_call>\n<function=query_metrics>\n<parameter=names>\n["entropy"]\n</parameter>\n'
    text += "<parameter=source>\nmain\n</parameter>\n<parameter=points>\n4\n</parameter>\n</function>\n</tool_call>"
    (call,) = read(text, *CRITIC).calls
    assert json.loads(call.arguments) == {"names": ["entropy"], "source": "main", "points": 4}


def test_several_calls_in_tags_are_all_understood():
    look = f'{{"name": "query_metrics", "arguments": {LOOK}}}'
    written = read(f"First this.<tool_call>{look}</tool_call> <tool_call>{NAMED}</tool_call>", *CRITIC)
    assert [call.name for call in written.calls] == ["query_metrics", "submit_diagnosis"]
    assert written.beside == "First this."


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Let me think about it.", ""),
        ("I would call query_metrics() first, then keep(...) or promote.", ""),
        ("A set {x in S}, a list [1, 2] and {a}.", ""),
        (
            '{"name": "keep", "arguments": {"reason": "x"}} or {"name": "roll_back", "arguments": {"reason": "x"}}',
            "certain",
        ),
        ('{"name": "keep", "arguments": {"reason": "x"}}, unless you would rather promote', "names keep and promote"),
        ('{"reason": "Nothing passed."}', "arguments of keep or roll_back as text, without the name of the tool"),
        ('{"name": "decide", "arguments": {"reason": "x"}}', "a call of 'decide' as text, which is no tool"),
        ('{"name": "keep", "arguments": {"reason": "x', "a call of keep as text that is no valid JSON"),
        ('{"name": "keep", "arguments": "because"}', "a call of keep as text that is no valid JSON"),
        ('{"name": "keep", "arguments": [1]}', "a call of keep as text whose arguments are no object"),
        ("<tool_call>keep</tool_call>", "in which no call can be read"),
    ],
)
def test_what_is_not_certain_is_not_understood(text, problem):
    written = read(text, *COORDINATOR)
    assert written.calls == () and problem in written.problem and bool(problem) == bool(written.problem)


def test_without_tools_nothing_is_a_call():
    """A question is answered in text, whatever that looks like."""
    assert read(NAMED).calls == ()
