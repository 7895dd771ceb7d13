"""What the calls of a session cost: tokens by the server's count or an estimate, and USD by a table of prices."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from learning_signal.agents.model.backends import address_of
from learning_signal.agents.model.dialect.usage import Usage
from learning_signal.agents.model.providers.registry import EMBEDDED, entry_of
from learning_signal.agents.model.providers.spec import BackendSpec, SpecError
from learning_signal.agents.model.specs import parse_chain
from learning_signal.agents.model.wire import WireNote
from learning_signal.agents.tokens import count_tokens
from learning_signal.ledger.wording import shadow_of
from learning_signal.tools.plan.budget import Budget, Price
from learning_signal.tools.plan.prices import SHIPPED, price_named
from learning_signal.tools.plan.settings import SessionSettings

if TYPE_CHECKING:  # prices are also read where no agent is
    from autogen_core.models import CreateResult

    from learning_signal.agents.model.call import Call

FREE = Price(input=0.0, output=0.0)


def price_of(spec: BackendSpec, prices: Mapping[str, Price]) -> Price | None:
    """The price of ``spec``: of the user's table ``prices`` (keys ``provider/model``), else of the shipped one, which
    holds for the vendors' own addresses; None where neither has one. Embedded backends are free.
    """
    if spec.provider in EMBEDDED:
        return FREE
    name = f"{spec.provider}/{spec.model}"
    known = price_named(name, prices)
    if known is None and address_of(spec) == entry_of(spec).address:
        known = price_named(name, SHIPPED)
    return known


def refuse_unpriced(settings: SessionSettings, budget: Budget) -> None:
    """``SpecError`` where ``budget`` limits USD and the price of a backend is not known."""
    if budget.usd is None:
        return
    every = [*settings.agents.items(), *((shadow_of(role), text) for role, text in settings.shadows.items())]
    for role, spec in ((role, spec) for role, text in every for spec in parse_chain(text)):
        if price_of(spec, settings.prices) is None:
            name = f"{spec.provider}/{spec.model}"
            raise SpecError(
                f"The budget limits USD, but the price of {name} ({role}) is not known: add a table "
                f'[prices."{name}"] with input and output in USD per million tokens to a file and give it by --config.'
            )


def request_tokens(call: Call) -> int:
    """Tokens of a request, estimated."""
    sent = [message.model_dump_json() for message in call.messages]
    return count_tokens("\n".join([*sent, *map(json.dumps, call.schemas)]))


def tokens_of_reply(spec: BackendSpec, call: Call, result: CreateResult) -> dict[str, Any]:
    """Token columns of ``llm_calls`` for a usable reply: the server's own count where it is plausible (autogen says 0
    where the server gave none), else an estimate; none of a person, who uses no tokens.
    """
    if entry_of(spec).person:
        return {}
    usage = call.note.usage
    if usage is not None and usage.received > 0 and (spec.provider in EMBEDDED or usage.sent > 0):
        return _columns(spec, usage)
    text = json.dumps(result.model_dump(mode="json", exclude={"logprobs"}))
    return {"tokens_in": request_tokens(call), "tokens_out": count_tokens(text), "tokens_source": "estimate"}


def tokens_of_failure(spec: BackendSpec, note: WireNote) -> dict[str, Any]:
    """Token columns of an unusable reply, which costs money too; none where the server gave no count."""
    usage = note.usage
    return {} if usage is None or usage.received <= 0 else _columns(spec, usage)


def with_cost(columns: dict[str, Any], price: Price | None) -> dict[str, Any]:
    """Token columns with their USD, where both are known."""
    if price is None or not columns:
        return columns
    cached, written = columns.get("tokens_cached") or 0, columns.get("tokens_cache_written") or 0
    return columns | {"cost_usd": price.of(columns["tokens_in"], columns["tokens_out"], cached=cached, written=written)}


def _columns(spec: BackendSpec, usage: Usage) -> dict[str, Any]:
    return {
        "tokens_in": usage.received,
        "tokens_out": usage.sent,
        "tokens_cached": usage.cached,
        "tokens_cache_written": usage.written,
        "tokens_reasoning": usage.reasoning,
        "tokens_source": "estimate" if spec.provider in EMBEDDED else "server",  # an embedded backend estimates its own
    }
