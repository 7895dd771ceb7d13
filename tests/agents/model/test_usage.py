"""Tokens over HTTP as servers count them, cached ones and reasoning apart, and what they cost."""

from __future__ import annotations

import asyncio

import pytest
from autogen_core.models import UserMessage

from learning_signal.agents.model.call import CallContext, Limits
from learning_signal.agents.model.errors import BackendError
from learning_signal.agents.model.prices import price_of
from learning_signal.agents.model.providers.registry import PROVIDERS
from learning_signal.agents.model.specs import parse_spec
from learning_signal.agents.model.stack.client import agent_client
from learning_signal.ledger.read.reader import Reader
from learning_signal.ledger.write.writer import Ledger
from learning_signal.tools.plan.budget import Price
from learning_signal.tools.plan.prices import SHIPPED
from tests.support.ledger_helpers import SESSION
from tests.support.scripted_server import Reply, error, serving, text

PRICE = Price(input=10.0, cached_input=1.0, cache_write=20.0, output=100.0)
COLUMNS = ("tokens_in", "tokens_out", "tokens_cached", "tokens_cache_written", "tokens_reasoning", "tokens_source")


def asked(tmp_path, reply, provider="openai-api", price=PRICE):
    """The row of a call that is answered with ``reply``, and the costs of the session."""

    async def main():
        async with serving(reply) as server:
            with Ledger.open(tmp_path / "l.db") as ledger:
                ledger.begin_session(id=SESSION, task="t", algorithm="mappo", seed=0, config={}, code_version="0")
                client = agent_client(
                    parse_spec(f"{provider}/m@{server.address}"),
                    "critic",
                    ledger=ledger,
                    session_id=SESSION,
                    context=CallContext(1, "critic", "0"),
                    limits=Limits(attempts=1),
                    price=price,
                    environment={"ANTHROPIC_API_KEY": "none"},
                )
                try:
                    await client.create([UserMessage(content="Go on.", source="session")])
                except BackendError:
                    pass
                finally:
                    await client.close()
                return ledger.rows("SELECT * FROM llm_calls")[0]

    row = asyncio.run(main())
    with Reader.open(tmp_path / "l.db") as reader:
        return row, reader.costs(SESSION)


