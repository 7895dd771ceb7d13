"""Chains of backends in whole sessions over HTTP: who answers where one fails for good, gives up, or is resumed."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import AsyncExitStack

import pytest
from rich.console import Console

from learning_signal.agents.session.observer import SessionControl
from learning_signal.agents.session.session import resume_session, run_session
from learning_signal.ledger.read.decision.explain import explain
from learning_signal.ledger.read.reader import Reader
from learning_signal.tools.roles import ROLES
from learning_signal.viewer.reports.explain import render_decision
from tests.support.rules_server import rules_serving
from tests.support.scripted_server import calls, error, serving, text
from tests.support.session_helpers import Recorder, run_inline, story, tiny_settings
from tests.support.synthetic_training import InlinePool
from tests.support.weak_replies import PROMOTES, call

GONE = error(404, "the model is gone")
PARAMETERS = "?attempts=1&api_key_env=CHAIN_API_KEY"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("CHAIN_API_KEY", "none")


class Backends:
    """Servers for one role: ``answers`` many requests are answered as by the rules of the role, then the model is gone.

    Requests of all of them are in ``asked``, as pairs (place, request).
    """

    def __init__(self, role, *answers):
        self.role, self.answers, self.asked, self.specs = role, answers, [], []

    async def __aenter__(self):
        self.stack = AsyncExitStack()
        for place, most in enumerate(self.answers):
            rules = await self.stack.enter_async_context(rules_serving(self.role, lambda made, _: made))
            server = await self.stack.enter_async_context(serving(self._answering(place, most, rules.script[0])))
            self.specs.append(f"openai-api/m{place}@{server.address}{PARAMETERS}")
        return self

    async def __aexit__(self, *raised):
        await self.stack.aclose()

    def _answering(self, place, most, rules):
        async def answer(request):
            self.asked.append((place, request))
            if len([each for each, _ in self.asked if each == place]) > most:
                return GONE
            return await rules(request)

        return answer


def played(settings, backends, *further, observer=None, control=None):
    """(outcome, settings) of a session in which a chain of ``backends`` and then ``further`` speaks for their role."""

    async def main():
        async with backends:
            chain = "|".join([*backends.specs, *further])
            changed = settings.model_copy(update={"agents": settings.agents | {backends.role: chain}})
            pool = InlinePool(settings.store)
            outcome = await run_session(changed, observer=observer or Recorder(), control=control, executor=pool)
            return outcome, changed

    return asyncio.run(main())


def spoken(settings, role):
    """(agents rows as (spec, source), specs of the answered calls) of a role."""
    with Reader.open(settings.ledger) as reader:
        answered = reader.rows("SELECT spec FROM llm_calls WHERE agent = ? AND status = 'ok' ORDER BY id", (role,))
        rows = [(each.spec, each.source) for each in reader.agents() if each.role == role]
    return rows, [row["spec"] for row in answered]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A session of rules."""
    settings = tiny_settings(tmp_path_factory.mktemp("alone"))
    run_inline(settings)
    return settings


@pytest.mark.parametrize(
    ("role", "further"), [*((role, "a model") for role in ROLES), ("validator", "rules"), ("coordinator", "rules")]
)
def test_the_next_goes_on_in_the_middle_of_a_phase_and_decides_as_one_alone(tmp_path, alone, role, further):
    steps = {"validator": 1, "coordinator": 1}.get(role, 0)  # the rules of the others take one step
    backends = Backends(role, steps, 99) if further == "a model" else Backends(role, steps)
    outcome, settings = played(tiny_settings(tmp_path), backends, *(["rules"] if further == "rules" else []))
    assert outcome.status == "done", outcome.stop_reason
    first, then = backends.specs[0], [*backends.specs, "rules"][1]
    rows, answered = spoken(settings, role)
    assert rows == [(settings.agents[role], "default"), (then, "fallback")]
    assert answered[:steps] == [first] * steps and set(answered[steps:]) == {then}
    assert [each["action"] for each in story(settings.ledger)["decisions"]] == ["promote"]
    assert story(settings.ledger)["candidates"] == story(alone.ledger)["candidates"]
    (trouble,) = outcome.troubles
    assert trouble["kind"] == "fallback" and trouble["role"] == role
    assert f"{then} takes over" in trouble["text"] and "the model is gone" in trouble["text"]
    with Reader.open(settings.ledger) as reader:
        console = Console(file=io.StringIO(), width=400)
        console.print(render_decision(explain(reader)))
    assert f"{then} takes over its phases of this round" in " ".join(console.file.getvalue().split())


