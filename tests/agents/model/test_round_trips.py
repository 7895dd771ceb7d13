"""What servers insist on, over real HTTP: they refuse what the real ones refuse, with their sentences.

Every conversation runs with one client, and with a new one for each turn, as after a resume.
"""

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
from learning_signal.agents.model.call import Call, CallContext, Limits
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.stack.client import agent_client
from learning_signal.agents.model.stack.guard import Guard
from learning_signal.agents.model.stack.layers import Provider
from learning_signal.ledger.write.writer import Ledger
from tests.support import scripted_server as wire
from tests.support.ledger_helpers import SESSION
from tests.support.scripted_server import Reply, serving

TOOLS = [
    {
        "name": "look",
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    }
]
LIMITS = Limits(attempts=2, timeout=30.0, deadline=60.0, backoff=0.01)


@pytest.fixture(scope="module")
def empty_ledger(tmp_path_factory):
    path = tmp_path_factory.mktemp("empty") / "log.db"
    with Ledger.open(path) as opened:
        opened.begin_session(id=SESSION, task="spread", algorithm="mappo", seed=0, config={}, code_version="test")
    return path


@pytest.fixture
def ledger(empty_ledger, tmp_path):
    with Ledger.open(shutil.copy(empty_ledger, tmp_path / "log.db")) as opened:
        yield opened


OPEN = []
"""The clients that a test has opened."""


def run(main):
    """The result of ``main``, with its clients closed."""

    async def closing():
        try:
            return await main
        finally:
            while OPEN:
                await OPEN.pop().close()

    return asyncio.run(closing())


class Phase:
    """The conversation of a phase, which grows by one turn at a time; ``resumed``: with a new client for each."""

    def __init__(self, ledger, resumed: bool = False):
        self.ledger, self.resumed = ledger, resumed
        self.messages = [SystemMessage(content="Be brief."), UserMessage(content="Go on.", source="session")]
        self.context = CallContext(1, "critic", "0")
        self.clients = {}

    async def turn(self, spec: str, tools=TOOLS):
        """The next reply of the model behind ``spec``, and what follows it in a session."""
        client = None if self.resumed else self.clients.get(spec)
        if client is None:
            client = self.clients[spec] = agent_client(
                parse_spec(spec),
                "critic",
                ledger=self.ledger,
                session_id=SESSION,
                context=self.context,
                limits=LIMITS,
                environment={},
            )
            OPEN.append(client)
        result = await client.create(self.messages, tools=tools)
        self.messages.append(AssistantMessage(content=result.content, thought=result.thought, source="critic"))
        if isinstance(result.content, str):
            self.messages.append(UserMessage(content="Call a tool.", source="session"))
        else:
            answers = [
                FunctionExecutionResult(content="7", name=call.name, call_id=call.id, is_error=False)
                for call in result.content
            ]
            self.messages.append(FunctionExecutionResultMessage(content=answers))
        self.context.step = str(int(self.context.step) + 1)
        return result

    def rows(self):
        return self.ledger.rows("SELECT * FROM llm_calls ORDER BY id")

    def reply(self, row):
        (found,) = self.ledger.rows("SELECT body FROM bodies WHERE hash = ?", (row["reply"],))
        return json.loads(found["body"])


def spoken(request, role="assistant"):
    """The messages of a role in a request."""
    return [message for message in request.body["messages"] if message["role"] == role]


@pytest.fixture(params=[False, True], ids=["one client", "resumed"])
def phase(request, ledger):
    return Phase(ledger, request.param)


def spec_of(server, name="some-model", parameters=""):
    return f"openai-api/{name}@{server.address}{parameters}"


# what must come back ---------------------------------------------------------------------------------------------

UNSIGNED = (
    "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly, "
    "and missing thought_signature may lead to degraded model performance. Additional data, function call "
    "`default_api:look` , position 2."
)


class Gemini:
    """Signs the first call of every reply, and refuses a history in which one is not signed."""

    def __init__(self):
        self.given = []

    def __call__(self, request):
        found = []
        for message in spoken(request):
            first = message["tool_calls"][0]
            found.append(first.get("extra_content", {}).get("google", {}).get("thought_signature"))
        if not all(each in (*self.given, "skip_thought_signature_validator") for each in found):
            return Reply(400, [{"error": {"code": 400, "message": UNSIGNED, "status": "INVALID_ARGUMENT"}}])
        signature = f"signature {len(self.given)}"
        self.given.append(signature)
        again = len(self.given)
        entries = [("", "look", json.dumps({"x": again})), ("", "look", json.dumps({"x": -again}))]
        return wire.calls(entries, further={"extra_content": {"google": {"thought_signature": signature}}})


