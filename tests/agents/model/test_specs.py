"""Backend specs: the grammar, what is refused and how, precedence, keys, and the token count."""

from __future__ import annotations

import hashlib
import json
import socket
import subprocess
import sys

import pytest

from learning_signal.agents import tokens
from learning_signal.agents.model.keys import key_variable, read_key
from learning_signal.agents.model.providers.registry import PROVIDERS
from learning_signal.agents.model.providers.spec import SpecError
from learning_signal.agents.model.specs import ROLES, parse_assignments, parse_chain, parse_spec, resolve_specs


@pytest.mark.parametrize(
    ("text", "provider", "model", "base_url"),
    [
        ("rules", "rules", "rules", None),
        ("openai/gpt-4.1-mini", "openai", "gpt-4.1-mini", None),
        ("openai/gpt-4o@https://proxy.example/v1/", "openai", "gpt-4o", "https://proxy.example/v1"),
        ("anthropic/claude-sonnet-4-0", "anthropic", "claude-sonnet-4-0", None),
        ("ollama/qwen3:8b", "ollama", "qwen3:8b", None),
        ("ollama/qwen3:8b@http://box:11434/v1", "ollama", "qwen3:8b", "http://box:11434/v1"),
        ("openai-api/lab/Qwen3@http://[::1]:8000/v1", "openai-api", "lab/Qwen3", "http://[::1]:8000/v1"),
        ("openai:gpt-4.1-mini", "openai", "gpt-4.1-mini", None),
        ("ollama:qwen3:8b", "ollama", "qwen3:8b", None),
        ("ollama:hf.co/lab/Qwen3:Q4@http://box:11434/v1", "ollama", "hf.co/lab/Qwen3:Q4", "http://box:11434/v1"),
        ("openai-api:lab/Qwen3:8b@http://h:8000/v1", "openai-api", "lab/Qwen3:8b", "http://h:8000/v1"),
        ("openrouter/qwen/qwen3-32b:free", "openrouter", "qwen/qwen3-32b:free", None),
        ("replay/20261122-154501-k3f", "replay", "20261122-154501-k3f", None),
    ],
)
def test_grammar(text, provider, model, base_url):
    spec = parse_spec(f" {text} ")
    assert (spec.provider, spec.model, spec.base_url, spec.text) == (provider, model, base_url, text)


def test_parameters_are_typed():
    parameters = parse_spec(
        "openai-api/m@http://h/v1?temperature=0.5&max_tokens=200&seed=3&timeout=9.5&attempts=2&api_key_env=LAB_API_KEY"
    ).parameters
    assert (parameters.temperature, parameters.max_tokens, parameters.seed) == (0.5, 200, 3)
    assert (parameters.timeout, parameters.attempts, parameters.api_key_env) == (9.5, 2, "LAB_API_KEY")
    assert parameters.top_p is None


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_example_parses(provider):
    assert parse_spec(PROVIDERS[provider].example).provider == provider


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("opnai/gpt-4o", "did you mean 'openai'"),
        ("gpt-4o", "no backend provider"),
        ("rules/fast", "takes no model"),
        ("rules@http://h/v1", "takes no model"),
        ("rules?temperature=0", "no parameter of the backend 'rules'"),
        ("openai/", "no usable model"),
        ("openai:", "no usable model"),
        ("rules:fast", "takes no model"),
        ("openai", "no usable model"),
        ("openai/gpt 4o", "no usable model"),
        ("openai-api/m", "names no server"),
        ("openai-api/m@localhost:8000/v1", "is no address"),
        ("openai-api/m@ftp://h/v1", "starts with ftp://"),
        ("openai-api/m@http:///v1", "names no host"),
        ("openai-api/m@http://h:99999/v1", "not a valid URL"),
        ("openai-api/m@http://h/v1#x", "contains '#'"),
        ("replay/s@http://h/v1", "takes no address"),
        ("openai/m?temprature=1", "did you mean 'temperature'"),
        ("openai/m?temperature=3", "cannot be '3'"),
        ("openai/m?temperature=nan", "cannot be 'nan'"),
        ("openai/m?max_tokens=0", "cannot be '0'"),
        ("openai/m?max_tokens=many", "cannot be 'many'"),
        ("openai/m?timeout=inf", "cannot be 'inf'"),
        ("openai/m?timeout=600&deadline=180", "'timeout' is 600, expected at most the 'deadline' of 180"),
        ("openai/m?first_timeout=5&timeout=20", "'first_timeout' is 5, expected at least the 'timeout' of 20"),
        ("openai/m?fallback=ollama/x", "'fallback' cannot be 'ollama/x'"),
        ("rules?fallback=rules", "'fallback' is no parameter of the backend 'rules'"),
        ("openai/m?seed=1&seed=2", "given twice"),
        ("openai/m?temperature", "key=value"),
        ("anthropic/m?seed=1", "no parameter of the backend 'anthropic'"),
    ],
)
def test_wrong_specs_are_refused_in_one_sentence(text, says):
    with pytest.raises(SpecError) as refusal:
        parse_spec(text)
    sentence = str(refusal.value)
    assert says in sentence and sentence.endswith(".") and "\n" not in sentence


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("rules", ["rules"]),
        ("gemini/a | ollama:qwen3:8b?temperature=0|rules", ["gemini/a", "ollama:qwen3:8b?temperature=0", "rules"]),
        ("openai-api/m@http://h:1/v1|openai-api/m@http://h:2/v1", None),
        ("openai/m?fallback=rules", ["openai/m?fallback=rules", "rules"]),
        ("gemini/a|openai/m?fallback=rules", ["gemini/a", "openai/m?fallback=rules", "rules"]),
    ],
)
def test_a_chain_is_specs_in_their_order(text, chain):
    assert [spec.text for spec in parse_chain(text)] == (text.split("|") if chain is None else chain)
    (resolved,) = {entry.text for entry in resolve_specs({"all": f" {text}\n"}, {}, {}).values()}
    assert resolved == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("openai/a|", "is empty"),
        ("|rules", "is empty"),
        ("openai/a||rules", "is empty"),
        ("rules|openai/a", "'rules' never fails, so it must be the last"),
        ("openai/a|openai/a", "'openai/a' stands twice"),
        ("openai/a?fallback=rules|openai/b", "leave 'fallback' out"),
        ("openai/a|opnai/b", "did you mean 'openai'"),
    ],
)
def test_a_wrong_chain_is_refused_in_one_sentence(text, says):
    with pytest.raises(SpecError, match=says):
        parse_chain(text)
    with pytest.raises(SpecError, match="Backend of the critic"):
        resolve_specs({"critic": text}, {}, {})


