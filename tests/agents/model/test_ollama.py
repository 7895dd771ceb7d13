"""Ollama's own protocol over real HTTP, with its own SDK: a context of our size, thinking, calls, and its errors."""

from __future__ import annotations

import asyncio
import json
import shutil

import pytest
from autogen_core.models import (
    AssistantMessage,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    SystemMessage,
    UserMessage,
)

from learning_signal.agents.model.backends import build_client
from learning_signal.agents.model.call import CallContext, Limits
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.stack.client import agent_client
from learning_signal.agents.model.trial import check
from learning_signal.ledger.write.writer import Ledger
from tests.support.ledger_helpers import SESSION
from tests.support.scripted_server import Reply, serving

KEY = "sk-canary-0123456789abcdef"
TOOLS = [{"name": "look", "description": "Look.", "parameters": {"type": "object", "properties": {}}}]
LIMITS = Limits(attempts=2, timeout=30.0, deadline=60.0, backoff=0.01)


def message(content="", *calls, reason="stop", counts=(11, 7), **further):
    """A reply of /api/chat; each call is (name, arguments)."""
    made = [{"function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    body = {
        "model": "served",
        "created_at": "2026-11-27T12:00:00Z",
        "message": {"role": "assistant", "content": content, **({"tool_calls": made} if made else {}), **further},
        "done": True,
        "done_reason": reason,
        "prompt_eval_count": counts[0],
        "eval_count": counts[1],
    }
    return Reply(body=body)


def refusal(status, words):
    return Reply(status, {"error": words})


@pytest.fixture(scope="module")
def empty_ledger(tmp_path_factory):
    """A ledger with one session; copied per test, because making one costs more than a test."""
    path = tmp_path_factory.mktemp("empty") / "log.db"
    with Ledger.open(path) as opened:
        opened.begin_session(id=SESSION, task="spread", algorithm="mappo", seed=0, config={}, code_version="test")
    return path


@pytest.fixture
def begun(empty_ledger, tmp_path):
    """Begins a phase of a critic behind an Ollama with this script."""
    return lambda *script, **options: Phase(shutil.copy(empty_ledger, tmp_path / "log.db"), *script, **options)


class Phase:
    """A phase of a critic behind a scripted Ollama."""

    def __init__(self, path, *script, parameters="", environment=None, limits=LIMITS):
        self.path, self.script = path, script
        self.parameters, self.environment, self.limits = parameters, environment or {}, limits
        self.messages = [SystemMessage(content="Be brief."), UserMessage(content="Go on.", source="session")]
        self.insist = False

    async def _turns(self, number):
        async with serving(*self.script) as server:
            root = server.address.removesuffix("/v1")
            spec = parse_spec(f"ollama/qwen3:8b@{root}{self.parameters}")
            with Ledger.open(self.path) as ledger:
                context = CallContext(1, "critic", "0", insist=self.insist)
                client = agent_client(
                    spec, "critic", ledger=ledger, session_id=SESSION, context=context, limits=self.limits,
                    environment=self.environment,
                )  # fmt: skip
                try:
                    for turn in range(number):
                        context.step = str(turn)
                        # as autogen's agents call it
                        result = await client.create(self.messages, tools=TOOLS, json_output=None)
                        self.messages.append(
                            AssistantMessage(content=result.content, thought=result.thought, source="critic")
                        )
                        if isinstance(result.content, list):
                            results = [
                                FunctionExecutionResult(content="ok", name=each.name, call_id=each.id, is_error=False)
                                for each in result.content
                            ]
                            self.messages.append(FunctionExecutionResultMessage(content=results))
                    return result, server.requests
                finally:
                    await client.close()
                    self.rows = ledger.rows("SELECT * FROM llm_calls ORDER BY id")

    def play(self, number=1):
        """(the last reply, every request)."""
        return asyncio.run(self._turns(number))

    def fails(self):
        with pytest.raises(BackendError) as raised:
            self.play()
        return raised.value


def test_a_request_opens_a_context_that_a_session_fits_in(begun):
    result, (request,) = begun(message("Well.")).play()
    assert result.content == "Well." and request.path == "/api/chat"
    assert request.body["model"] == "qwen3:8b" and request.body["stream"] is False
    assert request.body["options"] == {"num_ctx": 16384}
    assert [each["role"] for each in request.body["messages"]] == ["system", "user"]
    assert request.body["tools"][0]["function"]["name"] == "look"
    assert "think" not in request.body and "authorization" not in request.headers


def test_parameters_have_ollamas_names(begun):
    parameters = "?context=32768&temperature=0.5&seed=3&max_tokens=900&top_p=0.9&reasoning_effort=none"
    _, (request,) = begun(message("Well."), parameters=parameters).play()
    options = {"num_ctx": 32768, "temperature": 0.5, "seed": 3, "num_predict": 900, "top_p": 0.9}
    assert request.body["options"] == options and request.body["think"] is False


@pytest.mark.parametrize(("word", "think"), [("none", False), ("low", "low"), ("high", "high"), ("xhigh", True)])
def test_the_effort_of_reasoning_is_whether_or_how_much_to_think(begun, word, think):
    _, (request,) = begun(message("Well."), parameters=f"?reasoning_effort={word}").play()
    assert request.body["think"] == think


def test_a_context_has_a_least_size():
    with pytest.raises(SpecError, match="greater than or equal to 2048"):
        parse_spec("ollama/qwen3:8b?context=512")


def test_parallel_calls_have_ids_of_their_own_and_their_results_go_back_with_names(begun):
    both = message("I look.", ("look", {"x": 1}), ("look", {"x": 2}))
    phase = begun(both, message("Well."))
    result, requests = phase.play(2)
    assert result.content == "Well."
    calls = phase.messages[2].content
    assert [json.loads(call.arguments) for call in calls] == [{"x": 1}, {"x": 2}]
    assert len({call.id for call in calls}) == 2 and all(call.id for call in calls)
    sent = requests[1].body["messages"][2:]
    assert sent[0]["content"] == "I look."
    assert [each["function"]["arguments"] for each in sent[0]["tool_calls"]] == [{"x": 1}, {"x": 2}]
    assert [(each["role"], each["tool_name"]) for each in sent[1:]] == [("tool", "look")] * 2


def test_thinking_is_the_thought_and_goes_back_with_its_calls(begun):
    thinks = message("", ("look", {}), thinking="Is it 7?")
    phase = begun(thinks, message("Well.", thinking="It is 7."))
    result, requests = phase.play(2)
    assert phase.messages[2].thought == "Is it 7?" and result.thought == "It is 7."
    assert requests[1].body["messages"][2]["thinking"] == "Is it 7?"


def test_a_reply_with_nothing_but_thinking_is_read_for_a_call(begun):
    inside = 'Clear.</think><tool_call>{"name": "look", "arguments": {"x": 1}}</tool_call>'
    result, _ = begun(message("", thinking=inside)).play()
    assert [(call.name, call.arguments) for call in result.content] == [("look", '{"x": 1}')]


def test_what_the_server_counted_is_recorded(begun):
    phase = begun(message("Well.", counts=(1234, 56)))
    phase.play()
    (row,) = phase.rows
    assert (row["tokens_in"], row["tokens_out"], row["tokens_source"]) == (1234, 56, "server")
    assert (row["model_served"], row["finish_reason"]) == ("served", "stop")


@pytest.mark.parametrize("counts", [(None, 7), (-5, 7), (2**63, 7), (True, 7), (1234, None)])
def test_a_count_that_cannot_be_is_estimated(begun, counts):
    phase = begun(message("Well.", counts=counts))
    phase.play()
    assert phase.rows[0]["tokens_source"] == "estimate"


def test_a_prompt_that_was_cut_is_found_out_and_the_parameter_named(begun):
    phase = begun(message("Well.", counts=(4096, 7)))
    phase.messages[1] = UserMessage(content="progress 0.25 of the team, " * 3000, source="session")
    error = phase.fails()
    assert error.kind == "permanent" and "read 4096 of about" in str(error)
    assert str(error).endswith("give it a larger one with '?context=65536'.")


ERRORS = {
    "the model is not there": (refusal(404, "model 'qwen3:8b' not found"), "permanent", "'ollama pull qwen3:8b'"),
    "no tools": (
        refusal(400, "registry.ollama.ai/library/qwen3:8b does not support tools"),
        "permanent",
        "does not support tools); choose a model that calls tools",
    ),
    "a call it cannot read": (
        refusal(500, "error parsing tool call: raw='{\"x\": ', err=unexpected end of JSON input"),
        "malformed",
        "wrote a call that its server cannot read",
    ),
    "a server fault": (refusal(500, "llama runner process has terminated"), "transient", "llama runner process has"),
    "busy": (refusal(503, "server busy, please try again"), "transient", "server busy"),
    "no key": (refusal(401, "unauthorized"), "permanent", "'?api_key_env=NAME'"),
    "an error with 200": (refusal(200, "out of memory"), "protocol", "an error inside a successful reply: out of"),
    "HTML": (Reply(raw=b"<html>Welcome</html>"), "protocol", "text that is no JSON, beginning '<html>"),
    "a list": (Reply(body=[1]), "protocol", "JSON that is no object"),
    "no message": (Reply(body={"done": True}), "protocol", "a reply without a message"),
    "a part": (Reply(body={"done": False, "message": {"content": "We"}}), "protocol", "not complete"),
    "a call without a name": (message("", (None, {})), "protocol", "without a function name"),
    "cut": (message("We", reason="length"), "truncated", "cut its reply at the token limit"),
    "nothing": (message(""), "empty", "neither text nor a tool call"),
    "only the load": (message("", reason="load"), "empty", "neither text nor a tool call"),
    "a list of errors": (Reply(500, [{"error": {"message": "no memory"}}]), "transient", "no memory"),
    "brackets": (Reply(500, raw=b"[" * 50_000), "transient", "has a server fault"),
    "invalid UTF-8": (Reply(raw=b'{"message": {"content": "\xff\xfe"}}'), "protocol", "text that is no JSON"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_one_sentence_with_the_server_s_words(begun, case):
    reply, kind, words = ERRORS[case]
    error = begun(reply, limits=Limits(attempts=1, timeout=30.0)).fails()
    assert error.kind == kind and words in str(error) and "\n" not in str(error)
    assert str(error).startswith("Backend 'ollama/qwen3:8b@http://127.0.0.1:")


def test_the_wait_that_a_server_asks_for_is_read_from_its_header(begun):
    busy = Reply(429, {"error": "slow down"}, headers={"retry-after": "200"})
    error = begun(busy, limits=Limits(attempts=2, timeout=30.0, deadline=60.0)).fails()
    assert error.kind == "transient" and "asks to wait 200 seconds" in str(error)


def test_a_server_that_is_down_is_said_with_how_to_start_it():
    result = asyncio.run(check(parse_spec("ollama/qwen3:8b@http://127.0.0.1:9"), {}))
    assert not result.ok and "'ollama serve'" in result.sentence


def test_a_server_that_never_answers_is_left_at_the_timeout(begun):
    limits = Limits(attempts=1, timeout=0.2)
    error = begun(Reply(body={}, delay=60.0), limits=limits).fails()
    assert "did not answer in time" in str(error)


@pytest.mark.parametrize("arguments", ['{"x": 1}', {"x": 1}])
def test_arguments_are_an_object_in_either_form(begun, arguments):
    result, _ = begun(message("", ("look", arguments))).play()
    assert json.loads(result.content[0].arguments) == {"x": 1}


@pytest.mark.parametrize("arguments", ["[1, 2", [1, 2], 7, {"x": "\ud83d"}, {"deep": "[" * 10_000}])
def test_no_arguments_spoil_the_requests_after_them(begun, arguments):
    spoiling = message("\ud83d", ("look", arguments), thinking="\ud83d?")
    phase = begun(spoiling, message("", ("look", {})), message("Well."))
    assert phase.play(3)[0].content == "Well."
    assert [row["status"] for row in phase.rows] == ["ok"] * 3


def test_a_call_is_not_demanded_of_a_server_that_cannot_be_told_so(begun):
    phase = begun(message("", ("look", {})))
    phase.insist = True
    _, (request,) = phase.play()
    assert "tool_choice" not in request.body


def test_a_key_is_sent_only_where_the_spec_names_its_variable(begun, monkeypatch):
    """The SDK by itself sends OLLAMA_API_KEY to any host."""
    monkeypatch.setenv("OLLAMA_API_KEY", KEY)
    _, (request,) = begun(message("Well."), environment={"OLLAMA_API_KEY": KEY}).play()
    assert KEY not in str(request.headers)
    environment = {"LAB_API_KEY": KEY}
    named = begun(message("Well."), parameters="?api_key_env=LAB_API_KEY", environment=environment)
    _, (request,) = named.play()
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_an_address_is_taken_with_and_without_a_version():
    for spec in ("ollama/m@http://box:11434", "ollama/m@http://box:11434/v1", "ollama/m@http://box:11434/v1/"):
        client = build_client(parse_spec(spec), "critic", environment={})
        assert str(client._http.base_url).rstrip("/") == "http://box:11434"