def test_signatures_of_calls_come_back(phase):
    async def main():
        async with serving(Gemini()) as server:
            for _ in range(3):
                await phase.turn(spec_of(server))
            return server.requests

    requests = run(main())
    assert len(requests) == 3, "none was refused"
    first, second = (message["tool_calls"] for message in spoken(requests[2]))
    assert first[0]["extra_content"] == {"google": {"thought_signature": "signature 0"}}
    assert second[0]["extra_content"] == {"google": {"thought_signature": "signature 1"}}
    assert "extra_content" not in first[1], "it signed the first call of the two"
    assert {len(call["id"]) for call in first + second} == {9}


def test_a_call_of_another_model_is_sent_to_a_signing_one_with_its_word_for_no_signature(phase):
    async def main():
        async with serving(wire.call("look", '{"x": 1}')) as other, serving(Gemini()) as gemini:
            await phase.turn(spec_of(other))
            await phase.turn(spec_of(gemini))
            await phase.turn(spec_of(gemini))
            return gemini.requests

    requests = run(main())
    foreign, own = (message["tool_calls"][0]["extra_content"]["google"] for message in spoken(requests[-1]))
    assert foreign == {"thought_signature": "skip_thought_signature_validator"}
    assert own == {"thought_signature": "signature 0"}
    errors = [row["error"] for row in phase.rows() if row["status"] == "error"]
    assert len(errors) == 1, "one refusal, which a resume remembers"
    assert all("missing a thought_signature" in each for each in errors)


NOT_PASSED_BACK = "The `reasoning_content` in the thinking mode must be passed back to the API."


class DeepSeek:
    """Thinks, and refuses a history in which an assistant message has no thought of its own."""

    def __init__(self, *answers):
        self.answers = answers

    def __call__(self, request):
        before = spoken(request)
        if not all(isinstance(message.get("reasoning_content"), str) for message in before):
            return wire.error(400, NOT_PASSED_BACK)
        return self.answers[len(before)]


def test_reasoning_comes_back_with_calls_and_with_text_and_is_kept_as_the_thought(phase):
    deepseek = DeepSeek(
        wire.calls([("a", "look", '{"x": 1}')], content="I look.", reasoning_content="Is it 7?"),
        wire.text("It is 7.", reasoning_content="It was 7."),
        wire.call("look", '{"x": 2}'),
    )

    async def main():
        async with serving(deepseek) as server:
            first = await phase.turn(spec_of(server))
            second = await phase.turn(spec_of(server))
            await phase.turn(spec_of(server))
            return first, second, server.requests

    first, second, requests = run(main())
    assert len(requests) == 3
    call, text = spoken(requests[2])
    assert (call["content"], call["reasoning_content"]) == ("I look.", "Is it 7?"), "each under its own name"
    assert (text["content"], text["reasoning_content"]) == ("It is 7.", "It was 7.")
    assert (first.thought, second.thought) == ("Is it 7?\nI look.", "It was 7.")
    assert [phase.reply(row)["thought"] for row in phase.rows()][:2] == [first.thought, second.thought]


