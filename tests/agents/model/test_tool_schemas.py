"""Schemas of every tool as OpenAI's strict mode and Gemini take them, at doubles that refuse what those refuse."""

from __future__ import annotations

import asyncio
import json

import pytest
from autogen_core.models import UserMessage

from learning_signal.agents.arguments.reading import parse_arguments
from learning_signal.agents.model.call import CallContext, Limits
from learning_signal.agents.model.dialect.tool_schemas import gemini_tool, strict_tool
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.stack.client import agent_client
from learning_signal.agents.schemas import tool_schema
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.base import ToolRefused
from learning_signal.tools.roles import ROLES
from learning_signal.tools.toolbox import toolbox
from tests.support.ledger_helpers import SESSION
from tests.support.scripted_server import call, error, serving
from tests.support.scripted_session import ScriptedSession

KEY = "sk-canary-0123456789abcdef"
STRICT = {"type", "description", "enum", "items", "properties", "required", "additionalProperties", "minimum"} | {
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
}
GEMINI = {"type", "description", "enum", "items", "properties", "required", "minimum", "maximum"}


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """Every tool of every role, by name."""
    with ScriptedSession(tmp_path_factory.mktemp("tools"), lambda spec: (0.0, 0.0)) as session:
        return {tool.name: tool for role in ROLES for tool in toolbox(session.context, role)}


def refused_by_strict(node) -> str | None:
    """What OpenAI's strict mode says of a schema; None where it takes it."""
    if strange := set(node) - STRICT:
        return f"{sorted(strange)} is not permitted"
    kinds = node["type"] if isinstance(node["type"], list) else [node["type"]]
    if "object" in kinds:
        if node.get("additionalProperties") is not False:
            return "'additionalProperties' is required to be supplied and to be false"
        if node.get("required") != list(node["properties"]):
            return "'required' is required to be an array including every key in properties"
    parts = [*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])]
    return next((problem for problem in map(refused_by_strict, parts) if problem), None)


def refused_by_gemini(node) -> str | None:
    """What Google's parser says of a schema; None where it takes it."""
    if strange := set(node) - GEMINI:
        return f'Invalid JSON payload received. Unknown name "{min(strange)}": Cannot find field.'
    if not isinstance(node.get("type"), str) or any(not isinstance(each, str) for each in node.get("enum", ())):
        return "Invalid value: only STRING enums and one type"
    parts = [*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])]
    return next((problem for problem in map(refused_by_gemini, parts) if problem), None)


FORMS = {"openai": (strict_tool, refused_by_strict), "gemini": (gemini_tool, refused_by_gemini)}


@pytest.mark.parametrize("server", FORMS)
def test_every_tool_is_taken_in_the_form_of_the_server(tools, server):
    form, refused = FORMS[server]
    schemas = {name: tool_schema(tool) for name, tool in tools.items()}
    assert {name: found for name in schemas if (found := refused(form(schemas[name])["parameters"]))} == {}
    assert any(refused(schema["parameters"]) for schema in schemas.values()), "negative control: not as it is"


