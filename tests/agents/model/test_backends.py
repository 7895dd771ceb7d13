"""Backends over real HTTP: every fault of a server ends in a usable reply or in one sentence, and in one row each."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import warnings
from contextlib import asynccontextmanager

import pytest
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import (
    AssistantMessage,
    CreateResult,
    FunctionExecutionResult,
    FunctionExecutionResultMessage,
    RequestUsage,
    SystemMessage,
    UserMessage,
)
from loguru import logger

from learning_signal.agents.call_ids import with_own_ids
from learning_signal.agents.model.backends import backend_table, build_client
from learning_signal.agents.model.call import Call, CallContext, Limits
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.faults import classify, mask
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.replies import EmptyReply, repair_history, sanitise, split_thinking
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.stack.client import agent_client
from learning_signal.agents.model.stack.guard import Guard, TimeLimit
from learning_signal.agents.model.stack.layers import Provider
from learning_signal.agents.model.trial import check
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.write.writer import Ledger
from tests.support import scripted_server as wire
from tests.support.ledger_helpers import SESSION
from tests.support.scripted_server import Reply, serving
from tests.support.virtual_time import run_in_virtual_time

CANARY = "sk-canary-0123456789abcdef"
TOOLS = [
    {
        "name": name,
        "description": "Look something up.",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}},
    }
    for name in ("look", "submit_look")
]
ASK = [SystemMessage(content="Be brief."), UserMessage(content="Go on.", source="session")]
QUICK = Limits(attempts=3, timeout=30.0, deadline=60.0, backoff=0.01, longest_wait=0.2)


@pytest.fixture(scope="module")
def empty_ledger(tmp_path_factory):
    """A ledger with one session; copied per test, because making one costs more than a test."""
    path = tmp_path_factory.mktemp("empty") / "log.db"
    with Ledger.open(path) as opened:
        opened.begin_session(id=SESSION, task="spread", algorithm="mappo", seed=0, config={}, code_version="test")
    return path


@pytest.fixture
def ledger(empty_ledger, tmp_path):
    with Ledger.open(shutil.copy(empty_ledger, tmp_path / "log.db")) as opened:
        yield opened


@asynccontextmanager
async def connected(ledger, *script, parameters="", context=None, environment=None, limits=QUICK):
    """A server with ``script`` and the whole client stack of a critic on it."""
    async with serving(*script) as server:
        spec = parse_spec(f"openai-api/some-model@{server.address}{parameters}")
        client = agent_client(
            spec,
            "critic",
            ledger=ledger,
            session_id=SESSION,
            context=context or CallContext(1, "critic", "0"),
            limits=limits,
            environment={"SOME_MODEL_API_KEY": CANARY} if environment is None else environment,
        )
        try:
            yield server, client
        finally:
            await client.close()


def rows(ledger, table="llm_calls"):
    return ledger.rows(f"SELECT * FROM {table} ORDER BY 1")


def body(ledger, address):
    return ledger.rows("SELECT body FROM bodies WHERE hash = ?", (address,))[0]["body"]


async def ask(ledger, *script, **options):
    async with connected(ledger, *script, **options) as (server, client):
        return await client.create(ASK, tools=TOOLS), server


# what ends well -------------------------------------------------------------------------------------------------

GOOD = {
    "text": (wire.text("All is well."), "All is well."),
    "another model name": (wire.text("All is well.", model="gpt-4o-2024"), "All is well."),
    "usage missing": (wire.text("All is well.", usage=None), "All is well."),
    "usage empty": (wire.text("All is well.", usage={"prompt_tokens": None}), "All is well."),
    "content in parts": (wire.text([{"type": "text", "text": "All is well."}]), "All is well."),
    "reasoning in the text": (wire.text("<think>hm</think>All is well."), "All is well."),
    "a slow reply within the limit": (Reply(**{**vars(wire.text("All is well.")), "delay": 0.1}), "All is well."),
    "a call": (wire.call("look", '{"x": 1}'), [("look", '{"x": 1}')]),
    "arguments as an object": (wire.call("look", {"x": 1}), [("look", '{"x": 1}')]),
    "arguments null": (wire.call("look", None), [("look", "{}")]),
    "arguments empty": (wire.call("look", ""), [("look", "{}")]),
    "arguments malformed": (wire.call("look", '{"x": '), [("look", '{"x": ')]),
    "a prefix before the name": (wire.call("functions.submit_look"), [("submit_look", "{}")]),
    "an unknown tool": (wire.call("nope"), [("nope", "{}")]),
    "no call id": (wire.calls([(None, "look", "{}")]), [("look", "{}")]),
    "the same call twice": (wire.calls([("a", "look", "{}"), ("a", "look", "{}")]), [("look", "{}")]),
    "one id for two calls": (
        wire.calls([("0", "look", '{"x": 1}'), ("0", "look", '{"x": 2}')]),
        [("look", '{"x": 1}'), ("look", '{"x": 2}')],
    ),
    "a wrong finish reason": (wire.call("look", finish="stop"), [("look", "{}")]),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_usable_reply_needs_one_request(ledger, case):
    reply, expected = GOOD[case]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result, server = asyncio.run(ask(ledger, reply))
    assert len(server.requests) == 1
    if isinstance(result.content, str):
        assert result.content == expected
    else:
        assert [(call.name, call.arguments) for call in result.content] == expected
        ids = [call.id for call in result.content]
        assert all(ids) and len(set(ids)) == len(ids)
    (row,) = rows(ledger)
    assert row["status"] == "ok" and row["attempt"] == 1 and row["latency_ms"] > 0
    assert row["model_requested"] == "some-model"
    assert row["model_served"] == ("gpt-4o-2024" if case == "another model name" else "served-model")
    assert row["tokens_source"] == ("estimate" if case.startswith("usage") else "server")
    assert row["tokens_in"] > 0 and row["cost_usd"] is None


def test_reasoning_is_kept_as_thought(ledger):
    result, _ = asyncio.run(ask(ledger, wire.text("<think>hm</think>Well.")))
    assert (result.thought, result.content) == ("hm", "Well.")


def test_the_request_is_what_a_server_expects(ledger):
    async def main():
        reply = wire.text("ok")
        async with connected(ledger, reply, parameters="?temperature=0.5&seed=3&max_tokens=9") as (server, client):
            await client.create(ASK, tools=TOOLS)
        return server.requests[0]

    request = asyncio.run(main())
    assert request.path == "/v1/chat/completions"
    assert request.headers["authorization"] == f"Bearer {CANARY}"
    sent = request.body
    assert (sent["temperature"], sent["seed"], sent["max_tokens"]) == (0.5, 3, 9)
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert "name" not in sent["messages"][1]
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["look", "submit_look"]
    assert not sent.get("stream")


# what does not --------------------------------------------------------------------------------------------------

BAD = {
    "wrong key": (wire.error(401, f"Incorrect API key provided: {CANARY}"), "permanent", 1, "SOME_MODEL_API_KEY"),
    "no such model": (wire.error(404, "model 'some-model' not found"), "permanent", 1, "not found"),
    "bad request": (wire.error(400, "context length exceeded"), "permanent", 1, "context length exceeded"),
    "no quota": (wire.error(429, "quota", "insufficient_quota"), "permanent", 1, "no quota"),
    "rate limit": (wire.error(429, "slow down", retry_after="0.02"), "transient", 3, "rate of requests"),
    "server fault": (wire.error(500, "oops"), "transient", 3, "oops"),
    "html error page": (Reply(503, raw=b"<html>busy</html>", content_type="text/html"), "transient", 3, "HTTP 503"),
    "too slow": (Reply(**{**vars(wire.text("late")), "delay": 60.0}), "transient", 3, "did not answer in time"),
    "drips for ever": (Reply(**{**vars(wire.text("late")), "drip": 0.05}), "transient", 3, "did not answer in time"),
    "drops": (Reply(drop=True), "transient", 3, "cannot be reached"),
    "html": (Reply(raw=b"<html>hello</html>", content_type="text/html"), "protocol", 3, "no JSON"),
    "invalid JSON": (Reply(raw=b'{"choices": ['), "protocol", 3, "cannot be read"),
    "an error inside a 200": (Reply(body={"error": {"message": "overloaded"}}), "protocol", 3, "overloaded"),
    "no choices": (Reply(body={"choices": []}), "protocol", 3, "without choices"),
    "choices null": (Reply(body={"choices": None}), "protocol", 3, "without choices"),
    "no message": (Reply(body={"choices": [{"index": 0}]}), "protocol", 3, "without a message"),
    "a call without a function": (wire.calls([("a", None, "{}")]), "protocol", 3, "without a function"),
    "cut": (wire.text("All is", finish="length"), "truncated", 3, "max_tokens"),
    "a cut call": (wire.call("look", '{"x": ', finish="length"), "truncated", 3, "max_tokens"),
    "empty": (wire.text(""), "empty", 3, "neither text nor a tool call"),
    "null": (wire.text(None), "empty", 3, "neither text nor a tool call"),
    "only reasoning": (wire.text("<think>hm</think>"), "empty", 3, "neither text nor a tool call"),
    "no calls in the list": (wire.calls([]), "empty", 3, "neither text nor a tool call"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_lasting_fault_ends_in_one_sentence(ledger, case):
    reply, kind, attempts, says = BAD[case]
    heard = []
    sink = logger.add(heard.append, diagnose=False, backtrace=True)
    never_ends = reply.delay > 0 or reply.drip is not None
    limits = Limits(attempts=3, timeout=0.15 if never_ends else 30.0, deadline=60.0, backoff=0.01, longest_wait=0.2)
    with pytest.raises(BackendError) as raised:
        asyncio.run(ask(ledger, reply, limits=limits))
    try:
        raise raised.value
    except BackendError:
        logger.exception("a call failed")
    logger.remove(sink)
    sentence = str(raised.value)
    assert raised.value.kind == kind
    assert says in sentence and "openai-api/some-model@http://127.0.0.1" in sentence
    assert sentence.endswith(".") and "\n" not in sentence
    made = rows(ledger)
    assert [row["attempt"] for row in made] == list(range(1, attempts + 1))
    assert {(row["status"], row["error_kind"]) for row in made} == {("error", kind)}
    # What is of no use is paid for too.
    answered = kind in ("truncated", "empty") or case == "a call without a function"
    assert {(row["tokens_in"], row["tokens_out"]) for row in made} == {(11, 7) if answered else (None, None)}
    assert all(row["reply"] is None for row in made)
    assert {event["status"] for event in rows(ledger, "events")} == {"error"}
    assert CANARY not in sentence and CANARY not in "".join(heard)
    for path in ledger.path.parent.iterdir():
        assert CANARY.encode() not in path.read_bytes()


FLAKY = {name: BAD[name][0] for name in ("rate limit", "server fault", "drops", "html", "no choices", "cut", "empty")}


@pytest.mark.parametrize("case", FLAKY)
def test_a_passing_fault_is_survived(ledger, case):
    result, server = asyncio.run(ask(ledger, FLAKY[case], wire.text("All is well.")))
    assert result.content == "All is well." and len(server.requests) == 2
    assert [(row["attempt"], row["status"]) for row in rows(ledger)] == [(1, "error"), (2, "ok")]


def test_a_refused_connection_is_named(ledger):
    async def main():
        async with serving(wire.text("x")) as server:
            address = server.address
        spec = parse_spec(f"openai-api/some-model@{address}")
        client = agent_client(
            spec, "critic", ledger=ledger, session_id=SESSION, context=CallContext(), limits=QUICK, environment={}
        )
        with pytest.raises(BackendError, match="cannot be reached at http://127.0.0.1.*start the server") as raised:
            await client.create(ASK)
        assert raised.value.kind == "transient" and "given up after 3 attempts" in str(raised.value)

    asyncio.run(main())


def test_the_wait_that_a_server_asks_for_is_honoured_where_the_deadline_allows_it(ledger):
    async def waited(header):
        waits = []

        async def sleep(seconds):
            waits.append(seconds)

        async with serving(wire.error(429, retry_after=header), wire.text("ok")) as server:
            spec = parse_spec(f"openai-api/m@{server.address}")
            client = Provider(build_client(spec, "critic", environment={}))
            await Guard(client, spec, limits=QUICK, sleep=sleep).answer(Call(ASK))
        return waits

    assert asyncio.run(waited("0.1")) == [0.1]
    assert asyncio.run(waited("45")) == [45.0], "longer than the longest wait of our own"
    with pytest.raises(BackendError, match=r"asks to wait 3600 seconds; '\?deadline=SECONDS' allows more than 60"):
        asyncio.run(waited("3600"))
    assert asyncio.run(waited("Wed, 21 Oct 2015 07:28:00 GMT")) == [0.0]
    without = asyncio.run(waited("soon"))
    assert without == asyncio.run(waited("soon")) and 0.0075 <= without[0] <= 0.0125


def test_the_deadline_ends_an_attempt_over_http(ledger):
    limits = Limits(attempts=20, timeout=60.0, deadline=0.3, backoff=0.01)
    with pytest.raises(BackendError, match="did not answer within its deadline of 0.3 seconds"):
        asyncio.run(ask(ledger, Reply(body={}, delay=60.0), limits=limits))
    assert len(rows(ledger)) == 1


class _Silent:
    """A model that never answers, and when it was asked."""

    def __init__(self):
        self.asked = []

    async def answer(self, call):
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(3600)


@pytest.mark.parametrize(
    ("timeout", "deadline", "attempts", "asked", "ended", "says"),
    [
        (20.0, 50.0, 20, 3, 50.0, "within its deadline of 50 seconds"),  # the deadline cuts the third attempt
        (20.0, 1000.0, 3, 3, 60.0, "in time"),  # the attempts are used up; between them are two short waits
        (20.0, 20.1, 20, 1, 20.0, "in time"),  # no time is left for the wait
    ],
)
def test_the_deadline_bounds_all_attempts(timeout, deadline, attempts, asked, ended, says):
    limits = Limits(attempts=attempts, timeout=timeout, deadline=deadline, backoff=0.5)
    silent = _Silent()

    async def main():
        with pytest.raises(BackendError, match=f"did not answer {says}"):
            guard = Guard(TimeLimit(silent, limits), parse_spec("openai-api/m@http://h/v1"), limits=limits)
            await guard.answer(Call(ASK))
        return asyncio.get_running_loop().time()

    assert ended <= run_in_virtual_time(main()) <= ended + 2.0
    assert len(silent.asked) == asked
    gaps = [later - earlier - timeout for earlier, later in itertools.pairwise(silent.asked)]
    assert all(0.75 * 0.5 * 2**n <= gap <= 1.25 * 0.5 * 2**n for n, gap in enumerate(gaps))


class _Loads:
    """Loads its model for ``seconds`` whenever it is asked and has not done so to the end; then answers at once."""

    def __init__(self, seconds):
        self.seconds, self.asked, self.loaded = seconds, 0, False

    async def answer(self, call):
        self.asked += 1
        await asyncio.sleep(0.0 if self.loaded else self.seconds)
        self.loaded = True
        return reply("Here I am.")


@pytest.mark.parametrize(
    ("parameters", "deadline", "says"),
    [
        ("", 180.0, None),  # what a session allows one answer may all go into the first attempt
        ("", 100.0, "its first_timeout is 100 seconds.; wait, or allow more with '.first_timeout=SECONDS'"),
        ("?first_timeout=600", 100.0, None),
        ("?first_timeout=120", 100.0, "its first_timeout is 120 seconds."),
        ("?timeout=30&attempts=2", 180.0, "its timeout is 30 seconds.; wait, or allow more with '.timeout="),
        ("?deadline=60", 180.0, "its first_timeout is 60 seconds."),
    ],
)
def test_a_model_may_load_before_its_first_answer(parameters, deadline, says):
    """130 seconds, and anew whenever the client hangs up."""
    spec = parse_spec(f"openai-api/m@http://h/v1{parameters}")
    limits = Limits(first_timeout=deadline, deadline=deadline).with_spec(spec)
    loads = _Loads(130.0)

    async def main():
        guard = Guard(TimeLimit(loads, limits), spec, limits=limits)
        if says is not None:
            with pytest.raises(BackendError, match=says):
                await guard.answer(Call(ASK))
            return
        assert (await guard.answer(Call(ASK))).content == "Here I am." and loads.asked == 1
        loads.loaded, before = False, asyncio.get_running_loop().time()
        with pytest.raises(BackendError, match="in time at .* .its timeout is 120|within its deadline"):
            await guard.answer(Call(ASK))  # negative control: a later answer has the usual limits
        assert asyncio.get_running_loop().time() - before <= deadline + 1.0

    run_in_virtual_time(main())


def test_cancelling_stops_the_call_and_is_recorded(ledger):
    async def main():
        token = CancellationToken()
        async with connected(ledger, Reply(body={}, delay=60.0), limits=Limits()) as (_, client):
            waiting = asyncio.ensure_future(client.create(ASK, cancellation_token=token))
            await asyncio.sleep(0.1)
            token.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(waiting, 30.0)

    asyncio.run(main())
    assert [row["status"] for row in rows(ledger)] == ["interrupted"]


def test_a_failing_ledger_is_not_taken_for_a_failing_backend(ledger, monkeypatch):
    def refuse(*arguments, **options):
        raise LedgerError("The disk is full.")

    monkeypatch.setattr(ledger, "complete", refuse)
    with pytest.raises(LedgerError, match="The disk is full"):
        asyncio.run(ask(ledger, wire.text("ok")))


# limits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "timeout", "deadline"),
    [("", 120, 180), ("?timeout=600", 600, 600), ("?timeout=60", 60, 180), ("?timeout=60&deadline=90", 60, 90)],
)
def test_a_longer_attempt_that_a_spec_allows_is_not_capped(parameters, timeout, deadline):
    limits = Limits(deadline=180.0).with_spec(parse_spec(f"openai/m{parameters}"))
    assert (limits.timeout, limits.deadline) == (timeout, deadline)


def test_a_deadline_that_ends_an_attempt_names_itself():
    class Waits:
        async def answer(self, call):
            await asyncio.sleep(1000)

    async def main():
        guard = Guard(Waits(), parse_spec("openai/m"), limits=Limits(deadline=50.0))
        with pytest.raises(BackendError) as raised:
            await guard.answer(Call(ASK))
        return str(raised.value)

    said = run_in_virtual_time(main())
    assert "did not answer within its deadline of 50 seconds" in said
    assert "'?deadline=SECONDS'" in said and "'deadline' in [deliberation]" in said


# a call is insisted on ------------------------------------------------------------------------------------------


def test_a_server_that_refuses_tool_choice_is_not_asked_for_it_again(ledger):
    async def main():
        context = CallContext(1, "critic", "0", insist=True)
        script = [wire.error(400, "tool_choice is not supported"), wire.call("look", "{}"), wire.call("look", "{}")]
        async with connected(ledger, *script, context=context) as (server, client):
            await client.create(ASK, tools=TOOLS)
            context.step = "1"
            await client.create(ASK, tools=TOOLS)
            context.step, context.insist = "2", False
            await client.create(ASK, tools=TOOLS)
            return [request.body["tool_choice"] for request in server.requests]

    assert asyncio.run(main()) == ["required", "auto", "auto", "auto"]
    assert [row["status"] for row in rows(ledger)] == ["error", "ok", "ok", "ok"]


def test_a_fault_that_has_another_cause_does_not_end_the_insistence(ledger):
    """Negative control: a server that is busy for once is asked for a call the next time."""

    async def main():
        context = CallContext(1, "critic", "0", insist=True)
        script = [wire.error(503), wire.call("look", "{}"), wire.call("look", "{}")]
        async with connected(ledger, *script, context=context) as (server, client):
            await client.create(ASK, tools=TOOLS)
            context.step = "1"
            await client.create(ASK, tools=TOOLS)
            return [request.body["tool_choice"] for request in server.requests]

    assert asyncio.run(main()) == ["required", "auto", "required"]


def test_a_call_that_was_understood_is_logged_with_the_text_it_was_written_as(ledger):
    said = 'I look. <tool_call>{"name": "look", "arguments": {"x": 1}}</tool_call>'
    result, _ = asyncio.run(ask(ledger, wire.text(said)))
    assert [(call.name, call.arguments) for call in result.content] == [("look", '{"x": 1}')]
    (row,) = rows(ledger)
    assert json.loads(body(ledger, row["reply"]))["written"] == said and result.thought == "I look."
    assert rows(ledger, "events")[-1]["title"] == "critic: calls look, understood from text"


# memory ---------------------------------------------------------------------------------------------------------


def test_the_same_step_gets_the_same_reply_and_another_step_asks_again(ledger):
    async def main():
        context = CallContext(1, "critic", "0")
        script = [wire.calls([("0", "look", "{}")], content="first"), wire.call("look", '{"x": 2}')]
        async with connected(ledger, *script, context=context) as (server, client):
            first = await client.create(ASK, tools=TOOLS)
            assert await client.create(ASK, tools=TOOLS) == first
            assert len(server.requests) == 1
            context.step = "1"
            second = await client.create(ASK, tools=TOOLS)
            assert second.content[0].arguments == '{"x": 2}' and second.content[0].id != first.content[0].id
            await client.create([*ASK, UserMessage(content="And?", source="session")], tools=TOOLS)
            await client.create(ASK, tools=TOOLS[:1])
            assert len(server.requests) == 4

    asyncio.run(main())
    assert [row["status"] for row in rows(ledger)] == ["ok"] * 4


def test_a_failed_or_interrupted_reply_is_asked_for_again(ledger):
    async def main():
        async with connected(ledger, wire.error(400), wire.text("ok")) as (server, client):
            with pytest.raises(BackendError):
                await client.create(ASK)
            assert (await client.create(ASK)).content == "ok"

    asyncio.run(main())
    assert [row["status"] for row in rows(ledger)] == ["error", "ok"]


def test_messages_are_stored_once(ledger):
    async def main():
        context = CallContext(1, "critic", "0")
        async with connected(ledger, wire.text("ok"), context=context) as (_, client):
            await client.create(ASK)
            context.step = "1"
            await client.create([*ASK, AssistantMessage(content="ok", source="critic")])

    asyncio.run(main())
    first, second = (json.loads(body(ledger, row["context"])) for row in rows(ledger))
    assert second[:2] == first and len(second) == 3
    assert json.loads(body(ledger, second[2]))["content"] == "ok"


# replies and histories ------------------------------------------------------------------------------------------


def reply(content, thought=None, finish="stop"):
    return CreateResult(content=content, thought=thought, finish_reason=finish, usage=RequestUsage(1, 1), cached=False)


def test_what_is_left_out_of_a_reply_is_said():
    long = sanitise(reply("x" * 100_000), [])
    assert len(long.content) == 40_000 and "the first 40000 of 100000 characters" in long.content
    many = [FunctionCall(id=str(n), name="look", arguments=json.dumps({"x": n})) for n in range(20)]
    cleaned = sanitise(reply(many), TOOLS)
    assert len(cleaned.content) == 16 and "[4 tool calls were left out" in cleaned.thought
    twice = [FunctionCall(id="a", name="look", arguments="{}"), FunctionCall(id="b", name="look", arguments="{}")]
    assert "a repetition of the call to look" in sanitise(reply(twice), TOOLS).thought


def test_a_call_is_no_repetition_where_another_stands_between():
    """What a model does in between may be what the call needs: launch, compare, launch, compare."""
    names = ("submit_look", "look", "submit_look", "look", "look")
    made = [FunctionCall(id=str(n), name=name, arguments="{}") for n, name in enumerate(names)]
    cleaned = sanitise(reply(made), TOOLS)
    assert [call.name for call in cleaned.content] == ["submit_look", "look", "submit_look", "look"]
    assert "a repetition of the call to look was left out" in cleaned.thought


def test_sanitising_is_idempotent():
    calls = [
        FunctionCall(id="", name="tools:look", arguments="null"),
        FunctionCall(id="1", name="look", arguments="[]"),
    ]
    once = sanitise(reply(calls, thought="<think>hm</think>"), TOOLS)
    assert once == sanitise(once, TOOLS) == sanitise(reply(calls, thought="hm"), TOOLS)


def test_ids_of_tool_calls_are_those_of_the_request():
    calls = [FunctionCall(id="", name="look", arguments="{}"), FunctionCall(id="", name="look", arguments="[]")]
    once = with_own_ids(reply(calls), "a" * 64)
    assert once == with_own_ids(once, "a" * 64) == with_own_ids(reply(calls), "a" * 64)
    assert once.content != with_own_ids(reply(calls), "b" * 64).content
    ids = [call.id for call in once.content]
    assert len(set(ids)) == 2 and all(len(name) == 9 and name.isalnum() and name.isascii() for name in ids)
    assert with_own_ids(reply("text"), "a" * 64).content == "text"


@pytest.mark.parametrize(
    ("text", "rest", "thought"),
    [
        ("plain < text", "plain < text", None),
        ("<think>a</think>b<thinking>c</thinking>d", "bd", "a\nc"),
        ("a, then</think>b", "b", "a, then"),
        ("<think>never closed", "", "never closed"),
        ("about </thin", "about </thin", None),
    ],
)
def test_thinking_is_split_from_text(text, rest, thought):
    assert split_thinking(text) == (rest, thought)


def test_a_broken_history_is_repaired():
    made = [FunctionCall(id="a", name="look", arguments='{"x"'), FunctionCall(id="b", name="look", arguments="{}")]
    stray = FunctionExecutionResult(content="?", name="look", call_id="z", is_error=False)
    answer = FunctionExecutionResult(content="1", name="look", call_id="a", is_error=False)
    repaired = repair_history(
        [
            FunctionExecutionResultMessage(content=[stray]),
            ASK[1],
            AssistantMessage(content=made, source="critic"),
            FunctionExecutionResultMessage(content=[answer, stray]),
            AssistantMessage(content=made[1:], source="critic"),
            ASK[1],
        ]
    )
    kinds = [message.type for message in repaired]
    calls, results = "AssistantMessage", "FunctionExecutionResultMessage"
    assert kinds == ["UserMessage", calls, results, calls, results, "UserMessage"]
    assert json.loads(repaired[1].content[0].arguments) == {"unreadable": '{"x"'}
    assert [result.call_id for result in repaired[2].content] == ["a", "b"]
    assert repaired[2].content[0].content == "1" and "interrupted" in repaired[2].content[1].content
    assert repair_history(repaired) == repaired
    assert made[0].arguments == '{"x"'


# choosing and trying out ----------------------------------------------------------------------------------------


def test_the_rules_run_through_the_same_stack(ledger):
    async def main():
        spec = parse_spec("rules")
        client = agent_client(spec, "critic", ledger=ledger, session_id=SESSION, context=CallContext(), environment={})
        return await client.create(ASK)

    assert asyncio.run(main()).content
    (row,) = rows(ledger)
    assert (row["spec"], row["model_requested"], row["tokens_source"]) == ("rules", "rules", "estimate")


def test_a_fault_of_the_rules_is_not_retried():
    class _Broken:
        calls = 0

        async def answer(self, call):
            self.calls += 1
            raise KeyError("stage")

    broken = _Broken()
    with pytest.raises(BackendError, match="Backend 'rules' failed with KeyError: 'stage'"):
        asyncio.run(Guard(broken, parse_spec("rules"), limits=Limits()).answer(Call(ASK)))
    assert broken.calls == 1
    assert classify(EmptyReply(), parse_spec("rules")).kind == "empty"


def test_what_is_missing_is_said(ledger, monkeypatch):
    monkeypatch.setenv("LEARNING_SIGNAL_LEDGER", "nowhere.db")
    with pytest.raises(SpecError, match="OPENAI_API_KEY"):
        build_client(parse_spec("openai/gpt-4.1-mini"), "critic", environment={})
    with pytest.raises(SpecError, match="finds no session: There is no ledger at nowhere.db"):
        build_client(parse_spec("replay/s"), "critic", environment={})
    for spec, module, extra in [
        ("openai-api/m@http://127.0.0.1:9", "autogen_ext.models.openai", "openai"),
        ("ollama/m", "ollama", "ollama"),
        ("anthropic/m", "autogen_ext.models.anthropic", "anthropic"),
    ]:
        monkeypatch.setitem(__import__("sys").modules, module, None)
        with pytest.raises(SpecError, match=rf"pip install '\.\[{extra}\]'"):
            build_client(parse_spec(spec), "critic", environment={"ANTHROPIC_API_KEY": CANARY})


def test_addresses_and_parameter_names_of_the_providers():
    def built(text, **environment):
        client = build_client(parse_spec(text), "critic", environment={"OPENAI_API_KEY": CANARY, **environment})
        return str(client._client.base_url), client._create_args, client._client.max_retries

    address, arguments, retries = built("openai/gpt-4.1-mini?max_tokens=5")
    assert address == "https://api.openai.com/v1/" and arguments["max_completion_tokens"] == 5 and retries == 0
    assert built("openai/gpt-4.1-mini", OPENAI_BASE_URL="http://p/v1")[0] == "http://p/v1/"
    assert built("openai/claude-x")[0] == "https://api.openai.com/v1/"
    assert built("openai-api/qwen3:8b@http://box/v1?max_tokens=5")[:2] == (
        "http://box/v1/",
        {"model": "qwen3:8b", "max_tokens": 5, "timeout": 120.0},
    )


def test_the_table_tells_what_is_there_and_never_a_key():
    table = {row.provider: row for row in backend_table({"OPENAI_API_KEY": CANARY})}
    assert (table["rules"].installed, table["rules"].key) == (True, "not needed")
    assert (table["openai"].key, table["anthropic"].key) == ("set", "not set")
    assert (table["replay"].installed, table["replay"].key) == (True, "not needed")
    assert CANARY not in str(table)


def test_a_check_is_one_small_tool_call():
    async def checked(*script, key=CANARY, timeout=30.0):
        async with serving(*script) as server:
            spec = parse_spec(f"openai-api/some-model@{server.address}")
            return await check(spec, {"SOME_MODEL_API_KEY": key}, timeout=timeout), server

    good, server = asyncio.run(checked(wire.call("report_status", '{"status": "ready"}')))
    assert good.ok and good.model_served == "served-model" and len(server.requests) == 1
    talker, _ = asyncio.run(checked(wire.text("I am ready.")))
    assert not talker.ok and "called no tool" in talker.sentence
    refused, server = asyncio.run(checked(wire.error(401, f"bad key {CANARY}")))
    assert not refused.ok and "refused the key" in refused.sentence and CANARY not in refused.sentence
    slow, server = asyncio.run(checked(Reply(body={}, delay=60.0), timeout=0.2))
    assert not slow.ok and "did not answer in time" in slow.sentence and len(server.requests) == 1
    missing = asyncio.run(check(parse_spec("openai/gpt-4.1-mini"), {}))
    assert not missing.ok and "OPENAI_API_KEY" in missing.sentence
    assert asyncio.run(check(parse_spec("rules"), {})).ok


def test_masking_leaves_ordinary_text_alone():
    assert mask(f"key {CANARY} and Bearer abcdefgh", [CANARY]) == "key [redacted] and [redacted]"
    assert mask("a task-oriented model, sha 0123abcd") == "a task-oriented model, sha 0123abcd"