def test_a_message_of_another_model_has_an_empty_thought_where_a_server_wants_one(phase):
    deepseek = DeepSeek(
        Reply(500), wire.calls([("a", "look", '{"x": 1}')], reasoning_content="Hm."), wire.text("Well.")
    )

    async def main():
        other = wire.calls([("a", "look", '{"x": 3}')], content="I look.", reasoning="Not for you.")
        async with serving(other) as first, serving(deepseek) as second:
            await phase.turn(spec_of(first))
            await phase.turn(spec_of(second))
            await phase.turn(spec_of(second))
            return second.requests

    requests = run(main())
    foreign, own = spoken(requests[-1])
    assert (foreign["reasoning_content"], own["reasoning_content"]) == ("", "Hm.")
    assert foreign["content"] == "I look." and "reasoning" not in foreign
    assert "Not for you" not in json.dumps([request.body for request in requests])
    refused = [NOT_PASSED_BACK[1:20] in (row["error"] or "") for row in phase.rows()]
    assert refused.count(True) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning": "Is it 7?"},
        {"reasoning": "Is it 7?", "reasoning_details": [{"type": "reasoning.encrypted", "data": "AbC="}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Is it 7?"}]},
    ],
)
def test_reasoning_comes_back_under_the_name_it_came_under(phase, fields):
    async def main():
        async with serving(wire.calls([("a", "look", '{"x": 1}')], **fields), wire.text("7")) as server:
            first = await phase.turn(spec_of(server))
            await phase.turn(spec_of(server, parameters="?temperature=0.5"))
            return first, server.requests

    first, requests = run(main())
    (sent,) = spoken(requests[1])
    assert {name: value for name, value in sent.items() if name.startswith("reasoning")} == fields
    assert sent["content"] is None and first.thought == "Is it 7?"


def test_thinking_in_a_part_of_the_content_comes_back_there(phase):
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Is it 7?"}]}
    script = [
        wire.calls([("a", "look", '{"x": 1}')], content=[thinking]),
        wire.text([thinking, {"type": "text", "text": "It is 7."}]),
        wire.text("Well."),
    ]

    async def main():
        async with serving(*script) as server, serving(wire.text("Well.")) as other:
            replies = [await phase.turn(spec_of(server)) for _ in range(3)]
            await phase.turn(spec_of(other))
            return replies, server.requests[-1], other.requests[-1]

    (called, said, _), own, foreign = run(main())
    assert (called.thought, said.thought, said.content) == ("Is it 7?", "Is it 7?", "It is 7.")
    assert [message["content"] for message in spoken(own)] == [
        [thinking],
        [thinking, {"type": "text", "text": "It is 7."}],
    ]
    assert [message["content"] for message in spoken(foreign)] == [None, "It is 7.", "Well."]


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_its_own_reasoning_is_asked_once_without_it(phase, status):
    def groq(request):
        before = spoken(request)
        if any("reasoning" in message for message in before):
            words = "'messages.2' : for 'role:assistant' the following must be satisfied[('messages.2' : property "
            return wire.error(status, words + "'reasoning' is unsupported)]")
        return wire.calls([("a", "look", json.dumps({"x": len(before)}))], reasoning="Hm.")

    async def main():
        async with serving(groq) as server:
            for _ in range(3):
                await phase.turn(spec_of(server))
            return server.requests

    requests = run(main())
    assert len(requests) == 4, "also after a resume"
    assert [row["status"] for row in phase.rows()][:3] == ["ok", "error", "ok"]