def test_every_backend_of_a_chain_must_be_able_to_play_its_role():
    assert resolve_specs({"generator": "openai/a|random"}, {}, {})["generator"].chain[1].provider == "random"
    with pytest.raises(SpecError, match="for the generator alone and not for the critic"):
        resolve_specs({"critic": "openai/a|random"}, {}, {})


@pytest.mark.parametrize(
    "text",
    [
        "openai-api/m@http://user:CANARY-123456@h/v1",
        "openai-api/m@http://CANARY-123456@h/v1",
        "openai/m?api_key=CANARY-123456",
        "openai/m?api_key_env=CANARY-123456",
        "openai-api/m@CANARY-123456",
    ],
)
def test_a_key_in_a_spec_is_refused_and_not_repeated(text):
    with pytest.raises(SpecError) as refusal:
        parse_spec(text)
    assert "CANARY" not in str(refusal.value)


def test_precedence_command_line_environment_config_default():
    resolved = resolve_specs(
        {"critic": "openai/a"},
        {"LEARNING_SIGNAL_AGENT_CRITIC": "openai/b", "LEARNING_SIGNAL_AGENT_GENERATOR": "openai/c", "HOME": "x"},
        {"critic": "openai/d", "generator": "openai/e", "validator": "openai/f"},
    )
    assert list(resolved) == list(ROLES)
    found = {role: (entry.text, entry.source) for role, entry in resolved.items()}
    assert found == {
        "critic": ("openai/a", "command line"),
        "generator": ("openai/c", "environment"),
        "validator": ("openai/f", "config file"),
        "coordinator": ("rules", "default"),
    }


def test_an_entry_for_all_roles_yields_to_the_roles_own_but_not_to_a_lower_source():
    resolved = resolve_specs(
        {"all": "openai/everyone", "validator": "rules"}, {"LEARNING_SIGNAL_AGENT_CRITIC": "openai/b"}, {}
    )
    assert resolved["critic"].text == "openai/everyone"
    assert resolved["validator"].text == "rules"
    defaults = resolve_specs({}, {"LEARNING_SIGNAL_AGENT_DEFAULT": "openai/b"}, {"default": "openai/c"})
    assert {entry.text for entry in defaults.values()} == {"openai/b"}


@pytest.mark.parametrize(
    ("command_line", "environment", "config", "says"),
    [
        ({"critik": "rules"}, {}, {}, "did you mean 'critic'"),
        ({}, {"LEARNING_SIGNAL_AGENT_CRITIK": "rules"}, {}, "LEARNING_SIGNAL_AGENT_CRITIK"),
        ({}, {}, {"boss": "rules"}, "[agents] of the config file"),
        ({}, {}, {"critic": 3}, "expected a backend spec as text"),
        ({}, {"LEARNING_SIGNAL_AGENT_CRITIC": "nope"}, {}, "Backend of the critic (environment)"),
    ],
)
def test_wrong_assignments_say_where_they_came_from(command_line, environment, config, says):
    with pytest.raises(SpecError) as refusal:
        resolve_specs(command_line, environment, config)
    assert says in str(refusal.value)


