"""What a shaping is: the frozen, bounded ``ShapingConfig``, its identity (hash) and its TOML form."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from learning_signal.marl.canonical import canonical_json, short_hash
from learning_signal.marl.files import UnreadableFile, parse_toml
from learning_signal.marl.shaping.expression import MAX_CHARACTERS, ShapingError

MAX_TERMS = 8
MAX_WEIGHT = 10.0
MAX_BETA = 10.0

_HEADER = """\
# Reward shaping: F = gamma * beta(t+1) * Phi(s') - beta(t) * Phi(s), with Phi(terminal) = 0
# and Phi = sum of weight * potential. Potential-based, so the optimal policies stay what they are.
"""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Term(_Record):
    """One weighted potential: ``weight`` times a feature or an expression over features."""

    potential: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]
    """A feature name or an arithmetic expression over features."""
    weight: Annotated[float, Field(strict=True, ge=-MAX_WEIGHT, le=MAX_WEIGHT, allow_inf_nan=False)]
    """In [-10, 10], not 0; negative where lower values of the potential are better."""
    scope: Literal["team", "agent"]
    """``team``: one value for all agents; ``agent``: each agent its own value."""

    @field_validator("potential")
    @classmethod
    def _printable(cls, text: str) -> str:
        text = text.strip()
        if not text or not text.isprintable():
            raise ShapingError(f"Found {text!r} as a potential, expected one line of printable text; rewrite it.")
        return text

    @field_validator("weight")
    @classmethod
    def _not_zero(cls, weight: float) -> float:
        if weight == 0.0:
            raise ShapingError("Found a term of weight 0, expected a weight other than 0; drop that term.")
        return weight


class Anneal(_Record):
    """Beta falls linearly from its full value at ``start`` to 0 at ``end`` (env steps of the run)."""

    start: Annotated[int, Field(strict=True, ge=0)]
    end: Annotated[int, Field(strict=True)]

    @model_validator(mode="after")
    def _ordered(self) -> Anneal:
        if self.end <= self.start:
            raise ShapingError(f"Found anneal end {self.end}, expected more than start {self.start}; raise the end.")
        return self


class ShapingConfig(_Record):
    """A complete shaping: up to 8 terms, strength ``beta`` in [0, 10] and optional annealing to 0.

    Built directly it raises pydantic's ``ValidationError``; ``parse`` and ``from_toml`` turn that into one
    sentence.
    """

    terms: Annotated[tuple[Term, ...], Field(max_length=MAX_TERMS)]
    beta: Annotated[float, Field(strict=True, ge=0.0, le=MAX_BETA, allow_inf_nan=False)]
    anneal: Anneal | None = None

    @model_validator(mode="after")
    def _distinct(self) -> ShapingConfig:
        seen = set()
        for term in self.terms:
            key = ("".join(term.potential.split()), term.scope)
            if key in seen:
                raise ShapingError(
                    f'Found the potential "{term.potential}" ({term.scope}) twice, expected each '
                    "potential once; merge the two weights into one term."
                )
            seen.add(key)
        return self

    @classmethod
    def none(cls) -> ShapingConfig:
        """No shaping: the sparse reward alone."""
        return cls(terms=(), beta=0.0)

    @classmethod
    def parse(cls, data: Any) -> ShapingConfig:
        """The config in plain ``data`` (from JSON or TOML); a one-sentence ``ShapingError`` if it is none."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ShapingError(_sentence(error)) from None

    @property
    def is_none(self) -> bool:
        """Whether this shaping adds nothing to any reward by its own form: no terms, or beta 0."""
        return not self.terms or self.beta == 0.0

    def beta_at(self, env_steps: int | np.ndarray) -> float | np.ndarray:
        """The strength after ``env_steps`` env steps of the run; a float, or float64 of the array's shape."""
        if self.anneal is None:
            left = np.ones(np.shape(env_steps))
        else:
            span = self.anneal.end - self.anneal.start
            left = np.clip((self.anneal.end - np.asarray(env_steps, np.float64)) / span, 0.0, 1.0)
        beta = self.beta * left
        return float(beta) if np.ndim(env_steps) == 0 else beta

    def schedule(self, first: int, steps: int, environments: int) -> tuple[np.ndarray, np.ndarray]:
        """``beta`` and ``beta_next``, each ``[T]`` float64, of a rollout starting after ``first`` env steps.

        One entry of the rollout is ``environments`` env steps, and ``beta_next[t] == beta[t + 1]`` exactly,
        as the telescoping of dynamic shaping needs (Devlin & Kudenko 2012).
        """
        betas = np.asarray(self.beta_at(first + environments * np.arange(steps + 1)))
        return betas[:-1], betas[1:]

    def canonical(self) -> dict[str, Any]:
        """Plain JSON data that is equal for equal shapings; every config that ``is_none`` has the same one.

        The order of terms is kept: it decides the rounding of their sum, and segments are exact to the bit.
        """
        return (ShapingConfig.none() if self.is_none else self).model_dump(mode="json")

    def canonical_json(self) -> str:
        """``canonical`` as text, with sorted keys and no spaces."""
        return canonical_json(self.canonical())

    def hash(self) -> str:
        """The `short_hash` of ``canonical_json``."""
        return short_hash(self.canonical_json())

    def to_toml(self) -> str:
        """This config as commented TOML that ``from_toml`` reads back unchanged."""
        lines = [_HEADER, f"# beta: strength, 0 to {MAX_BETA:g}", f"beta = {self.beta!r}"]
        if not self.terms:
            lines.append("terms = []  # no shaping: the sparse reward alone")
        if self.anneal:
            lines += ["", "[anneal]  # beta falls linearly to 0 between these env steps of the run"]
            lines += [f"start = {self.anneal.start}", f"end = {self.anneal.end}"]
        for term in self.terms:
            # Printable text (see Term) in JSON's quotes is a TOML basic string.
            potential = json.dumps(term.potential, ensure_ascii=False)
            lines += ["", "[[terms]]", f"potential = {potential}"]
            lines += [f"weight = {term.weight!r}", f'scope = "{term.scope}"']
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str) -> ShapingConfig:
        """The config in TOML ``text``; ``ShapingError`` in one sentence if it is not one."""
        try:
            data = parse_toml(text)
        except UnreadableFile as error:
            raise ShapingError(
                f"Found a shaping that {error}; expected beta, [[terms]] and optionally [anneal]."
            ) from None
        return cls.parse(data)


_FIELDS: dict[str, type[BaseModel]] = {"terms": Term, "anneal": Anneal}


def _sentence(error: ValidationError) -> str:
    """The first problem pydantic found, as one sentence: found, expected, what to do."""
    first, *others = error.errors()
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    place = ".".join(map(str, first["loc"])) or "the top level"
    more = f" ({len(others)} more problems after it)" if others else ""
    if first["type"] == "missing":
        return f'Found a shaping without "{place}", expected it to be given; add it{more}.'
    if first["type"] == "extra_forbidden":
        record = _FIELDS.get(str(first["loc"][0]), ShapingConfig) if len(first["loc"]) > 1 else ShapingConfig
        known = ", ".join(record.model_fields)
        return f'Found the unknown key "{place}" in a shaping, expected only {known}; remove or rename it{more}.'
    rule = first["msg"].removeprefix("Input should be ")
    found = repr(first["input"])
    found = found if len(found) <= 80 else found[:77] + "..."
    return f'Found {found} as "{place}" of a shaping, expected {rule}; correct that value{more}.'