def test_what_one_model_sent_is_not_shown_to_another(phase):
    """The strictest server: no unknown field, text or calls in a message and not both, and roles that alternate."""
    known = {"role", "content", "tool_calls"}

    def mistral(request):
        roles = []
        for message in request.body["messages"]:
            if message["role"] == "assistant" and not set(message) <= known:
                return wire.error(422, f"extra_forbidden: {sorted(set(message) - known)}")
            if any(set(call) != {"id", "type", "function"} for call in message.get("tool_calls") or ()):
                return wire.error(422, "extra_forbidden in a tool call")
            if message.get("content") and message.get("tool_calls"):
                return wire.error(400, "Assistant message must have either content or tool_calls, but not both.")
            if message["role"] == "user" or message["role"] == "assistant" and not message.get("tool_calls"):
                roles.append(message["role"])
        if roles != ["user", "assistant"] * (len(roles) // 2) + ["user"] * (len(roles) % 2):
            return wire.error(500, "Conversation roles must alternate user/assistant")
        return wire.text("Well.")

    signed = {"extra_content": {"google": {"thought_signature": "S"}}}
    thinking = wire.calls([("a", "look", '{"x": 1}')], content="I look.", further=signed, reasoning_content="Hm.")

    async def main():
        async with serving(thinking, wire.text("Done.", reasoning_content="Hm.")) as first, serving(mistral) as second:
            await phase.turn(spec_of(first))
            await phase.turn(spec_of(first))
            await phase.turn(spec_of(second))
            return second.requests

    requests = run(main())
    assert [row["error_kind"] for row in phase.rows()] == [None, None, "permanent", None], "content beside a call, once"
    assert "Hm." not in json.dumps(requests[-1].body) and "signature" not in json.dumps(requests[-1].body)


# answers in the reasoning -----------------------------------------------------------------------------------------

CALL = '<tool_call>{"name": "look", "arguments": {"x": 1}}</tool_call>'


@pytest.mark.parametrize(
    ("reasoning", "thought"),
    [(CALL, None), (f"I need x.\n{CALL}", "I need x."), (f"I need x.</think>{CALL}", "I need x.")],
)
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_a_call_in_the_reasoning_of_an_empty_reply_is_understood(phase, field, reasoning, thought):
    async def main():
        async with serving(wire.text(None, **{field: reasoning})) as server:
            return await phase.turn(spec_of(server))

    result = run(main())
    assert [(call.name, json.loads(call.arguments)) for call in result.content] == [("look", {"x": 1})]
    assert result.thought == thought
    (row,) = phase.rows()
    assert phase.reply(row)["written"] == reasoning
    (event,) = phase.ledger.rows("SELECT title FROM events WHERE kind = 'llm_call'")
    assert event["title"].endswith("understood from reasoning")


def test_a_text_in_the_reasoning_answers_a_question_and_ends_no_turn(phase):
    async def main():
        async with serving(wire.text(None, reasoning="Because it is 7.")) as server:
            answer = await phase.turn(spec_of(server), tools=())
            with pytest.raises(BackendError) as raised:
                await phase.turn(spec_of(server))
            return answer, raised.value

    answer, fault = run(main())
    assert (answer.content, answer.thought) == ("Because it is 7.", None)
    assert fault.kind == "empty", "with tools, a thought is no answer"


# forms of requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (422, [{"loc": ["body", "messages", 2, "content"], "msg": "Input should be a valid string"}]),
        (400, "Invalid 'content': 'content' must be a string"),
        (400, "'messages.2' : property 'content' is missing"),
    ],
)
def test_a_server_that_refuses_a_null_content_gets_an_empty_one(phase, status, words):
    def strict(request):
        before = spoken(request)
        if any(message["content"] is None for message in before):
            return Reply(status, {"detail": words}) if isinstance(words, list) else wire.error(status, words)
        return wire.call("look", json.dumps({"x": len(before)}))

    async def main():
        async with serving(strict) as server:
            for _ in range(3):
                await phase.turn(spec_of(server))
            return server.requests

    requests = run(main())
    assert [message["content"] for message in spoken(requests[-1])] == ["", ""]
    assert len(requests) == 4, "also after a resume"


def test_the_manner_of_one_server_is_no_other_servers(ledger):
    """Nor does the word in a model's own text count."""

    def strict(request):
        if "max_tokens" in request.body:
            return wire.error(400, "Unknown parameter: 'max_tokens'.")
        return wire.text('Good "manner" and more: {"manner": {"limit": "max_tokens"}}.')

    async def main():
        phase = Phase(ledger, resumed=True)
        async with serving(strict) as first, serving(wire.text('A "manner" of speaking.')) as second:
            for server in (second, first, second, first):
                await phase.turn(spec_of(server, parameters="?max_tokens=50"))
            return first.requests, second.requests

    first, second = run(main())
    assert [("max_tokens" in each.body) for each in first] == [True, False, False]
    assert all("max_tokens" in each.body for each in second)


def test_another_refusal_is_not_answered_with_another_form(phase):
    """Negative control: the first request has no calls, and these words do not name its form."""

    async def main():
        async with serving(wire.error(400, "The content filter was triggered.")) as server:
            with pytest.raises(BackendError, match="content filter was triggered"):
                await phase.turn(spec_of(server))
            return server.requests

    assert len(run(main())) == 1


@pytest.mark.parametrize(
    "words",
    [
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "Unrecognized request argument supplied: max_tokens",
    ],
)
def test_the_limit_of_a_reply_is_sent_under_the_name_that_the_server_knows(phase, words):
    wanted, other = "max_completion_tokens", "max_tokens"

    def strict(request):
        if other in request.body:
            return wire.error(400, words)
        return wire.call("look", json.dumps({"x": len(spoken(request))}))

    async def main():
        async with serving(strict) as server:
            for _ in range(2):
                await phase.turn(spec_of(server, parameters="?max_tokens=50"))
            return server.requests

    requests = run(main())
    assert requests[-1].body[wanted] == 50 and other not in requests[-1].body
    assert len(requests) == 3, "also after a resume"


