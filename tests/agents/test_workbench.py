"""Tool calls: checked, recorded, applied once, and never a hang - under a real agent, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from typing import Annotated, Literal

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ToolCallExecutionEvent
from autogen_core import CancellationToken, FunctionCall
from autogen_core.models import CreateResult, ModelInfo, RequestUsage
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from learning_signal.agents.model.call import CallContext, Limits
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.stack.client import AgentClient, agent_client
from learning_signal.agents.schemas import plain_schema
from learning_signal.agents.workbench import ToolAgent, ToolWorkbench
from learning_signal.ledger.errors import LedgerError
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.base import Answer, Tool, ToolRefused
from learning_signal.tools.state import PhaseCalls
from tests.support import scripted_server as wire
from tests.support.ledger_helpers import SESSION
from tests.support.scripted_server import serving


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Nothing(_Strict):
    pass


class _Look(_Strict):
    x: Annotated[int, Field(ge=0)] = 0


class _Item(_Strict):
    title: str
    kind: Literal["a", "b"]


class _Submit(_Strict):
    """A submission."""

    items: Annotated[tuple[_Item, ...], Field(min_length=1)]
    note: str | None = None


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


class _SessionContext:
    """Tools of every kind, and what they did."""

    def __init__(self):
        self.done: list[str] = []
        self.evidence = 0
        self.saved = 0
        self.ended_by = None
        self.running = 0
        self.most_running = 0
        self.release = asyncio.Event()

    def tools(self):
        return [
            Tool("look", "Look.", _Look, self.look, evidence=True),
            Tool("nothing", "No arguments.", _Nothing, self.nothing),
            Tool("refuse", "Refuses.", _Nothing, self.refuse),
            Tool("refuse_late", "Refuses when it is applied.", _Nothing, self.refuse_late),
            Tool("fail", "Fails.", _Nothing, self.fail),
            Tool("silent", "Says nothing.", _Nothing, self.silent),
            Tool("time_out", "Raises an empty TimeoutError.", _Nothing, self.time_out),
            Tool("cancel", "Raises CancelledError.", _Nothing, self.cancel),
            Tool("stuck", "Waits for ever.", _Nothing, self.stuck),
            Tool("wait", "Waits, however long it takes.", _Nothing, self.stuck, patient=True),
            Tool("long", "Says too much.", _Nothing, self.long, evidence=True),
            Tool("submit", "Ends the phase.", _Submit, self.submit, ends_phase=True),
        ]

    def bench(self, ledger, **options):
        def next_evidence_id():
            self.evidence += 1
            return f"E{self.evidence}"

        def on_done(ended_by):
            self.saved += 1
            self.ended_by = ended_by
            ledger.save_cursor(SESSION, {"evidence": self.evidence, "done": self.done})

        return ToolWorkbench(
            self.tools(),
            ledger=ledger,
            session_id=SESSION,
            agent="critic",
            next_evidence_id=next_evidence_id,
            on_done=on_done,
            **{"call_context": CallContext(1, "critic", "0")} | options,
        )

    async def look(self, arguments):
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0.01)
        self.running -= 1
        return Answer(json.dumps({"x": arguments.x}), apply=lambda: self.done.append(f"look {arguments.x}"))

    async def nothing(self, arguments):
        return Answer('{"accepted":true}')

    async def refuse(self, arguments):
        raise ToolRefused("Found no verdict; expected a pass; compare the branches first.", code="known", x=1)

    async def refuse_late(self, arguments):
        def apply():
            raise ToolRefused("It has been decided already.")

        return Answer("{}", apply)

    async def fail(self, arguments):
        raise KeyError("missing")

    async def silent(self, arguments):
        return Answer("  ")

    async def time_out(self, arguments):
        raise TimeoutError

    async def cancel(self, arguments):
        raise asyncio.CancelledError

    async def stuck(self, arguments):
        await self.release.wait()

    async def long(self, arguments):
        return Answer(json.dumps({"values": ["x" * 50] * 50}))

    async def submit(self, arguments):
        return Answer('{"accepted":true}', apply=lambda: self.done.append("submit"))


def calls_made(ledger):
    return ledger.rows("SELECT * FROM tool_calls ORDER BY id")


def body(ledger, address):
    return ledger.rows("SELECT body FROM bodies WHERE hash = ?", (address,))[0]["body"]


def one(ledger, name, arguments="{}", *, call_id="c1", context=None, **options):
    """One call: (text, row, context)."""
    context = context or _SessionContext()
    bench = context.bench(ledger, **options)
    result = asyncio.run(asyncio.wait_for(bench.call(name, arguments, None, call_id), 2.0))
    return result.to_text(), calls_made(ledger)[-1], context


def test_a_call_is_recorded_applied_and_saved_in_one_commit(ledger):
    labels = []
    ledger.on_commit = lambda label, events: labels.append((label, [event["status"] for event in events]))
    text, row, context = one(ledger, "look", '{"x": 3}')
    assert json.loads(text) == {"evidence": "E1", "x": 3}
    assert (row["status"], row["evidence_id"], row["name"], row["call_id"]) == ("ok", "E1", "look", "c1")
    assert body(ledger, row["arguments"]) == '{"x": 3}' and body(ledger, row["result"]) == text
    assert row["latency_ms"] >= 9 and row["round"] == 1 and row["agent"] == "critic"
    assert labels == [("tool call begins", ["pending"]), ("tool call ok", ["ok"])]
    assert ledger.load_cursor(SESSION) == {"evidence": 1, "done": ["look 3"]}


@pytest.mark.parametrize(
    ("name", "arguments", "status", "says"),
    [
        ("nope", "{}", "refused", "there is no tool 'nope'; the tools are: look, nothing"),
        ("look", '{"x": ', "refused", "not valid JSON"),
        ("look", '{"x": NaN}', "refused", "NaN is not a JSON number"),
        ("look", "[1]", "refused", "are a list"),
        ("look", "[" * 100_000, "refused", "arguments of look are"),
        ("look", '{"x": -1}', "refused", "x: must be at least 0, not -1"),
        ("look", '{"xx": 1}', "refused", "xx: unknown field (did you mean x?)"),
        ("nothing", '{"x": 1}', "refused", "x: unknown field"),
        ("submit", "{}", "refused", "items: missing"),
        ("refuse", "{}", "refused", "Found no verdict; expected a pass"),
        ("refuse_late", "{}", "refused", "It has been decided already."),
        ("fail", "{}", "error", "fail failed (KeyError: 'missing')"),
        ("silent", "{}", "error", "it returned no text"),
        ("time_out", "{}", "error", "TimeoutError: no message"),
        ("cancel", "{}", "interrupted", "was interrupted"),
        ("stuck", "{}", "error", "did not finish within 0.05 seconds"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_one_row(ledger, name, arguments, status, says):
    text, row, context = one(ledger, name, arguments, timeout=0.05)
    sentence, _, fields = text.partition("\n")
    assert sentence.startswith("ERROR: ") and says in sentence and sentence.endswith(".") and "\n" not in fields
    assert not fields or json.loads(fields)["code"] in ("arguments", "known")
    assert row["status"] == status and row["evidence_id"] is None and body(ledger, row["result"]) == text
    assert context.done == [] and context.evidence == 0
    events = ledger.rows("SELECT status, title FROM events ORDER BY seq")
    assert [event["status"] for event in events] == [status] and status in events[0]["title"]
    assert "code" not in events[0]["title"]  # the fields of a refusal are for programs


def test_empty_arguments_are_an_empty_object(ledger):
    assert one(ledger, "nothing", "")[1]["status"] == "ok"
    assert one(ledger, "nothing", "null", call_id="c2")[1]["status"] == "ok"


def test_a_long_result_is_cut_and_says_so(ledger):
    text, _, _ = one(ledger, "long", longest_result=500)
    shown = json.loads(text)
    assert shown["evidence"] == "E1" and shown["cut"].startswith("the first 500 of 2")
    assert len(shown["text"]) == 500


def test_calls_of_one_reply_run_in_order(ledger):
    async def main():
        context = _SessionContext()
        bench = context.bench(ledger)
        await asyncio.gather(*(bench.call("look", f'{{"x": {n}}}', None, f"c{n}") for n in range(4)))
        return context

    context = asyncio.run(main())
    assert context.done == ["look 0", "look 1", "look 2", "look 3"] and context.most_running == 1
    assert [row["evidence_id"] for row in calls_made(ledger)] == ["E1", "E2", "E3", "E4"]


@pytest.mark.parametrize("name", ["wait", "stuck"])
def test_only_a_patient_tool_has_no_time_limit(ledger, name):
    async def main():
        context = _SessionContext()
        running = asyncio.ensure_future(context.bench(ledger, timeout=0.05).call(name, "{}", None, "c1"))
        await asyncio.sleep(0.3)
        done = running.done()
        context.release.set()
        await running
        return done

    assert asyncio.run(main()) is (name == "stuck")


def test_the_cursor_is_told_which_submission_ended_the_phase(ledger):
    async def main():
        context = _SessionContext()
        bench, told = context.bench(ledger), []
        entry = '{"items": [{"title": "t", "kind": "a"}]}'
        for name, arguments in (("look", "{}"), ("submit", "{}"), ("submit", entry)):
            await bench.call(name, arguments, None, f"c{len(told)}")
            told.append(context.ended_by)
        return told

    assert asyncio.run(main()) == [None, None, "submit"]


def test_a_submission_ends_the_phase(ledger):
    async def main():
        context = _SessionContext()
        bench = context.bench(ledger)
        entry = '{"items": [{"title": "t", "kind": "a"}]}'
        texts = await asyncio.gather(
            bench.call("submit", "{}", None, "c1"),
            bench.call("submit", entry, None, "c2"),
            bench.call("submit", entry, None, "c3"),
            bench.call("look", "{}", None, "c4"),
        )
        assert bench.finished == ("submit", '{"accepted":true}')
        bench.begin_phase()
        assert bench.finished is None
        again = await bench.call("look", "{}", None, "c5")
        return [result.is_error for result in (*texts, again)], context

    errors, context = asyncio.run(main())
    assert errors == [True, False, True, True, False] and context.done == ["submit", "look 0"]
    assert "the phase has ended with submit" in body(ledger, calls_made(ledger)[2]["result"])


def test_a_finished_call_is_not_repeated_but_an_interrupted_one_is(ledger):
    text, _, context = one(ledger, "look", '{"x": 3}')
    again, _, resumed = one(ledger, "look", '{"x": 3}')
    assert again == text and resumed.done == [] and resumed.evidence == 0 and len(calls_made(ledger)) == 1
    one(ledger, "look", '{"x": 3}', call_id="another")
    assert len(calls_made(ledger)) == 2
    one(ledger, "cancel", call_id="c9")
    one(ledger, "cancel", call_id="c9")
    assert len(calls_made(ledger)) == 4


def repeated(ledger, *calls_of_steps, calls=None):
    """One call per step, (name, arguments) each, on one bench: the texts, the rows and what is kept of the calls."""
    calls = PhaseCalls() if calls is None else calls

    async def main():
        context, call_context = _SessionContext(), CallContext(1, "critic", "0")
        bench = context.bench(ledger, calls=lambda: calls, call_context=call_context)
        texts = []
        for number, (name, arguments) in enumerate(calls_of_steps):
            call_context.step = str(number)
            texts.append((await bench.call(name, arguments, None, f"c{number}")).to_text())
        return texts

    return asyncio.run(main()), calls_made(ledger), calls


def test_the_same_evidence_has_one_id_and_a_loop_ends_the_phase(ledger):
    look, again = ("look", '{"x": 1}'), ("look", '{ "x": 1 }')
    texts, rows, calls = repeated(ledger, look, again, ("look", '{"x": 2}'), look, look)
    assert [row["evidence_id"] for row in rows] == ["E1", None, "E2", None, None]
    assert json.loads(texts[1])["same_as"] == "E1" and len(texts[1]) < 100
    assert texts[3] == (
        "ERROR: you called look with the same arguments and the same result (E1) 3 times, so your phase ends here."
    )
    assert "the phase has ended" in texts[4] and calls.looped.startswith("called look with the same arguments")


def test_a_result_that_is_left_out_of_requests_by_now_is_told_again(ledger, monkeypatch):
    monkeypatch.setattr("learning_signal.agents.history.USED_UP", ("look",))
    first, others = ("look", '{"x": 1}'), [("look", f'{{"x": {n}}}') for n in (2, 3, 4)]
    texts, rows, _ = repeated(ledger, first, *others, first)
    assert texts[4] == texts[0] and [row["evidence_id"] for row in rows] == ["E1", "E2", "E3", "E4", None]


def test_the_same_refusal_three_times_ends_the_phase(ledger):
    refused = ("refuse", "{}")
    texts, rows, calls = repeated(ledger, refused, refused, ("nothing", "{}"), refused)
    assert "Found no verdict" in texts[1] and "3 times, so your phase ends here" in texts[3]
    assert [row["status"] for row in rows] == ["refused", "refused", "ok", "refused"] and calls.looped


def test_other_arguments_and_other_results_are_no_loop(ledger):
    """Negative control."""
    texts, _, calls = repeated(ledger, *[("look", f'{{"x": {n}}}') for n in range(5)])
    assert calls.looped is None and all("same_as" not in text for text in texts)


def test_a_step_that_is_taken_again_is_told_everything_again(ledger):
    """A resume with another backend repeats a step under another call id: it has not read what was told before."""
    _, _, calls = repeated(ledger, ("look", '{"x": 1}'))

    async def resumed():
        context = _SessionContext()
        context.evidence = 1
        bench = context.bench(ledger, calls=lambda: calls)
        return (await bench.call("look", '{"x": 1}', None, "another")).to_text()

    assert json.loads(asyncio.run(resumed())) == {"evidence": "E2", "x": 1} and calls.looped is None


def test_a_recalled_submission_ends_the_phase_again(ledger):
    entry = '{"items": [{"title": "t", "kind": "a"}]}'
    one(ledger, "submit", entry)
    context = _SessionContext()
    bench = context.bench(ledger)
    asyncio.run(bench.call("submit", entry, None, "c1"))
    assert bench.finished == ("submit", '{"accepted":true}') and context.done == []


def test_cancelling_the_token_stops_the_tool(ledger):
    async def main():
        context, token = _SessionContext(), CancellationToken()
        bench = context.bench(ledger)
        waiting = [asyncio.ensure_future(bench.call(name, "{}", token, name)) for name in ("stuck", "look")]
        await asyncio.sleep(0.05)
        token.cancel()
        return [result.to_text() for result in await asyncio.wait_for(asyncio.gather(*waiting), 1.0)], context

    texts, context = asyncio.run(main())
    assert all("was interrupted" in text for text in texts) and context.done == []
    assert [row["status"] for row in calls_made(ledger)] == ["interrupted", "interrupted"]


def test_cancelling_the_task_stops_the_tool(ledger):
    async def main():
        bench = _SessionContext().bench(ledger)
        waiting = asyncio.ensure_future(bench.call("stuck", "{}", None, "c1"))
        await asyncio.sleep(0.02)
        waiting.cancel()
        return (await asyncio.wait_for(waiting, 1.0)).to_text()

    assert "was interrupted" in asyncio.run(main())


def test_a_failing_ledger_stops_the_bench_and_not_the_loop(ledger, monkeypatch):
    context = _SessionContext()
    bench = context.bench(ledger)
    full = LedgerError("The disk is full.")

    def refuse(*arguments, **options):
        raise full

    monkeypatch.setattr(ledger, "save_cursor", refuse)
    text = asyncio.run(bench.call("look", "{}", None, "c1")).to_text()
    assert text == "ERROR: the session cannot go on: The disk is full." and bench.failure is full
    monkeypatch.undo()
    assert "cannot go on" in asyncio.run(bench.call("look", "{}", None, "c2")).to_text()
    assert [row["status"] for row in calls_made(ledger)] == ["pending"], "nothing of the call was committed"


def test_two_tools_of_one_name_are_refused(ledger):
    tool = _SessionContext().tools()[0]
    with pytest.raises(ValueError, match="look, look"):
        ToolWorkbench(
            [tool, tool],
            ledger=ledger,
            session_id=SESSION,
            agent="critic",
            call_context=CallContext(),
            next_evidence_id=lambda: "E1",
        )


# schemas and arguments ------------------------------------------------------------------------------------------


def test_schemas_hold_no_references_and_keep_fields_called_title():
    schema = plain_schema(_Submit)
    text = json.dumps(schema)
    assert "$ref" not in text and "$defs" not in text
    item = schema["properties"]["items"]["items"]
    assert item["properties"] == {"title": {"type": "string"}, "kind": {"enum": ["a", "b"], "type": "string"}}
    assert schema["required"] == ["items"] and plain_schema(_Nothing) == {"type": "object", "properties": {}}


def test_schemas_leave_out_what_a_model_does_not_need_and_keep_what_it_does():
    class Asked(_Strict):
        """How it is asked."""

        points: Annotated[int, BeforeValidator(int), Field(ge=1, le=40, description="How many.")] = 8
        first: Annotated[int, Field(ge=0, le=10**12)] | None = None
        near: Annotated[float, Field(gt=0, lt=1)]

    schema = plain_schema(Asked)
    assert schema["properties"] == {
        "points": {"default": 8, "description": "How many.", "maximum": 40, "minimum": 1, "type": "integer"},
        "first": {"minimum": 0, "type": "integer"},
        "near": {"exclusiveMinimum": 0, "exclusiveMaximum": 1, "type": "number"},
    }
    assert schema["required"] == ["near"] and "description" not in schema


def test_a_model_that_contains_itself_is_refused():
    class _Tree(_Strict):
        children: list[_Tree] = []

    with pytest.raises(ValueError, match="contains itself"):
        plain_schema(_Tree)


# under a real agent ---------------------------------------------------------------------------------------------


class _Scripted(AgentClient):
    """A model that gives the scripted replies, whatever it is asked."""

    model_info = ModelInfo(
        vision=False, function_calling=True, json_output=False, family="unknown", structured_output=False
    )

    def __init__(self, *script):
        self.script = list(script)
        self.seen = []

    async def create(self, messages, **options):
        self.seen.append(messages)
        content = self.script.pop(0)
        return CreateResult(content=content, finish_reason="stop", usage=RequestUsage(1, 1), cached=False)


@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [("look", '{"x": 1}', "ok"), ("nope", "{}", "refused"), ("look", '{"x', "refused"), ("look", "7", "refused")],
)
def test_every_call_of_an_agent_reaches_the_ledger(ledger, name, arguments, status):
    async def main():
        agent = ToolAgent(
            "critic",
            _Scripted([FunctionCall(id="c1", name=name, arguments=arguments)]),
            workbench=_SessionContext().bench(ledger),
            system_message="You are the critic.",
        )
        return await asyncio.wait_for(agent.run(task="Go."), 30.0)

    outcome = asyncio.run(main())
    (event,) = [message for message in outcome.messages if isinstance(message, ToolCallExecutionEvent)]
    (row,) = calls_made(ledger)
    assert row["status"] == status and body(ledger, row["arguments"]) == arguments
    assert event.content[0].content == body(ledger, row["result"]) and event.content[0].is_error == (status != "ok")


def test_a_plain_assistant_agent_loses_such_calls(ledger):
    """Negative control: this is what ``ToolAgent`` is for. When it fails, autogen has changed."""

    async def main():
        reply = [FunctionCall(id="c1", name="nope", arguments="{}"), FunctionCall(id="c2", name="look", arguments="{")]
        agent = AssistantAgent(
            "critic", _Scripted(reply), workbench=_SessionContext().bench(ledger), system_message="x"
        )
        await asyncio.wait_for(agent.run(task="Go."), 30.0)

    asyncio.run(main())
    assert calls_made(ledger) == []


def test_an_agent_whose_tool_is_cancelled_goes_on(ledger):
    async def main():
        context, token = _SessionContext(), CancellationToken()
        client = _Scripted([FunctionCall(id="c1", name="stuck", arguments="{}")])
        agent = ToolAgent("critic", client, workbench=context.bench(ledger), system_message="x")
        running = asyncio.ensure_future(agent.run(task="Go.", cancellation_token=token))
        await asyncio.sleep(0.1)
        token.cancel()
        return await asyncio.wait_for(running, 30.0)

    assert "was interrupted" in asyncio.run(main()).messages[-1].content


def test_a_phase_over_http_resumes_without_asking_or_doing_anything_twice(ledger):
    """An agent looks, repeats a call under the same id, writes broken JSON, submits; then the session is resumed."""
    script = [
        wire.calls([("0", "look", '{"x": 1}'), ("1", "nope", "{}")], content="Let me look."),
        wire.call("look", '{"x": 1}', call_id="0"),
        wire.call("submit", '{"items": ', call_id="0"),
        wire.call("submit", {"items": [{"title": "t", "kind": "a"}]}, call_id="0"),
        wire.error(500),
    ]

    async def phase(address):
        context, call_context = _SessionContext(), CallContext(1, "critic", "0")
        bench = context.bench(ledger)
        client = agent_client(
            parse_spec(f"openai-api/m@{address}"),
            "critic",
            ledger=ledger,
            session_id=SESSION,
            context=call_context,
            limits=Limits(attempts=1),
            environment={},
        )
        agent = ToolAgent("critic", client, workbench=bench, system_message="x", max_tool_iterations=1)
        for step in range(4):
            call_context.step = str(step)
            await asyncio.wait_for(agent.run(task="Go." if step == 0 else None), 30.0)
        await client.close()
        return context, bench.finished, json.dumps(await agent.save_state())

    async def main():
        async with serving(*script) as server:
            first = await phase(server.address)
            second = await phase(server.address)
            return first, second, server.requests

    first, second, requests = asyncio.run(main())
    assert first[0].done == ["look 1", "look 1", "submit"] and second[0].done == []
    assert first[1:] == second[1:] and first[1][0] == "submit"
    assert len(requests) == 4
    statuses = [(row["name"], row["status"], row["evidence_id"]) for row in calls_made(ledger)]
    assert statuses == [
        ("look", "ok", "E1"),
        ("nope", "refused", None),
        ("look", "ok", None),  # it is the same as E1
        ("submit", "refused", None),
        ("submit", "ok", None),
    ]
    ids = [row["call_id"] for row in calls_made(ledger)]
    assert len(set(ids)) == 5 and all(re.fullmatch("[0-9A-Za-z]{9}", call_id) for call_id in ids)  # as Mistral wants
    last = requests[-1].body["messages"]
    assert [message["role"] for message in last].count("tool") == 4
    assert all(json.loads(c["function"]["arguments"]) is not None for m in last for c in m.get("tool_calls", []))