def test_a_wrong_spec_that_is_overridden_is_not_read():
    assert resolve_specs({"all": "rules"}, {}, {"critic": "nonsense"})["critic"].text == "rules"


def test_assignments_of_the_command_line():
    found = parse_assignments(["critic=openai/a?temperature=0", "all=rules"])
    assert found == {"critic": "openai/a?temperature=0", "all": "rules"}
    for wrong, says in [
        (["critic"], "expected ROLE=SPEC"),
        (["openai/a?temperature=0"], "expected ROLE=SPEC"),
        (["judge=rules"], "no agent"),
        (["critic=rules", "critic=rules"], "two backends"),
    ]:
        with pytest.raises(SpecError, match=says):
            parse_assignments(wrong)


def test_keys_come_from_the_environment():
    assert read_key(parse_spec("rules"), {}) is None
    k1, k2, k3 = (f"key-{number}-0123456789" for number in (1, 2, 3))
    assert read_key(parse_spec("openai/a"), {"OPENAI_API_KEY": k1}) == k1
    assert key_variable(parse_spec("openai-api/lab/Qwen3-8B@http://h/v1")) == "LAB_QWEN3_8B_API_KEY"
    assert read_key(parse_spec("openai-api/lab/Qwen3-8B@http://h/v1"), {"LAB_QWEN3_8B_API_KEY": k2}) == k2
    assert read_key(parse_spec("openai-api/m@http://h/v1"), {}) is None
    assert read_key(parse_spec("gemini/a"), {"GEMINI_API_KEY": k1, "OPENAI_API_KEY": k2}) == k1
    other = parse_spec("openai/a?api_key_env=MY_API_KEY")
    assert read_key(other, {"MY_API_KEY": k3, "OPENAI_API_KEY": k1}) == k3
    for text, variable in [
        ("openai/a", "OPENAI_API_KEY"),
        ("anthropic/a", "ANTHROPIC_API_KEY"),
        ("deepseek/a", "DEEPSEEK_API_KEY"),
        ("openai-api/m@http://h/v1?api_key_env=MY_API_KEY", "MY_API_KEY"),
    ]:
        with pytest.raises(SpecError, match=variable):
            read_key(parse_spec(text), {variable: "  "})


@pytest.mark.parametrize(
    ("model", "variable"),
    [("01-ai/Yi-9B", "MODEL_01_AI_YI_9B_API_KEY"), ("\u901a\u4e49", "MODEL_API_KEY"), ("-", "MODEL_API_KEY")],
)
def test_the_variable_of_a_key_is_one_that_a_shell_can_set(model, variable):
    assert key_variable(parse_spec(f"openai-api/{model}@http://h/v1")) == variable


def test_reading_specs_and_the_table_imports_no_autogen():
    code = (
        "import json, sys, learning_signal.agents.model.specs; from learning_signal.agents.model import backends; "
        "backends.backend_table({}); "
        "print(json.dumps([name for name in sys.modules if name.startswith(('autogen', 'openai', 'torch'))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_tokens_are_counted_without_the_network(tmp_path, monkeypatch, no_network):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    sample = '{"progress": [0.125, 0.25], "note": "every landmark is covered"}'
    assert tokens.count_tokens("") == 0
    assert tokens.count_tokens(sample) == tokens.estimate_tokens(sample)
    damaged = tmp_path / hashlib.sha1(tokens.O200K_ADDRESS.encode()).hexdigest()
    damaged.write_text("not a vocabulary")
    assert tokens.count_tokens(sample) == tokens.estimate_tokens(sample)
    assert damaged.exists()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert tokens.count_tokens(sample) == tokens.estimate_tokens(sample)


def test_the_token_estimate_is_near_and_rather_high():
    # a number such as 0.143 and its comma are 4 tokens in any byte-pair vocabulary that splits digits by three
    numbers = ", ".join(f"{n / 7:.3f}" for n in range(100))
    assert 380 <= tokens.estimate_tokens(numbers) <= 700
    assert tokens.estimate_tokens(numbers) > len(numbers) / 4 * 1.5
    assert 9 <= tokens.estimate_tokens("The agents cover all landmarks and stay there.") <= 20
    assert tokens.estimate_tokens("a" * 700) == tokens.estimate_tokens(" ".join(["a" * 700]))
    assert tokens.estimate_tokens("\ud83d") > 0