def test_the_next_is_given_the_conversation_without_what_the_first_one_s_server_sent(tmp_path):
    signed = {"extra_content": {"google": {"thought_signature": "of the first"}}}
    looked = calls(
        [("c1", "query_metrics", json.dumps({"names": ["entropy"]}))], further=signed, reasoning_content="hm"
    )

    async def main():
        async with serving(looked, GONE) as first, rules_serving("critic", lambda made, _: made) as second:
            chain = "|".join(f"openai-api/m@{each.address}{PARAMETERS}" for each in (first, second))
            settings = tiny_settings(tmp_path)
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": chain}})
            outcome = await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))
            return outcome, first.requests, second.requests

    outcome, asked_first, asked_second = asyncio.run(main())
    assert outcome.status == "done"
    refused, taken_over = asked_first[-1].body["messages"], asked_second[0].body["messages"]
    assert refused[2]["tool_calls"][0]["extra_content"] == signed["extra_content"]  # negative control
    assert refused[2]["reasoning_content"] == "hm"
    plain = [{k: v for k, v in each.items() if k not in ("reasoning_content", "tool_calls")} for each in refused]
    assert [{k: v for k, v in each.items() if k != "tool_calls"} for each in taken_over] == plain
    assert [set(each) for each in taken_over[2]["tool_calls"]] == [{"id", "type", "function"}]


def test_where_a_model_gives_up_the_next_begins_the_phase_anew(tmp_path):
    async def main():
        async with serving(text("Hm.")) as first, Backends("critic", 99) as second:
            chain = f"openai-api/weak@{first.address}{PARAMETERS}|{second.specs[0]}"
            settings = tiny_settings(tmp_path)
            settings = settings.model_copy(update={"agents": settings.agents | {"critic": chain}})
            outcome = await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))
            return outcome, settings, second.asked

    outcome, settings, asked = asyncio.run(main())
    assert outcome.status == "done" and len(spoken(settings, "critic")[0]) == 2
    assert [each["role"] for each in asked[0][1].body["messages"]] == ["system", "user"]
    assert "3 times" in outcome.troubles[0]["text"] and "takes over" in outcome.troubles[0]["text"]


def test_a_chain_that_has_come_to_its_end_pauses_with_the_last_one_s_sentence(tmp_path):
    outcome, _ = played(tiny_settings(tmp_path), Backends("critic", 0, 0, 0))
    assert outcome.status == "paused" and "/m2@" in outcome.stop_reason
    assert [each["kind"] for each in outcome.troubles] == ["fallback", "fallback", "error"]


def test_the_next_round_begins_with_the_first_of_the_chain(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHETIC_WORLD", "nothing helps")
    outcome, settings = played(tiny_settings(tmp_path, rounds=2), Backends("critic", 0), "rules")
    sources = [source for _, source in spoken(settings, "critic")[0]]
    assert outcome.status == "done" and sources == ["default", "fallback"] * 2


def test_a_resume_goes_on_with_the_same_backend_and_asks_nothing_twice(tmp_path):
    control = SessionControl()

    def pause(row):
        if row["kind"] == "tool_call" and row["agent"] == "validator" and row["status"] == "ok":
            control.request_pause()

    async def main():
        async with Backends("validator", 0, 99) as backends:
            settings = tiny_settings(tmp_path)
            chain = "|".join(backends.specs)
            settings = settings.model_copy(update={"agents": settings.agents | {"validator": chain}})
            pool = InlinePool(settings.store)
            observer = Recorder(on_event=pause)
            paused = await run_session(settings, observer=observer, control=control, executor=pool)
            before = len(backends.asked)
            done = await resume_session(settings.ledger, "latest", observer=Recorder(), executor=pool)
            return paused, before, done, backends.asked, settings

    paused, before, done, asked, settings = asyncio.run(main())
    assert (paused.status, done.status) == ("paused", "done")
    assert [place for place, _ in asked[:before]] == [0] + [1] * (before - 1)
    assert {place for place, _ in asked[before:]} == {1}, "the first of the chain is not asked again in this round"
    bodies = [json.dumps(request.body["messages"]) for _, request in asked[1:]]
    assert len(set(bodies)) == len(bodies)
    assert len(spoken(settings, "validator")[0]) == 2


def test_a_chain_given_to_a_resume_begins_with_its_first(tmp_path):
    outcome, settings = played(tiny_settings(tmp_path), Backends("critic", 0, 0))
    assert outcome.status == "paused"

    async def main():
        async with Backends("critic", 99) as backends:
            chain = f"{backends.specs[0]}|rules"
            return await resume_session(
                settings.ledger,
                "latest",
                observer=Recorder(),
                executor=InlinePool(settings.store),
                agents={"critic": chain},
            ), len(backends.asked)

    done, asked = asyncio.run(main())
    assert done.status == "done" and asked > 0


def test_a_question_is_answered_by_the_next_of_the_chain(tmp_path):
    ask = call("ask", '{"agent": "validator", "question": "How sure are you?"}')

    async def main():
        async with Backends("validator", 3) as backends, serving(ask, PROMOTES) as coordinator:
            settings = tiny_settings(tmp_path)
            specs = {
                "validator": f"{backends.specs[0]}|rules",
                "coordinator": f"openai-api/c@{coordinator.address}{PARAMETERS}",
            }
            settings = settings.model_copy(update={"agents": settings.agents | specs})
            await run_session(settings, observer=Recorder(), executor=InlinePool(settings.store))
            return settings

    settings = asyncio.run(main())
    with Reader.open(settings.ledger) as reader:
        (answer,) = reader.rows("SELECT * FROM messages WHERE type = 'answer'")
        said = reader.body(answer["body"])
        (event,) = reader.events(kind="fallback")
    assert "cannot answer" not in said and "cannot answer" in event.title and event.agent == "validator"
