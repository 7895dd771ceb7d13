"""The prices of models that are known without a config file. Prices change: this table is of ``DATE``.

Standard prices of the vendors' own servers, for prompts below the size from which some charge more (200,000 tokens and
above), collected from public copies of their price pages made between July and October 2026. Left out are models whose
price depends on the hour (DeepSeek) or ends with the year (Gemini's 3.6 to 3.8 Flash).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from learning_signal.tools.plan.budget import Price

DATE = "2026-10"
_DATED = re.compile(r"-(?:[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2})$")
"""The end of the name of a model's snapshot, which costs what the model does."""


def _openai(input: float, cached_input: float, output: float) -> Price:
    return Price(input=input, cached_input=cached_input, output=output)


def _anthropic(input: float, cached_input: float, output: float) -> Price:
    """What is written to the cache for five minutes costs a quarter more than other input."""
    return Price(input=input, cached_input=cached_input, cache_write=1.25 * input, output=output)


SHIPPED: dict[str, Price] = {
    "openai/gpt-4o-mini": _openai(0.15, 0.075, 0.60),
    "openai/gpt-4.1": _openai(2.00, 0.50, 8.00),
    "openai/gpt-4.1-mini": _openai(0.40, 0.10, 1.60),
    "openai/o4-mini": _openai(1.10, 0.275, 4.40),
    "openai/gpt-5": _openai(1.25, 0.125, 10.00),
    "openai/gpt-5-mini": _openai(0.25, 0.025, 2.00),
    "openai/gpt-5.4": _openai(2.50, 0.25, 15.00),
    "openai/gpt-5.4-mini": _openai(0.75, 0.075, 4.50),
    "anthropic/claude-haiku-4-5": _anthropic(1.00, 0.10, 5.00),
    "anthropic/claude-sonnet-4-0": _anthropic(3.00, 0.30, 15.00),
    "anthropic/claude-sonnet-4-5": _anthropic(3.00, 0.30, 15.00),
    "anthropic/claude-sonnet-4-6": _anthropic(3.00, 0.30, 15.00),
    "anthropic/claude-sonnet-5": _anthropic(2.00, 0.20, 10.00),
    "anthropic/claude-opus-4-5": _anthropic(5.00, 0.50, 25.00),
    "anthropic/claude-opus-4-8": _anthropic(5.00, 0.50, 25.00),
    "anthropic/claude-opus-5": _anthropic(5.00, 0.50, 25.00),
    "gemini/gemini-2.5-flash-lite": Price(input=0.10, cached_input=0.01, output=0.40),
    "gemini/gemini-2.5-flash": Price(input=0.30, cached_input=0.03, output=2.50),
    "gemini/gemini-2.5-pro": Price(input=1.25, cached_input=0.125, output=10.00),
    "gemini/gemini-3.5-flash": Price(input=1.50, cached_input=0.15, output=9.00),
}
"""USD per million tokens, by ``provider/model``."""


def price_named(name: str, prices: Mapping[str, Price]) -> Price | None:
    """The price of ``provider/model`` in a table, also under the name without a snapshot's date; None where none is."""
    return prices.get(name) or prices.get(_DATED.sub("", name))
