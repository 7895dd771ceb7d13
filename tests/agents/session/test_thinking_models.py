"""Whole sessions with models that think: what their servers want back survives a pause, and another model goes on."""

from __future__ import annotations

import asyncio
import itertools
import json

from learning_signal.agents.session.session import resume_session, run_session
from learning_signal.ledger.read.reader import Reader
from tests.support.scripted_server import Reply, calls, error, serving, text
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool

DIAGNOSIS = {
    "stage": "exploring",
    "failures": [{"description": "Nobody covers anything.", "evidence": ["E1"]}],
    "advice": "Reward nearness.",
}
STEPS = [
    ("query_metrics", {"names": ["progress"]}),
    ("query_metrics", {"names": ["entropy"]}),
    ("submit_diagnosis", DIAGNOSIS),
]


class Thinking:
    """A critic that signs its calls and thinks, and refuses a history without either; the third request fails once."""

    def __init__(self):
        self.fails = True
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        before = [message for message in request.body["messages"] if message["role"] == "assistant"]
        for place, message in enumerate(before):
            signature = message["tool_calls"][0].get("extra_content", {}).get("google", {}).get("thought_signature")
            if signature != f"signature {place}" or message.get("reasoning_content") != f"thought {place}":
                return error(400, "Function call is missing a thought_signature and its thought.")
        place = len(before)
        if place == 2 and self.fails:
            return Reply(503)
        name, arguments = STEPS[place]
        signed = {"extra_content": {"google": {"thought_signature": f"signature {place}"}}}
        return calls([("", name, json.dumps(arguments))], further=signed, reasoning_content=f"thought {place}")


def strict(request):
    """A model of another server, which takes no field that it does not know."""
    for message in request.body["messages"]:
        known = {"role", "content", "tool_calls", "tool_call_id"}
        assert set(message) <= known and all(
            set(call) == {"id", "type", "function"} for call in message.get("tool_calls") or ()
        )
    return calls([("", "submit_diagnosis", json.dumps(DIAGNOSIS))])


def test_a_session_of_a_thinking_model_pauses_and_goes_on(tmp_path):
    thinking = Thinking()

    async def main():
        async with serving(thinking) as server:
            critic = f"openai-api/thinker@{server.address}?attempts=1"
            settings = tiny_settings(tmp_path)
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": critic}})
            pool = InlinePool(settings.store)
            paused = await run_session(settings, observer=Recorder(), executor=pool)
            thinking.fails = False
            return paused, await resume_session(settings.ledger, "latest", observer=Recorder(), executor=pool)

    paused, finished = asyncio.run(main())
    assert (paused.status, finished.status) == ("paused", "done"), (paused.stop_reason, finished.stop_reason)
    assert "HTTP 503" in paused.stop_reason
    with Reader.open(tmp_path / "ledger.db") as reader:
        rows = reader.rows("SELECT status, error FROM llm_calls WHERE agent = 'critic' ORDER BY id")
        said = "SELECT bodies.body FROM messages JOIN bodies ON bodies.hash = messages.body "
        thoughts = reader.rows(said + "WHERE type = 'thought' AND source = 'critic' ORDER BY messages.id")
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok"], [row["error"] for row in rows]
    assert [row["body"] for row in thoughts] == ["thought 0", "thought 1", "thought 2"]


def test_another_model_goes_on_in_the_middle_of_a_phase(tmp_path):
    async def main():
        async with serving(Thinking()) as server, serving(strict) as other:
            critic = f"openai-api/thinker@{server.address}?attempts=1"
            settings = tiny_settings(tmp_path)
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": critic}})
            pool = InlinePool(settings.store)
            await run_session(settings, observer=Recorder(), executor=pool)
            agents = {"critic": f"openai-api/plain@{other.address}"}
            finished = await resume_session(
                settings.ledger, "latest", observer=Recorder(), executor=pool, agents=agents
            )
            return finished, other.requests

    finished, requests = asyncio.run(main())
    assert finished.status == "done" and len(requests) == 1
    roles = [message["role"] for message in requests[0].body["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool"]
    assert "thought 0" not in json.dumps(requests[0].body)


class Devstral:
    """A server whose chat template takes nothing but turns that alternate, and whose model wastes some of them."""

    def __init__(self):
        look = calls([("", "query_metrics", '{"names": ["progress"]}')], content="I look first.")
        again = calls([("", "query_metrics", '{"names": ["entropy"]}')])
        end = calls([("", "submit_diagnosis", json.dumps(DIAGNOSIS))])
        unread = error(500, "Failed to parse tool call arguments as JSON")
        self.script = [look, text("I think."), text(""), text(""), again, text(None), unread, unread, end]

    def __call__(self, request):
        roles = [message["role"] for message in request.body["messages"]]
        spoken = [
            message["role"]
            for message in request.body["messages"]
            if message["role"] == "user" or message["role"] == "assistant" and not message.get("tool_calls")
        ]
        if spoken != ["user", "assistant"] * (len(spoken) // 2) + ["user"] * (len(spoken) % 2):
            return error(500, "After the optional system message, conversation roles must alternate user/assistant/...")
        if any(pair == ("tool", "user") for pair in itertools.pairwise(roles)):
            return error(400, "Unexpected role 'user' after role 'tool'")
        return self.script.pop(0)


def test_the_turns_of_a_phase_alternate_whatever_its_model_does(tmp_path):
    async def main():
        async with serving(Devstral()) as server:
            critic = f"openai-api/devstral@{server.address}?attempts=2"
            settings = tiny_settings(tmp_path)
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": critic}})
            return await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))

    outcome = asyncio.run(main())
    assert outcome.status == "done", outcome.stop_reason
    with Reader.open(tmp_path / "ledger.db") as reader:
        errors = reader.rows("SELECT error_kind FROM llm_calls WHERE agent = 'critic' AND status = 'error'")
        (diagnosis,) = reader.rows("SELECT body FROM diagnoses")
        assert reader.json(diagnosis["body"])["advice"] == "Reward nearness."
    assert {row["error_kind"] for row in errors} == {"empty", "malformed"}