def test_a_limit_that_is_too_large_is_no_unknown_name(phase):
    async def main():
        async with serving(wire.error(400, "max_tokens is too large: 50")) as server:
            with pytest.raises(BackendError, match="max_tokens is too large"):
                await phase.turn(spec_of(server, parameters="?max_tokens=50"))
            return server.requests

    assert len(run(main())) == 1


# errors ------------------------------------------------------------------------------------------------------------

GOOGLE = {
    "code": 429,
    "message": "You exceeded your current quota. Please retry in 0.05s.",
    "status": "RESOURCE_EXHAUSTED",
    "details": [
        {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}],
        },
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.05s"},
    ],
}
DAILY = json.loads(json.dumps(GOOGLE).replace("PerMinute", "PerDay"))


def inside(error, finish="error"):
    """OpenRouter's reply with an error of the server behind it."""
    reply = wire.text("", finish=finish)
    reply.body["choices"][0]["error"] = error
    return reply


BEHIND = {
    "code": 502,
    "message": "Provider returned error",
    "metadata": {"raw": '{"error": {"message": "GPU on fire"}}'},
}
ERRORS = {
    "a list, the words": (
        Reply(400, [{"error": {"code": 400, "message": "No such tool."}}]),
        1,
        "permanent",
        "No such",
    ),
    "a quota of the minute": (Reply(429, [{"error": GOOGLE}]), 2, "transient", "exceeded your current quota"),
    "a quota of the day": (Reply(429, [{"error": DAILY}]), 1, "permanent", "quota of the day"),
    "a limit of the day": (wire.error(429, "on requests per day (RPD): Limit 200"), 1, "permanent", "Limit 200"),
    "a reply that ends with an error": (inside(BEHIND), 2, "transient", "GPU on fire"),
    "and one that lasts": (inside(BEHIND | {"code": 402, "metadata": {}}), 1, "permanent", "Provider returned error"),
    "an error without a status": (inside({"message": "GPU on fire"}), 2, "protocol", "GPU on fire"),
    "an error in place of choices": (Reply(200, {"error": BEHIND}), 2, "transient", "GPU on fire"),
    "no jinja": (wire.error(500, "tools param requires --jinja flag"), 1, "permanent", "start the server with --jinja"),
    "roles": (
        wire.error(500, "Conversation roles must alternate user/assistant/user/assistant/..."),
        1,
        "permanent",
        "must alternate user/assistant",
    ),
    "another 500": (wire.error(500, "CUDA error"), 2, "transient", "CUDA error"),
    "FastAPI's detail": (Reply(400, {"detail": "no such parser"}), 1, "permanent", "no such parser"),
    "a refusal": (wire.text(None, refusal="I cannot help with that."), 1, "permanent", "I cannot help with that"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_the_words_of_a_server_reach_the_user_and_only_what_can_pass_is_retried(ledger, case):
    reply, attempts, kind, words = ERRORS[case]

    async def main():
        async with serving(reply) as server:
            with pytest.raises(BackendError) as raised:
                await Phase(ledger).turn(spec_of(server))
            return raised.value, server.requests

    fault, requests = run(main())
    assert (len(requests), fault.kind) == (attempts, kind)
    assert words in str(fault) and "\n" not in str(fault)


def minute(seconds):
    return json.loads(json.dumps(GOOGLE).replace("0.05s", seconds))


WAITS = {
    "Google's RetryInfo": (Reply(429, [{"error": minute("45.83s")}]), 45.83),
    "the same in the words of a proxy": (wire.error(429, json.dumps({"error": minute("45.83s")})), 45.83),
    "OpenAI's words": (wire.error(429, "Rate limit reached on tokens per min (TPM). Please try again in 20s."), 20.0),
    "Groq's words": (wire.error(429, "Please try again in 1m2.5s."), 62.5),
    "milliseconds": (wire.error(429, "Please try again in 120ms."), 0.12),
    "a header comes first": (wire.error(429, "Please try again in 20s.", retry_after="3"), 3.0),
}


@pytest.mark.parametrize("case", WAITS)
def test_as_long_as_a_server_says_in_its_body_is_waited(case):
    reply, seconds = WAITS[case]
    waits = []

    async def sleep(asked):
        waits.append(asked)

    async def main():
        async with serving(reply, wire.text("Well.")) as server:
            spec = parse_spec(spec_of(server))
            client = build_client(spec, "critic", environment={})
            OPEN.append(client)
            guard = Guard(Provider(client), spec, limits=Limits(deadline=100.0), sleep=sleep)
            return await guard.answer(Call([UserMessage(content="Go on.", source="session")]))

    assert run(main()).content == "Well." and waits == [seconds]


# context windows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "counted", "cut"),
    [
        (60_000, 2050, True),
        (20_000, 4050, True),
        (60_000, 15_000, False),
        (60_000, 300, False),  # counts what was not cached
        (6_000, 1_500, False),
    ],
)
def test_a_server_that_cut_the_prompt_is_found_out(ledger, prompt, counted, cut):
    words = "progress 0.25 of the team, "

    async def main():
        reply = wire.text("Well.", usage={"prompt_tokens": counted, "completion_tokens": 2, "total_tokens": 2})
        async with serving(reply) as server:
            phase = Phase(ledger)
            phase.messages[1] = UserMessage(content=words * (prompt // len(words)), source="session")
            if not cut:
                return await phase.turn(spec_of(server))
            with pytest.raises(BackendError) as raised:
                await phase.turn(spec_of(server))
            assert len(server.requests) == 1
            return str(raised.value)

    outcome = run(main())
    if cut:
        assert f"read {counted} of about" in outcome and "llama.cpp: -c" in outcome and "num_ctx" in outcome
    else:
        assert outcome.content == "Well."


@pytest.mark.parametrize("word", ["none", "minimal", "xhigh"])
def test_any_word_for_the_effort_of_reasoning_is_sent(ledger, word):
    async def main():
        async with serving(wire.text("Well.")) as server:
            await Phase(ledger).turn(spec_of(server, parameters=f"?reasoning_effort={word}"))
            return server.requests[0].body["reasoning_effort"]

    assert run(main()) == word


# poison ------------------------------------------------------------------------------------------------------------

HALF = "\ud83d"
DEEP = '{"x": ' + "[" * 10_000 + "]" * 10_000 + "}"
POISON = {
    "half a character in arguments": wire.call("look", '{"x": "' + HALF + '"}'),
    "half a character, escaped": wire.call("look", '{"x": "\\ud83d"}'),
    "half a character beside a call": wire.call("look", '{"x": 1}', content=HALF),
    "half a character in a text": wire.text(HALF + " well"),
    "half a character in the reasoning": wire.calls([("a", "look", "{}")], reasoning_content=HALF),
    "half a character in a signature": wire.calls([("a", "look", "{}")], further={"extra_content": {"s": HALF}}),
    "half a character in a name": wire.call("look" + HALF, "{}"),
    "10,000 brackets in arguments": wire.call("look", DEEP),
    "10,000 open brackets": wire.call("look", "[" * 10_000),
    "10,000 brackets in a text": wire.text('{"name": "look", "arguments": ' + DEEP + "}"),
    "10,000 brackets in the reasoning": wire.text("Well.", reasoning='{"name": "look", "arguments": ' + DEEP + "}"),
}


@pytest.mark.parametrize("case", POISON)
def test_nothing_that_a_model_writes_spoils_the_requests_after_it(phase, case):
    async def main():
        async with serving(POISON[case], wire.call("look", '{"x": 1}'), wire.text("Well.")) as server:
            for _ in range(3):
                await phase.turn(spec_of(server))
            return server.requests

    assert len(run(main())) == 3
    assert [row["status"] for row in phase.rows()] == ["ok"] * 3


@pytest.mark.parametrize("body", [b'{"choices": ' + b"[" * 100_000, b"[" * 50_000 + b"]" * 50_000])
def test_a_body_that_is_nested_too_deeply_cannot_be_read(ledger, body):
    async def main():
        async with serving(Reply(raw=body), wire.text("Well.")) as server:
            return await Phase(ledger).turn(spec_of(server))

    assert run(main()).content == "Well."