PLANTED = {
    "openai": {
        "open": {"properties": {}, "required": []},
        "optional": {"properties": {"a": {"type": "string"}}, "required": [], "additionalProperties": False},
        "default": {"properties": {}, "required": [], "additionalProperties": False, "default": {}},
        "one of": {
            "properties": {"a": {"type": "array", "items": {"type": "string", "oneOf": []}}},
            "required": ["a"],
            "additionalProperties": False,
        },
    },
    "gemini": {
        "default": {"properties": {"a": {"type": "string", "default": "x"}}},
        "any of": {"properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}},
        "null": {"properties": {"a": {"type": ["string", "null"]}}},
        "reference": {"properties": {"a": {"$ref": "#/$defs/A"}}},
        "closed": {"properties": {}, "additionalProperties": False},
    },
}
"""Schemas of objects that the server refuses."""


@pytest.mark.parametrize(("server", "name"), [(server, name) for server in PLANTED for name in PLANTED[server]])
def test_a_planted_violation_is_found(server, name):
    """Negative control of what the doubles refuse."""
    refused, sound = FORMS[server][1], {"type": "object", "properties": {}, "required": []}
    sound |= {"additionalProperties": False} if server == "openai" else {}
    assert refused(sound) is None
    assert refused({"type": "object", **PLANTED[server][name]})


def test_what_may_be_left_out_takes_null_and_a_default_is_told(tools):
    sent = strict_tool(tool_schema(tools["show_episode"]))
    which = sent["parameters"]["properties"]["which"]
    assert sent["strict"] is True and which["type"] == ["string", "null"] and which["enum"][-1] is None
    assert which["description"].endswith("Default: best.") and "default" not in which
    with pytest.raises(ValueError, match="one type in every part"):
        strict_tool({"name": "any", "parameters": {"type": "object", "properties": {"value": {}}}})


def test_null_where_a_field_may_be_left_out_is_as_good_as_leaving_it_out(tools):
    every = {"names": ["progress"], "source": None, "first_env_step": None, "points": None, "by_seed": None}
    tool = tools["query_metrics"]
    assert parse_arguments(tool, json.dumps(every)) == parse_arguments(tool, '{"names": ["progress"]}')
    with pytest.raises(ToolRefused, match="candidates"):  # negative control: what is required is missing
        parse_arguments(tools["submit_proposal"], '{"candidates": null}')


def asked(tmp_path, monkeypatch, tools, provider, *script):
    """The requests of one call of a critic with every tool, at a server in the place of the provider's own."""

    async def main():
        async with serving(*script) as server:
            compatible = "learning_signal.agents.model.providers.openai_compatible"
            monkeypatch.setattr(f"{compatible}.with_version", lambda address: server.address)
            monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
            with Ledger.open(tmp_path / "l.db") as ledger:
                ledger.begin_session(id=SESSION, task="t", algorithm="mappo", seed=0, config={}, code_version="0")
                client = agent_client(
                    parse_spec(f"{provider}/m"),
                    "critic",
                    ledger=ledger,
                    session_id=SESSION,
                    context=CallContext(1, "critic", "0"),
                    limits=Limits(attempts=1),
                    environment={"OPENAI_API_KEY": KEY, "GEMINI_API_KEY": KEY, "GROQ_API_KEY": KEY},
                )
                try:
                    ask = [UserMessage(content="Go on.", source="session")]
                    await client.create(ask, tools=[tool_schema(tool) for tool in tools.values()])
                finally:
                    await client.close()
            return [[each["function"] for each in request.body["tools"]] for request in server.requests]

    return asyncio.run(main())


@pytest.mark.parametrize("server", FORMS)
def test_a_strict_server_takes_the_request(tmp_path, monkeypatch, tools, server):
    def strict(request):
        for each in request.body["tools"]:
            if problem := FORMS[server][1](each["function"]["parameters"]):
                return error(400, problem)
        return call("show_episode", "{}")

    (sent,) = asked(tmp_path, monkeypatch, tools, server, strict)
    assert [each["name"] for each in sent] == list(tools)
    assert {each.get("strict") for each in sent} == ({True} if server == "openai" else {None})


def test_other_servers_get_the_schemas_as_they_are(tmp_path, monkeypatch, tools):
    """Negative control."""
    (sent,) = asked(tmp_path, monkeypatch, tools, "groq", call("show_episode", "{}"))
    assert [each["parameters"] for each in sent] == [tool_schema(tool)["parameters"] for tool in tools.values()]


def test_a_model_that_does_not_know_the_strict_mode_is_asked_without_it(tmp_path, monkeypatch, tools):
    words = "Invalid schema for function 'query_metrics': strict mode is not supported."
    first, second = asked(tmp_path, monkeypatch, tools, "openai", error(400, words), call("show_episode", "{}"))
    assert first[0]["strict"] is True and not second[0].get("strict")
    assert second[0]["parameters"] == tool_schema(next(iter(tools.values())))["parameters"]


@pytest.mark.parametrize("known", [GEMINI, GEMINI | {"default", "exclusiveMinimum", "exclusiveMaximum"}])
def test_any_server_that_refuses_a_keyword_is_asked_without_it(tmp_path, monkeypatch, tools, known):
    """The negative control knows every keyword, and is asked once."""

    def picky(request):
        sent = json.dumps([each["function"]["parameters"] for each in request.body["tools"]])
        if strange := [each for each in ("default", "exclusiveMinimum") if f'"{each}":' in sent and each not in known]:
            return error(400, f"tools.0.function.parameters: keyword '{strange[0]}' is not supported")
        return call("show_episode", "{}")

    *refused, taken = asked(tmp_path, monkeypatch, tools, "groq", picky)
    plain = [tool_schema(tool) for tool in tools.values()]
    assert len(refused) == (1 if known == GEMINI else 0)
    wanted = [gemini_tool(each) for each in plain] if refused else plain
    assert [each["parameters"] for each in taken] == [each["parameters"] for each in wanted]
