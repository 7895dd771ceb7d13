"""A context that outgrows the window is fitted: whole turns leave, what counts stays, and the log says so."""

from __future__ import annotations

import asyncio
import json

import pytest
from autogen_core import FunctionCall
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    SystemMessage,
    UserMessage,
)

from learning_signal.agents.model.dialect.fitting import fit, named_window
from learning_signal.agents.session.session import run_session
from learning_signal.agents.tokens import count_tokens
from learning_signal.ledger.read.reader import Reader
from tests.support.scripted_server import calls, error, serving
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool

DIAGNOSIS = {
    "stage": "exploring",
    "failures": [{"description": "Nobody covers anything.", "evidence": ["E1"]}],
    "advice": "Reward nearness.",
}
STEPS = [("query_metrics", {"names": [name]}) for name in ("progress", "entropy", "value_loss", "clip_fraction")]


def conversation(turns: int) -> list:
    messages = [SystemMessage(content="system " * 100), UserMessage(content="brief " * 100, source="user")]
    for turn in range(turns):
        call = FunctionCall(id=f"call{turn}", name="query_metrics", arguments="{}")
        result = FunctionExecutionResult(content=f"result{turn} " * 100, name=call.name, call_id=call.id)
        messages.append(AssistantMessage(content=[call], source="critic"))
        messages.append(FunctionExecutionResultMessage(content=[result]))
        messages.append(UserMessage(content=f"{turn} nudge", source="session"))
    return messages


def test_what_fits_is_left_as_it_is():
    messages = conversation(3)
    assert fit(messages, [], 100_000).messages is messages


@pytest.mark.parametrize("window", [1, 300, 800, 1200, 1600, 2000])
def test_whole_turns_leave_and_every_result_keeps_its_call(window):
    messages = conversation(6)
    fitted = fit(messages, [], window, reply=0)
    head, rest = fitted.messages[:2], list(fitted.messages[2:])
    assert head[0] == messages[0] and head[1].content.startswith(messages[1].content)
    assert rest == messages[-len(rest) :] and len(rest) == 3 * (6 - fitted.left_out) >= 3
    assert isinstance(rest[0], AssistantMessage)
    assert (f"{fitted.left_out} turns of yours are left out" in head[1].content) == (fitted.left_out > 1)
    assert fitted.tokens <= window or fitted.left_out == 5


def test_the_fewest_turns_leave_that_have_to():
    messages = conversation(6)
    for window in range(900, 2400, 100):
        gone = fit(messages, [], window, reply=0).left_out
        one_more = [*messages[:2], *messages[2 + 3 * max(gone - 1, 0) :]]
        assert gone == 0 or fit(one_more, [], window, reply=0).left_out > 0


@pytest.mark.parametrize(
    ("words", "window"),
    [
        ("This model's maximum context length is 8,192 tokens. However, your messages resulted in 9000 tokens.", 8192),
        ("the request exceeds the available context size (4096 tokens), try increasing it", 4096),
        ("prompt is too long: 210000 tokens > 200000 maximum", 200000),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1048576),
        ("temperature must be at most 2", None),
        ("", None),
    ],
)
def test_windows_as_servers_name_them(words, window):
    assert named_window(words) == window


class Narrow:
    """A critic whose server refuses a request with more than two turns, and names its window."""

    def __init__(self):
        self.answered, self.refused, self.seen = 0, 0, []

    def __call__(self, request):
        messages = request.body["messages"]
        turns = [message for message in messages if message["role"] == "assistant"]
        if len(turns) > 2:
            self.refused += 1
            window = count_tokens(json.dumps(messages) + json.dumps(request.body["tools"]))
            return error(400, f"This model's maximum context length is {window} tokens.")
        self.seen.append(messages)
        self.answered += 1
        step = STEPS[self.answered - 1] if self.answered <= len(STEPS) else ("submit_diagnosis", DIAGNOSIS)
        return calls([("", step[0], json.dumps(step[1]))])


def test_a_session_goes_on_within_the_window_that_its_server_names(tmp_path):
    narrow = Narrow()

    async def main():
        async with serving(narrow) as server:
            settings = tiny_settings(tmp_path)
            critic = f"openai-api/narrow@{server.address}"
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": critic}, "rounds": 1})
            return await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))

    outcome = asyncio.run(main())
    assert outcome.status == "done", outcome.stop_reason
    assert narrow.refused == 1 and narrow.answered == len(STEPS) + 1
    for messages in narrow.seen:
        called = {call["id"] for each in messages for call in each.get("tool_calls") or ()}
        assert called == {each["tool_call_id"] for each in messages if each["role"] == "tool"}
        assert messages[0]["role"] == "system" and "Diagnose this run." in messages[1]["content"]
    with Reader.open(tmp_path / "ledger.db") as reader:
        calls_made = [reader.entry(each.seq).llm_calls[0] for each in reader.events(agent="critic", kind="llm_call")]
        titles = [each.title for each in reader.events(agent="critic", kind="llm_call", status="ok")]
    left_out = [json.loads(each["reply"]).get("left_out", 0) for each in calls_made if each["status"] == "ok"]
    assert left_out[:3] == [0, 0, 0] and all(left_out[3:]) and "turns left out" in titles[-1]
    assert len(calls_made[-1]["context"]) > len(narrow.seen[-1])  # the log has what the agent's history was