PLAIN = {"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}
COUNTED = {
    "OpenAI": (
        PLAIN
        | {
            "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        (1000, 50, 600, None, 30),
    ),
    "DeepSeek": (
        PLAIN | {"prompt_cache_hit_tokens": 640, "prompt_cache_miss_tokens": 360},
        (1000, 50, 640, None, None),
    ),
    "Gemini: thoughts in the total alone": (PLAIN | {"total_tokens": 1250}, (1000, 250, None, None, 200)),
    "Grok: reasoning beside the completion": (
        PLAIN | {"total_tokens": 1350, "completion_tokens_details": {"reasoning_tokens": 300}},
        (1000, 350, None, None, 300),
    ),
    "no details": (PLAIN, (1000, 50, None, None, None)),
    "details that are null": (
        PLAIN | {"prompt_tokens_details": None, "completion_tokens_details": None},
        (1000, 50, None, None, None),
    ),
    "nothing cached": (PLAIN | {"prompt_tokens_details": {"cached_tokens": 0}}, (1000, 50, 0, None, None)),
    "more cached than there was": (
        PLAIN | {"prompt_tokens_details": {"cached_tokens": 1001}},
        (1000, 50, None, None, None),
    ),
    "cached tokens that are none": (
        PLAIN | {"prompt_tokens_details": {"cached_tokens": -3}, "prompt_cache_hit_tokens": "many"},
        (1000, 50, None, None, None),
    ),
    "an impossible total": (PLAIN | {"total_tokens": 10**30}, (1000, 50, None, None, None)),
    "a total that is too small": (PLAIN | {"total_tokens": 3}, (1000, 50, None, None, None)),
}


@pytest.mark.parametrize("case", COUNTED)
def test_tokens_are_kept_as_a_server_counts_them(tmp_path, case):
    usage, expected = COUNTED[case]
    row, costs = asked(tmp_path, text("Well.", usage=usage))
    assert tuple(row[name] for name in COLUMNS) == (*expected, "server")
    received, sent, cached = expected[0], expected[1], expected[2] or 0
    assert row["cost_usd"] == pytest.approx(((received - cached) * 10 + cached * 1 + sent * 100) / 1e6)
    assert (costs.tokens_cached, costs.tokens_reasoning) == (expected[2], expected[4])


def message(usage, reason="end_turn"):
    """A reply of the Messages API."""
    body = {"id": "m", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None}
    said = [{"type": "text", "text": "Well."}]
    return Reply(body=body | {"content": said, "stop_reason": reason, "usage": usage})


CACHED = {"input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 600, "cache_creation_input_tokens": 300}


@pytest.mark.parametrize("reason", ["end_turn", "refusal"])
def test_what_anthropic_reads_from_its_cache_is_part_of_the_request(tmp_path, reason):
    pytest.importorskip("anthropic")
    row, _ = asked(tmp_path, message(CACHED, reason), "anthropic")
    assert tuple(row[name] for name in COLUMNS) == (1000, 50, 600, 300, None, "server")
    assert row["cost_usd"] == pytest.approx((100 * 10 + 600 * 1 + 300 * 20 + 50 * 100) / 1e6)


def test_anthropic_without_a_cache(tmp_path):
    pytest.importorskip("anthropic")
    row, _ = asked(tmp_path, message({"input_tokens": 100, "output_tokens": 50}), "anthropic")
    assert tuple(row[name] for name in COLUMNS) == (100, 50, None, None, None, "server")


def test_an_unusable_reply_is_paid_as_the_server_counts_it(tmp_path):
    row, _ = asked(tmp_path, text("", usage=COUNTED["OpenAI"][0]))
    assert row["status"] == "error" and tuple(row[name] for name in COLUMNS) == (1000, 50, 600, None, 30, "server")
    assert row["cost_usd"] == pytest.approx((400 * 10 + 600 * 1 + 50 * 100) / 1e6)


def test_what_has_no_price_is_not_free(tmp_path):
    row, costs = asked(tmp_path, text("Well.", usage=PLAIN), price=None)
    assert row["cost_usd"] is None and costs.cost_usd is None
    refused, _ = asked(tmp_path / "refused", error(400))
    assert refused["tokens_in"] is None and refused["cost_usd"] is None


# prices ---------------------------------------------------------------------------------------------------------


def test_every_shipped_price_is_of_a_model_that_a_spec_can_name():
    for name, price in SHIPPED.items():
        spec = parse_spec(name)
        assert f"{spec.provider}/{spec.model}" == name and PROVIDERS[spec.provider].key_needed
        assert 0 < price.cached_input < price.input < price.output
        assert price_of(spec, {}) == price


def test_a_shipped_price_is_of_the_vendor_s_own_address(monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    price = SHIPPED["openai/gpt-4.1"]
    assert price_of(parse_spec("openai:gpt-4.1-2025-04-14?temperature=0"), {}) == price
    assert price_of(parse_spec("anthropic/claude-sonnet-4-5-20250929"), {}) == SHIPPED["anthropic/claude-sonnet-4-5"]
    own = Price(input=1.0, output=2.0)
    assert price_of(parse_spec("openai/gpt-4.1"), {"openai/gpt-4.1": own}) == own
    elsewhere = parse_spec("openai/gpt-4.1@https://gateway.example/v1")
    assert price_of(elsewhere, {}) is None and price_of(elsewhere, {"openai/gpt-4.1": own}) == own
    for unknown in ("openai/gpt-4.1-preview", "openai-api/gpt-4.1@http://h/v1", "ollama/qwen3:8b", "deepseek/x"):
        assert price_of(parse_spec(unknown), {}) is None
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")
    assert price_of(parse_spec("openai/gpt-4.1"), {}) is None
