"""What the backends of a session cost: a price from the user's table, or none known."""

from __future__ import annotations

from collections.abc import Mapping

from learning_signal.agents.model.specs import EMBEDDED, BackendSpec, SpecError, parse_spec
from learning_signal.tools.plan.budget import Budget, Price
from learning_signal.tools.plan.settings import SessionSettings

FREE = Price(input=0.0, output=0.0)


def price_of(spec: BackendSpec, prices: Mapping[str, Price]) -> Price | None:
    """What ``spec`` costs; None where the table (keys ``provider/model``) does not say. Embedded backends are free."""
    if spec.provider in (*EMBEDDED, "replay"):
        return FREE
    return prices.get(f"{spec.provider}/{spec.model}")


def refuse_unpriced(settings: SessionSettings, budget: Budget) -> None:
    """``SpecError`` where ``budget`` limits USD and the price of a backend is not known."""
    if budget.usd is None:
        return
    for role, text in settings.agents.items():
        spec = parse_spec(text)
        if price_of(spec, settings.prices) is None:
            name = f"{spec.provider}/{spec.model}"
            raise SpecError(
                f"The budget limits USD, but the price of {name} ({role}) is not known: add a table "
                f'[prices."{name}"] with input and output in USD per million tokens to a file and give it by --config.'
            )
