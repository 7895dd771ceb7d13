"""Addresses of servers as users write them: with and without /v1, from the environment, with Azure's query."""

from __future__ import annotations

import asyncio

import pytest

from learning_signal.agents.model.backends import address_of
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.specs import parse_spec, resolve_specs
from learning_signal.agents.model.trial import check
from learning_signal.agents.session.session import run_session
from learning_signal.tools.plan.sources import gather
from tests.support.scripted_server import Reply, call, error, serving
from tests.support.session_helpers import Recorder, tiny_settings
from tests.support.synthetic_training import InlinePool

KEY = "sk-canary-0123456789abcdef"
READY = call("report_status", '{"status": "ready"}')
READY_BY_ANTHROPIC = Reply(
    body={
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-served",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "report_status", "input": {"status": "ready"}}],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 7},
    }
)


def asked(spec, ready=READY, **environment):
    """(result, the one request) of a trial call; ``{root}`` in the spec or a variable is the server's address."""

    async def main():
        async with serving(ready) as server:
            root = server.address.removesuffix("/v1")
            given = {name: value.format(root=root) for name, value in environment.items()}
            result = await check(parse_spec(spec.format(root=root)), given)
            return result, server.requests[0]

    result, request = asyncio.run(main())
    assert result.ok, result.sentence
    return request


@pytest.mark.parametrize(
    ("written", "path"),
    [("", "/v1"), ("/", "/v1"), ("/v1", "/v1"), ("/v1/", "/v1"), ("/v1beta/openai", "/v1beta/openai")],
)
def test_an_address_without_a_path_is_that_of_the_protocol(written, path):
    assert asked(f"openai-api/m@{{root}}{written}").path == f"{path}/chat/completions"
    assert (
        asked("openai/m", OPENAI_API_KEY=KEY, OPENAI_BASE_URL=f"{{root}}{written}").path == f"{path}/chat/completions"
    )


@pytest.mark.parametrize("written", ["", "/v1", "/v1/"])
def test_an_address_for_anthropic_may_end_in_v1(written):
    pytest.importorskip("anthropic")
    request = asked(f"anthropic/m@{{root}}{written}", READY_BY_ANTHROPIC, ANTHROPIC_API_KEY=KEY)
    assert request.path == "/v1/messages" and request.headers["x-api-key"] == KEY


def test_azure_has_its_version_in_the_query_and_the_key_in_a_header_of_its_own():
    spec = "openai-api/gpt-4o@{root}/openai/deployments/gpt-4o?api-version=2024-10-21&api_key_env=AZURE_API_KEY"
    request = asked(spec, AZURE_API_KEY=KEY)
    assert request.path == "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
    assert request.headers["api-key"] == KEY
    other = asked("openai-api/gpt-4o@{root}", GPT_4O_API_KEY=KEY)  # negative control
    assert "?" not in other.path and "api-key" not in other.headers


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"])
@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("api.example/v1", "has no scheme"),
        ("localhost:8000/v1", "has no scheme"),
        ("ftp://h/v1", "starts with ftp://"),
        ("http://user:CANARY-123456@h/v1", "must not contain a user name, password or key"),
        ("https://h/v1?key=CANARY-123456", "contains '?'"),
        ("http://h\n.example/v1", "no host"),
        ("http://h/a b", "names no host"),
        ("http://[::1", "not a valid URL"),
    ],
)
def test_an_address_of_the_environment_is_checked_as_that_of_a_spec(variable, address, says):
    spec = parse_spec(f"{variable.partition('_')[0].lower()}/m")
    with pytest.raises(SpecError) as refusal:
        address_of(spec, {variable: address})
    sentence = str(refusal.value)
    assert variable in sentence and says in sentence and "CANARY" not in sentence and "\n" not in sentence


def test_what_a_shell_leaves_around_an_address_does_not_count():
    spec = parse_spec("openai/m")
    assert address_of(spec, {"OPENAI_BASE_URL": " https://h/v1/\n"}) == "https://h/v1"
    assert address_of(spec, {"OPENAI_BASE_URL": " "}) == address_of(spec, {}) == "https://api.openai.com/v1"
    assert address_of(parse_spec("openai/m@http://other/v1"), {"OPENAI_BASE_URL": "nonsense"}) == "http://other/v1"


def test_a_session_does_not_begin_with_an_unusable_address(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "api.example/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    settings = tiny_settings(tmp_path)
    settings = settings.model_copy(update={"agents": settings.agents | {"critic": "openai/m"}})
    with pytest.raises(SpecError, match="OPENAI_BASE_URL has no scheme"):
        asyncio.run(run_session(settings, observer=Recorder(), executor=InlinePool(settings.store)))
    assert not settings.ledger.exists()


@pytest.mark.parametrize("value", ["", " ", "\n"])
def test_an_empty_variable_names_no_backend(value):
    environment = {"LEARNING_SIGNAL_AGENT_CRITIC": value, "LEARNING_SIGNAL_AGENT_DEFAULT": value}
    assert {each.source for each in resolve_specs({}, environment, {}).values()} == {"default"}
    resolved = resolve_specs({}, environment, {"critic": "ollama/x"})
    assert resolved["critic"].source == "config file"


def test_an_empty_variable_sets_nothing():
    assert gather({}, {"LEARNING_SIGNAL_ROUNDS": " ", "LEARNING_SIGNAL_GATE__ALPHA": ""}, None).values == {}
    with pytest.raises(ValueError, match="unknown"):  # negative control: a name that does not exist still is none
        gather({}, {"LEARNING_SIGNAL_ROUNDZ": ""}, None)


def test_a_server_that_wants_a_key_where_no_variable_is_known_says_how_to_name_one():
    async def main():
        async with serving(error(401, "no key")) as server:
            return await check(parse_spec(f"ollama/m@{server.address}"), {})

    assert "'?api_key_env=NAME'" in asyncio.run(main()).sentence


def test_headers_that_a_vendor_s_variables_name_go_to_that_vendor_alone(monkeypatch):
    for name, value in (
        ("OPENAI_CUSTOM_HEADERS", f"x-gateway: {KEY}"),
        ("OPENAI_ORG_ID", "org-mine"),
        ("ANTHROPIC_CUSTOM_HEADERS", f"x-gateway: {KEY}"),
    ):
        monkeypatch.setenv(name, value)
    for spec in ("openai-api/m@{root}", "openai/m@{root}"):
        headers = asked(spec, OPENAI_API_KEY=KEY).headers
        assert "x-gateway" not in headers and "openai-organization" not in headers
    headers = asked("openai/m", OPENAI_API_KEY=KEY, OPENAI_BASE_URL="{root}").headers  # negative control
    assert headers["openai-organization"] == "org-mine" and headers["x-gateway"] == KEY


def test_the_same_holds_for_anthropic(monkeypatch):
    pytest.importorskip("anthropic")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", f"x-gateway: {KEY}")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", KEY[::-1])
    named = asked("anthropic/m@{root}", READY_BY_ANTHROPIC, ANTHROPIC_API_KEY=KEY).headers
    assert "x-gateway" not in named and "authorization" not in named
    usual = asked("anthropic/m", READY_BY_ANTHROPIC, ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL="{root}").headers
    assert usual["x-gateway"] == KEY  # negative control
