"""The budget of a session: env steps, tokens, time and USD, how they are written, and whether more fits."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from learning_signal.ledger.wording import UNITS, amount, short
from learning_signal.marl.settings import Frozen

_EXAMPLES = {"env_steps": "5e6, 2M or 200k", "tokens": "5e6, 2M or 200k", "time": "30m, 1h30m or 90s", "usd": "2.50"}
_EXPONENTS = {"k": "e3", "K": "e3", "M": "e6", "G": "e9"}
_TIME = re.compile(r"(?:([0-9.]+)h)?(?:([0-9.]+)m)?(?:([0-9.]+)s)?")


class BudgetError(ValueError):
    """A budget is malformed; one sentence."""


def _amount(name: str, given: Any) -> float | int:
    """The value of ``given`` for the limit ``name``; numbers pass, text may have a suffix. ``ValueError``: a phrase."""
    text = str(given).strip()
    shown = name.replace("_", "-")
    value: float
    wrong = ValueError(f"found {shown}={text}, expected a number such as {_EXAMPLES[name]}")
    try:
        if name == "time" and (parts := _TIME.fullmatch(text)) and text:
            units = zip(parts.groups(), (3600, 60, 1), strict=True)
            value = sum((float(part) * unit for part, unit in units if part), 0.0)
        elif name != "time" and text[-1:] in _EXPONENTS:
            value = float(text[:-1] + _EXPONENTS[text[-1]])  # 8.04 * 1e6 would be no whole number
        else:
            value = float(text)  # "-3" is a number too, and refused below
    except ValueError:
        raise wrong from None
    if not math.isfinite(value):
        raise wrong
    if value <= 0:
        raise ValueError(f"found {shown}={text}, expected more than 0; leave it out for no limit")
    if name in ("env_steps", "tokens"):
        if not value.is_integer():
            raise ValueError(f"found {shown}={text}, expected a whole number of {UNITS[name]}")
        return int(value)
    return value


EnvSteps = Annotated[
    int,
    BeforeValidator(lambda given: _amount("env_steps", given) if isinstance(given, str) else given),
    Field(ge=1, le=10**12),
]
"""Env steps of a setting, also written as 150k, 4M or 4e6."""


def _read(name: str) -> BeforeValidator:
    return BeforeValidator(lambda given: None if given is None else _amount(name, given))


class Budget(Frozen):
    """The most that a session may use, resumes included; None is unlimited.

    The session pauses before anything that is known not to fit, and says what it would need. So time can be exceeded by
    one stage, arm or model call, and tokens and USD by one reply (its length is unknown in advance, and the size of a
    request is an estimate). Env steps can be exceeded by what a pause or a failure cut off: a segment in flight is
    cancelled, counts as far as it was trained, and is trained again by the resume.
    """

    env_steps: Annotated[int | None, _read("env_steps")] = None
    """Env steps of training, of the main run, branches, twin and speculation, also written 5e6, 2M or 200k. Those of
    evaluation are counted beside them and not limited.
    """
    tokens: Annotated[int | None, _read("tokens")] = None
    """Tokens sent to and received from models, unusable replies included, as far as they are known."""
    time: Annotated[float | None, _read("time")] = None
    """Seconds in which the session runs; pauses do not count. Also written 30m or 1h30m."""
    usd: Annotated[float | None, _read("usd")] = None
    """US dollars by the table ``[prices]`` and the shipped one (``tools.plan.prices``); the price of every backend that
    is not embedded must be known."""

    def limits(self) -> dict[str, float | int]:
        """The limits that are set, by name."""
        return {name: value for name, value in self.model_dump().items() if value is not None}

    def describe(self) -> str:
        """The limits in words."""
        return ", ".join(amount(name, value) for name, value in self.limits().items())


class Price(Frozen):
    """The price of a model."""

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """USD per million tokens sent."""
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """USD per million tokens received, reasoning included."""
    cached_input: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    """USD per million tokens sent that the server reads from its cache; None: as any other."""
    cache_write: Annotated[float | None, Field(ge=0, allow_inf_nan=False)] = None
    """USD per million tokens sent that the server writes to its cache; None: as any other."""

    def of(self, tokens_in: int, tokens_out: int, *, cached: int = 0, written: int = 0) -> float:
        """USD for so many tokens; of those sent, ``cached`` were read from a cache and ``written`` to one."""
        plain = tokens_in - cached - written
        sent = plain * self.input + cached * _either(self.cached_input, self.input)
        return (sent + written * _either(self.cache_write, self.input) + tokens_out * self.output) / 1e6


def _either(price: float | None, usual: float) -> float:
    return usual if price is None else price


def parse_budget(text: str) -> dict[str, float | int]:
    """The limits in ``env-steps=5M,tokens=200k,time=1h30m,usd=2.50``, by name.

    Raises:
        BudgetError: what was found, what is expected and what to do, in one sentence.
    """
    limits: dict[str, float | int] = {}
    for part in text.split(","):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        name = key.replace("-", "_")
        if not equals or name not in UNITS:
            known = ", ".join(each.replace("_", "-") for each in UNITS)
            raise BudgetError(
                f"Found {part.strip()!r} in the budget, expected KEY=LIMIT with one of {known}: "
                "write for example env-steps=5M,time=1h30m."
            )
        if name in limits:
            raise BudgetError(f"Found {key} twice in the budget, expected it once: leave one out.")
        try:
            limits[name] = _amount(name, value)
        except ValueError as error:
            raise BudgetError(f"The budget is wrong: {error}.") from None
    return limits


def shortfall(
    budget: Budget,
    spent: Mapping[str, float],
    needed: Mapping[str, float],
    what: str,
    a_round: Mapping[str, float] | None = None,
) -> tuple[str, str] | None:
    """The first limit that ``what`` would exceed: (message, sufficient limit); None if it fits.

    All mappings are by name of the limit; a name missing from ``needed`` costs nothing. ``a_round`` is what a round
    with its stages uses, as far as it is known: the suggested limit has room for one more round and is at least a tenth
    above the present one.
    """
    for name, limit in budget.limits().items():
        need = needed.get(name)
        if need is None or spent[name] + need <= limit and spent[name] < limit:
            continue
        about = "about " if name != "env_steps" else ""
        wants = f"{what} needs {about}{amount(name, need)}" if need else f"nothing is left for {what}"
        message = f"The budget of {amount(name, limit)} is too small: {amount(name, spent[name])} spent, {wants}"
        more = max(need, (a_round or {}).get(name, 0.0))
        return message, f"{name.replace('_', '-')}={_enough(name, max(spent[name] + more, limit * 1.1))}"
    return None


def refuse_spent(limits: Mapping[str, float], spent: Mapping[str, float]) -> None:
    """``BudgetError`` where a new limit is below what is spent already; both by the names of the limits."""
    for name, limit in limits.items():
        if limit < spent[name]:
            raise BudgetError(
                f"Found a budget of {amount(name, limit)}, expected more than the {amount(name, spent[name])} that are "
                f"spent already: write for example {name.replace('_', '-')}={_enough(name, spent[name] * 1.1)}."
            )


def _enough(name: str, least: float) -> str:
    """A limit of at least ``least``, rounded up to three digits, as it is typed."""
    if name == "time":
        return f"{math.ceil(least / 60)}m"
    if name == "usd":
        return f"{math.ceil(least * 100) / 100:.2f}"
    step = 10 ** max(0, len(str(math.ceil(least))) - 3)
    return short(math.ceil(least / step) * step).replace(" ", "")
